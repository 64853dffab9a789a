"""virtio-blk through the legacy interface of a transitional function, VIRTIO 1.4 §4.1.4.10, as its driver sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from devmodels.registers.check import check_registers
from devmodels.snapshot import restore_snapshot, save_snapshot
from devmodels.virtio.pci import VirtioPci
from devmodels.virtio.pci_legacy import LegacyHeader
from guestsim.targets.inprocess import InProcessTarget
from tests.qemu.by_hand import Pci
from tests.qemu.legacy_by_hand import PAGE, LegacyBlk

CAPACITY, BLK_SIZE, WRITEBACK = 0, 20, 32
CONFIG = 20
CONFIG_WITH_MSIX = 24
FLUSH, CONFIG_WCE, EVENT_IDX, ANY_LAYOUT, BIT_30 = 1 << 9, 1 << 11, 1 << 29, 1 << 27, 1 << 30

Make = Callable[..., LegacyBlk]


@pytest.fixture(params=["shared", "bounced"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    with ExitStack() as machines:

        def make(**options: object) -> LegacyBlk:
            device = {"driver": "virtio-blk-pci", "drive": "d0", "addr": "4", "id": "v0", **options}
            target = InProcessTarget(
                blockdevs=[{"driver": "memory", "node-name": "d0", "size": 1 << 20}],
                devices=[device],
                shared=request.param == "shared",
            )
            machines.enter_context(target)
            return LegacyBlk(Pci(target, 4))

        yield make


def clauses(disk: LegacyBlk) -> list[str]:
    assert isinstance(disk.target, InProcessTarget)
    return [clause for clause, _ in disk.target.violations() or ()]


def test_a_transitional_function_says_so(make: Make) -> None:
    disk = make()
    pci = disk.pci
    assert (pci.read(0, 2), pci.read(2, 2)) == (0x1AF4, 0x1001)
    assert pci.read(8, 1) == 0, "revision"
    assert (pci.read(0x2C, 2), pci.read(0x2E, 2)) == (0x1AF4, 2), "subsystem: the virtio device id"
    assert {kind for kind, _ in pci.capabilities()} == {0x11, 0x09}
    assert disk.bar_size() == 128


def test_without_the_modern_interface_there_is_nothing_of_it(make: Make) -> None:
    disk = make(**{"disable-modern": True})
    assert disk.pci.read(2, 2) == 0x1001
    assert [kind for kind, _ in disk.pci.capabilities()] == [0x11]
    assert disk.pci.read(0x20, 4) == 0, "BAR 4"


def test_without_the_legacy_interface_there_is_no_io_bar(make: Make) -> None:
    pci = make(**{"disable-legacy": "on"}).pci
    assert (pci.read(2, 2), pci.read(8, 1), pci.read(0x2E, 2)) == (0x1042, 1, 0x1100)
    assert pci.read(0x10, 4) == 0, "BAR 0"


def test_what_was_written_is_read_back(make: Make) -> None:
    disk = make()
    disk.start()
    assert disk.request(1, 7, data=b"\x5a" * 512) == (0, 1, b"\x5a" * 512)
    assert disk.request(0, 7, room=512) == (0, 513, b"\x5a" * 512)
    assert clauses(disk) == []


def test_requests_are_served_before_driver_ok_and_before_features(make: Make) -> None:
    """§3.1.2: the device must support both."""
    disk = make()
    disk.reset()
    disk.place_queue()
    assert disk.request(0, 0, room=512)[0] == 0
    disk.write(0x12, 1, 1)
    disk.write(0x12, 1, 3)
    disk.write(0x04, 4, ANY_LAYOUT)
    assert disk.request(0, 1, room=512)[0] == 0
    disk.write(0x12, 1, 7)
    assert disk.request(0, 2, room=512)[0] == 0
    assert clauses(disk) == []


def test_features_written_while_a_queue_runs_hold_for_it(make: Make) -> None:
    """With EVENT_IDX the device writes avail_event; it goes on where the ring stood."""
    disk = make()
    disk.reset()
    disk.place_queue()
    disk.request(0, 0, room=512)
    avail_event = disk.used + 4 + 8 * disk.size
    disk.target.ram_write(avail_event, b"\xff\xff")
    disk.write(0x04, 4, EVENT_IDX)
    disk.request(0, 0, room=512)
    assert disk.target.ram_read(avail_event, 2) == b"\x02\x00"


def test_the_interface_has_its_own_feature_bits(make: Make) -> None:
    disk = make()
    offered = disk.read(0, 4)
    assert offered & ANY_LAYOUT
    assert offered & BIT_30
    assert not offered >> 17 & 1, "ZONED"
    disk.write(0x04, 4, ANY_LAYOUT | FLUSH)
    assert disk.read(0x04, 4) == ANY_LAYOUT | FLUSH
    disk.write(0x04, 4, 1 << 7 | FLUSH)
    assert disk.read(0x04, 4) == FLUSH, "SCSI was not offered"
    disk.write(0x04, 4, 0xFFFF_FFFF)
    assert disk.read(0x04, 4) == 0, "who accepts bit 30 has not looked"
    assert clauses(disk) == ["VIRTIO 1.4 §2.2.1", "VIRTIO 1.4 §6.3"]


def test_features_ok_does_not_exist(make: Make) -> None:
    disk = make()
    disk.reset()
    for status in (1, 3, 11):
        disk.write(0x12, 1, status)
    assert disk.read(0x12, 1) == 3
    assert clauses(disk) == ["VIRTIO 1.4 §2.1.1"]


def test_the_configuration_moves_when_msix_is_enabled(make: Make) -> None:
    disk = make()
    assert disk.read(CONFIG + CAPACITY, 4) == 2048
    msix = dict(disk.pci.capabilities())[0x11]
    disk.pci.write(msix + 2, 2, 0x8000)
    assert [disk.read(at, 2) for at in (CONFIG, CONFIG + 2)] == [0xFFFF, 0xFFFF], "two vectors, not mapped"
    assert disk.read(CONFIG_WITH_MSIX + CAPACITY, 4) == 2048
    disk.write(0x14, 2, 1)
    disk.write(0x16, 2, 0)
    assert (disk.read(0x14, 2), disk.read(0x16, 2)) == (1, 0)
    disk.write(0x16, 2, 99)
    assert disk.read(0x16, 2) == 0xFFFF, "no such vector"
    disk.pci.write(msix + 2, 2, 0)
    assert disk.read(CONFIG + CAPACITY, 4) == 2048


def test_the_configuration_can_be_read_byte_by_byte_and_across_fields(make: Make) -> None:
    disk = make()
    bytes_read = bytes(disk.read(CONFIG + at, 1) for at in range(60))
    words = b"".join(disk.read(CONFIG + at, 4).to_bytes(4, "little") for at in range(0, 60, 4))
    assert bytes_read == words
    assert bytes_read[BLK_SIZE : BLK_SIZE + 4] == (512).to_bytes(4, "little")
    assert disk.read(CONFIG + BLK_SIZE - 1, 2) == 512 << 8 & 0xFFFF | bytes_read[BLK_SIZE - 1]
    assert clauses(disk) == []


def test_writeback_is_set_in_any_width_before_the_driver_is_there(make: Make) -> None:
    """§5.2.5.3; through the legacy interface, a status bit does not change the mode of a driver with CONFIG_WCE."""
    disk = make()
    assert disk.read(CONFIG + WRITEBACK, 1) == 1
    disk.write(CONFIG + WRITEBACK, 4, disk.read(CONFIG + WRITEBACK, 4) & ~0xFF)
    assert disk.read(CONFIG + WRITEBACK, 1) == 0
    for status in (1, 3):
        disk.write(0x12, 1, status)
    disk.write(CONFIG + WRITEBACK, 1, 1)
    disk.write(0x04, 4, CONFIG_WCE)
    disk.write(0x12, 1, 7)
    assert disk.read(CONFIG + WRITEBACK, 1) == 1
    assert clauses(disk) == []


def test_a_driver_that_cannot_flush_gets_write_through_at_driver_ok(make: Make) -> None:
    disk = make()
    disk.reset()
    for status in (1, 3):
        disk.write(0x12, 1, status)
    disk.write(0x04, 4, 0)
    assert disk.read(CONFIG + WRITEBACK, 1) == 1
    disk.write(0x12, 1, 7)
    assert disk.read(CONFIG + WRITEBACK, 1) == 0


def test_flush_has_a_second_name_and_scsi_is_unsupported(make: Make) -> None:
    disk = make(serial="ABC")
    disk.start(FLUSH)
    assert disk.request(4, 0)[:2] == (0, 1)
    assert disk.request(5, 0)[:2] == (0, 1)
    assert disk.request(8, 0, room=20) == (0, 21, b"ABC".ljust(20, b"\0"))
    assert disk.request(2, 0, room=96)[0] == 2


def test_a_page_of_0_takes_the_queue_out_of_use(make: Make) -> None:
    disk = make()
    disk.start()
    assert disk.read(0x08, 4) == disk.queue // PAGE
    disk.write(0x08, 4, 0)
    assert disk.read(0x08, 4) == 0
    disk.write(0x10, 2, 0)
    assert clauses(disk) == ["VIRTIO 1.4 §4.1.5.2.1"]
    disk.place_queue()
    assert disk.request(0, 0, room=512)[0] == 0


def test_the_interrupt_is_taken_by_reading_isr(make: Make) -> None:
    disk = make()
    disk.start()
    pin = disk.pci.read(0x3D, 1)
    disk.request(0, 0, room=512)
    assert disk.target.intx_level(4, pin)
    assert disk.read(0x13, 1) == 1
    assert not disk.target.intx_level(4, pin)


def test_a_queue_that_is_not_there_has_no_size(make: Make) -> None:
    disk = make()
    disk.write(0x0E, 2, 1)
    assert disk.read(0x0C, 2) == 0
    disk.write(0x08, 4, 0x100)
    assert disk.read(0x08, 4) == 0


def test_a_queue_outside_memory_needs_a_reset(make: Make) -> None:
    disk = make()
    disk.reset()
    disk.write(0x08, 4, 0xFFFF_FFFF)
    assert disk.read(0x12, 1) & 0x40
    disk.start()
    assert disk.request(0, 0, room=512)[0] == 0


def test_the_two_interfaces_do_not_mix(make: Make) -> None:
    disk = make()
    disk.start()
    common = disk.target.layout.mmio.base
    disk.pci.place_bar(4, common)
    disk.pci.write(0x04, 2, 0x0007)
    disk.target.write(common + 0x14, 1, 0x0F)
    assert disk.read(0x12, 1) == 7
    disk.target.write(common + 0x14, 1, 0)
    disk.target.write(common + 0x14, 1, 1)
    disk.write(0x12, 1, 3)
    assert disk.read(0x12, 1) == 1
    assert clauses(disk) == ["VIRTIO 1.4 §2.2.3", "VIRTIO 1.4 §2.2.3"]


def test_a_reset_waits_for_what_workers_do(tmp_path: Path) -> None:
    """Drivers of this interface do not wait for a reset: it is over when status has been written."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    with InProcessTarget(
        blockdevs=[{"driver": "file", "filename": str(image), "node-name": "d0"}],
        devices=[{"driver": "virtio-blk-pci", "drive": "d0", "addr": "4"}],
        clock="wall",
    ) as target:
        disk = LegacyBlk(Pci(target, 4))
        disk.start()
        disk.expose(1, 0, data=b"\x5a" * 512)
        disk.write(0x10, 2, 0)
        [device] = target.assembly.devices.values()
        assert device.device.queues[0].in_flight, "a worker is writing"
        disk.write(0x12, 1, 0)
        assert disk.read(0x12, 1) == 0
        disk.start()
        assert disk.request(0, 0, room=512)[0] == 0
        assert clauses(disk) == []


def test_a_snapshot_goes_on_in_another_machine(make: Make) -> None:
    first, second = make(), make()
    first.start(EVENT_IDX | ANY_LAYOUT)
    first.request(1, 3, data=b"\x77" * 512)
    assert isinstance(first.target, InProcessTarget)
    assert isinstance(second.target, InProcessTarget)
    restore_snapshot(second.target.assembly, save_snapshot(first.target.assembly))
    assert (second.read(0x04, 4), second.read(0x12, 1)) == (EVENT_IDX | ANY_LAYOUT, 7)
    second.go_on_from(first)
    assert second.request(0, 5, room=512)[:2] == (0, 513)
    assert clauses(second) == []


def test_registers_bit_by_bit() -> None:
    # What is special about queue_select is so under profile `qemu` alone.
    plain = (LegacyHeader.queue_select,)
    behaving = [
        each
        for each in LegacyHeader.layout().registers
        if each not in plain and (each.read_hook or each.write_hook)
    ]
    with InProcessTarget(
        blockdevs=[{"driver": "memory", "node-name": "d0", "size": 1 << 20}],
        devices=[{"driver": "virtio-blk-pci", "drive": "d0", "addr": "4"}],
    ) as target:
        [function] = target.assembly.devices.values()
        assert isinstance(function, VirtioPci)
        assert check_registers(lambda: LegacyHeader(function), behaving=behaving) > 10


def test_what_is_read_only_is_not_written(make: Make) -> None:
    disk = make()
    for offset, size in ((0x00, 4), (0x0C, 2), (0x13, 1)):
        before = disk.read(offset, size)
        disk.write(offset, size, 1)
        assert disk.read(offset, size) == before
    assert clauses(disk) == ["VIRTIO 1.4 §4.1.4.10"] * 3
