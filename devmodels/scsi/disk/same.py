"""WRITE SAME (10) and (16): one block everywhere, or nothing (SBC-4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.blockbackend import Flags, Op
from devmodels.scsi.asc import Asc
from devmodels.scsi.disk.blocks import PIECE, check_range, check_writable, take_exactly
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import block_cdb as cdb
from devmodels.scsi.sense import illegal, invalid_field
from devmodels.scsi.table import Command, Data
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.iocontext import Coro
    from devmodels.scsi.disk.disk import Disk

WRITE_SAME_10 = Layout(cdb.WRITE_SAME_10)
WRITE_SAME_16 = Layout(cdb.WRITE_SAME_16)

NDOB = 0x01
ZERO_STEP = 256 << 20
"""How much is zeroed by one block request, in bytes."""


async def _write_same(disk: Disk, task: Task, fields: Fields, layout: Layout) -> None:
    """Zeroes by the quickest way, freeing space with UNMAP; else block after block.

    ANCHOR needs UNMAP, and anchored blocks do not exist here (ANC_SUP is 0).  0 blocks, which would be all to the end,
    are refused (WSNZ is 1).
    """
    if fields["anchor"]:
        raise invalid_field(layout, "anchor")
    check_writable(disk)
    lba, blocks = fields["lba"], fields["number_of_blocks"]
    if not blocks:
        raise invalid_field(layout, "number_of_blocks")
    check_range(disk, lba, blocks)
    block = _block(disk, task, fields)
    offset, length = lba * disk.block_size, blocks * disk.block_size
    if any(block):
        await fill(disk, task, offset, length, block)
    else:
        await zero(disk, task, offset, length, Flags.MAY_UNMAP if fields["unmap"] else Flags.NONE)


def _block(disk: Disk, task: Task, fields: Fields) -> bytes:
    """The block that is to be written; zeroes with NDOB."""
    size = disk.block_size
    # QEMU takes NDOB of WRITE SAME (10), too, which has it not.
    if fields.get("ndob") or (disk.violations.as_qemu and task.cdb[1] & NDOB):
        return bytes(size)
    return take_exactly(task, size, illegal(Asc.INVALID_FIELD_IN_CDB))


async def zero(disk: Disk, task: Task | None, offset: int, length: int, flags: Flags) -> None:
    """Zero by the disk's own means; a task that has been aborted ends early, should those be slow."""
    for at in range(0, length, ZERO_STEP):
        await disk.perform(task, Op.WRITE_ZEROES, offset + at, min(ZERO_STEP, length - at), (), flags)
        await disk.pause(task)


async def fill(disk: Disk, task: Task | None, offset: int, length: int, pattern: bytes) -> None:
    """Write `pattern` over and over; a task that has been aborted ends early."""
    step = max(1, PIECE // len(pattern)) * len(pattern)
    data = memoryview(pattern * (min(step, -(-length // len(pattern)) * len(pattern)) // len(pattern)))
    for at in range(0, length, step):
        size = min(step, length - at)
        await disk.perform(task, Op.WRITE, offset + at, size, [data[:size]])
        await disk.pause(task)


def _write_same_10(disk: Disk, task: Task, fields: Fields) -> Coro[None]:
    return _write_same(disk, task, fields, WRITE_SAME_10)


def _write_same_16(disk: Disk, task: Task, fields: Fields) -> Coro[None]:
    return _write_same(disk, task, fields, WRITE_SAME_16)


COMMANDS: tuple[Command[Disk], ...] = (
    Command(
        0x41,
        "WRITE SAME (10)",
        WRITE_SAME_10,
        _write_same_10,
        "SBC-4",
        data=Data.OUT,
        length="number_of_blocks",
        refused=("protect",),
        ignored=("group_number",),
        timeout=0,
    ),
    Command(
        0x93,
        "WRITE SAME (16)",
        WRITE_SAME_16,
        _write_same_16,
        "SBC-4",
        data=Data.OUT,
        length="number_of_blocks",
        refused=("protect",),
        ignored=("group_number",),
        timeout=0,
    ),
)
