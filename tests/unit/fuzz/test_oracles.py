"""Each oracle is seen to fail: a defect is put into the device by hand, and an innocent driver meets it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from devmodels.blockbackend.request import Op
from devmodels.memory import GuestMemory
from devmodels.virtio import suspension
from devmodels.virtio.constants import Status
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain
from devmodels.virtio.split import SplitRing
from devmodels.virtio_blk import VirtioBlk
from fuzz.ring.bench import TABLE
from fuzz.ring.blk import BlkBench
from fuzz.ring.ledger import SECTOR
from fuzz.ring.transports import Over
from fuzz.targets import TARGETS
from fuzz.watch import watched
from tests.defects import Defect, Put, Used, after, before, finishes, given
from tests.unit.fuzz.defects import (
    PLAIN,
    forgets_to_flush,
    gives_back_twice,
    says_a_byte_more,
    writes_another_sector,
)
from tests.unit.virtio.blkrig import FLUSH, IN, OUT, header
from tests.unit.virtio.hostile import loop_of_one
from tests.unit.virtio.model import DriverRing, Form
from tests.unit.virtio.plain import Kind

DATA = bytes(range(256)) * 2


def ask(bench: BlkBench, kind: int, data: bytes = b"", room: int = 0) -> None:
    """One request of sector 1."""
    bench.send(0, kind, 1, data, room)
    bench.go(0)


def story(bench: BlkBench) -> None:
    """What every driver does; then one request is on its way while the device is reset."""
    for _ in range(2):
        ask(bench, OUT, DATA)
        ask(bench, FLUSH)
        ask(bench, IN, room=SECTOR)
    bench.fail(Op.READ)
    ask(bench, IN, room=SECTOR)
    bench.hold()
    ask(bench, OUT, DATA)
    bench.reset(released=False)
    bench.works()


def writes_elsewhere(put: Put) -> None:
    before(put, VirtioBlk, "handle", lambda device, *_: device.memory.write(0xFF00, b"!"))


def writes_what_was_for_reading(put: Put) -> None:
    def first(device: VirtioBlk, _queue: object, chains: Sequence[Chain]) -> None:
        device.memory.write(chains[0].readable[0][0] + 8, b"!")

    before(put, VirtioBlk, "handle", first)


def covers_what_was_not_written(put: Put) -> None:
    """A read that fails is answered in whole, and its data part left as it was."""
    put.setattr("devmodels.virtio_blk.device.clear", lambda _views: None)


def answers_without_writing(put: Put) -> None:
    """The status byte is forgotten, and counted."""
    put.setattr(GuestMemory, "write_byte", lambda *_: None)


DEEPER = 0x7700
"""What is said with a notification that the device sends itself."""


def enters_itself(put: Put) -> None:
    def first(device: VirtioBlk, index: int, data: int | None = None) -> None:
        if data != DEEPER:
            device.kick(index, DEEPER)

    before(put, VirtioBlk, "kick", first)


def takes_too_many(put: Put) -> None:
    given(put, VirtioBlk, "handle", lambda device, queue, chains: (device, queue, [*chains, *chains]))
    before(put, BlkBench, "go", lambda bench, _: bench.bounded.made_available(0, -1))


def never_rests(put: Put) -> None:
    def first(device: VirtioBlk, *_: object) -> None:
        def again() -> None:
            device.context.call_soon(again)

        again()

    before(put, VirtioBlk, "handle", first)


def only_what_is_known(queue: VirtQueue, used: Used) -> Used:
    return [each for each in used if each[0].head in queue.in_flight]


def looks_at_memory_again_and_again(put: Put) -> None:
    def first(device: VirtioBlk, _queue: object, chains: Sequence[Chain]) -> None:
        for _ in range(4000):
            device.memory.read(chains[0].readable[0][0], 16)

    before(put, VirtioBlk, "handle", first)


def allocates_far_more_than_it_needs(put: Put) -> None:
    def first(*_: object) -> None:
        bytes(1 << 20)

    before(put, VirtioBlk, "handle", first)


def clears_before_it_cancels(put: Put) -> None:
    """CVE-2023-5088: what runs is forgotten, and goes on."""
    before(put, VirtioBlk, "reset", lambda device: device.queues[0].in_flight.clear())
    finishes(put, only_what_is_known)


def stays_wedged(put: Put) -> None:
    put.setattr(VirtioBlk, "enable_queue", lambda *_: None)


DEFECTS: dict[Defect, str] = {
    writes_elsewhere: "the device has written at 0xff00",
    writes_what_was_for_reading: "the device has written at",
    says_a_byte_more: "used.len",
    covers_what_was_not_written: "used.len covers what was there before",
    answers_without_writing: "which was not written",
    gives_back_twice: "more came back than is out|was not out",
    enters_itself: "kick was entered within kick",
    takes_too_many: "more buffers were taken than were made available",
    never_rests: "does not rest",
    looks_at_memory_again_and_again: "accessed more often than the doorbell is worth",
    allocates_far_more_than_it_needs: "bytes were allocated for one doorbell",
    clears_before_it_cancels: "went on after the reset",
    stays_wedged: "does not answer after a reset",
    forgets_to_flush: "was acknowledged as stable and is not",
    writes_another_sector: "is not what was written|was acknowledged as stable",
}


def queues_story(bench: BlkBench) -> None:
    """The device is suspended and resumed; then a queue is reset while a request is on its way."""
    bench.hold()
    ask(bench, IN, room=SECTOR)
    bench.suspend()
    bench.release()
    bench.settle()
    ask(bench, IN, room=SECTOR)
    bench.resume()
    bench.hold()
    ask(bench, IN, room=SECTOR)
    bench.reset_queue(0, released=False)
    bench.works()


def is_suspended_too_early(put: Put) -> None:
    def first(device: VirtioBlk) -> None:
        if device.suspending:
            device.suspending = False
            device.status = device.status & ~Status.DRIVER_OK | Status.SUSPEND

    before(put, suspension, "settle", first)


def writes_while_it_is_suspended(put: Put) -> None:
    def first(device: VirtioBlk, index: int, _data: int | None = None) -> None:
        if device.suspended:
            device.memory.write(device.queues[index].device + 2, b"!!")

    before(put, VirtioBlk, "kick", first)


def never_ends_the_reset_of_a_queue(put: Put) -> None:
    put.setattr(VirtioBlk, "settle", lambda *_: None)


def forgets_what_was_in_a_queue(put: Put) -> None:
    before(put, VirtioBlk, "reset_queue", lambda _, queue: queue.in_flight.clear())
    finishes(put, only_what_is_known)


QUEUE_DEFECTS: dict[Defect, str] = {
    is_suspended_too_early: "suspended with work to do",
    writes_while_it_is_suspended: "the device has written at",
    never_ends_the_reset_of_a_queue: "the reset of a queue does not end",
    forgets_what_was_in_a_queue: "the device has written at|still mapped after the reset of a queue",
}


@pytest.mark.parametrize("defect", QUEUE_DEFECTS, ids=lambda defect: defect.__name__)
def test_a_defect_of_a_suspension_or_of_the_reset_of_a_queue_is_caught(
    defect: Defect, monkeypatch: Put
) -> None:
    defect(monkeypatch)
    with pytest.raises(AssertionError, match=QUEUE_DEFECTS[defect]):
        queues_story(BlkBench(Over.MMIO, kind=Kind.SHARED, without=PLAIN))


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_a_defect_is_caught(defect: Defect, monkeypatch: Put) -> None:
    defect(monkeypatch)
    with pytest.raises(AssertionError) as found:
        watched(lambda _: story(BlkBench(Over.MMIO, kind=Kind.SHARED, without=PLAIN)))(b"")
    assert re.search(DEFECTS[defect], f"{found.value} {found.value.__cause__}")


def a_loop(bench: BlkBench) -> None:
    """Of one descriptor, which the driver has written."""
    bench.lost = True
    driver = bench.drivers[0]
    assert isinstance(driver, DriverRing)
    driver.move_idx(loop_of_one(driver, TABLE, lambda low, _: low))
    bench.bounded.made_available(0, 1)
    bench.shadow.driver_wrote()
    with bench.bounded.doorbell():
        bench.transport.kick(0, 0)


def test_a_walk_of_descriptors_that_is_too_long_is_caught(monkeypatch: Put) -> None:
    a_loop(BlkBench(Over.MMIO, kind=Kind.SHARED, without=PLAIN))
    after(monkeypatch, SplitRing, "attach", lambda ring: setattr(ring, "_steps", range(1, 8192)))
    with pytest.raises(AssertionError) as found:
        watched(lambda _: a_loop(BlkBench(Over.MMIO, kind=Kind.SHARED, without=PLAIN)))(b"")
    assert "accessed more often than the doorbell is worth" in f"{found.value} {found.value.__cause__}"


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "split"])
@pytest.mark.parametrize("over", Over, ids=lambda over: over.value)
def test_without_a_defect_nothing_is(over: Over, packed: bool) -> None:
    for told in (story, queues_story):
        told(BlkBench(over, packed=packed and not over.legacy, kind=Kind.MIXED))


def test_a_buffer_is_judged_by_what_was_written_since_it_was_given() -> None:
    """Others that lie within it are given out when it has been written, before it comes back."""
    bench = BlkBench(Over.MMIO, packed=True, kind=Kind.SHARED)
    bench.hold()
    ask(bench, OUT, DATA)
    bench.noise(header(2))
    bench.nonsense(0, [(TABLE, 16)], [(0, 0x8000)], Form.DIRECT)
    bench.go(0)
    bench.send(0, OUT, 1, DATA)
    bench.release()
    bench.settle()
    assert len(bench.sent) == 1


def test_what_a_parser_raises_beside_its_own_errors_is_found(monkeypatch: Put) -> None:
    def wrong(_text: str, _file: str) -> None:
        raise KeyError("steps")

    monkeypatch.setattr("guestsim.script.load.parse_all", wrong)
    with pytest.raises(KeyError):
        TARGETS["script-corpus"].load()(b"")


def test_an_error_of_two_lines_is_found(monkeypatch: Put) -> None:
    from guestsim.script.load import ScriptError

    def wrong(_text: str, file: str) -> None:
        error = ScriptError(file, 1, "$", "one")
        error.args = ("one\ntwo",)
        raise error

    monkeypatch.setattr("guestsim.script.load.parse_all", wrong)
    with pytest.raises(AssertionError, match="one\ntwo"):
        TARGETS["script-corpus"].load()(b"")
