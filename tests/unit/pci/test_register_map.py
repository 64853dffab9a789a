"""The header and the capabilities as PCI 3.0, PCI PM 1.2 and PCIe 6.0 draw them, written down once more by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from devmodels.pci import BarKind, Capability, ExpressCapability, PciFunction, PciIdentity, PowerCapability
from devmodels.pci.header import Type0Header
from devmodels.pci.msi import Msi32, Msi32Masked, Msi64, Msi64Masked
from devmodels.pci.msix import MsixCapability, MsixEntry
from devmodels.registers import RegisterFile
from tests.unit.pci.world import MEMORY_ENABLE, Scratch, World, make_function
from tests.unit.registermap import Row, check_map

ALL = 0xFFFF_FFFF
SLOT = 3
HEADER = (
    Row(0x00, 2, 0xFFFF),
    Row(0x02, 2, 0xFFFF),
    Row(0x04, 2, 0x0547, plain=0x0547),
    Row(0x06, 2, 0xFFB8, clears=0xF900),
    *(Row(at, 1, 0xFF) for at in range(0x08, 0x0C)),
    Row(0x0C, 1, 0xFF, plain=0xFF),
    Row(0x0D, 1, 0xFF, plain=0xFF),
    Row(0x0E, 1, 0xFF),
    *(Row(0x10 + 4 * number, 4, ALL, plain=ALL) for number in range(6)),
    Row(0x2C, 2, 0xFFFF),
    Row(0x2E, 2, 0xFFFF),
    Row(0x34, 1, 0xFF),
    Row(0x3C, 1, 0xFF, plain=0xFF),
    Row(0x3D, 1, 0xFF),
)
EXPRESS = (
    Row(0x02, 2, 0x00FF, reset=0x0092),
    Row(0x04, 4, 0x1000_8027, reset=0x1000_8020),
    Row(0x08, 2, 0x79FF, reset=0x2910, plain=0x79FF),
    Row(0x0A, 2, 0x000F, clears=0x000F),
)
POWER = (Row(0x02, 2, 0x0007, reset=0x0003), Row(0x04, 2, 0x000B, reset=0x0008, plain=0x0003))
"""A written 3 is D3hot."""
MSIX = (
    Row(0x02, 2, 0xC7FF, reset=0x0004, plain=0xC000),
    Row(0x04, 4, ALL, reset=0x2001),
    Row(0x08, 4, ALL, reset=0x3002),
)
ENTRY = (
    Row(0x0, 4, ALL - 3, plain=ALL - 3),
    Row(0x4, 4, ALL, plain=ALL),
    Row(0x8, 4, ALL, plain=ALL),
    Row(0xC, 4, 1, reset=1, plain=1),
)


class Deaf:
    """Whom nothing of what happens concerns."""

    bus_master = False

    def __getattr__(self, _name: str) -> object:
        return lambda *_: None


def msi(control: int, data: int, masks: int | None = None) -> tuple[Row, ...]:
    """Message control; the address, whose upper half lies before `data` where that leaves room; 8 vectors' masks."""
    rows = [
        Row(0x02, 2, 0x01FF, reset=control, plain=0x0071),
        Row(0x04, 4, ALL - 3, plain=ALL - 3),
        *([Row(0x08, 4, ALL, plain=ALL)] if data == 0x0C else []),
        Row(data, 2, 0xFFFF, plain=0xFFFF),
    ]
    if masks is not None:
        rows += [Row(masks, 4, 0xFF, plain=0xFF), Row(masks + 4, 4, ALL)]
    return tuple(rows)


def attached(make: Callable[[], Capability]) -> RegisterFile:
    capability = make()
    capability.attach(Deaf())  # type: ignore[arg-type]
    return capability


def test_the_header() -> None:
    check_map(lambda: Type0Header(Deaf()), HEADER)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "number", "size", "rows"),
    [
        (ExpressCapability, 0x10, 0x3C, EXPRESS),
        (PowerCapability, 0x01, 0x08, POWER),
        (lambda: Msi32(8), 0x05, 0x0A, msi(0x0006, 0x08)),
        (lambda: Msi64(32), 0x05, 0x0E, msi(0x008A, 0x0C)),
        (lambda: Msi32Masked(8), 0x05, 0x14, msi(0x0106, 0x08, 0x0C)),
        (lambda: Msi64Masked(8), 0x05, 0x18, msi(0x0186, 0x0C, 0x10)),
        (
            lambda: MsixCapability(5, table_bar=1, table_offset=0x2000, pba_bar=2, pba_offset=0x3000),
            0x11,
            0x0C,
            MSIX,
        ),
    ],
)
def test_a_capability(make: Callable[[], Capability], number: int, size: int, rows: tuple[Row, ...]) -> None:
    check_map(lambda: attached(make), (Row(0x00, 1, 0xFF, reset=number), Row(0x01, 1, 0xFF), *rows))
    assert make().size == size


def test_a_table_entry() -> None:
    check_map(MsixEntry, ENTRY)
    assert MsixEntry().size == 16


def test_a_capability_is_read_in_pieces_of_any_size() -> None:
    world = World()
    function = make_function()
    at = function.add_capability(PowerCapability())
    world.machine.plug(function, SLOT)
    assert [world.config_read(SLOT, at + n, 1) for n in range(6)] == [0x01, 0x00, 0x03, 0x00, 0x08, 0x00]
    assert [world.config_read(SLOT, at + n, 2) for n in (0, 1, 2, 3, 4)] == [1, 0x300, 3, 0x800, 8]
    assert world.config_read(SLOT, at + 2, 4) == 0x0008_0003


@pytest.mark.parametrize("bit", [5, 7, 9, 10])
def test_status_says_what_the_device_says_it_is(bit: int) -> None:
    world = World()
    world.machine.plug(PciFunction(PciIdentity(1, 2, 0x010802, status=1 << bit), name="device"), SLOT)
    assert world.config_read(SLOT, 0x06, 2) == 1 << bit


@pytest.mark.parametrize("index", range(6))
def test_each_bar_moves_while_decoding_is_on(index: int) -> None:
    world = World()
    function = make_function()
    function.add_bar(index, 0x1000, Scratch(0x1000, 0x5A), kind=BarKind.MEMORY32)
    world.machine.plug(function, SLOT)
    world.config_write(SLOT, 0x04, 2, MEMORY_ENABLE)
    for base, empty in ((0xE000_0000, 0xE100_0000), (0xE100_0000, 0xE000_0000)):
        world.config_write(SLOT, 0x10 + 4 * index, 4, base)
        assert (world.machine.read(base, 1), world.machine.read(empty, 1)) == (0x5A, 0xFF)


@pytest.mark.parametrize("index", [0, 1, 2, 3, 4])
def test_the_upper_half_of_each_wide_bar_moves_it(index: int) -> None:
    world = World()
    function = make_function()
    function.add_bar(index, 0x1000, Scratch(0x1000, 0x5A), kind=BarKind.MEMORY64)
    world.machine.plug(function, SLOT)
    world.config_write(SLOT, 0x10 + 4 * index, 4, 0xE000_0000)
    world.config_write(SLOT, 0x04, 2, MEMORY_ENABLE)
    world.config_write(SLOT, 0x14 + 4 * index, 4, 7)
    assert world.machine.read(0x7_E000_0000, 1) == 0x5A
    assert world.machine.read(0xE000_0000, 1) == 0xFF
