"""Base address registers: sizing, relocation, and who answers where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.memoryregions import SharedRegion
from devmodels.pci import BarKind, PciFunction, Windows
from tests.unit.pci.world import (
    ECAM,
    IDENTITY,
    IO_ENABLE,
    MEMORY_ENABLE,
    RAM_SIZE,
    Scratch,
    World,
    make_function,
)

SLOT = 3


def world_with(kind: BarKind, size: int, index: int = 0) -> tuple[World, PciFunction, Scratch]:
    world = World()
    function = make_function()
    scratch = Scratch(size, 0x5A)
    function.add_bar(index, size, scratch, kind=kind)
    world.machine.plug(function, SLOT)
    return world, function, scratch


@pytest.mark.parametrize(
    ("kind", "size", "sized"),
    [
        (BarKind.MEMORY32, 0x1000, 0xFFFF_F000),
        (BarKind.PREFETCHABLE32, 16, 0xFFFF_FFF8),
        (BarKind.IO, 0x40, 0xFFFF_FFC1),
    ],
)
def test_writing_ones_tells_the_size(kind: BarKind, size: int, sized: int) -> None:
    world, _, _ = world_with(kind, size)
    world.config_write(SLOT, 0x10, 4, 0xFFFF_FFFF)
    assert world.config_read(SLOT, 0x10, 4) == sized


def test_the_size_of_a_64_bit_bar_may_lie_in_its_upper_half() -> None:
    world = World()
    function = make_function()
    function.add_bar(2, 1 << 34, Scratch(16), kind=BarKind.PREFETCHABLE64)
    world.machine.plug(function, SLOT)
    world.config_write(SLOT, 0x18, 8, (1 << 64) - 1)
    assert world.config_read(SLOT, 0x18, 4) == 0xC
    assert world.config_read(SLOT, 0x1C, 4) == 0xFFFF_FFFC


def test_a_bar_answers_only_while_decoding_is_enabled() -> None:
    world, _, _ = world_with(BarKind.MEMORY32, 0x1000)
    world.config_write(SLOT, 0x10, 4, 0xE000_0000)
    assert world.machine.read(0xE000_0010, 4) == 0xFFFF_FFFF
    world.config_write(SLOT, 0x04, 2, MEMORY_ENABLE)
    assert world.machine.read(0xE000_0010, 4) == 0x5A5A_5A5A
    world.config_write(SLOT, 0x04, 2, IO_ENABLE)
    assert world.machine.read(0xE000_0010, 4) == 0xFFFF_FFFF


def test_a_bar_moves_while_decoding_is_on() -> None:
    world, _, scratch = world_with(BarKind.MEMORY32, 0x1000)
    world.config_write(SLOT, 0x04, 2, MEMORY_ENABLE)
    world.config_write(SLOT, 0x10, 4, 0xE000_0000)
    world.machine.write(0xE000_0000, 2, 0x1234)
    world.config_write(SLOT, 0x10, 4, 0xE100_0000)
    assert world.machine.read(0xE000_0000, 2) == 0xFFFF
    assert world.machine.read(0xE100_0000, 2) == 0x1234
    assert scratch.data[:2] == b"\x34\x12"


def test_sizing_while_decoding_is_on_claims_nothing() -> None:
    world, _, scratch = world_with(BarKind.MEMORY64, 0x1000)
    world.config_write(SLOT, 0x04, 2, MEMORY_ENABLE)
    world.config_write(SLOT, 0x10, 4, 0xFFFF_FFFF)
    world.config_write(SLOT, 0x14, 4, 0xFFFF_FFFF)
    assert world.machine.read((1 << 64) - 0x1000, 4) == 0xFFFF_FFFF
    assert scratch.accesses == []


def test_ports_of_an_io_bar() -> None:
    world, _, scratch = world_with(BarKind.IO, 0x40, index=5)
    world.config_write(SLOT, 0x24, 4, 0xC000)
    world.config_write(SLOT, 0x04, 2, IO_ENABLE)
    world.machine.io_write(0xC004, 1, 0x77)
    assert world.machine.io_read(0xC004, 2) == 0x5A77
    assert scratch.accesses == [("write", 4, 1), ("read", 4, 2)]
    assert world.machine.read(0xC004, 1) == 0


def test_memory_wins_over_a_bar_and_the_bar_answers_beyond_it() -> None:
    world, _, scratch = world_with(BarKind.MEMORY32, 0x10000 * 2)
    world.config_write(SLOT, 0x04, 2, MEMORY_ENABLE)
    world.memory.remove(world.memory.regions[0])
    world.config_write(SLOT, 0x10, 4, 0x2_0000)
    assert world.machine.read(0x2_0000, 1) == 0x5A
    world.memory.add(SharedRegion(0x2_0000, bytearray(RAM_SIZE)))
    assert world.machine.read(0x2_0000, 1) == 0
    assert world.machine.read(0x3_0000, 1) == 0x5A
    assert scratch.accesses[-1] == ("read", RAM_SIZE, 1)


def test_of_two_bars_at_one_place_the_lower_slot_wins() -> None:
    world = World()
    low, high = Scratch(0x1000, 0x11), Scratch(0x2000, 0x22)
    for slot, scratch in ((9, high), (4, low)):
        function = make_function(f"slot {slot}")
        function.add_bar(0, len(scratch.data), scratch)
        world.machine.plug(function, slot)
        world.config_write(slot, 0x10, 4, 0xE000_0000)
        world.config_write(slot, 0x04, 2, MEMORY_ENABLE)
    assert world.machine.read(0xE000_0000, 1) == 0x11
    assert world.machine.read(0xE000_1000, 1) == 0x22
    assert world.machine.read(0xE000_0FFE, 4) == 0x2222_1111
    world.config_write(4, 0x04, 2, 0)
    assert world.machine.read(0xE000_0000, 1) == 0x22


@pytest.mark.parametrize(
    ("index", "size", "kind", "message"),
    [
        (6, 0x1000, BarKind.MEMORY32, "there is no BAR 6"),
        (5, 0x1000, BarKind.MEMORY64, "there is no BAR 5"),
        (0, 0x1800, BarKind.MEMORY32, "no power of two"),
        (0, 8, BarKind.MEMORY32, "no power of two from 16"),
        (0, 1 << 32, BarKind.MEMORY32, "no power of two"),
        (2, 0x1000, BarKind.MEMORY32, "BAR 2 is taken"),
        (1, 0x1000, BarKind.MEMORY32, "BAR 1 is taken"),
    ],
)
def test_a_bar_that_cannot_be_is_refused(index: int, size: int, kind: BarKind, message: str) -> None:
    function = make_function()
    function.add_bar(1, 0x1000, Scratch(0x1000), kind=BarKind.MEMORY64)
    with pytest.raises(ValueError, match=message):
        function.add_bar(index, size, Scratch(16), kind=kind)


def test_windows_share_a_bar() -> None:
    windows = Windows(0x1000)
    first, second = Scratch(0x10, 1), Scratch(0x10, 2)
    windows.place(0, 0x10, first)
    windows.place(0x10, 0x10, second)
    assert windows.read(0x0E, 4) == 0x0202_0101
    assert windows.read(0x20, 4) == 0
    windows.write(0x1E, 4, 0xAABB_CCDD)
    assert second.data[0xE:] == b"\xdd\xcc"
    with pytest.raises(ValueError, match="overlap the block at 0x10"):
        windows.place(0x1F, 1, first)
    with pytest.raises(ValueError, match="leave a BAR"):
        windows.place(0xFFF, 2, first)


# --- against a model

KINDS = {
    0: (BarKind.MEMORY32, 0x100),
    1: (BarKind.IO, 0x20),
    2: (BarKind.PREFETCHABLE64, 0x4000),
    4: (BarKind.MEMORY64, 0x10),
}

bar_writes = st.tuples(
    st.integers(0x10, 0x27),
    st.sampled_from((1, 2, 4)),
    st.one_of(
        st.integers(0, 0xFFFF_FFFF), st.sampled_from((0, 0xE000_0000, 0xE000_0100, 0xFFFF_FFFF, 0xC000, 1))
    ),
)
commands = st.tuples(st.just(0x04), st.just(2), st.sampled_from((0, 1, 2, 3, 3, 3)))


class BarModel:
    """The six registers as bytes, with masks of what can be written; independent of the implementation."""

    def __init__(self) -> None:
        self.bytes = bytearray(0x28)
        self.mask = bytearray(0x28)
        for index, (kind, size) in KINDS.items():
            wide = kind in (BarKind.MEMORY64, BarKind.PREFETCHABLE64)
            width = 8 if wide else 4
            at = 0x10 + 4 * index
            self.mask[at : at + width] = ((1 << 8 * width) - size).to_bytes(width, "little")
            self.bytes[at] = kind.value
        self.mask[4] = 7

    def write(self, offset: int, size: int, value: int) -> None:
        for at, byte in enumerate(value.to_bytes(4, "little")[:size], offset):
            if at < 0x28:
                self.bytes[at] = self.bytes[at] & ~self.mask[at] | byte & self.mask[at]

    def owner(self, address: int, *, io: bool) -> int | None:
        """Which BAR answers at `address`."""
        if not self.bytes[4] & (1 if io else 2):
            return None
        for index, (kind, size) in KINDS.items():
            wide = kind in (BarKind.MEMORY64, BarKind.PREFETCHABLE64)
            at = 0x10 + 4 * index
            base = int.from_bytes(self.bytes[at : at + (8 if wide else 4)], "little") & -size
            top = 1 << (64 if wide else 32)
            if (kind is BarKind.IO) is io and base and base + size < top and base <= address < base + size:
                return index
        return None


@given(st.lists(st.one_of(bar_writes, commands), max_size=30), st.data())
def test_sizing_and_relocation_against_a_model(
    story: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    world = World()
    function = PciFunction(IDENTITY, name="device")
    for index, (kind, size) in KINDS.items():
        function.add_bar(index, size, Scratch(size, 0x10 + index), kind=kind)
    world.machine.plug(function, SLOT)
    model = BarModel()
    for offset, size, value in story:
        world.config_write(SLOT, offset, size, value)
        model.write(offset, size, value & (1 << 8 * size) - 1)
        for at in range(0x10, 0x28, 4):
            assert world.config_read(SLOT, at, 4) == int.from_bytes(model.bytes[at : at + 4], "little")
    bases = [function.bar_address(index) for index in KINDS]
    address = data.draw(st.sampled_from(bases)) + data.draw(st.sampled_from((0, 1, 0xF, 0xFF, 0x100, -1)))
    if not RAM_SIZE <= address < ECAM:
        io_address = address & 0xFFFF
        if not 0xCF8 <= io_address < 0xD00:
            index_or_none = model.owner(io_address, io=True)
            assert world.machine.io_read(io_address, 1) == (
                0xFF if index_or_none is None else 0x10 + index_or_none
            )
    if address >= RAM_SIZE and not ECAM <= address < ECAM + (1 << 20):
        owner = model.owner(address, io=False)
        assert world.machine.read(address, 1) == (0xFF if owner is None else 0x10 + owner)
