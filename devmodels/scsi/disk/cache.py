"""SYNCHRONIZE CACHE and PRE-FETCH (10) and (16) (SBC-4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.blockbackend import Op
from devmodels.scsi.disk.blocks import check_range
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import block_cdb as cdb
from devmodels.scsi.table import Access, Command
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk

CACHE_10 = Layout(cdb.SYNCHRONIZE_CACHE_10)
CACHE_16 = Layout(cdb.SYNCHRONIZE_CACHE_16)


async def synchronize_cache(disk: Disk, task: Task, fields: Fields) -> None:
    """Flush everything, whatever range is asked for.  IMMED: it is begun; should it fail, that is a deferred error."""
    check_range(disk, fields["lba"], fields["number_of_blocks"])
    if fields["immed"]:
        disk.flush_in_background(task.nexus)
    else:
        await disk.perform(task, Op.FLUSH)


def prefetch(disk: Disk, _task: Task, fields: Fields) -> None:
    """There is no cache of ours to be filled: GOOD says that not everything is in it."""
    check_range(disk, fields["lba"], fields["number_of_blocks"])


_IGNORED = ("group_number",)

COMMANDS: tuple[Command[Disk], ...] = (
    Command(
        0x35,
        "SYNCHRONIZE CACHE (10)",
        CACHE_10,
        synchronize_cache,
        "SBC-4",
        ignored=_IGNORED,
        timeout=60,
    ),
    Command(
        0x91,
        "SYNCHRONIZE CACHE (16)",
        CACHE_16,
        synchronize_cache,
        "SBC-4",
        ignored=_IGNORED,
        timeout=60,
    ),
    Command(
        0x34,
        "PRE-FETCH (10)",
        CACHE_10,
        prefetch,
        "SBC-4",
        ignored=(*_IGNORED, "immed"),
        access=Access.READ,
    ),
    Command(
        0x90,
        "PRE-FETCH (16)",
        CACHE_16,
        prefetch,
        "SBC-4",
        ignored=(*_IGNORED, "immed"),
        access=Access.READ,
    ),
)
