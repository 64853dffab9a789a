"""READ and WRITE (SBC-4 §5.15-§5.18, §5.40-§5.43): from the CDB to a block request, in few steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from devmodels.blockbackend import Flags, Op, Request
from devmodels.blockbackend.vectors import clear, window
from devmodels.scsi.disk.request import TaskRequest
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import cdb
from devmodels.scsi.sense import CheckCondition
from devmodels.scsi.table import PENDING, Access, Command, Data, Pending
from devmodels.scsi.task import Task
from devmodels.scsi.unit import sense_of_errno
from devmodels.wire import Codec

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk

_unpack_10 = Codec.ints(cdb.READ_10).layout.unpack_from
_unpack_16 = Codec.ints(cdb.READ_16).layout.unpack_from

FUA = 0x08
_READ = Op.READ
_WRITE = Op.WRITE
_NO_FLAGS = Flags.NONE
_FUA = Flags.FUA


def read_10(disk: Disk, task: Task, _fields: Fields) -> Pending | None:
    """SBC-4 §5.16."""
    _, flags, lba, _, blocks, _ = _unpack_10(task.cdb)
    return read(disk, task, lba, blocks, flags)


def read_16(disk: Disk, task: Task, _fields: Fields) -> Pending | None:
    """SBC-4 §5.18."""
    _, flags, lba, blocks, _, _ = _unpack_16(task.cdb)
    return read(disk, task, lba, blocks, flags)


def write_10(disk: Disk, task: Task, _fields: Fields) -> Pending | None:
    """SBC-4 §5.41."""
    _, flags, lba, _, blocks, _ = _unpack_10(task.cdb)
    return write(disk, task, lba, blocks, flags)


def write_16(disk: Disk, task: Task, _fields: Fields) -> Pending | None:
    """SBC-4 §5.43."""
    _, flags, lba, blocks, _, _ = _unpack_16(task.cdb)
    return write(disk, task, lba, blocks, flags)


def payload(vectors: Sequence[memoryview], length: int) -> tuple[Sequence[memoryview], int]:
    """The first `length` bytes of `vectors`, or all where there are fewer, and how many."""
    room = len(vectors[0]) if len(vectors) == 1 else sum(map(len, vectors))
    if room > length:
        return window(vectors, 0, length), length
    return vectors, room


def read(disk: Disk, task: Task, lba: int, blocks: int, flags: int) -> Pending | None:
    """Read `blocks`; what the initiator has no room for is not transferred."""
    disk.check_range(lba, blocks)
    size = disk.block_size
    task.wanted = blocks * size
    vectors, length = payload(task.data_in, task.wanted)
    if not length:
        return None
    offset = lba * size
    if flags & FUA:
        # What is in the volatile cache goes to the medium first (SBC-4 §5.16).
        disk.context.start(_read_after_flush(disk, task, offset, length, vectors))
        return PENDING
    if disk.backend.read_now(((offset, vectors, length),)):
        task.sent = length
        return None
    _submit(disk, task, _READ, offset, length, vectors, _NO_FLAGS)
    return PENDING


async def _read_after_flush(
    disk: Disk, task: Task, offset: int, length: int, vectors: Sequence[memoryview]
) -> None:
    if not disk.write_protected:
        try:
            await disk.perform(task, Op.FLUSH)
        except CheckCondition as stop:
            disk.fail(task, stop.sense)
            return
    _submit(disk, task, _READ, offset, length, vectors, _NO_FLAGS)


def write(disk: Disk, task: Task, lba: int, blocks: int, flags: int) -> Pending | None:
    """Write `blocks`, or as much of them as the initiator has given."""
    disk.check_writable()
    disk.check_range(lba, blocks)
    size = disk.block_size
    task.wanted = blocks * size
    vectors, length = payload(task.data_out, task.wanted)
    if not length:
        return None
    _submit(disk, task, _WRITE, lba * size, length, vectors, _FUA if flags & FUA else _NO_FLAGS)
    return PENDING


def _submit(
    disk: Disk,
    task: Task,
    op: Op,
    offset: int,
    length: int,
    vectors: Sequence[memoryview],
    flags: Flags,
) -> None:
    request = TaskRequest(op, offset, length, vectors, flags, _done)
    request.task = task
    disk.backend.submit(request)


def _done(request: Request) -> None:
    """The request of a READ or a WRITE has ended."""
    if TYPE_CHECKING:
        assert isinstance(request, TaskRequest)
    task = request.task
    disk = task.unit
    assert disk is not None
    if request.error:
        if request.op is _READ:
            clear(request.vectors)
        disk.fail(task, sense_of_errno(request.error, write=request.op is _WRITE))
        return
    if request.op is _READ:
        task.sent = request.length
    else:
        task.received = request.length
    disk.finish(task)


_IGNORED = ("rarc", "group_number", "vendor_control")

COMMANDS: tuple[Command[Disk], ...] = (
    Command(
        0x28,
        "READ(10)",
        Layout(cdb.READ_10),
        read_10,
        "SBC-4 §5.16",
        data=Data.IN,
        length="transfer_length",
        refused=("protect",),
        ignored=_IGNORED,
        access=Access.READ,
        raw=True,
    ),
    Command(
        0x88,
        "READ(16)",
        Layout(cdb.READ_16),
        read_16,
        "SBC-4 §5.18",
        data=Data.IN,
        length="transfer_length",
        refused=("protect",),
        ignored=_IGNORED,
        access=Access.READ,
        raw=True,
    ),
    Command(
        0x2A,
        "WRITE(10)",
        Layout(cdb.WRITE_10),
        write_10,
        "SBC-4 §5.41",
        data=Data.OUT,
        length="transfer_length",
        refused=("protect",),
        ignored=_IGNORED,
        raw=True,
    ),
    Command(
        0x8A,
        "WRITE(16)",
        Layout(cdb.WRITE_16),
        write_16,
        "SBC-4 §5.43",
        data=Data.OUT,
        length="transfer_length",
        refused=("protect",),
        ignored=_IGNORED,
        raw=True,
    ),
)
