"""SYNCHRONIZE CACHE (10) and (16) (SBC-4 §5.32, §5.33)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.blockbackend import Op
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import cdb
from devmodels.scsi.table import Command
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk

_CDB_10 = Layout(cdb.SYNCHRONIZE_CACHE_10)
_CDB_16 = Layout(cdb.SYNCHRONIZE_CACHE_16)


async def synchronize_cache(disk: Disk, task: Task, fields: Fields) -> None:
    """Flush; everything, whatever range is asked for.  IMMED may wait all the same."""
    lba, blocks = fields["lba"], fields["number_of_blocks"]
    if lba + blocks > disk.blocks:
        disk.range_error(lba, blocks)
    await disk.perform(task, Op.FLUSH)


COMMANDS: tuple[Command[Disk], ...] = (
    Command(
        0x35,
        "SYNCHRONIZE CACHE(10)",
        _CDB_10,
        synchronize_cache,
        "SBC-4 §5.32",
        ignored=("group_number", "vendor_control"),
        timeout=60,
    ),
    Command(
        0x91,
        "SYNCHRONIZE CACHE(16)",
        _CDB_16,
        synchronize_cache,
        "SBC-4 §5.33",
        ignored=("group_number", "vendor_control"),
        timeout=60,
    ),
)
