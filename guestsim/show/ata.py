"""ATA in words: commands by their tables, status and error, FISes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from devmodels.ahci import fis, layout
from devmodels.ata.constants import DIAGNOSTIC_PASSED, LBA, PACKET_SIGNATURE, Error, Status
from devmodels.ata.disk.commands import COMMANDS as DISK
from devmodels.ata.dispatch import dispatch_table
from devmodels.ata.packet.commands import COMMANDS as DRIVE
from devmodels.ata.table import Addressing, Protocol
from devmodels.scsi.constants import SenseKey
from guestsim.outputs import counted

if TYPE_CHECKING:
    from devmodels.ata.table import Command
    from devmodels.ata.taskfile import TaskFile

PACKET = 0xA0
_TABLES = (dispatch_table(DISK), dispatch_table(DRIVE))
_STATUS = {
    Status.BSY: "BSY",
    Status.DRDY: "DRDY",
    Status.DF: "DF",
    Status.DSC: "DSC",
    Status.DRQ: "DRQ",
    Status.ERR: "ERR",
}
_ERROR = {Error.ICRC: "ICRC", Error.UNC: "UNC", Error.IDNF: "IDNF", Error.ABRT: "ABRT"}
_DISK, _DRIVE = 0x0000_0101, PACKET_SIGNATURE[0] << 8 | PACKET_SIGNATURE[1]
_HEADER_FLAGS = {
    layout.ATAPI: "ATAPI",
    layout.WRITE: "WRITE",
    layout.PREFETCHABLE: "PREFETCHABLE",
    layout.RESET: "RESET",
    layout.BIST: "BIST",
    layout.CLEAR_BUSY: "CLEAR_BUSY",
}
_MOST_SHOWN = 8


def bits(value: int, named: Mapping[int, str]) -> str:
    """Names of the bits that are set, the highest first; what has no name is a number; 0 is empty."""
    found = [name for mask, name in named.items() if value & mask]
    if rest := value & ~sum(named):
        found.append(hex(rest))
    return "|".join(found)


def status(value: int) -> str:
    """The status (ACS-3 §6.3)."""
    return bits(value & 0xFF, _STATUS)


def error(value: int) -> str:
    """The error (ACS-3 §6.2)."""
    return bits(value & 0xFF, _ERROR)


def packet_error(value: int) -> str:
    """The error of an ATAPI device: a sense key, and ABRT (ACS-3 §7.18.5)."""
    key = value >> 4 & 15
    if not value & (0xF0 | Error.ABRT):
        return ""
    said = f"sense key {key:x}"
    if key in set(SenseKey):
        said = f"{said} {SenseKey(key).name.replace('_', ' ')}"
    return f"{said} ABRT" if value & Error.ABRT else said


def task_file_data(value: int, *, drive: bool = False) -> str:
    """PxTFD: status and error (AHCI 1.3.1 §3.3.8); here and below, `drive`: of an ATAPI device."""
    return outcome(value & 0xFF, value >> 8 & 0xFF, drive=drive)


def outcome(state: int, code: int, *, drive: bool = False) -> str:
    """Status, and the error where that says that there is one."""
    said = status(state) or "none"
    if not state & Status.ERR:
        return said
    return f"{said} error {(packet_error if drive else error)(code) or 'none'}"


def signature(value: int) -> str:
    """PxSIG (AHCI 1.3.1 §3.3.9)."""
    return {_DISK: "ATA", _DRIVE: "ATAPI"}.get(value, "")


def slots(value: int) -> str:
    """The slots, or tags, of a word of PxCI or PxSACT."""
    found = [str(number) for number in range(32) if value >> number & 1]
    more = f" and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
    return " ".join(found[:_MOST_SHOWN]) + more


# --- commands


def command_of(taskfile: TaskFile) -> Command[Any] | None:
    """The command of a task file; None where neither disks nor ATAPI devices have it."""
    for table in _TABLES:
        entry = table[taskfile.command]
        if entry is not None and entry.subs is not None:
            entry = entry.subs.get(entry.select(taskfile))
        if entry is not None:
            return entry.command
    return None


def command_words(taskfile: TaskFile) -> str:
    """A command and what it is for: `READ DMA EXT 8 sectors at LBA 64`, `READ FPDMA QUEUED 1 sector at LBA 7 tag 3`."""
    command = command_of(taskfile)
    if command is None:
        return f"command {taskfile.command:#04x}"
    return " ".join([command.name, *_about(command, taskfile)])


def _about(command: Command[Any], taskfile: TaskFile) -> list[str]:
    """The fields that people look for."""
    parts = []
    queued = command.protocol.queued
    if command.addressing is Addressing.LBA48:
        count = taskfile.features if queued else taskfile.count
        parts = [counted(count & 0xFFFF or 0x1_0000, "sector"), f"at LBA {taskfile.lba}"]
    elif command.addressing is Addressing.LBA28:
        parts = [counted(taskfile.count & 0xFF or 0x100, "sector"), f"at {_place(taskfile)}"]
    elif "LOG" in command.name and command.protocol is not Protocol.NON_DATA:
        parts = [f"log {taskfile.lba & 0xFF:#04x}"]
    if queued:
        parts.append(f"tag {taskfile.count >> 3 & 31}")
    return parts


def _place(taskfile: TaskFile) -> str:
    if taskfile.device & LBA:
        return f"LBA {taskfile.lba28}"
    return f"cylinder {taskfile.lba >> 8 & 0xFFFF} head {taskfile.device & 15} sector {taskfile.lba & 0xFF}"


# --- AHCI's structures


def header_flags(value: int) -> str:
    """Flags of a command header (AHCI 1.3.1 §4.2.2)."""
    said = bits(value & 0x7E0, _HEADER_FLAGS)
    return f"{counted(value & layout.CFL, 'dword')} {said}".rstrip()


def fis_type(value: int) -> str:
    """The type of a FIS."""
    return fis.FisType(value).name if value in set(fis.FisType) else ""


def h2d_words(data: bytes) -> str:
    """Register – Host to Device: its command, or its control."""
    if len(data) < fis.H2D_SIZE:
        return "FIS"
    kind, flags, taskfile, control = fis.parse_register(data)
    if kind != fis.FisType.REGISTER_H2D:
        return f"FIS of type {kind:#04x}"
    if flags & fis.COMMAND_BIT:
        return command_words(taskfile)
    return f"control {'SRST' if control & fis.SRST else f'{control:#04x}'}"


def fis_command(data: bytes) -> tuple[str, bool] | None:
    """The command that a host's FIS gives: its words, and whether it is queued; None where it gives none."""
    if len(data) < fis.H2D_SIZE:
        return None
    kind, flags, taskfile, _ = fis.parse_register(data)
    if kind != fis.FisType.REGISTER_H2D or not flags & fis.COMMAND_BIT:
        return None
    command = command_of(taskfile)
    return command_words(taskfile), command is not None and command.protocol.queued


def received_words(kind: str, fields: Mapping[str, int], *, drive: bool = False) -> str:
    """A FIS from the device, by its layout's name and its fields."""
    said = _register(fields, drive=drive) if kind == "fis_register_d2h" else _RECEIVED[kind](fields)
    interrupt = " interrupt" if fields["flags"] & fis.INTERRUPT_BIT else ""
    return f"{said}{interrupt}"


def _register(fields: Mapping[str, int], *, drive: bool) -> str:
    lba = fields["lba_exp"] << 24 | fields["lba_device"] & 0xFF_FFFF
    code = fields["error"]
    if not fields["status"] & Status.ERR and code == DIAGNOSTIC_PASSED and fields["count"] == 1:
        kind = signature((lba & 0xFF_FFFF) << 8 | 1) or "no"
        return f"Register, {status(fields['status']) or 'none'}, {kind} signature"
    where = f" at LBA {lba}" if fields["status"] & Status.ERR and not drive else ""
    return f"Register, {outcome(fields['status'], code, drive=drive)}{where}"


def _pio(fields: Mapping[str, int]) -> str:
    way = "to the host" if fields["flags"] & fis.DIRECTION_BIT else "to the device"
    size = counted(fields["transfer_count"], "byte")
    return f"PIO Setup, {size} {way}, {status(fields['status'])}, then {status(fields['e_status'])}"


def _dma(fields: Mapping[str, int]) -> str:
    way = "to the host" if fields["flags"] & fis.DIRECTION_BIT else "to the device"
    return f"DMA Setup, tag {fields['buffer_low']}, {counted(fields['count'], 'byte')} {way}"


def _bits(fields: Mapping[str, int]) -> str:
    tags = slots(fields["sactive"]) or "none"
    return f"Set Device Bits, tags {tags}, {outcome(fields['status'], fields['error'])}"


_RECEIVED: dict[str, Callable[[Mapping[str, int]], str]] = {
    "fis_pio_setup": _pio,
    "fis_dma_setup": _dma,
    "fis_set_device_bits": _bits,
}
