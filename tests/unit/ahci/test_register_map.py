"""The HBA's registers as AHCI 1.3.1 §3 draws them, written down once more by hand."""

from __future__ import annotations

import pytest

from devmodels.ahci import registers as r
from devmodels.ahci.hba import Hba
from devmodels.ahci.registers import HBA_RESET, GenericHostControl, PortRegisters
from devmodels.ahci.sata import AddressMap, IndexData, SataCapability
from devmodels.conformance import ViolationLog
from devmodels.iocontext import IoContext
from devmodels.memory import GuestMemory
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


class GuestSpace:
    """What the pair leads to: each place holds its own offset."""

    def read(self, offset: int, _size: int) -> int:
        return offset

    def write(self, offset: int, size: int, value: int) -> None: ...


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


def test_configuration_space() -> None:
    """§2.3.1, §2.3.2: revision 1.0, the pair in BAR 4 from its fifth dword on; §2.4.1; Intel 316972 §15.1.29."""
    capability = (
        Row(0x00, 1, 0xFF, reset=0x12),
        Row(0x01, 1, 0xFF),
        Row(0x02, 2, 0x00FF, reset=0x0010),
        Row(0x04, 4, 0x00FF_FFFF, reset=0x0000_0048),
    )
    check_map(SataCapability, capability)
    assert SataCapability.size == 8
    pair = IndexData(GuestSpace())
    pair.write(0x10, 4, ALL)
    assert pair.read(0x10, 4) == 0xFFFC
    assert pair.read(0x14, 4) == 0xFFFC
    check_map(AddressMap, (Row(0, 1, 0xC0, reset=0x40), Row(2, 2, 0xFFFF, plain=0xFFFF)))


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


def test_bits_have_the_names_that_their_fields_have() -> None:
    """§3.3.5, §3.3.12: what a port sets by mask is what a driver finds by place."""
    causes = (r.DHRS, r.PSS, r.DSS, r.SDBS, r.UFS, r.DPS, r.PCS, r.PRCS, r.OFS, r.IFS, r.HBFS, r.TFES)
    assert [cause.bit_length() - 1 for cause in causes] == [0, 1, 2, 3, 4, 5, 6, 22, 24, 27, 29, 30]
    errors = (r.SERR_P, r.DIAG_N, r.DIAG_H, r.DIAG_F, r.DIAG_X)
    assert [error.bit_length() - 1 for error in errors] == [10, 16, 22, 25, 26]
    assert {each.bit_count() for each in (*causes, *errors)} == {1}


def test_an_adapter_tells_what_it_can_do() -> None:
    """§3.1.1: CAP and PI of six ports with 32 slots."""
    told: list[tuple[int | None, bool]] = []
    context = IoContext.virtual()
    for ports, slots, size in (
        (6, 32, 0x1000),
        (1, 1, 0x1000),
        (30, 8, 0x1000),
        (31, 8, 0x2000),
        (32, 32, 0x2000),
    ):
        hba = Hba(
            name="hba",
            context=context,
            memory=GuestMemory(),
            violations=ViolationLog(),
            ports=ports,
            slots=slots,
            on_interrupt=lambda port, level: told.append((port, level)),
        )
        windows = hba.windows()
        assert windows.read(0x00, 4) == 0xC134_E000 | slots - 1 << 8 | ports - 1
        assert windows.read(0x0C, 4) == (1 << ports) - 1
        assert hba.size == size
        assert [windows.read(0x100 + 0x80 * number + 0x18, 4) for number in range(ports)] == [6] * ports
        assert windows.read(0x04, 4) == 0x8000_0000
    assert told == []


def test_ports_ask_and_is_says_which() -> None:
    """§5.6, §10.6: IS follows what is enabled, stays until it is cleared, and comes again while a port asks."""
    told: list[tuple[int | None, bool]] = []
    hba = Hba(
        name="hba",
        context=IoContext.virtual(),
        memory=GuestMemory(),
        violations=ViolationLog(),
        ports=3,
        on_interrupt=lambda port, level: told.append((port, level)),
    )
    windows = hba.windows()

    def after(offset: int, value: int) -> list[tuple[int | None, bool]]:
        told.clear()
        windows.write(offset, 4, value)
        return told

    assert after(0x04, 2) == [(None, False)], "GHC.IE"
    for number in (0, 2):
        port = hba.ports[number]
        port.registers.is_dhrs = 1
        assert after(0x114 + 0x80 * number, 1) == [(number, True)], "PxIE"
        assert hba.asks
    assert windows.read(0x08, 4) == 0b101
    assert after(0x08, 0b001) == [(0, True), (2, True)], "its port asks again"
    assert windows.read(0x08, 4) == 0b101
    assert after(0x08, 0b111) == [(0, True), (2, True)]
    assert windows.read(0x08, 4) == 0b101
    after(0x110, 1)
    assert windows.read(0x08, 4) == 0b101, "until it is cleared"
    assert after(0x08, 0b001) == [(2, True)]
    assert windows.read(0x08, 4) == 0b100
    assert after(0x04, 0) == [(None, False)]
    assert not hba.asks
    assert after(0x04, 2) == [(2, True)]
    assert after(0x04, 3) == [(None, False)], "GHC.HR"
    assert (windows.read(0x08, 4), windows.read(0x04, 4), hba.resetting) == (0, 0x8000_0001, HBA_RESET)
    hba.context.turn()
    assert (windows.read(0x04, 4), hba.resetting) == (0x8000_0000, "")


@pytest.mark.parametrize("separate", [False, True])
def test_a_cause_that_comes_again_is_told_where_the_port_has_a_message_of_its_own(separate: bool) -> None:
    """§10.6.2: IS, which was not cleared, holds others back."""
    told: list[tuple[int | None, bool]] = []
    hba = Hba(
        name="hba",
        context=IoContext.virtual(),
        memory=GuestMemory(),
        violations=ViolationLog(),
        on_interrupt=lambda port, level: told.append((port, level)),
    )
    assert not hba.separate
    hba.separate = separate
    windows = hba.windows()
    windows.write(0x04, 4, 2)
    windows.write(0x194, 4, 1)
    port = hba.ports[1]
    told.clear()
    for expected in ([(1, True)], [(1, True)] if separate else []):
        port.registers.is_dhrs = 1
        hba.port_changed(port)
        hba.port_changed(port)
        assert told == expected
        told.clear()
        windows.write(0x190, 4, 1)
        assert windows.read(0x08, 4) == 0b10
        told.clear()
