"""What lies in guest memory for hosts of ATA devices: an HBA's lists, tables and received FISes, tables of bus masters.

Where they lie is in the registers of the twin (`guestsim.show.registers`); the rest is in what the device reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from devmodels.ahci import AhciPci
from devmodels.ahci.layout import (
    ACMD_OFFSET,
    ATAPI,
    COMMAND_HEADER,
    DBC,
    DSFIS,
    PRDBC_OFFSET,
    PRDT_OFFSET,
    PSFIS,
    RECEIVED_SIZE,
    RFIS,
    SDBFIS,
)
from devmodels.ide_cdrom import PiixIde
from guestsim.outputs import counted
from guestsim.show import ata, names, scsi
from guestsim.show.decode import LAYOUTS, Field, decode, some_bytes
from guestsim.show.places import Spot

if TYPE_CHECKING:
    from devmodels.ahci.port import Port
    from guestsim.show.atacommands import AtaCommands
    from guestsim.show.ataregisters import ChannelWords, Drives

_HEADER_SIZE, _SLOTS = 32, 32
_PRD, _REGION = 16, 8
_RECEIVED = {
    DSFIS: "fis_dma_setup",
    PSFIS: "fis_pio_setup",
    RFIS: "fis_register_d2h",
    SDBFIS: "fis_set_device_bits",
}
_TABLE_SIZE = 0x1_0000


class _Data(NamedTuple):
    """A piece of a command's data: whose it is, and where in that it begins."""

    slot: _Slot
    offset: int


class _Slot:
    """A command of an HBA, or what a bus master moves: its words, and how much of its data has a place."""

    __slots__ = ("atapi", "length", "place", "size", "table", "where", "words")

    def __init__(
        self,
        where: str,
        table: int = 0,
        size: int = 0,
        *,
        place: tuple[int, int] = (0, 0),
        atapi: bool = False,
    ) -> None:
        self.where = where
        self.place = place
        self.table = table
        self.size = size
        self.atapi = atapi
        self.words = ""
        self.length = 0

    def titled(self, what: str) -> str:
        return f"{self.where} {what}"


class AtaMemory:
    """One host's part of a memory."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._data: dict[int, _Data] = {}

    def at(self, address: int, data: bytes, *, writing: bool) -> Spot | None:
        """What the device has read, or written; None where it is nothing that is known."""
        raise NotImplementedError

    def _spot(self, title: str, words: str, fields: list[Field] | None = None) -> Spot:
        return Spot(title, self.name, None, fields or [], words=words)

    def _moves(self, slot: _Slot, pieces: Iterable[tuple[int, int]]) -> None:
        """The next pieces of a command's data lie there."""
        for address, length in pieces:
            self._data[address] = _Data(slot, slot.length)
            slot.length += length

    def _forget(self, slot: _Slot) -> None:
        self._data = {at: each for at, each in self._data.items() if each.slot is not slot}

    def _moved(self, address: int, data: bytes) -> Spot | None:
        found = self._data.get(address)
        if found is None:
            return None
        slot = found.slot
        title = slot.titled(f"data {names.extent(found.offset, len(data))}")
        return self._spot(title, f"{title}{f' of {slot.words}' if slot.words else ''}: {some_bytes(data)}")


class HbaMemory(AtaMemory):
    """Lists, tables and received FISes of an HBA's ports (AHCI 1.3.1 §4.2)."""

    def __init__(self, function: AhciPci, drives: Drives, commands: AtaCommands) -> None:
        super().__init__(function.name)
        self._commands = commands
        self._ports = function.hba.ports
        self._drives = drives
        self._slots: dict[tuple[int, int], _Slot] = {}
        """Commands by port and slot, those that came last at the end."""

    def at(self, address: int, data: bytes, *, writing: bool) -> Spot | None:
        """What the HBA has read, or written."""
        for port in self._ports:
            received, commands = _places(port)
            if writing and received and 0 <= address - received < RECEIVED_SIZE:
                return self._received(port, address - received, data)
            if commands and 0 <= address - commands < _HEADER_SIZE * _SLOTS:
                return self._header(port, *divmod(address - commands, _HEADER_SIZE), data)
        return (None if writing else self._in_table(address, data)) or self._moved(address, data)

    def _received(self, port: Port, offset: int, data: bytes) -> Spot | None:
        layout = _RECEIVED.get(offset)
        title = f"port{port.number} received FIS"
        if layout is None or len(data) < LAYOUTS[layout].size:
            return self._spot(title, f"{title} {offset:#x}: {some_bytes(data)}")
        fields = decode(layout, data[: LAYOUTS[layout].size])
        drive = self._drives.at(f"{self.name}.{port.number}")
        values = {each.name: each.value for each in fields if isinstance(each.value, int)}
        self._commands.received(self.name, port.number, layout, values)
        return self._spot(title, f"{title}: {ata.received_words(layout, values, drive=drive)}", fields)

    def _header(self, port: Port, number: int, offset: int, data: bytes) -> Spot | None:
        where = f"port{port.number} slot {number}"
        if offset == PRDBC_OFFSET:
            moved = counted(int.from_bytes(data, "little"), "byte")
            return self._spot(f"{where} PRDBC", f"{where} PRDBC: {moved} moved")
        if offset or len(data) < COMMAND_HEADER.size:
            return None
        fields = decode("ahci_command_header", data[: LAYOUTS["ahci_command_header"].size])
        flags, prdtl, _, low, high = COMMAND_HEADER.unpack_from(data, 0)
        slot = _Slot(
            where,
            high << 32 | low,
            PRDT_OFFSET + _PRD * prdtl,
            place=(port.number, number),
            atapi=bool(flags & ATAPI),
        )
        old = self._slots.pop((port.number, number), None)
        if old is not None:
            self._forget(old)
        self._slots[port.number, number] = slot
        words = f"{ata.header_flags(flags)}, {counted(prdtl, 'PRD')}, table at {slot.table:#x}"
        return self._spot(f"{where} header", f"{where} header: {words}", fields)

    def _in_table(self, address: int, data: bytes) -> Spot | None:
        for slot in reversed(self._slots.values()):
            offset = address - slot.table
            if not 0 <= offset < slot.size:
                continue
            if offset == 0:
                slot.words = ata.h2d_words(data)
                self._given(slot, data)
                fields = decode("fis_register_h2d", data[: LAYOUTS["fis_register_h2d"].size])
                return self._spot(slot.titled("FIS"), slot.titled(f"FIS: {slot.words}"), fields)
            if offset == ACMD_OFFSET and slot.atapi:
                slot.words = f"PACKET {scsi.cdb_words(data, drive=True)}"
                self._commands.packet(self.name, *slot.place, slot.words)
                fields = decode("mmc cdb", data)
                return self._spot(slot.titled("packet"), slot.titled(f"packet: {slot.words[7:]}"), fields)
            if offset >= PRDT_OFFSET and offset % _PRD == 0:
                pieces = list(_prds(data))
                if offset == PRDT_OFFSET:
                    slot.length = 0
                self._moves(slot, pieces)
                title = slot.titled(f"PRD {(offset - PRDT_OFFSET) // _PRD}")
                return self._spot(title, f"{title}: {_regions(pieces)}", decode("ahci_prd", data))
        return None

    def _given(self, slot: _Slot, data: bytes) -> None:
        """A FIS was read: perhaps it gives a command."""
        command = ata.fis_command(data)
        if command is not None:
            words, queued = command
            drive = self._drives.at(f"{self.name}.{slot.place[0]}")
            self._commands.begin(self.name, *slot.place, words, queued=queued, drive=drive)


def _places(port: Port) -> tuple[int, int]:
    registers = port.registers
    return registers.fbu << 32 | registers.fb, registers.clbu << 32 | registers.clb


def _prds(data: bytes) -> Iterator[tuple[int, int]]:
    for at in range(0, len(data) - _PRD + 1, _PRD):
        address = int.from_bytes(data[at : at + 8], "little")
        yield address, (int.from_bytes(data[at + 12 : at + 16], "little") & DBC) + 1


def _regions(pieces: list[tuple[int, int]]) -> str:
    return " ".join(f"{address:#x}+{length}" for address, length in pieces)


class MasterMemory(AtaMemory):
    """Tables of an IDE controller's bus masters, and what these move (SFF-8038i §1.2)."""

    def __init__(self, function: PiixIde, commands: Sequence[ChannelWords]) -> None:
        super().__init__(function.name)
        self._channels = function.channels
        self._commands = commands
        self._slots: dict[int, _Slot] = {}

    def at(self, address: int, data: bytes, *, writing: bool) -> Spot | None:
        """What a bus master has read, or written."""
        for number, channel in enumerate(self._channels):
            table = channel.bus_master.registers.table
            if not writing and table and 0 <= address - table < _TABLE_SIZE and len(data) == _REGION:
                return self._region(number, address - table, data)
        return self._moved(address, data)

    def _region(self, number: int, offset: int, data: bytes) -> Spot:
        where = f"ide{number}"
        if offset == 0 or number not in self._slots:
            old = self._slots.get(number)
            if old is not None:
                self._forget(old)
            self._slots[number] = _Slot(where)
            self._slots[number].words = self._commands[number].words
        fields = decode("ide_region", data)
        address, count, flags = (int(each.value) for each in fields)
        self._moves(self._slots[number], [(address, count or _TABLE_SIZE)])
        title = f"{where} region {offset // _REGION}"
        last = " last" if flags >> 15 else ""
        return self._spot(title, f"{title}: {address:#x}+{count or _TABLE_SIZE}{last}", fields)
