"""The AHCI driver on an HBA that ends commands between two of the driver's accesses."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from guestsim.drivers.ahci import Ahci
from guestsim.drivers.ahci_command import Answer
from guestsim.drivers.ahci_layouts import (
    D2H,
    FIS_D2H,
    FIS_PIO_SETUP,
    PIO_SETUP,
    PORTS_OFFSET,
    PortIs,
    PortReg,
)
from guestsim.drivers.ahci_port import AhciPort
from guestsim.drivers.ata import AtaCommand, packet, read_queued
from guestsim.drivers.transport import Interrupts
from guestsim.guest import Guest

from .fakes import FakeTarget

READY = 0x50
DATA_IN, OVER = 2, 3
"""Interrupt reasons: data for the host, the end of a packet command (ATA/ATAPI-7 vol. 2 §6.24.6)."""
READ_SECTORS, READ_DMA, WRITE_SECTORS = 0x20, 0xC8, 0x30
PIO_PACKET = packet(b"\x12", room=36, dma=False)

Event = Callable[["SuddenHba"], None]


class SuddenHba(Ahci):
    """Registers of one port; `between` holds what happens after each of the driver's reads, from the first one on.

    A register holds what is written; but PxIS loses those bits, and PxCI and PxSACT get them.
    """

    def __init__(self, *between: Event | None) -> None:
        self.guest = Guest(FakeTarget())
        self.interrupts = Interrupts.POLLING
        self.slots = 32
        self.registers = {PORTS_OFFSET + each: 0 for each in PortReg}
        self.between: Iterator[Event | None] = iter(())
        self.port = AhciPort(self, 0)
        self.port.place()
        self.between = iter(between)

    def read(self, offset: int) -> int:
        value = self.registers[offset]
        event = next(self.between, None)
        if event is not None:
            event(self)
        return value

    def write(self, offset: int, value: int) -> None:
        if offset == PORTS_OFFSET + PortReg.IS:
            self.registers[offset] &= ~value
        elif offset in (PORTS_OFFSET + PortReg.CI, PORTS_OFFSET + PortReg.SACT):
            self.registers[offset] |= value
        else:
            self.registers[offset] = value

    def fis(self, place: int, kind: int, count: int) -> None:
        content = bytes((kind, 0x40, READY, 0, *bytes(8), count, *bytes(7)))
        self.guest.memory.write(self.port.received + place, content)
        self.registers[PORTS_OFFSET + PortReg.TFD] = READY

    def tell(self, bit: PortIs) -> None:
        self.registers[PORTS_OFFSET + PortReg.IS] |= bit

    def clear(self, register: PortReg = PortReg.CI) -> None:
        self.registers[PORTS_OFFSET + register] = 0

    def do(self, command: AtaCommand) -> Answer:
        return self.guest.run(self.port.do(command))


def pio_setup(hba: SuddenHba) -> None:
    hba.fis(PIO_SETUP, FIS_PIO_SETUP, DATA_IN)
    hba.tell(PortIs.PSS)


def register_fis(hba: SuddenHba) -> None:
    hba.fis(D2H, FIS_D2H, OVER)
    hba.tell(PortIs.DHRS)


def cleared(hba: SuddenHba) -> None:
    hba.clear()


def together(*events: Event) -> Event:
    def happen(hba: SuddenHba) -> None:
        for event in events:
            event(hba)

    return happen


ENDS = together(register_fis, cleared)


@pytest.mark.parametrize("reads", range(5))
def test_a_packet_ends_with_its_register_fis_however_late_that_comes(reads: int) -> None:
    late = (pio_setup, *[None] * (reads - 1), ENDS)
    at_once = (together(pio_setup, ENDS),)
    assert SuddenHba(*(late if reads else at_once)).do(PIO_PACKET).count == OVER


def test_a_packet_ends_with_its_register_fis_though_pxis_tells_of_it_after_pxci_is_0() -> None:
    def sent(hba: SuddenHba) -> None:
        hba.fis(D2H, FIS_D2H, OVER)

    hba = SuddenHba(pio_setup, together(sent, cleared), None, None, None, lambda hba: hba.tell(PortIs.DHRS))
    assert hba.do(PIO_PACKET).count == OVER


def test_a_write_by_pio_ends_with_its_register_fis() -> None:
    def sent(hba: SuddenHba) -> None:
        hba.fis(D2H, FIS_D2H, OVER)

    hba = SuddenHba(pio_setup, together(sent, cleared), None, None, None)
    assert hba.do(AtaCommand(WRITE_SECTORS, count=1, out=bytes(512))).count == OVER


def test_a_read_by_pio_ends_with_its_pio_setup_fis_though_pxci_follows_later() -> None:
    hba = SuddenHba(pio_setup, None, None, None, None, None, cleared)
    assert hba.do(AtaCommand(READ_SECTORS, count=1, room=512)).count == DATA_IN


def test_what_a_command_left_in_pxis_is_not_the_next_ones() -> None:
    hba = SuddenHba(together(pio_setup, cleared))
    assert hba.do(AtaCommand(READ_SECTORS, count=1, room=512)).count == DATA_IN
    hba.between = iter((ENDS,))
    assert hba.do(AtaCommand(READ_DMA, count=1, room=512)).count == OVER


def test_an_error_that_comes_with_pxci_is_the_commands() -> None:
    def failed(hba: SuddenHba) -> None:
        ENDS(hba)
        hba.registers[PORTS_OFFSET + PortReg.TFD] = 0x0451
        hba.tell(PortIs.TFES)

    hba = SuddenHba(failed)
    answer = hba.do(AtaCommand(READ_DMA, count=1, room=512))
    assert (answer.ok, answer.error) == (False, 0x04)
    assert hba.port.failed == PortIs.TFES | PortIs.DHRS


def test_a_queued_command_that_ended_before_an_error_has_succeeded() -> None:
    def one_fails(hba: SuddenHba) -> None:
        hba.registers[PORTS_OFFSET + PortReg.SACT] = 2
        hba.registers[PORTS_OFFSET + PortReg.TFD] = 0x4041

    hba = SuddenHba(together(cleared, one_fails), None, lambda hba: hba.tell(PortIs.TFES | PortIs.SDBS))

    async def both() -> list[Answer]:
        pending = hba.port.submit(read_queued(0, 1), read_queued(8, 1))
        return [await hba.port.wait(each) for each in pending]

    assert [each.ok for each in hba.guest.run(both())] == [True, False]
    assert list(hba.port.failed_queued) == [1]
