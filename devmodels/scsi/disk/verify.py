"""VERIFY and WRITE AND VERIFY (10), (12) and (16) (SBC-4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.blockbackend import Flags, Op
from devmodels.blockbackend.vectors import gather, window
from devmodels.scsi.asc import Asc
from devmodels.scsi.backed import payload
from devmodels.scsi.constants import SenseKey
from devmodels.scsi.disk import badblocks
from devmodels.scsi.disk.blocks import (
    PIECE,
    check_range,
    check_transfer,
    check_writable,
    given,
    take_exactly,
)
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import block_cdb as cdb
from devmodels.scsi.sense import CheckCondition, Sense, illegal, invalid_field
from devmodels.scsi.table import Access, Command, Data
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from devmodels.iocontext import Coro
    from devmodels.scsi.disk.disk import Disk

VERIFY_10 = Layout(cdb.VERIFY_10)
VERIFY_12 = Layout(cdb.VERIFY_12)
VERIFY_16 = Layout(cdb.VERIFY_16)

NOTHING, EACH_BYTE, ONE_BLOCK = 0b00, 0b01, 0b11
"""BYTCHK: that the medium can be read; each byte; each block against one."""

MISCOMPARE = Sense(SenseKey.MISCOMPARE, Asc.MISCOMPARE_DURING_VERIFY)


async def _read_all(disk: Disk, task: Task, offset: int, length: int) -> None:
    """Read, and forget."""
    buffer = memoryview(bytearray(min(length, PIECE)))
    for at in range(0, length, PIECE):
        size = min(PIECE, length - at)
        await badblocks.read(disk, task, offset + at, size, [buffer[:size]])
        await disk.pause(task)


async def _compare(disk: Disk, task: Task, offset: int, vectors: Sequence[memoryview], length: int) -> None:
    """CheckCondition where the medium holds something else."""
    buffer = memoryview(bytearray(min(length, PIECE)))
    for at in range(0, length, PIECE):
        size = min(PIECE, length - at)
        await badblocks.read(disk, task, offset + at, size, [buffer[:size]])
        if gather(window(vectors, at, size)) != buffer[:size]:
            raise CheckCondition(MISCOMPARE)
        await disk.pause(task)


async def _compare_one(disk: Disk, task: Task, offset: int, length: int) -> None:
    """Each block against the one that was given."""
    size = disk.block_size
    block = take_exactly(task, size, illegal(Asc.INVALID_FIELD_IN_CDB))
    step = max(size, PIECE // size * size)
    expected = memoryview(block * (min(length, step) // size))
    for at in range(0, length, step):
        part = min(step, length - at)
        await _compare(disk, task, offset + at, [expected[:part]], part)


async def _verify(disk: Disk, task: Task, fields: Fields, layout: Layout) -> None:
    lba, blocks, check = fields["lba"], fields["transfer_length"], fields["bytchk"]
    offset, length = lba * disk.block_size, blocks * disk.block_size
    if check == EACH_BYTE:
        check_transfer(disk, lba, blocks, layout)
        task.wanted = length
        vectors, size = payload(task.data_out, length)
        task.received = size
        await _compare(disk, task, offset, vectors, size)
        return
    check_range(disk, lba, blocks)
    if check == NOTHING:
        await _read_all(disk, task, offset, length)
    elif check == ONE_BLOCK:
        if blocks:
            await _compare_one(disk, task, offset, length)
    else:
        raise invalid_field(layout, "bytchk")


async def _write_and_verify(disk: Disk, task: Task, fields: Fields, layout: Layout) -> None:
    lba, blocks, check = fields["lba"], fields["transfer_length"], fields["bytchk"]
    if check not in (NOTHING, EACH_BYTE):
        raise invalid_field(layout, "bytchk")
    check_writable(disk)
    check_transfer(disk, lba, blocks, layout)
    offset, length = lba * disk.block_size, blocks * disk.block_size
    task.wanted = length
    vectors, size = given(disk, task, length)
    if not size:
        return
    if check == EACH_BYTE:
        # What is compared is what was written, whatever the initiator does to its memory meanwhile.
        vectors = [memoryview(gather(vectors))]
    await disk.perform(task, Op.WRITE, offset, size, vectors, Flags.FUA)
    task.received = size
    if check == EACH_BYTE:
        await _compare(disk, task, offset, vectors, size)
    else:
        await _read_all(disk, task, offset, size)


def _command(
    opcode: int, name: str, layout: Layout, action: Callable[[Disk, Task, Fields, Layout], Coro[None]]
) -> Command[Disk]:
    def handler(disk: Disk, task: Task, fields: Fields) -> Coro[None]:
        return action(disk, task, fields, layout)

    return Command(
        opcode,
        name,
        layout,
        handler,
        "SBC-4",
        data=Data.OUT,
        length="transfer_length",
        refused=("protect",),
        ignored=("group_number",),
        access=Access.READ if action is _verify else Access.WRITE,
        timeout=60,
    )


COMMANDS = (
    _command(0x2F, "VERIFY (10)", VERIFY_10, _verify),
    _command(0xAF, "VERIFY (12)", VERIFY_12, _verify),
    _command(0x8F, "VERIFY (16)", VERIFY_16, _verify),
    _command(0x2E, "WRITE AND VERIFY (10)", VERIFY_10, _write_and_verify),
    _command(0xAE, "WRITE AND VERIFY (12)", VERIFY_12, _write_and_verify),
    _command(0x8E, "WRITE AND VERIFY (16)", VERIFY_16, _write_and_verify),
)
