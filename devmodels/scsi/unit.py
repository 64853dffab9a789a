"""A logical unit: its task set, its unit attentions, and the way of a command from its CDB to its status.

    submit → task set → unit attention, reservations, the table of commands → handler → finish → task.done

What a kind of unit can do is in its table (`commands`); this knows none of them.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from devmodels.blockbackend.vectors import window
from devmodels.conformance import ViolationLog
from devmodels.iocontext import Cancelled, IoContext
from devmodels.scsi.asc import Asc
from devmodels.scsi.attentions import Attentions
from devmodels.scsi.constants import Outcome, SenseKey, Status, TaskAttribute
from devmodels.scsi.failures import sense_of_errno
from devmodels.scsi.fields import Fields
from devmodels.scsi.nexus import Nexus
from devmodels.scsi.sense import CheckCondition, Conflict, FieldPointer, Sense
from devmodels.scsi.table import PENDING, Command, Data, Pending, Reply
from devmodels.scsi.task import DORMANT, Abort, Countdown, Task
from devmodels.scsi.taskset import TaskSet

if TYPE_CHECKING:
    from devmodels.scsi.target import ScsiTarget

logger = logging.getLogger(__name__)

_GOOD = Status.GOOD
_NO_FIELDS: Fields = {}
_ACTION_MASK = 0x1F

OPCODE_NOT_SUPPORTED = Sense(SenseKey.ILLEGAL_REQUEST, Asc.INVALID_COMMAND_OPERATION_CODE, FieldPointer(0))
ACTION_NOT_SUPPORTED = Sense(SenseKey.ILLEGAL_REQUEST, Asc.INVALID_FIELD_IN_CDB, FieldPointer(1, 4))


class _Entry:
    """A command as the dispatch needs it; for an opcode with service actions, those."""

    __slots__ = ("actions", "command", "forbidden", "handler", "size", "unpack")

    def __init__(self, command: Command[Any], *, strict: bool, absent: Sequence[str]) -> None:
        self.command = command
        self.handler = command.handler
        self.size = command.layout.size
        self.forbidden = command.forbidden(strict=strict, absent=absent)
        self.unpack = None if command.raw else command.layout.unpack
        self.actions: dict[int, _Entry] | None = None


@cache
def _dispatch_table(
    commands: tuple[Command[Any], ...], *, strict: bool, absent: tuple[str, ...]
) -> list[_Entry | None]:
    """By opcode; units of one kind share it."""
    table: list[_Entry | None] = [None] * 256
    for command in commands:
        entry = _Entry(command, strict=strict, absent=absent)
        if command.action is None:
            table[command.opcode] = entry
            continue
        first = table[command.opcode]
        if first is None:
            table[command.opcode] = first = _Entry(command, strict=strict, absent=absent)
            first.actions = {}
        assert first.actions is not None
        first.actions[command.action] = entry
    return table


class LogicalUnit:
    """One logical unit.  `commands`, given by each kind, is what it can do; `absent_fields` are those of CDBs that this
    unit refuses.

    `queue_depth`: how many tasks it takes before it answers TASK SET FULL.  `violations`: where what an initiator does
    wrong is reported, with the profile that says how much is demanded.
    """

    commands: Sequence[Command[Any]] = ()
    absent_fields: Sequence[str] = ()

    def __init__(
        self,
        context: IoContext,
        *,
        name: str = "",
        violations: ViolationLog | None = None,
        queue_depth: int = 256,
    ) -> None:
        self.context = context
        self.name = name
        self.violations = ViolationLog() if violations is None else violations
        self.attentions = Attentions()
        self.tasks = TaskSet(queue_depth)
        self.target: ScsiTarget | None = None
        self.lun = 0
        self._table = _dispatch_table(
            tuple(self.commands), strict=self.violations.strict, absent=tuple(self.absent_fields)
        )
        self._starting = False
        self.guarded = True
        """Whether commands have to be checked (`check_access`) against more than the table."""

    # --- what a kind of unit may say

    @property
    def descriptor_sense(self) -> bool:
        """Whether sense data comes in the descriptor format (D_SENSE of the control mode page)."""
        return False

    def inquiry_data(self) -> bytes:
        """Standard INQUIRY data."""
        raise NotImplementedError

    def vital_product_data(self, page: int, task: Task) -> bytes | None:  # noqa: ARG002
        """A page of vital product data; None where there is none of that number."""
        return None

    def progress_sense(self) -> Sense | None:
        """What goes on in the unit, for REQUEST SENSE (SPC-4 §6.39); None where nothing does."""
        return None

    def check_ready(self) -> None:
        """Raise `CheckCondition` where the unit is not ready for TEST UNIT READY."""

    def aborted_status(self) -> Status:
        """What the initiator of a task hears that another one has ended: TASK ABORTED with TAS, else nothing."""
        return Status.GOOD

    def opcode_unknown(self) -> Sense:
        """What is wrong with an operation code that is not in the table."""
        return OPCODE_NOT_SUPPORTED

    def check_access(self, task: Task, command: Command[Any]) -> None:
        """Raise `Conflict` where a reservation of another nexus forbids `command`, `CheckCondition` where the unit is
        not ready for it.  Called while the unit is `guarded`."""

    def cancel_requests(self, wanted: Callable[[Task], bool]) -> None:
        """End what has been begun for `wanted` tasks and can still be taken back."""

    def batch(self) -> AbstractContextManager[None]:
        """`with unit.batch():` what tasks that are submitted have to do begins at its end, neighbours together."""
        return nullcontext()

    def activate(self) -> None:
        """A carrier begins to work; OSError where somebody else's use of what the unit needs rules that out."""

    async def inactivate(self) -> None:
        """The carrier rests, all tasks are done: leave what others may want."""

    def was_reset(self) -> None:
        """All tasks have been told to end; put everything back that a logical unit reset puts back (SAM-5 §6.3.3)."""

    def nexus_lost(self, nexus: Nexus) -> None:
        """`nexus` is gone: what it held and what it had yet to be told goes with it (SAM-5 §6.3.4)."""
        self.attentions.forget(nexus)

    # --- one command

    def submit(self, task: Task) -> None:
        """Take `task`.  It ends with `task.done`, perhaps before this returns."""
        task.unit = self
        if self.tasks.full:
            # Whose tasks have no part in that is told BUSY: no end of one would say when to try again (SAM-5 §5.3.1).
            mine = any(each.nexus is task.nexus for each in self.tasks.tasks)
            self._refuse(task, Status.TASK_SET_FULL if mine else Status.BUSY)
        elif task.attribute is TaskAttribute.ACA:
            # There is never an auto contingent allegiance here (SAM-5 §8.6.5).
            sense = Sense(SenseKey.ILLEGAL_REQUEST, Asc.INVALID_MESSAGE_ERROR)
            self._refuse(task, Status.CHECK_CONDITION, sense)
        elif self.tasks.enter(task):
            self._begin(task)

    def _refuse(self, task: Task, status: Status, sense: Sense | None = None) -> None:
        """End a task that has not entered the set."""
        task.status = status
        if sense is not None:
            task.sense = sense.build(descriptors=self.descriptor_sense)
        task.done(task)

    def _begin(self, task: Task) -> None:
        """Process an enabled task."""
        try:
            reply = self._process(task)
        except CheckCondition as stop:
            self.fail(task, stop.sense)
        except Conflict:
            task.status = Status.RESERVATION_CONFLICT
            self.finish(task)
        except Exception as error:
            self.failed(task, error)
        else:
            if reply is not PENDING:
                self._conclude(task, reply)

    def _find(self, cdb: bytes) -> _Entry:
        """The entry for a CDB."""
        entry = self._table[cdb[0]] if cdb else None
        if entry is None:
            raise CheckCondition(self.opcode_unknown())
        if entry.actions is not None:
            entry = entry.actions.get(cdb[1] & _ACTION_MASK) if len(cdb) > 1 else None
            if entry is None:
                raise CheckCondition(ACTION_NOT_SUPPORTED)
        return entry

    def _process(self, task: Task) -> Reply:
        """Look at the CDB and hand it on."""
        cdb = task.cdb
        entry = self._find(cdb)
        command = entry.command
        if self.attentions.pending and command.attention:
            condition = self.attentions.take(task.nexus)
            if condition is not None:
                raise CheckCondition(condition)
        if self.guarded:
            self.check_access(task, command)
        size = entry.size
        if len(cdb) < size:
            self._violation(task, "SPC-4 §4.2.5.1", f"{command.name} with a CDB of {len(cdb)} bytes")
            raise CheckCondition(
                Sense(SenseKey.ILLEGAL_REQUEST, Asc.INVALID_FIELD_IN_CDB, FieldPointer(len(cdb)))
            )
        wrong = int.from_bytes(cdb[:size], "big") & entry.forbidden
        if wrong:
            self._wrong_bits(task, command, wrong)
        fields = _NO_FIELDS if entry.unpack is None else entry.unpack(cdb)
        return entry.handler(self, task, fields)

    def _wrong_bits(self, task: Task, command: Command[Any], wrong: int) -> None:
        """Bits that must be 0 are not; the first of them is pointed at."""
        highest = wrong.bit_length() - 1
        byte = command.layout.size - 1 - highest // 8
        self._violation(task, "SPC-4 §4.2.5.1", f"{command.name}: byte {byte} is {task.cdb[byte]:#04x}")
        pointer = FieldPointer(byte, highest % 8)
        raise CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, Asc.INVALID_FIELD_IN_CDB, pointer))

    def _violation(self, task: Task, clause: str, summary: str) -> None:
        self.violations.report(clause, summary, f"{self.name} LUN {self.lun} tag {task.tag:#x}", task.cdb)

    def _conclude(self, task: Task, reply: Reply) -> None:
        """What a handler has returned."""
        if reply is None:
            self.finish(task)
        elif isinstance(reply, bytes | bytearray):
            self.answer(task, reply)
            self.finish(task)
        else:
            assert not isinstance(reply, Pending)
            self.context.start(reply, partial(self._ended, task))

    def _ended(self, task: Task, result: bytes | None, error: BaseException | None) -> None:
        """A handler's coroutine is over."""
        if error is None:
            self._conclude(task, result)
        elif isinstance(error, CheckCondition):
            self.fail(task, error.sense)
        elif isinstance(error, Conflict):
            task.status = Status.RESERVATION_CONFLICT
            self.finish(task)
        else:
            self.failed(task, error)

    def answer(self, task: Task, data: bytes | bytearray) -> None:
        """Send `data` to the initiator, cut to the CDB's allocation length and to its room."""
        command = self._find(task.cdb).command
        length = len(data)
        if command.data is Data.IN and command.length:
            place = command.layout.places[command.length]
            allocation = int.from_bytes(task.cdb[place.offset : place.offset + place.size], "big")
            length = min(length, allocation >> place.shift & (1 << place.width) - 1)
        task.wanted = length
        done = 0
        for view in task.data_in:
            if done == length:
                break
            part = data[done : min(length, done + len(view))]
            view[: len(part)] = part
            done += len(part)
        task.sent = done

    def parameters(self, task: Task, length: int) -> bytes:
        """The parameter list of `length` bytes, copied out once; PARAMETER LIST LENGTH ERROR where there is less."""
        task.wanted = length
        data = b"".join(window(task.data_out, 0, length)) if length else b""
        task.received = len(data)
        if len(data) < length:
            raise CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, Asc.PARAMETER_LIST_LENGTH_ERROR))
        return data

    # --- its end

    def fail(self, task: Task, sense: Sense) -> None:
        """End `task` with CHECK CONDITION."""
        task.status = Status.CHECK_CONDITION
        task.sense = sense.build(descriptors=self.descriptor_sense)
        task.failure = sense.failure
        self.finish(task)

    def failed(self, task: Task, error: BaseException) -> None:
        """End `task`, because `error` was raised."""
        if isinstance(error, OSError):
            self.fail(task, sense_of_errno(error.errno or errno.EIO))
        elif isinstance(error, Cancelled):
            self.fail(task, Sense(SenseKey.ABORTED_COMMAND))
        else:
            logger.error(
                "%s: %r ended with %s: %s", self.name, task, type(error).__name__, error, exc_info=error
            )
            self.fail(task, Sense(SenseKey.HARDWARE_ERROR, Asc.INTERNAL_TARGET_FAILURE))

    def finish(self, task: Task) -> None:
        """`task` is over, its status is set: it leaves the set, its carrier hears of it, others begin."""
        tasks = self.tasks
        tasks.leave(task)
        abort = task.aborted_by
        if abort is None:
            task.done(task)
        else:
            self._finish_aborted(task, abort)
        if tasks.startable and not self._starting:
            self._start_others()

    def _start_others(self) -> None:
        """Begin what waited, one after the other and not one within the other."""
        startable = self.tasks.startable
        self._starting = True
        try:
            while startable:
                task = startable.popleft()
                if task in self.tasks.tasks:
                    if task.aborted_by is not None:
                        self.finish(task)
                    else:
                        self._begin(task)
        finally:
            self._starting = False

    # --- aborting

    def abort(
        self, tasks: Iterable[Task], outcome: Outcome, status: Status, over: Callable[[], None]
    ) -> None:
        """End `tasks` before their time, and call `over` when they have ended.

        What has not begun ends at once; what cannot be taken back runs to its end, which nobody hears of.  Their
        `outcome` is as given, and their `status`, unless it is GOOD, is sent with COMPLETE as outcome.
        """
        chosen = [task for task in tasks if task.aborted_by is None and task in self.tasks.tasks]
        abort = Abort(outcome, status, Countdown(len(chosen) + 1, over))
        for task in chosen:
            task.aborted_by = abort
        running = {task for task in chosen if task.state is not DORMANT}
        for task in chosen:
            if task.state is DORMANT:
                self.finish(task)
        if running:
            self.cancel_requests(running.__contains__)
        abort.left.one()

    def _finish_aborted(self, task: Task, abort: Abort) -> None:
        task.outcome = abort.outcome
        task.status = abort.status
        task.sense = b""
        task.failure = None
        if task.status is not _GOOD:
            task.outcome = Outcome.COMPLETE
        task.done(task)
        abort.left.one()

    def reset(self, over: Callable[[], None], code: Asc = Asc.BUS_DEVICE_RESET) -> None:
        """A logical unit reset: every task ends, everything is as after power on, every nexus is told (by `code`)."""
        self.abort(self.tasks, Outcome.RESET, _GOOD, over)
        self.was_reset()
        self.establish(code)

    def clear_tasks(self, nexus: Nexus, over: Callable[[], None]) -> None:
        """CLEAR TASK SET by `nexus`: the tasks of all nexuses end, the others are told (SAM-5 §7.5)."""
        both = Countdown(2, over)
        others = self.tasks.select(lambda task: task.nexus is not nexus)
        self.abort(self.tasks.select(lambda task: task.nexus is nexus), Outcome.ABORTED, _GOOD, both.one)
        self.abort_others(others, both.one)

    def abort_others(self, tasks: Sequence[Task], over: Callable[[], None]) -> None:
        """End tasks on behalf of another nexus: theirs are told by a status, or by a unit attention (SAM-5 §5.6)."""
        status = self.aborted_status()
        if status is _GOOD:
            told = {task.nexus: None for task in tasks}
            self.establish_at(told, Asc.COMMANDS_CLEARED_BY_ANOTHER_INITIATOR)
        self.abort(tasks, Outcome.ABORTED, status, over)

    # --- telling the initiators

    def establish(self, code: Asc, *, but: Nexus | None = None) -> None:
        """A unit attention condition for every nexus, `but` for the one that knows already."""
        self.establish_at(self.nexuses(but=but), code)

    def establish_at(self, nexuses: Iterable[Nexus], code: Asc) -> None:
        """A unit attention condition for some nexuses."""
        told = list(nexuses)
        if told:
            self.attentions.establish(told, code)
            if self.target is not None:
                self.target.announce(self, code)

    def nexuses(self, *, but: Nexus | None = None) -> list[Nexus]:
        """Who is connected, `but` for one."""
        return [] if self.target is None else [each for each in self.target.nexuses if each is not but]
