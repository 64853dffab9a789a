"""The way of a command: attentions, where its data goes, its target's part, then the unit's own, and how it ended."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from devmodels.blockbackend import Flags, Op, Request
from devmodels.blockbackend.vectors import gather
from devmodels.scsi.asc import Asc
from devmodels.scsi.backed import BackedUnit, payload
from devmodels.scsi.constants import SenseKey, Status
from devmodels.scsi.kind import UnitFront
from devmodels.scsi.lun import format_lun
from devmodels.scsi.qemu import cdb as layout
from devmodels.scsi.qemu.attention import LUNS_CHANGED, BusAttention, OneAttention
from devmodels.scsi.request import TaskRequest, wake
from devmodels.scsi.sense import NO_SENSE, CheckCondition, Sense
from devmodels.scsi.table import PENDING, Pending, Reply
from devmodels.scsi.task import Task

INQUIRY, REPORT_LUNS, REQUEST_SENSE, TEST_UNIT_READY = 0x12, 0xA0, 0x03, 0x00
GET_CONFIGURATION, GET_EVENT_STATUS = 0x46, 0x4A
UNTOLD = frozenset((INQUIRY, REPORT_LUNS, GET_CONFIGURATION, GET_EVENT_STATUS))
"""Commands that tell no condition."""
KEEPING = UNTOLD - {REPORT_LUNS}
"""Those at whose end one stays whatever it is."""
READY = frozenset(
    (
        0x12,
        0x1A,
        0x5A,
        0x16,
        0x56,
        0x17,
        0x57,
        0x1B,
        0x1E,
        GET_CONFIGURATION,
        GET_EVENT_STATUS,
        0xBD,
        REQUEST_SENSE,
    )
)
"""Commands that need no medium."""
MOST_AT_ALL = 0x7FFF_FFFF
"""No command has more data, whatever there is to tell."""
MOST = 0x1_0000
"""So much data a command has that is no READ or WRITE."""
SECTOR = 512
FUA = 0x08

_ILLEGAL = SenseKey.ILLEGAL_REQUEST
INVALID_OPCODE = Sense(_ILLEGAL, Asc.INVALID_COMMAND_OPERATION_CODE)
INVALID_FIELD = Sense(_ILLEGAL, Asc.INVALID_FIELD_IN_CDB)
OUT_OF_RANGE = Sense(_ILLEGAL, Asc.LBA_OUT_OF_RANGE)
NO_SUCH_UNIT = Sense(_ILLEGAL, Asc.LOGICAL_UNIT_NOT_SUPPORTED)
NO_MEDIUM = Sense(SenseKey.NOT_READY, Asc.MEDIUM_NOT_PRESENT)
PROTECTED = Sense(SenseKey.DATA_PROTECT, Asc.WRITE_PROTECTED)
IO_ERROR = Sense(SenseKey.ABORTED_COMMAND, Asc.IO_PROCESS_TERMINATED)
_OF_ERRNO = {
    errno.ENODATA: Sense(SenseKey.MEDIUM_ERROR, Asc.UNRECOVERED_READ_ERROR),
    errno.EREMOTEIO: Sense(SenseKey.HARDWARE_ERROR, Asc.INTERNAL_TARGET_FAILURE),
    errno.ENOMEM: Sense(SenseKey.HARDWARE_ERROR, Asc.INTERNAL_TARGET_FAILURE),
    errno.ENOMEDIUM: NO_MEDIUM,
    errno.EINVAL: INVALID_FIELD,
    errno.ENOSPC: Sense(SenseKey.DATA_PROTECT, Asc.SPACE_ALLOCATION_FAILED),
}

_STATUS_OF_ERRNO = {errno.EDOM: Status.TASK_SET_FULL, errno.EBADE: Status.RESERVATION_CONFLICT}


if TYPE_CHECKING:
    Way = Callable[[Task, bytes], Reply]
    Prepared = tuple[bytes, Way, Sense | None]
    """What was found out of a command when it came: its CDB, who answers it, and a condition to tell instead."""


class Front(UnitFront):
    """What stands before `unit`; `bus` has what all of its bus's may have to tell.

    `max_lba` is what READs and WRITEs are measured by: as it was when somebody asked, or at a reset.
    """

    drive = False
    moving = layout.READS | layout.WRITES
    TOLD: ClassVar[Sequence[Asc]] = ()
    KEPT: ClassVar[Sequence[str]] = ("sense", "max_lba", "block_size")
    handlers: ClassVar[Mapping[int, Callable[..., Reply]]] = {}
    """By operation code: they take the front, the task and the CDB, and what is given where that is what they need."""
    taking: ClassVar[frozenset[int]] = frozenset((0x04, 0x15, 0x55, 0x42, 0x41, 0x93))
    """Those which take what is given, and do nothing without."""

    def __init__(self, unit: BackedUnit, bus: BusAttention, block_size: int) -> None:
        self._unit = unit
        self.bus = bus
        self.block_size = block_size
        self.backend = unit.backend
        self.attentions = unit.attentions = OneAttention(self.TOLD)
        self.sense = b""
        """Of the last command, which had no attention to tell."""
        self._prepared: dict[Task, Prepared] = {}
        unit.tasks.limit = sys.maxsize
        self.measure()

    # --- what it is

    @property
    def available(self) -> bool:
        """Whether a medium is in place."""
        raise NotImplementedError

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written."""
        return self.drive or self.backend.read_only

    @property
    def blocks(self) -> int:
        """The capacity, with the tray open or not."""
        return self.backend.size // SECTOR // (self.block_size // SECTOR)

    def measure(self) -> None:
        """Look how large it is."""
        self.max_lba = max(self.blocks - 1, 0)

    # --- one command

    def prepare(self, task: Task) -> bool:
        """What is to be told of is taken, and whose command it is settled: what comes with it changes neither."""
        found = layout.read(task.cdb, drive=self.drive, block=self.block_size)
        if found is None:
            self._prepared[task] = b"", self._unknown, None
            return True
        cdb, wanted, given = found
        condition = None if cdb[0] in UNTOLD or wanted > MOST_AT_ALL else self._take(task)
        vectors = task.data_out if given else task.data_in
        task.wanted = wanted
        if wanted and wanted > sum(map(len, vectors)):
            task.overrun()
            task.done(task)
            return False
        self._prepared[task] = cdb, self._way(task, cdb[0]), condition
        return True

    def _way(self, task: Task, opcode: int) -> Way:
        """Whose command it is."""
        of_target = opcode == REPORT_LUNS or (opcode == REQUEST_SENSE and self.sense)
        if of_target or task.lun != self._unit.lun:
            return self._of_target
        return self._move if opcode in self.moving else self._own

    def process(self, task: Task) -> Reply:
        """As of `LogicalUnit`."""
        cdb, way, condition = self._prepared.pop(task)
        if condition is not None:
            raise CheckCondition(condition)
        return way(task, cdb)

    def _unknown(self, _task: Task, _cdb: bytes) -> Reply:
        """There is no such group, or not all of the CDB."""
        raise CheckCondition(INVALID_OPCODE)

    def _own(self, task: Task, cdb: bytes) -> Reply:
        """What is neither READ nor WRITE."""
        wanted = task.wanted
        if cdb[0] not in READY and not self.available:
            raise CheckCondition(NO_MEDIUM)
        if wanted > MOST:
            raise CheckCondition(INVALID_FIELD)
        handler = self.handlers.get(cdb[0])
        if handler is None:
            raise CheckCondition(INVALID_OPCODE)
        if cdb[0] in self.taking:
            if not wanted:
                return None
            data = gather(payload(task.data_out, wanted)[0])
            task.received = wanted
            return handler(self, task, cdb, data)
        reply = handler(self, task, cdb)
        if reply is None or isinstance(reply, bytes):
            self.send(task, (reply or b"").ljust(wanted, b"\0")[:wanted])
            return None
        return reply

    def send(self, task: Task, data: bytes) -> None:
        """Give it to the initiator, whose room has been looked at."""
        at = 0
        for view in task.data_in:
            part = data[at : at + len(view)]
            view[: len(part)] = part
            at += len(part)
        task.sent = at

    # --- conditions and sense data

    def _take(self, task: Task) -> Sense | None:
        """What is to be told, and is told now."""
        condition = self.attentions.take(task.nexus)
        if condition is None:
            condition, self.bus.sense = self.bus.sense, None
        return condition

    def ended(self, task: Task) -> None:
        """Its sense data stay for REQUEST SENSE until the next one ends; what has come meanwhile is told by nobody."""
        if task.aborted_by is not None or task.refused:
            return
        failed = task.status == Status.CHECK_CONDITION and bool(task.sense)
        told = failed and task.sense[2] == SenseKey.UNIT_ATTENTION
        self.sense = task.sense if failed and not told else b""
        if told:
            self.reported()
        else:
            self._forget(task)

    def _forget(self, task: Task) -> None:
        opcode = task.cdb[0] if task.cdb else TEST_UNIT_READY
        if opcode in KEEPING:
            return
        condition = self.attentions.first(task.nexus)
        if opcode == REPORT_LUNS and (condition or self.bus.sense) != LUNS_CHANGED:
            return
        if condition is not None:
            self.attentions.take(task.nexus)
        else:
            self.bus.sense = None

    def reported(self) -> None:
        """The initiator has been told of a condition."""

    def was_reset(self) -> None:
        """As after power on."""
        self.measure()

    # --- the target's part

    def _of_target(self, task: Task, cdb: bytes) -> Reply:
        """What is not the unit's, or is of one that is not there."""
        self.send(task, self._told_by_target(cdb, task.wanted, task.lun))
        return None

    def _told_by_target(self, cdb: bytes, wanted: int, lun: int | None) -> bytes:
        if lun and cdb[0] not in (INQUIRY, REQUEST_SENSE):
            raise CheckCondition(NO_SUCH_UNIT)
        match cdb[0]:
            case 0xA0:
                return self._luns(cdb, wanted)
            case 0x12:
                return _nobody(cdb, wanted, lun)
            case 0x03:
                fixed = not cdb[1] & 1
                told = NO_SUCH_UNIT if lun else None
                return sense_data(self.sense, fixed=fixed, instead=told)[:wanted]
            case 0x00:
                return b""
        raise CheckCondition(INVALID_OPCODE)

    def _luns(self, cdb: bytes, wanted: int) -> bytes:
        """LUN 0, there or not, and the others, the newest first."""
        if wanted < 16 or cdb[2] > 2:
            raise CheckCondition(INVALID_FIELD)
        target = self._unit.target
        units = [] if target is None else [lun for lun in reversed(target.units) if lun]
        body = b"".join(format_lun(lun) for lun in (0, *units))
        return (len(body).to_bytes(4, "big") + bytes(4) + body)[: wanted & ~7]

    # --- READ and WRITE

    def _move(self, task: Task, cdb: bytes) -> Reply:
        """All that there is room for, or was given, in whole sectors, from the address on."""
        write = cdb[0] in layout.WRITES
        if not self.available:
            raise CheckCondition(NO_MEDIUM)
        if write and self.read_only:
            raise CheckCondition(PROTECTED)
        if cdb[1] & 0xE0:
            raise CheckCondition(INVALID_FIELD)
        lba, blocks = layout.address(cdb), layout.blocks(cdb)
        if lba + blocks > self.max_lba + 1:
            raise CheckCondition(OUT_OF_RANGE)
        if not blocks:
            return None
        vectors = task.data_out if write else task.data_in
        total = sum(map(len, vectors))
        vectors, length = payload(vectors, total - total % SECTOR)
        offset = lba * self.block_size
        fua = cdb[0] in layout.VERIFYING or bool(cdb[0] >> 5 and cdb[1] & FUA)
        if write:
            return self._write(task, offset, length, vectors, fua=fua)
        return self._read(task, offset, length, vectors, fua=fua)

    def _read(
        self, task: Task, offset: int, length: int, vectors: Sequence[memoryview], *, fua: bool
    ) -> Reply:
        if fua:
            return self._read_stable(task, offset, length, vectors)
        if self.backend.read_now(((offset, vectors, length),)):
            task.sent = length
            return None
        return self._submit(task, Op.READ, offset, length, vectors)

    async def _read_stable(self, task: Task, offset: int, length: int, vectors: Sequence[memoryview]) -> None:
        await self.do(task, Op.FLUSH)
        await self.do(task, Op.READ, offset, length, vectors)
        task.sent = length

    def _write(
        self, task: Task, offset: int, length: int, vectors: Sequence[memoryview], *, fua: bool
    ) -> Reply:
        if not fua and self.backend.write_now(offset, vectors, length):
            task.received = length
            return None
        return self._submit(task, Op.WRITE, offset, length, vectors, Flags.FUA if fua else Flags.NONE)

    def _submit(
        self,
        task: Task,
        op: Op,
        offset: int,
        length: int,
        vectors: Sequence[memoryview],
        flags: Flags = Flags.NONE,
    ) -> Pending:
        request = TaskRequest(op, offset, length, vectors, flags, self._moved)
        request.task = task
        self.backend.submit(request)
        return PENDING

    def _moved(self, request: Request) -> None:
        """A READ or a WRITE has ended."""
        assert isinstance(request, TaskRequest)
        task = request.task
        if request.error:
            self._failed(task, request.error)
            return
        if request.op is Op.READ:
            task.sent = request.length
        else:
            task.received = request.length
        self._unit.finish(task)

    def _failed(self, task: Task, number: int) -> None:
        """Some errors are a status without sense data."""
        status = _STATUS_OF_ERRNO.get(number)
        if status is None:
            self._unit.fail(task, sense_of(number))
        else:
            task.status = status
            self._unit.finish(task)

    async def do(
        self,
        task: Task,
        op: Op,
        offset: int = 0,
        length: int = 0,
        vectors: Sequence[memoryview] = (),
        flags: Flags = Flags.NONE,
    ) -> None:
        """One request; CheckCondition where it fails."""
        request = TaskRequest(op, offset, length, vectors, flags, wake)
        request.task = task
        try:
            await self._unit.do(request)
        except CheckCondition:
            if request.error:
                raise CheckCondition(sense_of(request.error)) from None
            raise


def sense_of(number: int) -> Sense:
    """What a failure of the disk is to an initiator."""
    return _OF_ERRNO.get(number, IO_ERROR)


def sense_data(data: bytes, *, fixed: bool, instead: Sense | None = None) -> bytes:
    """Sense data that are kept, in the form asked for, or something else's."""
    if instead is None and data and fixed:
        return data
    if instead is None and data:
        code = int.from_bytes(data[12:14], "big")
        return bytes((0x72, data[2], code >> 8, code & 0xFF)) + bytes(4)
    return (instead or NO_SENSE).build(descriptors=not fixed)


def _nobody(cdb: bytes, wanted: int, lun: int | None) -> bytes:
    """INQUIRY of a unit that is not there."""
    if cdb[1] & 2 or (cdb[2] and not cdb[1] & 1):
        raise CheckCondition(INVALID_FIELD)
    if cdb[1] & 1:
        if cdb[2]:
            raise CheckCondition(INVALID_FIELD)
        return bytes((0, 0, 1, 0))[:wanted]
    size = min(wanted, 36)
    if lun:
        return bytes((0x7F,)).ljust(size, b"\0")[:size]
    head = bytes((0x3F, 0, 5, 0x12, (size - 5) & 0xFF, 0, 0, 0x12))
    return (head + b"QEMU    " + b"QEMU TARGET     " + b"2.5\0")[:size]
