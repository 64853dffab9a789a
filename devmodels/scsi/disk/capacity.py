"""READ CAPACITY (10) and (16) (SBC-4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.scsi.disk.operation import FORMAT_CORRUPTED
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import block_cdb as cdb
from devmodels.scsi.layout import data
from devmodels.scsi.sense import CheckCondition
from devmodels.scsi.table import Access, Command, Data
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk

_CDB_10 = Layout(cdb.READ_CAPACITY_10)
_CDB_16 = Layout(cdb.READ_CAPACITY_16)
_DATA_10 = Layout(data.READ_CAPACITY_10)
_DATA_16 = Layout(data.READ_CAPACITY_16)
MAX_LBA_10 = 0xFFFF_FFFF
"""What READ CAPACITY (10) says where the last LBA is beyond it."""


def _check_blocks(disk: Disk) -> None:
    """CheckCondition where there is no block, so that none is the last."""
    if not disk.blocks:
        raise CheckCondition(FORMAT_CORRUPTED)


def read_capacity_10(disk: Disk, _task: Task, _fields: Fields) -> bytes:
    """The last LBA, as far as it fits, and the block length."""
    _check_blocks(disk)
    return _DATA_10.pack(last_lba=min(disk.blocks - 1, MAX_LBA_10), block_length=disk.block_size)


def read_capacity_16(disk: Disk, _task: Task, _fields: Fields) -> bytes:
    """The last LBA, the block length, the physical exponent and whether blocks can be unmapped."""
    _check_blocks(disk)
    options = disk.options
    exponent = (options.physical_block_size // disk.block_size).bit_length() - 1
    return _DATA_16.pack(
        last_lba=disk.blocks - 1,
        block_length=disk.block_size,
        physical_exponent=exponent,
        lbpme=options.thin,
        lbprz=disk.zeroes,
    )


COMMANDS: tuple[Command[Disk], ...] = (
    Command(
        0x25,
        "READ CAPACITY (10)",
        _CDB_10,
        read_capacity_10,
        "SBC-4",
        data=Data.IN,
        access=Access.FREE,
    ),
    Command(
        0x9E,
        "READ CAPACITY (16)",
        _CDB_16,
        read_capacity_16,
        "SBC-4",
        action=0x10,
        data=Data.IN,
        length="allocation_length",
        access=Access.FREE,
    ),
)
