"""DATA SET MANAGEMENT, TRIM: which sectors nobody needs any more; plain, and queued (ACS-3 §7.5, §7.43)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.constants import BLOCK, Error
from devmodels.ata.disk.identify import MAX_TRIM_BLOCKS
from devmodels.ata.disk.requests import AtaRequest
from devmodels.ata.table import Command, Protocol, Sub
from devmodels.ata.transfer import DataOut
from devmodels.blockbackend import Flags, Op

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk

RANGE_SHIFT = 48
"""An entry of 64 bits: the LBA, and from here on how many sectors; 0 sectors: no entry."""
SEND_TRIM = 0


def trim(_disk: AtaDisk, command: AtaCommand) -> DataOut:
    """Count blocks of 64 ranges follow."""
    return _ranges_wanted(command.taskfile.count)


def trim_as_qemu(disk: AtaDisk, command: AtaCommand) -> DataOut | None:
    """A channel's count has one byte; there may be any number of blocks, or none."""
    blocks = command.taskfile.count & disk.count_bits
    return DataOut(blocks * BLOCK, _trim) if blocks else None


def queued_trim(_disk: AtaDisk, command: AtaCommand) -> DataOut:
    """The same as a subcommand of SEND FPDMA QUEUED, with bit 0 of auxiliary (ACS-3 §7.43)."""
    if not command.taskfile.auxiliary & 1:
        raise AtaError(Error.ABRT)
    return _ranges_wanted(command.taskfile.features)


def _ranges_wanted(blocks: int) -> DataOut:
    if not 1 <= blocks <= MAX_TRIM_BLOCKS:
        raise AtaError(Error.ABRT)
    return DataOut(blocks * BLOCK, _trim)


async def _trim(disk: AtaDisk, command: AtaCommand, data: bytes) -> None:
    """All ranges are looked at before one is trimmed: beyond the end, nothing is."""
    ranges = []
    for (entry,) in struct.iter_unpack("<Q", data):
        lba, sectors = entry & (1 << RANGE_SHIFT) - 1, entry >> RANGE_SHIFT
        if not sectors:
            continue
        if lba + sectors > disk.accessible:
            raise AtaError(Error.ABRT)
        ranges.append((lba, sectors))
    size = disk.sector_size
    for lba, sectors in ranges if disk.zeroes else ():
        flags = Flags.MAY_UNMAP
        request = AtaRequest(Op.WRITE_ZEROES, lba * size, sectors * size, (), flags)
        if await disk.perform(command, request):
            raise AtaError(Error.ABRT)
    if disk.violations.as_qemu and not command.queued:
        # QEMU's address and count go on, as with sectors.
        taskfile = command.taskfile
        disk.show_address(command, taskfile.lba + len(data) // BLOCK)
        taskfile.count &= ~0xFF


COMMANDS: tuple[Command[AtaDisk], ...] = (
    Command(
        0x06,
        "DATA SET MANAGEMENT, TRIM",
        Protocol.DMA_OUT,
        trim,
        "ACS-3 §7.5",
        sub=Sub.FEATURES,
        value=1,
        feature="TRIM",
        locked=True,
    ),
    Command(
        0x64,
        "SEND FPDMA QUEUED, DATA SET MANAGEMENT",
        Protocol.QUEUED_OUT,
        queued_trim,
        "ACS-3 §7.43",
        sub=Sub.COUNT_HIGH,
        value=SEND_TRIM,
        feature="queued TRIM",
        locked=True,
    ),
)
