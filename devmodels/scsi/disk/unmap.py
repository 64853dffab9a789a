"""UNMAP, and GET LBA STATUS: which blocks have a place (SBC-4 §4.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.blockbackend import Flags, Op
from devmodels.blockbackend.status import Status
from devmodels.scsi.asc import Asc
from devmodels.scsi.disk.blocks import check_writable, range_error
from devmodels.scsi.disk.same import zero
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import block_cdb as cdb
from devmodels.scsi.layout import parameters
from devmodels.scsi.sense import illegal, invalid_parameter
from devmodels.scsi.table import Access, Command, Data
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk

UNMAP = Layout(cdb.UNMAP)
GET_LBA_STATUS = Layout(cdb.GET_LBA_STATUS)
_HEADER = Layout(parameters.UNMAP_HEADER)
_DESCRIPTOR = Layout(parameters.UNMAP_DESCRIPTOR)
_STATUS_HEADER = Layout(parameters.LBA_STATUS_HEADER)
_STATUS = Layout(parameters.LBA_STATUS_DESCRIPTOR)

MAX_DESCRIPTORS = 256
"""MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT."""
MAPPED, DEALLOCATED = 0, 1
"""PROVISIONING STATUS; anchored blocks do not exist here."""
MAX_STATUSES = 1024
"""How many descriptors GET LBA STATUS returns at most."""
MAX_QUESTIONS = 4096
"""How often it asks the disk at most."""
MAX_RUN = 0xFFFF_FFFF
"""The most blocks in one descriptor."""


def _ranges(disk: Disk, data: bytes) -> list[tuple[int, int]]:
    """What is to be unmapped, as (LBA, blocks), all of it checked."""
    if len(data) < _HEADER.size:
        raise illegal(Asc.PARAMETER_LIST_LENGTH_ERROR)
    length = _HEADER.unpack(data)["descriptors_length"]
    if _HEADER.size + length > len(data):
        raise illegal(Asc.PARAMETER_LIST_LENGTH_ERROR)
    count = length // _DESCRIPTOR.size
    if count > MAX_DESCRIPTORS:
        raise invalid_parameter(_HEADER.places["descriptors_length"].offset)
    ranges = []
    total = 0
    for index in range(count):
        at = _HEADER.size + index * _DESCRIPTOR.size
        values = _DESCRIPTOR.unpack(data, at)
        lba, blocks = values["lba"], values["number_of_blocks"]
        if lba + blocks > disk.blocks:
            range_error(disk, lba, blocks)
        total += blocks
        if total > disk.max_unmap_blocks:
            raise invalid_parameter(at + _DESCRIPTOR.places["number_of_blocks"].offset)
        ranges.append((lba, blocks))
    return ranges


async def unmap(disk: Disk, task: Task, fields: Fields) -> None:
    """Free the blocks, which read as zeroes from now on; where that cannot be, leave them as they are (LBPRZ is 0)."""
    check_writable(disk)
    data = disk.parameters(task, fields["parameter_list_length"])
    if not data:
        return
    size = disk.block_size
    for lba, blocks in _ranges(disk, data):
        if blocks and disk.zeroes:
            await zero(disk, task, lba * size, blocks * size, Flags.MAY_UNMAP)


async def get_lba_status(disk: Disk, task: Task, fields: Fields) -> bytes:
    """Runs of blocks that are mapped, or not, from an address on: as many as there is room for."""
    lba = fields["lba"]
    if lba >= disk.blocks:
        range_error(disk, lba, 1)
    room = (fields["allocation_length"] - _STATUS_HEADER.size) // _STATUS.size
    runs = await runs_of(disk, task, lba, min(max(room, 1), MAX_STATUSES))
    body = b"".join(
        _STATUS.pack(lba=at, number_of_blocks=blocks, provisioning=status) for at, blocks, status in runs
    )
    # The length counts what follows its own field.
    return _STATUS_HEADER.pack(length=len(body) + _STATUS_HEADER.size - 4) + body


async def runs_of(disk: Disk, task: Task | None, lba: int, most: int) -> list[tuple[int, int, int]]:
    """Up to `most` runs of blocks with one status, from `lba` on: address, blocks, status."""
    runs: list[tuple[int, int, int]] = []
    for _ in range(MAX_QUESTIONS):
        if lba >= disk.blocks:
            break
        blocks, status = await status_at(disk, task, lba, disk.blocks)
        last = runs[-1] if runs else None
        if last is not None and last[2] == status and last[1] + blocks <= MAX_RUN:
            runs[-1] = (last[0], last[1] + blocks, status)
        elif len(runs) == most:
            break
        else:
            runs.append((lba, blocks, status))
        lba += blocks
    return runs


async def status_at(disk: Disk, task: Task | None, lba: int, end: int) -> tuple[int, int]:
    """How many blocks from `lba` on, and before `end`, have one status, and which."""
    if not disk.options.thin:
        return min(end - lba, MAX_RUN), MAPPED
    size = disk.block_size
    length = min(end - lba, MAX_RUN) * size
    request = await disk.perform(task, Op.BLOCK_STATUS, lba * size, length)
    found = request.status
    free = not found.flags & Status.DATA
    blocks = found.pnum // size
    if not blocks:
        # It changes within the block: a part of it is stored somewhere.
        return 1, MAPPED
    return blocks, DEALLOCATED if free else MAPPED


UNMAP_COMMAND: Command[Disk] = Command(
    0x42,
    "UNMAP",
    UNMAP,
    unmap,
    "SBC-4",
    data=Data.OUT,
    length="parameter_list_length",
    refused=("anchor",),
    ignored=("group_number",),
    timeout=60,
)
STATUS_COMMAND: Command[Disk] = Command(
    0x9E,
    "GET LBA STATUS (16)",
    GET_LBA_STATUS,
    get_lba_status,
    "SBC-4",
    action=0x12,
    data=Data.IN,
    length="allocation_length",
    refused=("report_type",),
    access=Access.READ,
)
COMMANDS = (UNMAP_COMMAND, STATUS_COMMAND)
