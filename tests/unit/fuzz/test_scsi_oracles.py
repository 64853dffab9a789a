"""The oracles of virtio-scsi are seen to fail, too: a defect is put into it, and an innocent driver meets it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest

from devmodels.memory import GuestMemory
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain
from devmodels.virtio_scsi import VirtioScsi
from devmodels.virtio_scsi.control import ControlQueue
from devmodels.virtio_scsi.framing import Framing
from devmodels.virtio_scsi.layout import ScsiResponse
from fuzz.ring.bench import TABLE
from fuzz.ring.ledger import SECTOR
from fuzz.ring.scsi import CDB_SIZE, MAIN, ScsiBench
from fuzz.ring.transports import Over
from tests.defects import Defect, Put, answers, before, finishes
from tests.unit.fuzz.defects import (
    PLAIN,
    forgets_to_flush,
    gives_back_twice,
    says_a_byte_more,
    writes_another_sector,
)
from tests.unit.virtio.model import Form
from tests.unit.virtio.plain import Kind
from tests.unit.virtio.scsirig import (
    CONTROL,
    EVENT,
    LOGICAL_UNIT_RESET,
    REQUEST,
    TEST_UNIT_READY,
    lun_of,
    read_10,
)

DATA = bytes(range(256)) * 2


def story(bench: ScsiBench) -> None:
    """What every driver does; then requests are on their way while their unit, their queue and the device are reset."""
    bench.prove()
    bench.offer_event(16)
    bench.go(EVENT)
    bench.swap()
    bench.settle()
    assert not bench.sent, "there is something to tell"
    for _ in range(2):
        bench.hold()
        bench.write(REQUEST, 1, 1, DATA)
        bench.go(REQUEST)
        bench.manage(LOGICAL_UNIT_RESET, lun_of(*MAIN), 0)
        bench.go(CONTROL)
        bench.release()
        bench.settle()
    resets = partial(bench.reset_queue, REQUEST, released=False), partial(bench.reset, released=False)
    for reset in resets:
        bench.prove()
        bench.hold()
        bench.read(REQUEST, 1, 1, SECTOR)
        bench.go(REQUEST)
        reset()
    bench.works()


def writes_elsewhere(put: Put) -> None:
    before(put, VirtioScsi, "handle", lambda device, *_: device.memory.write(0xFF00, b"!"))


def covers_what_was_not_written(put: Put) -> None:
    """Responses are forgotten, and counted."""
    put.setattr(VirtioScsi, "write_all", lambda _device, _queue, _chain, data: len(data))


def leaves_something_behind_the_sense_data(put: Put) -> None:
    answers(put, Framing, "response", lambda response: response[:-1] + b"!")


def ends_nothing_when_a_unit_is_reset(put: Put) -> None:
    def wrong(self: ControlQueue, chain: Chain, *_: object) -> None:
        self._finish(chain, ScsiResponse.VIRTIO_SCSI_S_OK)

    put.setattr(ControlQueue, "_do", wrong)


def reads_too_little(put: Put) -> None:
    """A command that is GOOD, and whose data is short."""
    finishes(put, lambda _, used: [(chain, n - SECTOR if n > SECTOR else n) for chain, n in used])


def writes_data_twice(put: Put) -> None:
    """Of what was given for reading something is written."""

    def first(device: VirtioScsi, queue: VirtQueue, chains: Sequence[Chain]) -> None:
        if queue.index >= REQUEST:
            memory: GuestMemory = device.memory
            memory.write(chains[0].readable[0][0] + 20, b"!")

    before(put, VirtioScsi, "handle", first)


DEFECTS: dict[Defect, str] = {
    writes_elsewhere: "the device has written at 0xff00",
    writes_data_twice: "the device has written at",
    covers_what_was_not_written: "which was not written",
    says_a_byte_more: "used.len",
    gives_back_twice: "more came back than is out|was not out",
    leaves_something_behind_the_sense_data: "behind the sense data",
    ends_nothing_when_a_unit_is_reset: "outlived the reset of its unit",
    reads_too_little: "a read that is GOOD has read all",
    forgets_to_flush: "was acknowledged as stable and is not",
    writes_another_sector: "is not what was written|was acknowledged as stable",
}


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_a_defect_is_caught(defect: Defect, monkeypatch: Put) -> None:
    defect(monkeypatch)
    with pytest.raises(AssertionError, match=DEFECTS[defect]):
        story(ScsiBench(Over.MMIO, kind=Kind.SHARED, without=PLAIN))


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "split"])
@pytest.mark.parametrize("over", Over, ids=lambda over: over.value)
def test_without_a_defect_nothing_is(over: Over, packed: bool) -> None:
    story(ScsiBench(over, packed=packed and not over.legacy, kind=Kind.MIXED))


def test_of_buffers_that_lie_on_one_another_nothing_is_expected() -> None:
    """What is in order waits for a command before it; meanwhile another one's data comes to lie upon its response."""
    bench = ScsiBench(Over.MMIO, kind=Kind.SHARED)
    bench.prove()
    bench.hold()
    bench.read(REQUEST, 1, 1, SECTOR)
    sent = bench.command(REQUEST, TEST_UNIT_READY)
    assert sent is not None
    bench.noise(lun_of(*MAIN) + bytes(11) + read_10(1, 1).ljust(32, b"\0"))
    ((response, _),) = sent.buffer.writable
    bench.nonsense(REQUEST, [(TABLE, 51)], [(TABLE + 128, 108), (response, SECTOR)], Form.DIRECT)
    bench.go(REQUEST)
    bench.release()
    bench.settle()
    assert not bench.sent


def test_a_unit_may_finish_a_flush_of_its_own_after_the_reset() -> None:
    """MODE SELECT has switched the cache off: what is in it becomes stable, whatever becomes of the command."""
    bench = ScsiBench(Over.MMIO, kind=Kind.SHARED)
    bench.prove()
    bench.run_state.stop()
    page = bytes(8) + bytes((0x08, 0x12)) + bytes(18)
    bench.command(REQUEST, bytes((0x55, 0x10)) + bytes(5) + len(page).to_bytes(2, "big") + bytes(1), page)
    bench.go(REQUEST)
    assert bench.write_through
    bench.works()


@pytest.mark.parametrize("over", [Over.PCI, Over.PCI_LEGACY])
def test_sizes_stay_as_they_are_while_commands_wait_that_were_framed_with_them(over: Over) -> None:
    bench = ScsiBench(over, kind=Kind.SHARED)
    bench.bus_master(False)
    bench.command(REQUEST, TEST_UNIT_READY)
    bench.set_size(CDB_SIZE, 16)
    bench.bus_master(True)
    assert not bench.sent
    bench.set_size(CDB_SIZE, 16)
    assert bench.transport.load(CDB_SIZE, 4) == 16
    bench.works()
