"""Commands that read, write and verify sectors: PIO, DMA, with and without FUA, over 28- and 48-bit addresses."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.constants import LBA, Error, Transport
from devmodels.ata.disk.medium import (
    BrokenTransfer,
    MediumTransfer,
    RefusedTransfer,
    can_read,
    find_bad_sector,
)
from devmodels.ata.table import Addressing, Command, Protocol
from devmodels.blockbackend import Flags

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk

READ_FPDMA_QUEUED = 0x60
FUA_BIT = 0x80
"""Device, bit 7 of NCQ writes and reads (ACS-3 §7.23, §7.61)."""


def extent(disk: AtaDisk, command: AtaCommand, addressing: Addressing) -> tuple[int, int]:
    """First sector and number of sectors; AtaError where the medium has them not."""
    lba, count = named(disk, command, addressing)
    if lba < 0 or lba + count > disk.accessible:
        raise beyond(disk, lba)
    return lba, count


def named(disk: AtaDisk, command: AtaCommand, addressing: Addressing) -> tuple[int, int]:
    """First sector and number of sectors that a command names, be they there or not."""
    taskfile = command.taskfile
    if addressing is Addressing.LBA48:
        lba, count = taskfile.lba, taskfile.count or 0x1_0000
        if not taskfile.device & LBA:
            if not disk.violations.as_qemu:
                raise AtaError(Error.ABRT)
            lba = disk.geometry.anywhere(taskfile)
    else:
        # QEMU's disk behind an HBA looks at all 16 bits.
        wide = disk.transport is Transport.SERIAL and disk.violations.as_qemu
        count = (taskfile.count if wide else taskfile.count & 0xFF) or 0x100
        if wide:
            taskfile.count = count
        if taskfile.device & LBA:
            lba = taskfile.lba28
        else:
            place = disk.geometry.anywhere if disk.violations.as_qemu else disk.geometry.lba
            lba = place(taskfile)
    return lba, count


def beyond(disk: AtaDisk, lba: int) -> AtaError:
    """An address that the medium has not, whose first bad one is told (ACS-3 §6.3.2); QEMU's disk aborts."""
    if disk.violations.as_qemu:
        return AtaError()
    return AtaError(Error.IDNF, lba=max(lba, disk.accessible) if lba >= 0 else None)


def transfer(
    disk: AtaDisk, command: AtaCommand, *, out: bool, fua: bool = False, multiple: bool = False
) -> MediumTransfer:
    """READ and WRITE in all forms but NCQ."""
    assert command.entry is not None
    if multiple and not disk.multiple:
        raise AtaError(Error.ABRT)
    size = disk.sector_size
    block = size * disk.multiple if multiple else size
    pio, parallel = command.entry.protocol.pio, disk.transport is Transport.PARALLEL
    if disk.violations.as_qemu and (pio or parallel):
        lba, count = named(disk, command, command.entry.addressing)
        there = max(disk.accessible - lba, 0) if lba >= 0 else 0
        if count > there and not pio:
            return RefusedTransfer(max(lba, 0) * size, count * size, out=out, block=block)
        if count > there:
            # QEMU's disk looks at each block when its turn has come.
            reach = there * size // block * block
            if not out and not reach:
                raise beyond(disk, lba)
            return BrokenTransfer(lba * size, count * size, out=out, block=block, reach=reach)
    else:
        lba, count = extent(disk, command, command.entry.addressing)
    flags = Flags.FUA if fua else Flags.NONE
    return MediumTransfer(lba * size, count * size, out=out, block=block, flags=flags)


def queued(disk: AtaDisk, command: AtaCommand, *, out: bool) -> MediumTransfer:
    """READ and WRITE FPDMA QUEUED: the count is in features, the tag in count (ACS-3 §7.23, §7.61)."""
    taskfile = command.taskfile
    lba, count = taskfile.lba, taskfile.features or 0x1_0000
    if lba + count > disk.accessible:
        raise beyond(disk, lba)
    size = disk.sector_size
    flags = Flags.FUA if out and taskfile.device & FUA_BIT else Flags.NONE
    return MediumTransfer(lba * size, count * size, out=out, block=size, flags=flags)


async def verify(disk: AtaDisk, command: AtaCommand) -> None:
    """READ VERIFY SECTORS: read them for nobody."""
    assert command.entry is not None
    lba, count = extent(disk, command, command.entry.addressing)
    offset, length = lba * disk.sector_size, count * disk.sector_size
    if not await can_read(disk, command, offset, length):
        await find_bad_sector(disk, command, offset, length)


_read = partial(transfer, out=False)
_write = partial(transfer, out=True)
_LBA28, _LBA48 = Addressing.LBA28, Addressing.LBA48
_PIO_IN, _PIO_OUT, _DMA_IN, _DMA_OUT = Protocol.PIO_IN, Protocol.PIO_OUT, Protocol.DMA_IN, Protocol.DMA_OUT


def _command(
    opcode: int,
    name: str,
    protocol: Protocol,
    handler: partial[MediumTransfer],
    addressing: Addressing,
    clause: str = "ACS-3",
) -> Command[AtaDisk]:
    return Command(opcode, name, protocol, handler, clause, addressing=addressing, locked=True)


COMMANDS: tuple[Command[AtaDisk], ...] = (
    _command(0x20, "READ SECTOR(S)", _PIO_IN, _read, _LBA28),
    _command(0x21, "READ SECTOR(S), without retry", _PIO_IN, _read, _LBA28, "ATA-4"),
    _command(0x24, "READ SECTOR(S) EXT", _PIO_IN, _read, _LBA48),
    _command(0x25, "READ DMA EXT", _DMA_IN, _read, _LBA48),
    _command(0x29, "READ MULTIPLE EXT", _PIO_IN, partial(_read, multiple=True), _LBA48),
    _command(0x30, "WRITE SECTOR(S)", _PIO_OUT, _write, _LBA28),
    _command(0x31, "WRITE SECTOR(S), without retry", _PIO_OUT, _write, _LBA28, "ATA-4"),
    _command(0x34, "WRITE SECTOR(S) EXT", _PIO_OUT, _write, _LBA48),
    _command(0x35, "WRITE DMA EXT", _DMA_OUT, _write, _LBA48),
    _command(0x39, "WRITE MULTIPLE EXT", _PIO_OUT, partial(_write, multiple=True), _LBA48),
    _command(0x3D, "WRITE DMA FUA EXT", _DMA_OUT, partial(_write, fua=True), _LBA48),
    _command(0xC4, "READ MULTIPLE", _PIO_IN, partial(_read, multiple=True), _LBA28),
    _command(0xC5, "WRITE MULTIPLE", _PIO_OUT, partial(_write, multiple=True), _LBA28),
    _command(0xC8, "READ DMA", _DMA_IN, _read, _LBA28),
    _command(0xC9, "READ DMA, without retry", _DMA_IN, _read, _LBA28, "ATA-4"),
    _command(0xCA, "WRITE DMA", _DMA_OUT, _write, _LBA28),
    _command(0xCB, "WRITE DMA, without retry", _DMA_OUT, _write, _LBA28, "ATA-4"),
    _command(0xCE, "WRITE MULTIPLE FUA EXT", _PIO_OUT, partial(_write, multiple=True, fua=True), _LBA48),
    Command(
        READ_FPDMA_QUEUED,
        "READ FPDMA QUEUED",
        Protocol.QUEUED_IN,
        partial(queued, out=False),
        addressing=_LBA48,
        feature="NCQ",
        locked=True,
    ),
    Command(
        0x61,
        "WRITE FPDMA QUEUED",
        Protocol.QUEUED_OUT,
        partial(queued, out=True),
        addressing=_LBA48,
        feature="NCQ",
        locked=True,
    ),
    Command(0x40, "READ VERIFY SECTOR(S)", Protocol.NON_DATA, verify, addressing=_LBA28, locked=True),
    Command(
        0x41,
        "READ VERIFY SECTOR(S), without retry",
        Protocol.NON_DATA,
        verify,
        "ATA-4",
        addressing=_LBA28,
        locked=True,
    ),
    Command(0x42, "READ VERIFY SECTOR(S) EXT", Protocol.NON_DATA, verify, addressing=_LBA48, locked=True),
)
