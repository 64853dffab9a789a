"""READ and WRITE (6), (10), (12) and (16): from the CDB to a block request, in few steps (SBC-4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from devmodels.blockbackend import Flags, Op, Request
from devmodels.scsi.backed import payload
from devmodels.scsi.constants import SenseKey
from devmodels.scsi.disk import badblocks
from devmodels.scsi.disk.blocks import check_transfer, check_writable, given
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import block_cdb as cdb
from devmodels.scsi.request import TaskRequest
from devmodels.scsi.sense import CheckCondition
from devmodels.scsi.table import PENDING, Access, Command, Data, Handler, Pending
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk

READ_6 = Layout(cdb.READ_6)
READ_10 = Layout(cdb.READ_10)
READ_12 = Layout(cdb.READ_12)
READ_16 = Layout(cdb.READ_16)
WRITE_10 = Layout(cdb.WRITE_10)
WRITE_12 = Layout(cdb.WRITE_12)
WRITE_16 = Layout(cdb.WRITE_16)

FUA = 0x08
LBA_HIGH_MASK = 0x1F
ALL_6 = 256
"""What a length of 0 means to READ (6) and WRITE (6)."""
_READ = Op.READ
_WRITE = Op.WRITE
_NO_FLAGS = Flags.NONE
_FUA = Flags.FUA


def _address_6(task: Task) -> tuple[int, int]:
    _, high, low, blocks, _ = cdb.READ_6.layout.unpack_from(task.cdb)
    return (high & LBA_HIGH_MASK) << 16 | low, blocks or ALL_6


def read_6(disk: Disk, task: Task, _fields: Fields) -> Pending | None:
    """The first 2^21 blocks; 0 blocks are 256."""
    lba, blocks = _address_6(task)
    return read(disk, task, lba, blocks, 0, READ_6)


def read_10(disk: Disk, task: Task, _fields: Fields) -> Pending | None:
    """The first 2^32 blocks."""
    _, flags, lba, _, blocks, _ = cdb.READ_10.layout.unpack_from(task.cdb)
    return read(disk, task, lba, blocks, flags, READ_10)


def read_12(disk: Disk, task: Task, _fields: Fields) -> Pending | None:
    """As READ (10), longer."""
    _, flags, lba, blocks, _, _ = cdb.READ_12.layout.unpack_from(task.cdb)
    return read(disk, task, lba, blocks, flags, READ_12)


def read_16(disk: Disk, task: Task, _fields: Fields) -> Pending | None:
    """Everywhere."""
    _, flags, lba, blocks, _, _ = cdb.READ_16.layout.unpack_from(task.cdb)
    return read(disk, task, lba, blocks, flags, READ_16)


def write_6(disk: Disk, task: Task, _fields: Fields) -> Pending | None:
    """The first 2^21 blocks; 0 blocks are 256."""
    lba, blocks = _address_6(task)
    return write(disk, task, lba, blocks, 0, READ_6)


def write_10(disk: Disk, task: Task, _fields: Fields) -> Pending | None:
    """The first 2^32 blocks."""
    _, flags, lba, _, blocks, _ = cdb.READ_10.layout.unpack_from(task.cdb)
    return write(disk, task, lba, blocks, flags, WRITE_10)


def write_12(disk: Disk, task: Task, _fields: Fields) -> Pending | None:
    """As WRITE (10), longer."""
    _, flags, lba, blocks, _, _ = cdb.READ_12.layout.unpack_from(task.cdb)
    return write(disk, task, lba, blocks, flags, WRITE_12)


def write_16(disk: Disk, task: Task, _fields: Fields) -> Pending | None:
    """Everywhere."""
    _, flags, lba, blocks, _, _ = cdb.READ_16.layout.unpack_from(task.cdb)
    return write(disk, task, lba, blocks, flags, WRITE_16)


def read(disk: Disk, task: Task, lba: int, blocks: int, flags: int, layout: Layout) -> Pending | None:
    """Read `blocks`; what the initiator has no room for is not transferred, or, to a `whole` task, nothing at all."""
    check_transfer(disk, lba, blocks, layout)
    size = disk.block_size
    task.wanted = wanted = blocks * size
    vectors, length = payload(task.data_in, wanted)
    if not length or (length < wanted and task.whole):
        return None
    offset = lba * size
    if flags & FUA and disk.backend.write_cache and not disk.backend.read_only:
        # What is in the volatile cache goes to the medium first (SBC-4 READ (10)).
        disk.turns.start(_read_after_flush(disk, task, offset, length, vectors))
        return PENDING
    if disk.backend.read_now(((offset, vectors, length),)):
        task.sent = length
        return None
    _submit_read(disk, task, offset, length, vectors)
    return PENDING


async def _read_after_flush(
    disk: Disk, task: Task, offset: int, length: int, vectors: Sequence[memoryview]
) -> None:
    try:
        await disk.perform(task, Op.FLUSH)
        await disk.pause(task)
    except CheckCondition as stop:
        disk.fail(task, stop.sense)
    else:
        _submit_read(disk, task, offset, length, vectors)


def write(disk: Disk, task: Task, lba: int, blocks: int, flags: int, layout: Layout) -> Pending | None:
    """Write `blocks`, or as much of them as the initiator has given."""
    check_writable(disk)
    check_transfer(disk, lba, blocks, layout)
    size = disk.block_size
    task.wanted = wanted = blocks * size
    vectors, length = given(disk, task, wanted)
    if not length:
        return None
    if not flags & FUA and disk.backend.write_now(lba * size, vectors, length):
        _written(disk, task, lba * size, length)
        return None
    request = TaskRequest(_WRITE, lba * size, length, vectors, _FUA if flags & FUA else _NO_FLAGS, _done)
    request.task = task
    disk.backend.submit(request)
    return PENDING


def _submit_read(disk: Disk, task: Task, offset: int, length: int, vectors: Sequence[memoryview]) -> None:
    request = TaskRequest(_READ, offset, length, vectors, _NO_FLAGS, _done)
    request.task = task
    disk.backend.submit(request)


def _done(request: Request) -> None:
    """The request of a READ or a WRITE has ended."""
    if TYPE_CHECKING:
        assert isinstance(request, TaskRequest)
    task = request.task
    if TYPE_CHECKING:
        assert isinstance(task.unit, Disk)
    disk = task.unit
    if request.error:
        if request.op is _READ:
            disk.turns.start(_read_failed(disk, task, request))
        else:
            _write_failed(disk, task, request)
        return
    if request.op is _READ:
        task.sent = request.length
    else:
        _written(disk, task, request.offset, request.length)
    disk.finish(task)


def _written(disk: Disk, task: Task, offset: int, length: int) -> None:
    """So much has been written, there."""
    task.received = length
    if disk.provisioning.armed:
        disk.provisioning.written(offset, length)


async def _read_failed(disk: Disk, task: Task, request: Request) -> None:
    """What is before the first block that cannot be read is given to the initiator."""
    try:
        sense, task.sent = await badblocks.located(disk, task, request)
    except CheckCondition as stop:
        sense = stop.sense
    disk.fail(task, sense)


def _write_failed(disk: Disk, task: Task, request: Request) -> None:
    """Of several blocks nobody knows which it was."""
    sense = disk.sense_of(request)
    if sense.key is SenseKey.MEDIUM_ERROR and request.length == disk.block_size:
        sense = msgspec.structs.replace(sense, information=request.offset // disk.block_size)
    disk.fail(task, sense)


def _command(
    opcode: int, name: str, layout: Layout, handler: Handler[Disk], data: Data, document: str = "SBC-4"
) -> Command[Disk]:
    return Command(
        opcode,
        name,
        layout,
        handler,
        document,
        data=data,
        length="transfer_length",
        refused=("protect",),
        ignored=("rarc", "group_number"),
        access=Access.READ if data is Data.IN else Access.WRITE,
        raw=True,
    )


COMMANDS = (
    _command(0x08, "READ (6)", READ_6, read_6, Data.IN, "SBC-3"),
    _command(0x28, "READ (10)", READ_10, read_10, Data.IN),
    _command(0xA8, "READ (12)", READ_12, read_12, Data.IN),
    _command(0x88, "READ (16)", READ_16, read_16, Data.IN),
    _command(0x0A, "WRITE (6)", READ_6, write_6, Data.OUT, "SBC-3"),
    _command(0x2A, "WRITE (10)", WRITE_10, write_10, Data.OUT),
    _command(0xAA, "WRITE (12)", WRITE_12, write_12, Data.OUT),
    _command(0x8A, "WRITE (16)", WRITE_16, write_16, Data.OUT),
)
