"""READ CAPACITY and SYNCHRONIZE CACHE of a disc (MMC-6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.disc.disc import BLOCK
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import block_cdb, data
from devmodels.scsi.table import Access, Command, Data
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.mmc.drive import CdDrive

READ_CAPACITY = Layout(block_cdb.READ_CAPACITY_10)
SYNCHRONIZE_CACHE = Layout(block_cdb.SYNCHRONIZE_CACHE_10)
_CAPACITY = Layout(data.READ_CAPACITY_10)


def read_capacity(drive: CdDrive, _task: Task, _fields: Fields) -> bytes:
    """The last block of the last track, and the size of a block of data."""
    return _CAPACITY.pack(last_lba=drive.medium.blocks - 1, block_length=BLOCK)


def synchronize_cache(_drive: CdDrive, _task: Task, _fields: Fields) -> None:
    """Nothing was written."""


COMMANDS: tuple[Command[CdDrive], ...] = (
    Command(
        0x25,
        "READ CAPACITY",
        READ_CAPACITY,
        read_capacity,
        "MMC-6",
        data=Data.IN,
        access=Access.FREE,
    ),
    Command(
        0x35,
        "SYNCHRONIZE CACHE",
        SYNCHRONIZE_CACHE,
        synchronize_cache,
        "MMC-6",
        ignored=("immed", "lba", "number_of_blocks", "group_number"),
    ),
)
