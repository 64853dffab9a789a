"""The configuration header as a guest finds it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.pci import PciFunction, PciIdentity, PowerCapability
from devmodels.pci.header import Type0Header
from devmodels.pci.msi import Msi64
from devmodels.registers import Register, RegisterFile
from devmodels.registers.check import check_registers
from tests.unit.pci.world import (
    BUS_MASTER,
    IDENTITY,
    INTX_DISABLE,
    MEMORY_ENABLE,
    World,
    make_function,
)


class Owner:
    """A header's owner that wants to know nothing."""

    def decode_changed(self) -> None: ...

    def bus_master_changed(self) -> None: ...

    def intx_changed(self) -> None: ...


@pytest.mark.long
def test_every_bit() -> None:
    assert check_registers(lambda: Type0Header(Owner())) > 500


def test_identity() -> None:
    world = World()
    world.machine.plug(make_function(), 3)
    assert world.config_read(3, 0x00, 4) == 0x1042_1AF4
    assert world.config_read(3, 0x08, 4) == 0x0108_0203
    assert world.config_read(3, 0x2C, 4) == 0x1100_1AF4
    assert world.config_read(3, 0x3D, 1) == 1


def test_who_says_no_more_than_he_must() -> None:
    """Revision 0, no subsystem, INTA#."""
    world = World()
    world.machine.plug(make_function(identity=PciIdentity(0x1AF4, 0x1042, 0x010802)), 3)
    assert [world.config_read(3, at, 4) for at in (0x00, 0x08, 0x2C)] == [0x1042_1AF4, 0x0108_0200, 0]
    assert world.config_read(3, 0x3D, 1) == 1


def test_there_is_no_rom_and_no_bar_that_was_not_added() -> None:
    world = World()
    world.machine.plug(make_function(), 3)
    for offset in (0x10, 0x14, 0x18, 0x1C, 0x20, 0x24, 0x28, 0x30):
        world.config_write(3, offset, 4, 0xFFFF_FFFF)
        assert world.config_read(3, offset, 4) == 0


def test_parts_of_the_command_register() -> None:
    world = World()
    world.machine.plug(make_function(), 3)
    world.config_write(3, 0x05, 1, 0x04)
    world.config_write(3, 0x04, 1, 0x06)
    assert world.config_read(3, 0x04, 2) == INTX_DISABLE | BUS_MASTER | MEMORY_ENABLE


def test_a_device_is_told_when_bus_mastering_changes() -> None:
    class Device(PciFunction):
        heard: list[bool]

        def on_bus_master(self, enabled: bool) -> None:
            self.heard.append(enabled)

    world = World()
    device = Device(IDENTITY, name="device")
    device.heard = []
    world.machine.plug(device, 3)
    world.config_write(3, 0x04, 2, BUS_MASTER)
    world.config_write(3, 0x04, 2, BUS_MASTER | MEMORY_ENABLE)
    assert (device.heard, device.bus_master) == ([True], True)
    world.config_write(3, 0x04, 2, 0)
    assert device.heard == [True, False]
    world.config_write(3, 0x04, 2, BUS_MASTER)
    device.reset()
    assert device.heard == [True, False, True, False]


def test_a_devices_own_configuration_registers() -> None:
    class Map(RegisterFile, size=4, widths=(1, 2, 4), lenient=True):
        port_map = Register(2, 1, Type0Header.cache_line_size.access, reset=0x40)

    world = World()
    function = make_function()
    function.add_registers(0x90, Map())
    function.add_capability(PowerCapability(), offset=0x80)
    world.machine.plug(function, 31)
    assert world.config_read(31, 0x90, 4) == 0x0040_0000
    world.config_write(31, 0x92, 1, 0x12)
    assert world.config_read(31, 0x92, 1) == 0x12
    assert world.config_read(31, 0x34, 1) == 0x80
    with pytest.raises(ValueError, match="something else is there"):
        function.add_registers(0x84, Map())
    with pytest.raises(ValueError, match="cannot be put"):
        function.add_registers(0x100, Map())


def test_an_access_may_reach_over_what_lies_side_by_side() -> None:
    """The end of the header, and the first capability; then all in eight bytes."""
    world = World()
    function = make_function()
    function.add_capability(PowerCapability(), offset=0x40)
    function.add_capability(PowerCapability(), offset=0x48)
    world.machine.plug(function, 3)
    world.config_write(3, 0x3C, 1, 0x0B)
    assert world.config_read(3, 0x3C, 8) == 0x0003_4801_0000_010B
    assert world.config_read(3, 0x3F, 4) == 0x0348_0100
    assert world.config_read(3, 0x3E, 2) == 0
    assert world.config_read(3, 0x3D, 4) == 0x0100_0001
    assert world.config_read(3, 0x3F, 2) == 0x0100
    assert world.config_read(3, 0x46, 4) == 0x0001_0000
    world.config_write(3, 0x42, 4, 0x0003_0000)
    assert world.config_read(3, 0x44, 4) == 0x0000_000B


accesses = st.lists(
    st.tuples(
        st.booleans(),
        st.integers(0, 0xFFF),
        st.sampled_from((1, 2, 4, 8)),
        st.integers(0, (1 << 64) - 1),
    )
)


@given(accesses, st.booleans())
def test_no_access_raises_and_no_read_only_bit_changes(
    story: list[tuple[bool, int, int, int]], express: bool
) -> None:
    world = World()
    function = PciFunction(IDENTITY, name="device", express=express)
    function.add_msix(3, bar=1)
    function.add_capability(PowerCapability())
    world.machine.plug(function, 3)
    constant = [(0x00, 4), (0x08, 4), (0x0E, 1), (0x2C, 4), (0x34, 1), (0x3D, 1)]
    for offset, capability in function.capabilities:
        constant.append((offset, 2))
        constant += [(offset + 4, 4), (offset + 8, 4)] if capability is function.msix else []
    before = [world.config_read(3, *place) for place in constant]
    for write, offset, size, value in story:
        if write:
            world.config_write(3, offset, size, value)
        else:
            assert 0 <= world.config_read(3, offset, size) < 1 << 8 * size
    assert [world.config_read(3, *place) for place in constant] == before


def test_a_space_as_qemus_keeps_what_is_written_where_there_are_no_registers() -> None:
    world, other = World(), PciFunction(IDENTITY, name="other", as_qemu=True)
    function = PciFunction(IDENTITY, name="f", as_qemu=True)
    function.config.hold(0x50, b"\x12\x34", b"\xff\x00")
    capability = Msi64()
    function.add_capability(capability, offset=0x80)
    world.machine.plug(function, 3)
    for offset in (0x28, 0x40, 0x50, 0x8C, 0xFC):
        world.config_write(3, offset, 4, 0xA5A5_A5A5)
    assert [world.config_read(3, offset, 4) for offset in (0x28, 0x40, 0xFC)] == [0, 0xA5A5_A5A5, 0xA5A5_A5A5]
    assert world.config_read(3, 0x50, 4) == 0xA5A5_34A5
    assert (capability.message_data, world.config_read(3, 0x8E, 2)) == (0xA5A5, 0xA5A5)
    function.reset()
    assert world.config_read(3, 0x8C, 4) == 0xA5A5_0000
    other.config.hold(0x50, b"\x12\x34", b"\xff\x00")
    other.add_capability(Msi64(), offset=0x80)
    other.judge(function.save())
    other.restore(function.save())
    assert [other.config_read(offset, 4) for offset in (0x40, 0x50, 0x8C)] == [
        0xA5A5_A5A5,
        0xA5A5_34A5,
        0xA5A5_0000,
    ]
    with pytest.raises(ValueError, match="cannot hold 256 at 64"):
        other.judge({**function.save(), "kept.64": 256})


def test_an_ordinary_space_keeps_nothing_there() -> None:
    function = PciFunction(IDENTITY, name="f")
    function.config_write(0x40, 4, 0xA5A5_A5A5)
    assert function.config_read(0x40, 4) == 0
