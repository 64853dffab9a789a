"""The root bus: both ways into configuration space, absent functions, plugging, INTx routing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.pci import BarKind, PciFunction, PciIdentity
from devmodels.pci.bus import intx_line
from tests.unit.pci.world import IDENTITY, INTX_DISABLE, MEMORY_ENABLE, Scratch, World, make_function


def select(slot: int, offset: int, number: int = 0, bus: int = 0) -> int:
    return 1 << 31 | bus << 16 | slot << 11 | number << 8 | offset


def test_configuration_by_ports() -> None:
    world = World(ecam=None)
    world.machine.plug(make_function(), 4)
    world.machine.io_write(0xCF8, 4, select(4, 0))
    assert world.machine.io_read(0xCFC, 4) == 0x1042_1AF4
    assert world.machine.io_read(0xCFE, 2) == 0x1042
    assert world.machine.io_read(0xCFD, 1) == 0x1A
    world.machine.io_write(0xCF8, 4, select(4, 4))
    world.machine.io_write(0xCFD, 1, 0x04)
    assert world.machine.io_read(0xCFC, 2) == INTX_DISABLE


def test_the_selection_can_be_read_back_as_a_dword_only() -> None:
    world = World()
    world.machine.io_write(0xCF8, 4, 0xFFFF_FFFF)
    assert world.machine.io_read(0xCF8, 4) == 0x80FF_FFFC
    world.machine.io_write(0xCF8, 2, 0)
    world.machine.io_write(0xCFB, 1, 0)
    assert world.machine.io_read(0xCF8, 4) == 0x80FF_FFFC
    assert world.machine.io_read(0xCF8, 1) == 0xFF
    assert world.machine.io_read(0xCFA, 2) == 0xFFFF


@pytest.mark.parametrize("address", [0x2000, select(4, 0, bus=1), select(5, 0), select(4, 0, number=1)])
def test_nobody_selected_reads_ones_and_takes_writes(address: int) -> None:
    world = World()
    world.machine.plug(make_function(), 4)
    world.machine.io_write(0xCF8, 4, address)
    world.machine.io_write(0xCFC, 4, 0)
    assert world.machine.io_read(0xCFC, 4) == 0xFFFF_FFFF


def test_a_bus_without_devices_reads_ones() -> None:
    world = World()
    assert {world.config_read(slot, 0, 4, number) for slot in range(32) for number in range(8)} == {
        0xFFFF_FFFF
    }
    assert world.machine.read(0xB010_0000, 4) == 0xFFFF_FFFF


def test_an_access_over_the_end_of_a_function_goes_on_in_the_next() -> None:
    world = World()
    world.machine.plug(PciFunction(IDENTITY, name="first", express=True), 2)
    world.machine.plug(make_function("second"), 2, 1)
    assert world.config_read(2, 0xFFE, 4) == 0x1AF4_0000
    world.config_write(2, 0xFFC, 8, 0x1234_5678_9ABC_DEF0)
    assert world.config_read(2, 0xFFC, 8) == 0x1042_1AF4_0000_0000
    last = make_function("last")
    world.machine.plug(last, 31, 7)
    assert world.config_read(31, 0xFFC, 8, 7) == 0xFFFF_FFFF_FFFF_FFFF


def test_the_header_says_when_a_slot_has_several_functions() -> None:
    world = World()
    first, second = make_function("first"), make_function("second")
    world.machine.plug(first, 7)
    assert world.config_read(7, 0x0E, 1) == 0
    world.machine.plug(second, 7, 3)
    assert world.config_read(7, 0x0E, 1) == world.config_read(7, 0x0E, 1, 3) == 0x80
    world.machine.unplug(second)
    assert world.config_read(7, 0x0E, 1) == 0


def test_an_unplugged_function_is_gone_with_its_ranges_and_its_interrupt() -> None:
    world = World()
    function = make_function()
    function.add_bar(0, 0x1000, Scratch(0x1000, 1), kind=BarKind.MEMORY32)
    function.add_msix(1, bar=1)
    world.machine.plug(function, 2)
    world.config_write(2, 0x10, 4, 0xE000_0000)
    world.config_write(2, 0x04, 2, MEMORY_ENABLE)
    assert world.machine.read(0xE000_0000, 1) == 1
    function.set_intx(True)
    world.machine.unplug(function)
    world.machine.run_until_idle()
    assert world.machine.read(0xE000_0000, 1) == 0xFF
    assert world.config_read(2, 0, 4) == 0xFFFF_FFFF
    assert world.levels == []
    function.set_intx(True)
    function.send_message(0xFEE0_0000, 1)
    world.machine.run_until_idle()
    assert (world.levels, world.messages) == ([], [])
    world.machine.plug(function, 3)
    assert world.machine.read(0xE000_0000, 1) == 0xFF, "without power it has forgotten its BARs"
    world.config_write(3, 0x10, 4, 0xE000_0000)
    world.config_write(3, 0x04, 2, MEMORY_ENABLE)
    assert world.machine.read(0xE000_0000, 1) == 1
    world.machine.run_until_idle()
    assert world.levels == [(3, True)]


@pytest.mark.parametrize(("slot", "number"), [(32, 0), (-1, 0), (0, 8), (4, 0)])
def test_a_place_that_is_taken_or_does_not_exist(slot: int, number: int) -> None:
    world = World()
    world.machine.plug(make_function("other"), 4)
    with pytest.raises(ValueError, match=r"no place|taken by other"):
        world.machine.plug(make_function(), slot, number)


def test_plugging_twice_and_unplugging_what_is_not_plugged() -> None:
    world = World()
    function = make_function()
    with pytest.raises(ValueError, match="is not plugged"):
        world.machine.unplug(function)
    world.machine.plug(function, 1)
    with pytest.raises(ValueError, match="plugged already"):
        world.machine.plug(function, 2)


def test_pins_are_spread_over_the_lines_and_shared() -> None:
    world = World()
    functions = [
        PciFunction(PciIdentity(1, 2, 3, interrupt_pin=pin), name=f"{slot}")
        for slot, pin in ((0, 1), (4, 1), (3, 2))
    ]
    for slot, function in zip((0, 4, 3), functions, strict=True):
        world.machine.plug(function, slot)
        function.set_intx(True)
    world.machine.run_until_idle()
    assert world.levels == [(0, True)]
    for function in functions:
        function.set_intx(False)
    world.machine.run_until_idle()
    assert world.levels == [(0, True), (0, False)]
    assert [intx_line(2, pin) for pin in (1, 2, 3, 4)] == [2, 3, 0, 1]


def test_interrupt_disable_holds_the_line_but_not_the_status() -> None:
    world = World()
    function = make_function()
    world.machine.plug(function, 0)
    world.config_write(0, 0x04, 2, INTX_DISABLE)
    function.set_intx(True)
    world.machine.run_until_idle()
    assert (world.levels, world.config_read(0, 0x06, 2) & 8) == ([], 8)
    world.config_write(0, 0x04, 2, 0)
    assert world.levels == [(0, True)]


def test_a_function_without_a_pin_drives_no_line() -> None:
    world = World()
    function = PciFunction(PciIdentity(1, 2, 3, interrupt_pin=0), name="silent")
    world.machine.plug(function, 0)
    function.set_intx(True)
    world.machine.run_until_idle()
    assert world.levels == []


accesses = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.integers(0, 0xFF),
        st.sampled_from((1, 2, 4)),
        st.one_of(st.none(), st.integers(0, 0xFFFF_FFFF)),
    ),
    max_size=40,
)


@given(accesses)
def test_ports_and_ecam_are_two_ways_to_one_place(story: list[tuple[int, int, int, int | None]]) -> None:
    """The same accesses through the ports of one machine and the ECAM window of another."""
    worlds = World(), World()
    for world in worlds:
        function = PciFunction(IDENTITY, name="device")
        function.add_bar(0, 0x1000, Scratch(0x1000))
        function.add_msix(2, bar=4)
        world.machine.plug(function, 6)
    by_port, by_ecam = worlds
    for number, offset, size, value in story:
        offset -= offset % size
        by_port.machine.io_write(0xCF8, 4, select(6, offset & 0xFC, number))
        port = 0xCFC + (offset & 3)
        if value is None:
            seen = by_port.machine.io_read(port, size)
            assert seen == by_ecam.config_read(6, offset, size, number)
        else:
            by_port.machine.io_write(port, size, value)
            by_ecam.config_write(6, offset, size, value, number)
    states = [world.machine.save() for world in worlds]
    for state in states:
        del state["config_address"]
    assert states[0] == states[1]
