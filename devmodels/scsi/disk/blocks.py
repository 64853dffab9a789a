"""Ranges and payloads of block commands: what they may touch, what the initiator has given or has room for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from devmodels.blockbackend.vectors import gather
from devmodels.scsi.asc import Asc
from devmodels.scsi.backed import payload
from devmodels.scsi.constants import SenseKey
from devmodels.scsi.fields import Layout
from devmodels.scsi.sense import CheckCondition, Sense, invalid_field
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk

PIECE = 1 << 20
"""How much is compared, or filled, at once, in bytes."""


def no_such_block(disk: Disk, lba: int) -> Sense:
    """Of blocks from `lba` on not all are there: the first that is not is the information (SBC-4 §4.18.1)."""
    return Sense(SenseKey.ILLEGAL_REQUEST, Asc.LBA_OUT_OF_RANGE, information=max(lba, disk.blocks))


def range_error(disk: Disk, lba: int, blocks: int) -> NoReturn:
    """CheckCondition: of `blocks` from `lba` on not all are there."""
    place = f"{disk.name} LUN {disk.lun}"
    disk.violations.report(
        "SBC-4 §4.5", f"{blocks} blocks at {lba} of {disk.blocks}", place, lba.to_bytes(8, "big")
    )
    raise CheckCondition(no_such_block(disk, lba))


def check_range(disk: Disk, lba: int, blocks: int) -> None:
    """CheckCondition where `blocks` from `lba` on are not all there."""
    if lba + blocks > disk.blocks:
        range_error(disk, lba, blocks)


def check_transfer(disk: Disk, lba: int, blocks: int, layout: Layout, name: str = "transfer_length") -> None:
    """As `check_range`; also where they are more than one command may move (MAXIMUM TRANSFER LENGTH)."""
    if lba + blocks > disk.backend.size // disk.block_size:
        range_error(disk, lba, blocks)
    if blocks > disk.max_blocks:
        raise invalid_field(layout, name)


def check_writable(disk: Disk) -> None:
    """CheckCondition where nothing can be written."""
    if disk.write_protected:
        code = Asc.SOFTWARE_WRITE_PROTECTED if not disk.backend.read_only else Asc.WRITE_PROTECTED
        raise CheckCondition(Sense(SenseKey.DATA_PROTECT, code))


def given(disk: Disk, task: Task, length: int) -> tuple[Sequence[memoryview], int]:
    """The first `length` bytes of what the initiator has given, or, where there are fewer, the whole blocks of that."""
    vectors, room = payload(task.data_out, length)
    if room == length:
        return vectors, room
    return ((), 0) if task.whole else payload(vectors, room - room % disk.block_size)


def take_exactly(task: Task, length: int, error: CheckCondition) -> bytes:
    """What the initiator has given, copied out once; `error` where that is not `length` bytes."""
    task.wanted = length
    if sum(map(len, task.data_out)) != length:
        raise error
    task.received = length
    return gather(task.data_out)
