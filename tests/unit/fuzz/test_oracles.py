"""Each oracle is seen to fail: a defect is put into the device by hand, and an innocent driver meets it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from devmodels.blockbackend.request import Op, Request
from devmodels.memory import GuestMemory
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain
from devmodels.virtio.split import SplitRing
from devmodels.virtio_blk import VirtioBlk
from fuzz.blk.bench import TABLE, BlkBench
from fuzz.blk.disk import FuzzedDisk
from fuzz.blk.oracles import SECTOR
from fuzz.targets import TARGETS
from fuzz.watch import watched
from tests.unit.virtio.blkrig import FLUSH, IN, OUT
from tests.unit.virtio.model import IN_ORDER, NOTIFICATION_DATA, Form
from tests.unit.virtio.plain import Kind

DATA = bytes(range(256)) * 2
PLAIN = IN_ORDER | NOTIFICATION_DATA
"""Features that are not negotiated, so that defects are simple."""

DEEPER = 0x7700
"""What is said with a notification that the device sends itself."""

Put = pytest.MonkeyPatch
Defect = Callable[[Put], None]
"""Put into the classes by hand, before a bench is made of them."""


def ask(bench: BlkBench, kind: int, data: bytes = b"", room: int = 0) -> None:
    """One request of sector 1."""
    bench.send(kind, 1, data, room, Form.DIRECT, [])
    bench.go()


def story(bench: BlkBench) -> None:
    """What every driver does; then one request is on its way while the device is reset."""
    for _ in range(2):
        ask(bench, OUT, DATA)
        ask(bench, FLUSH)
        ask(bench, IN, room=SECTOR)
    bench.fail(Op.READ)
    ask(bench, IN, room=SECTOR)
    bench.disk.hold()
    ask(bench, OUT, DATA)
    bench.reset(released=False)
    bench.works()


def before(put: Put, kind: type, name: str, first: Callable[..., None]) -> None:
    """A method does `first` and then what it does."""
    method = getattr(kind, name)

    def wrong(self: Any, *arguments: Any) -> Any:
        first(self, *arguments)
        return method(self, *arguments)

    put.setattr(kind, name, wrong)


def writes_elsewhere(put: Put) -> None:
    before(put, VirtioBlk, "handle", lambda device, *_: device.memory.write(0xFF00, b"!"))


def writes_what_was_for_reading(put: Put) -> None:
    def first(device: VirtioBlk, _queue: object, chains: Sequence[Chain]) -> None:
        device.memory.write(chains[0].readable[0][0] + 8, b"!")

    before(put, VirtioBlk, "handle", first)


def _finishes(put: Put, change: Callable[[Any], Any]) -> None:
    finish = VirtQueue.finish
    put.setattr(VirtQueue, "finish", lambda self, done: finish(self, change(list(done))))


def says_a_byte_more(put: Put) -> None:
    _finishes(put, lambda done: [(chain, length + 1) for chain, length in done])


def covers_what_was_not_written(put: Put) -> None:
    """A read that fails is answered in whole, and its data part left as it was."""
    put.setattr("devmodels.virtio_blk.device.clear", lambda _views: None)


def answers_without_writing(put: Put) -> None:
    """The status byte is forgotten, and counted."""
    put.setattr(GuestMemory, "write_byte", lambda *_: None)


def gives_back_twice(put: Put) -> None:
    push = SplitRing.push

    def wrong(self: SplitRing, *arguments: Any) -> None:
        push(self, *arguments)
        push(self, *arguments)

    put.setattr(SplitRing, "push", wrong)


def enters_itself(put: Put) -> None:
    def first(device: VirtioBlk, index: int, data: int | None = None) -> None:
        if data != DEEPER:
            device.kick(index, DEEPER)

    before(put, VirtioBlk, "kick", first)


def takes_too_many(put: Put) -> None:
    handle = VirtioBlk.handle
    put.setattr(VirtioBlk, "handle", lambda self, queue, chains: handle(self, queue, [*chains, *chains]))
    before(put, BlkBench, "go", lambda bench: bench.bounded.made_available(-1))


def never_rests(put: Put) -> None:
    def first(device: VirtioBlk, *_: object) -> None:
        def again() -> None:
            device.context.call_soon(again)

        again()

    before(put, VirtioBlk, "handle", first)


def clears_before_it_cancels(put: Put) -> None:
    """CVE-2023-5088: what runs is forgotten, and goes on."""
    before(put, VirtioBlk, "reset", lambda device: device.queues[0].in_flight.clear())
    finish = VirtQueue.finish

    def known(queue: VirtQueue, used: Sequence[tuple[Chain, int]]) -> None:
        finish(queue, [each for each in used if each[0].head in queue.in_flight])

    put.setattr(VirtQueue, "finish", known)


def stays_wedged(put: Put) -> None:
    put.setattr(VirtioBlk, "enable_queue", lambda *_: None)


def forgets_to_flush(put: Put) -> None:
    async def flush(_disk: FuzzedDisk, _request: Request) -> None:
        pass

    put.setattr(FuzzedDisk, "flush", flush)


def writes_another_sector(put: Put) -> None:
    write = FuzzedDisk.write

    async def wrong(self: FuzzedDisk, request: Request) -> None:
        request.offset += SECTOR
        await write(self, request)
        request.offset -= SECTOR

    put.setattr(FuzzedDisk, "write", wrong)


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
    clears_before_it_cancels: "went on after the reset",
    stays_wedged: "does not answer after a reset",
    forgets_to_flush: "was acknowledged as stable and is not",
    writes_another_sector: "is not what was written|was acknowledged as stable",
}


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_a_defect_is_caught(defect: Defect, monkeypatch: Put) -> None:
    defect(monkeypatch)
    with pytest.raises(AssertionError) as found:
        watched(lambda _: story(BlkBench(pci=False, packed=False, kind=Kind.SHARED, without=PLAIN)))(b"")
    assert re.search(DEFECTS[defect], f"{found.value} {found.value.__cause__}")


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "split"])
@pytest.mark.parametrize("pci", [True, False], ids=["pci", "mmio"])
def test_without_a_defect_nothing_is(pci: bool, packed: bool) -> None:
    story(BlkBench(pci=pci, packed=packed, kind=Kind.MIXED))


def test_a_buffer_is_judged_by_what_was_written_since_it_was_given() -> None:
    """Others that lie within it are given out when it has been written, before it comes back."""
    bench = BlkBench(pci=False, packed=True, kind=Kind.SHARED)
    bench.disk.hold()
    ask(bench, OUT, DATA)
    bench.noise(2, 0, b"")
    bench.nonsense([(TABLE, 16)], [(0, 0x8000)], Form.DIRECT)
    bench.go()
    bench.send(OUT, 1, DATA, 0, Form.DIRECT, [])
    bench.disk.release()
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
