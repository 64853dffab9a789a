"""The guest's view of PCI: a bus it can trust, and one that lies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from guestsim.drivers import pci, virtio_blk
from guestsim.drivers.pci import ConfigSpace, PciFunction, scan
from guestsim.errors import GuestCheckError, GuestError
from guestsim.guest import Guest
from guestsim.targets import MachineLayout
from guestsim.targets.inprocess import InProcessTarget

from .fakes import FakeTarget


class ConfigTarget(FakeTarget):
    """256 bytes of configuration space for slot 0, through the ports, all of it read-only but the BARs."""

    def __init__(self) -> None:
        super().__init__()
        self.config = bytearray(256)
        self.config[0:4] = bytes.fromhex("f41a4210")
        self.masks = {0x10 + 4 * index: 0 for index in range(6)}
        self.address = 0

    def io_write(self, port: int, size: int, value: int) -> None:
        if port == 0xCF8:
            self.address = value & 0xFFFF_FFFF
            return
        offset = (self.address & 0xFC) + port - 0xCFC
        if offset in self.masks:
            self.config[offset : offset + 4] = (value & self.masks[offset]).to_bytes(4, "little")

    def io_read(self, port: int, size: int) -> int:
        if self.address >> 8 & 0xFFFF:
            return (1 << 8 * size) - 1
        offset = (self.address & 0xFC) + port - 0xCFC
        return int.from_bytes(self.config[offset : offset + size], "little")


def function(target: ConfigTarget) -> PciFunction:
    (found,) = scan(Guest(target))
    return found


def test_capabilities_in_a_loop_are_found() -> None:
    target = ConfigTarget()
    target.config[0x06] = 0x10
    target.config[0x34] = 0x40
    target.config[0x40:0x42] = bytes([9, 0x40])
    with pytest.raises(GuestCheckError, match="capability list") as caught:
        function(target).capabilities()
    assert caught.value.clause == "PCI 3.0 §6.7"


def test_a_capability_inside_the_header_is_found() -> None:
    target = ConfigTarget()
    target.config[0x06] = 0x10
    target.config[0x34] = 0x40
    target.config[0x40:0x42] = bytes([9, 0x10])
    with pytest.raises(GuestCheckError):
        function(target).capabilities()


def test_without_the_status_bit_there_are_no_capabilities() -> None:
    target = ConfigTarget()
    target.config[0x34] = 0x40
    assert function(target).capabilities() == []


def test_a_bar_with_holes_in_its_mask_is_found() -> None:
    target = ConfigTarget()
    target.masks[0x10] = 0xFF0F_F000
    with pytest.raises(GuestCheckError, match="BAR 0"):
        function(target).place_bars()


def test_bars_of_every_kind_are_sized_and_placed() -> None:
    target = ConfigTarget()
    target.masks |= {0x10: 0xFFFF_F000, 0x14: 0xFFFF_FFF0, 0x18: 0xFFFF_0000, 0x1C: 0xFFFF_FFFF}
    # BAR 0: 32-bit memory; BAR 1: I/O; BAR 2 with 3: 64-bit memory. The low bits are read-only.
    real = target.io_read

    def io_read(port: int, size: int) -> int:
        fixed = {0x14: 1, 0x18: 4}.get((target.address & 0xFC), 0) if size == 4 and port == 0xCFC else 0
        return real(port, size) | fixed

    target.io_read = io_read  # type: ignore[method-assign]
    found = function(target)
    found.place_bars()
    assert {index: (bar.size, bar.io) for index, bar in found.bars.items()} == {
        0: (0x1000, False),
        1: (0x10, True),
        2: (0x10000, False),
    }
    assert all(bar.base % bar.size == 0 for bar in found.bars.values())


def test_ecam_and_the_ports_show_the_same_bus() -> None:
    devices = [{"driver": "virtio-blk-pci", "drive": "d0", "addr": "5"}]
    with InProcessTarget(
        blockdevs=[{"driver": "memory", "node-name": "d0", "size": 1 << 20}], devices=devices
    ) as target:
        guest = Guest(target)
        by_ecam = ConfigSpace(target)
        target._layout = replace(target.layout, ecam=None)
        by_ports = ConfigSpace(target)
        assert isinstance(target.layout, MachineLayout)
        for offset in range(0, 256, 4):
            assert by_ecam.read(5, 0, offset, 4) == by_ports.read(5, 0, offset, 4)
        assert [str(one) for one in virtio_blk.find(guest)] == ["00:05.0"]


def test_masked_messages_wait_and_come_once(machine: InProcessTarget, guest: Guest) -> None:
    driver = virtio_blk.VirtioBlk(guest, virtio_blk.find(guest)[0])
    guest.run(driver.probe())
    msix = driver.device.function.msix()
    assert msix is not None
    msix.mask(1)
    guest.run(driver.submit([virtio_blk.read(0, 512)]))
    assert msix.pending(1)
    assert driver.device.queue_interrupts == 0
    msix.unmask(1)
    assert not msix.pending(1)
    guest.run(guest.settle())
    assert driver.device.queue_interrupts == 1
    with pytest.raises(GuestError, match="MSI-X entry"):
        msix.mask(msix.size)


def test_without_bus_mastering_nothing_is_done(machine: InProcessTarget, guest: Guest) -> None:
    driver = virtio_blk.VirtioBlk(guest, virtio_blk.find(guest)[0])
    guest.run(driver.probe())
    driver.device.function.set_command(off=pci.COMMAND_MASTER)
    (pending,) = guest.run(driver.submit([virtio_blk.read(0, 512)]))
    guest.run(guest.settle())
    assert not pending.done
