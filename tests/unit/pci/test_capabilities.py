"""The capability list, and the capabilities that do not interrupt."""

from __future__ import annotations

import pytest

from devmodels.pci import (
    BarKind,
    Capability,
    ExpressCapability,
    PciFunction,
    PowerCapability,
    VendorCapability,
)
from devmodels.pci.msi import Msi32, Msi32Masked, Msi64, Msi64Masked
from devmodels.pci.msix import MsixCapability, MsixEntry
from devmodels.pci.vendor import VendorBlock
from devmodels.registers import RW, Register, RegisterFile
from devmodels.registers.check import check_registers
from tests.unit.pci.world import BUS_MASTER, IDENTITY, MEMORY_ENABLE, Scratch, World, make_function, offset_of

SLOT = 5


def attached(capability: Capability) -> Capability:
    """The capability in a function that has nothing else."""
    make_function().add_capability(capability)
    return capability


@pytest.mark.long
@pytest.mark.parametrize(
    "make",
    [
        ExpressCapability,
        Msi32,
        Msi64,
        lambda: Msi32Masked(8),
        lambda: Msi64Masked(32),
        lambda: MsixCapability(2048, table_bar=1, table_offset=0, pba_bar=1, pba_offset=0x8000),
    ],
)
def test_every_bit(make: type[Capability]) -> None:
    behaving = [ExpressCapability.device_control]
    assert check_registers(lambda: attached(make()), behaving=behaving) > 50


def test_every_bit_of_power_management_but_the_state() -> None:
    check_registers(lambda: attached(PowerCapability()), behaving=[PowerCapability.control_status])


def test_every_bit_of_a_table_entry() -> None:
    assert check_registers(MsixEntry) > 100


def walk(world: World) -> list[tuple[int, int]]:
    """(offset, id) along the list, as a guest goes."""
    found = []
    at = world.config_read(SLOT, 0x34, 1)
    while at:
        found.append((at, world.config_read(SLOT, at, 1)))
        at = world.config_read(SLOT, at + 1, 1)
    return found


def test_the_list_is_in_the_order_of_adding() -> None:
    world = World()
    function = make_function()
    world.machine.plug(function, SLOT)
    assert world.config_read(SLOT, 0x06, 2) & 0x10 == 0
    function.add_capability(PowerCapability(), offset=0x80)
    function.add_capability(Msi64())
    function.add_capability(PowerCapability())
    assert world.config_read(SLOT, 0x06, 2) & 0x10
    assert walk(world) == [(0x80, 0x01), (0x40, 0x05), (0x50, 0x01)]


def test_a_full_space_takes_no_more() -> None:
    function = make_function()
    for _ in range(24):
        function.add_capability(PowerCapability())
    with pytest.raises(ValueError, match="no room"):
        function.add_capability(PowerCapability())


# --- vendor-specific


def test_a_vendor_capability_with_registers_of_its_own() -> None:
    class Access(VendorCapability, size=8):
        length = Register(4, 4, RW)
        seen: list[int]

        @length.on_write
        def _written(self, _old: int, new: int) -> None:
            self.seen.append(new)

    world = World()
    function = make_function()
    access = Access()
    access.seen = []
    at = function.add_capability(access)
    world.machine.plug(function, SLOT)
    assert world.config_read(SLOT, at, 4) == 0x0008_0009
    world.config_write(SLOT, at + 4, 4, 0x1234)
    assert (access.seen, world.config_read(SLOT, at + 4, 4)) == ([0x1234], 0x1234)


def test_a_block_of_bytes_with_a_mask() -> None:
    heard: list[tuple[str, int, int]] = []
    block = VendorBlock(
        b"\x01\x02\x03\x04\x05",
        b"\x00\xff\x0f",
        on_read=lambda at, length: heard.append(("read", at, length)),
        on_write=lambda at, length: heard.append(("write", at, length)),
    )
    world = World()
    function = make_function()
    at = function.add_capability(block)
    world.machine.plug(function, SLOT)
    world.config_write(SLOT, at, 4, 0xFFFF_FFFF)
    world.config_write(SLOT, at + 4, 4, 0xFFFF_FFFF)
    assert bytes(block.body) == b"\x01\xff\x0f\x04\x05"
    assert world.config_read(SLOT, at, 4) == 0x0108_0009
    assert world.config_read(SLOT, at + 4, 4) == 0x0504_0FFF
    assert heard == [("write", 3, 1), ("write", 4, 4), ("read", 3, 1), ("read", 4, 4)]
    heard.clear()
    assert [world.config_read(SLOT, at + n, 1) for n in range(3)] == [0x09, 0x00, 0x08]
    world.config_write(SLOT, at, 2, 0xFFFF)
    assert heard == [], "of the header nobody hears"
    state = world.machine.save()
    function.reset()
    assert bytes(block.body) == b"\x01\x02\x03\x04\x05"
    world.machine.restore(state)
    assert bytes(block.body) == b"\x01\xff\x0f\x04\x05"


def test_a_block_of_which_nobody_wants_to_hear() -> None:
    world = World()
    function = make_function()
    at = function.add_capability(VendorBlock(b"\x01\x02", b"\xff"))
    world.machine.plug(function, SLOT)
    world.config_write(SLOT, at, 4, 0x7700_0000)
    assert world.config_read(SLOT, at, 8) == 0x0000_0002_7705_0009


@pytest.mark.parametrize("written", [0x00, 0x7F, 0x80, 0x81, 0xFF])
def test_a_block_moves_along_as_it_is(written: int) -> None:
    block, other = VendorBlock(b"\x80", b"\xff"), VendorBlock(b"\x80", b"\xff")
    block.write(3, 1, written)
    other.write(3, 1, ~written & 0xFF)
    other.restore(block.save())
    assert other.read(3, 1) == written


def test_a_block_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="makes no capability"):
        VendorBlock(bytes(300))
    with pytest.raises(ValueError, match="makes no capability"):
        VendorBlock(bytes(253))
    assert VendorBlock(bytes(252)).read(2, 1) == 0xFF
    with pytest.raises(ValueError, match="makes no capability"):
        VendorBlock(b"\0", b"\xff\xff")


# --- power management


def test_in_d3_only_configuration_space_answers() -> None:
    world = World()
    function = make_function()
    function.add_bar(0, 0x1000, Scratch(0x1000, 0x5A), kind=BarKind.MEMORY32)
    at = function.add_capability(PowerCapability())
    world.machine.plug(function, SLOT)
    world.config_write(SLOT, 0x10, 4, 0xE000_0000)
    world.config_write(SLOT, 0x04, 2, MEMORY_ENABLE | BUS_MASTER)
    function.set_intx(True)
    world.machine.run_until_idle()
    world.config_write(SLOT, at + 4, 2, 3)
    assert world.machine.read(0xE000_0000, 1) == 0xFF
    assert not function.bus_master
    assert world.levels == [(1, True), (1, False)]
    world.config_write(SLOT, at + 4, 2, 0)
    assert world.machine.read(0xE000_0000, 1) == 0x5A
    assert function.bus_master
    assert world.levels[-1] == (1, True)


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("unsupported", [1, 2])
def test_a_power_state_that_is_not_there_is_not_taken(before: int, unsupported: int) -> None:
    world = World()
    function = make_function()
    at = function.add_capability(PowerCapability())
    world.machine.plug(function, SLOT)
    world.config_write(SLOT, at + 4, 2, before)
    world.config_write(SLOT, at + 4, 2, unsupported)
    assert world.config_read(SLOT, at + 4, 2) == 8 | before


# --- PCI Express


def test_a_function_level_reset() -> None:
    class Device(PciFunction):
        resets = 0

        def on_reset(self) -> None:
            self.resets += 1

    world = World()
    device = Device(IDENTITY, name="device", express=True)
    device.add_bar(0, 0x1000, Scratch(0x1000))
    world.machine.plug(device, SLOT)
    world.config_write(SLOT, 0x10, 4, 0xE000_0000)
    world.config_write(SLOT, 0x04, 2, MEMORY_ENABLE)
    at = offset_of(device, ExpressCapability)
    control = world.config_read(SLOT, at + 8, 2)
    world.config_write(SLOT, at + 8, 2, control | 0x8000)
    assert device.resets == 1
    assert world.config_read(SLOT, 0x04, 2) == 0
    assert world.config_read(SLOT, 0x10, 4) == 0
    assert world.config_read(SLOT, 0x00, 4) == 0x1042_1AF4
    assert world.config_read(SLOT, at + 8, 2) == control


def test_extended_configuration_space() -> None:
    world = World()
    world.machine.plug(PciFunction(IDENTITY, name="express", express=True), SLOT)
    world.machine.plug(make_function(), SLOT + 1)
    assert world.config_read(SLOT, 0x100, 4) == 0
    assert world.config_read(SLOT, 0xFFC, 4) == 0
    assert world.config_read(SLOT + 1, 0x100, 4) == 0xFFFF_FFFF
    world.config_write(SLOT + 1, 0x104, 4, 1)


def test_a_capability_without_a_function() -> None:
    with pytest.raises(RuntimeError, match="has not been added"):
        _ = PowerCapability().function
    assert isinstance(PowerCapability(), RegisterFile)
