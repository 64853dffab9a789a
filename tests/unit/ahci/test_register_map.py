"""The HBA's registers as AHCI 1.3.1 §3 draws them, written down once more by hand."""

from __future__ import annotations

from devmodels.ahci.registers import HBA_RESET, GenericHostControl, PortRegisters
from tests.unit.registermap import Row, check_map

ALL = 0xFFFF_FFFF
GENERIC = (
    Row(0x00, 4, 0xFFF7_FFFF),
    Row(0x04, 4, 0x8000_0007, reset=0x8000_0000, plain=0x2, sets=0x1),
    Row(0x08, 4, ALL, clears=ALL),
    Row(0x0C, 4, ALL),
    Row(0x10, 4, ALL, reset=0x0001_0301),
)
PORT = (
    Row(0x00, 4, 0xFFFF_FC00, plain=0xFFFF_FC00),
    Row(0x04, 4, ALL, plain=ALL),
    Row(0x08, 4, 0xFFFF_FF00, plain=0xFFFF_FF00),
    Row(0x0C, 4, ALL, plain=ALL),
    Row(0x10, 4, 0xFDC0_00FF, clears=0xFD80_00AF),
    Row(0x14, 4, 0xFDC0_00FF, plain=0xFDC0_00FF),
    Row(0x18, 4, 0xFFFF_FF1F, reset=0x6, plain=0xF300_0011, sets=0x8),
    Row(0x20, 4, ALL, reset=0x7F),
    Row(0x24, 4, ALL, reset=ALL),
    Row(0x28, 4, 0xFFF),
    Row(0x2C, 4, 0xFFF, plain=0xFFF),
    Row(0x30, 4, 0x07FF_0F03, clears=0x07FF_0F03),
    Row(0x34, 4, ALL, sets=ALL),
    Row(0x38, 4, ALL, sets=ALL),
)


class Deaf:
    """Owns registers whose behaviour is tested elsewhere."""

    def __getattr__(self, _name: str) -> object:
        return lambda *_: None


def generic() -> GenericHostControl:
    return GenericHostControl(Deaf())  # type: ignore[arg-type]


def port() -> PortRegisters:
    return PortRegisters(Deaf())  # type: ignore[arg-type]


def test_generic_host_control() -> None:
    check_map(generic, GENERIC)
    assert generic().size == 0x100


def test_a_port() -> None:
    check_map(port, PORT)
    assert port().size == 0x80


def test_a_reset_of_the_hba_clears_what_it_does_not_keep() -> None:
    """§10.4.3: PxCLB and PxFB, lower and upper, stay."""
    registers = port()
    kept = {0x00, 0x04, 0x08, 0x0C}
    fresh = {row.offset: registers.read(row.offset, 4) for row in PORT}
    names = [each.name for each in registers.layout().registers]
    registers.restore(dict.fromkeys(names, ALL))
    registers.reset(HBA_RESET)
    for row in PORT:
        if row.offset not in kept:
            changes = row.plain | row.clears | row.sets
            assert registers.read(row.offset, 4) & changes == fresh[row.offset] & changes, row
    assert [registers.read(at, 4) for at in sorted(kept)] == [0xFFFF_FC00, ALL, 0xFFFF_FF00, ALL]


def test_each_register_has_its_listener() -> None:
    """A write of a register is told as the owner's rules want it."""
    told: list[tuple[str, tuple[int, ...]]] = []

    class Owner:
        def __getattr__(self, name: str) -> object:
            return lambda *arguments: told.append((name, arguments))

    registers = PortRegisters(Owner())  # type: ignore[arg-type]
    for offset in (0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x18, 0x2C, 0x30, 0x34, 0x38):
        registers.write(offset, 4, 1)
    assert told == [
        *[("address_written", ())] * 4,
        ("status_written", ()),
        ("enable_written", ()),
        ("command_written", (6, 7)),
        ("control_written", (0, 1)),
        ("errors_written", ()),
        ("active_written", (0, 1)),
        ("issue_written", (0, 1)),
    ]
    told.clear()
    generic = GenericHostControl(Owner())  # type: ignore[arg-type]
    generic.status = 0b110
    for offset, value in ((0x04, 2), (0x04, 3), (0x08, 0b010)):
        generic.write(offset, 4, value)
    assert told == [("interrupt_enable_changed", ()), ("reset_asked", ()), ("status_written", (0b010,))]
