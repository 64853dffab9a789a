"""A logical unit: its task set, its unit attentions, and the way of a command from its CDB to its status.

    submit → task set → unit attention, reservations, the table of commands → handler → finish → task.done

What a kind of unit can do is in its table (`commands`); this knows none of them.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import msgspec

from devmodels import logs
from devmodels.blockbackend.vectors import window
from devmodels.conformance import ViolationLog
from devmodels.iocontext import Cancelled, IoContext, Turns
from devmodels.scsi.asc import RESET_OR_LOSS, Asc
from devmodels.scsi.attentions import Attentions
from devmodels.scsi.constants import Outcome, SenseKey, Status, TaskAttribute
from devmodels.scsi.dispatch import Entry, dispatch_table
from devmodels.scsi.failures import sense_of_errno
from devmodels.scsi.fields import Fields
from devmodels.scsi.kind import ALL_TASKS, INTERLOCK_STATUS, UnitFront, UnitKind
from devmodels.scsi.nexus import Nexus
from devmodels.scsi.sense import CheckCondition, Conflict, FieldPointer, Sense
from devmodels.scsi.table import PENDING, Command, Data, Pending, Reply
from devmodels.scsi.task import DORMANT, Abort, Countdown, Task
from devmodels.scsi.taskset import TaskSet
from devmodels.scsi.unitstate import SenseState, UnitState, decode, restored_senses, save_senses

if TYPE_CHECKING:
    from devmodels.scsi.target import ScsiTarget
    from devmodels.trace import Tracer

logger = logs.logger(__name__)

_GOOD = Status.GOOD
_NO_FIELDS: Fields = {}
_ACTION_MASK = 0x1F
_INQUIRY = 0x12

ACTION_NOT_SUPPORTED = Sense(SenseKey.ILLEGAL_REQUEST, Asc.INVALID_FIELD_IN_CDB, FieldPointer(1, 4))
OVERLAPPED = Sense(SenseKey.ABORTED_COMMAND, Asc.OVERLAPPED_COMMANDS_ATTEMPTED)
_PREVIOUS = {
    Status.BUSY: Asc.PREVIOUS_BUSY_STATUS,
    Status.TASK_SET_FULL: Asc.PREVIOUS_TASK_SET_FULL_STATUS,
    Status.RESERVATION_CONFLICT: Asc.PREVIOUS_RESERVATION_CONFLICT_STATUS,
}
"""What is told later of a status."""


class LogicalUnit(UnitKind):
    """One logical unit.

    `queue_depth`: how many tasks it takes before it answers TASK SET FULL.  `violations`: where what an initiator does
    wrong is reported, with the profile that says how much is demanded.
    """

    def __init__(
        self,
        context: IoContext,
        *,
        name: str = "",
        violations: ViolationLog | None = None,
        queue_depth: int = 256,
    ) -> None:
        self.context = context
        self.turns = Turns(context)
        """Where it goes on with what takes time."""
        self.name = name
        self.violations = ViolationLog() if violations is None else violations
        self.attentions = Attentions()
        self._strict = self.violations.strict
        self.tasks = TaskSet(queue_depth, named=self._strict)
        self.target: ScsiTarget | None = None
        self.lun = 0
        self._starting = False
        self.front: UnitFront | None = None
        self.guarded = True
        """Whether commands have to be checked (`check_access`) against more than the table."""

    @cached_property
    def _table(self) -> list[Entry | None]:
        """By opcode; made when the first command comes."""
        return dispatch_table(tuple(self.commands), strict=self._strict, absent=tuple(self.absent_fields))

    def observe(self, trace: Tracer | None) -> None:
        """Give `trace` what becomes of commands in between; None: no more."""
        self.turns.trace = trace

    # --- snapshots: of a unit whose one initiator is the driver of a machine

    def save(self, nexus: Nexus) -> bytes:
        """What it knows beyond its medium, its tasks left out."""
        return msgspec.msgpack.encode(UnitState(attentions=self.save_attentions(nexus)))

    def judge(self, data: bytes) -> None:
        """ValueError where that is not what `save` of such a unit gave."""
        decode(data, UnitState)

    def restore(self, nexus: Nexus, data: bytes) -> None:
        """Be as `data` says, which `judge` has found to be possible."""
        self.restore_attentions(nexus, decode(data, UnitState).attentions)

    def save_attentions(self, nexus: Nexus) -> list[SenseState]:
        """What `nexus` has yet to be told."""
        return save_senses(self.attentions.of(nexus))

    def restore_attentions(self, nexus: Nexus, states: Iterable[SenseState]) -> None:
        """`nexus` has this to be told and nothing else."""
        self.attentions.forget(nexus)
        for sense in restored_senses(states):
            self.attentions.queue(nexus, sense)

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
        elif self._strict and self.tasks.overlaps(task):
            self._overlap(task)
        elif self.tasks.enter(task):
            self._begin(task)

    def _overlap(self, task: Task) -> None:
        """`task` has the tag of another one: neither that nor any other of its nexus goes on (SAM-5 §5.11)."""
        self._violation(task, "SAM-5 §5.11", f"tag {task.tag:#x} is in use")
        mine = self.tasks.select(lambda each: each.nexus is task.nexus)
        self.abort(mine, Outcome.ABORTED, _GOOD, _nothing)
        self._refuse(task, Status.CHECK_CONDITION, OVERLAPPED)

    def _refuse(self, task: Task, status: Status, sense: Sense | None = None) -> None:
        """End a task that has not entered the set."""
        task.status = status
        self._remember(task)
        if sense is not None:
            task.sense = sense.build(descriptors=self.descriptor_sense)
        task.done(task)

    def _begin(self, task: Task) -> None:
        """Process an enabled task."""
        try:
            reply = self._process(task) if self.front is None else self.front.process(task)
        except CheckCondition as stop:
            self.fail(task, stop.sense)
        except Conflict:
            self._conflict(task)
        except Exception as error:
            self.failed(task, error)
        else:
            if reply is not PENDING:
                self._conclude(task, reply)

    def _find(self, cdb: bytes) -> Entry:
        """The entry for a CDB."""
        entry = self._table[cdb[0]] if cdb else None
        if entry is None:
            raise CheckCondition(self.opcode_unknown(cdb))
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
            self._tell_attention(task.nexus, command)
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
        if entry.allocates and task.whole and fields["allocation_length"] > sum(map(len, task.data_in)):
            task.wanted = fields["allocation_length"]
            return None
        return entry.handler(self, task, fields)

    def _tell_attention(self, nexus: Nexus, command: Command[Any]) -> None:
        """CheckCondition with what `nexus` has yet to be told; a reservation's conflict comes before most of it
        (SAM-5 §5.3.3)."""
        condition = self.attentions.first(nexus)
        if condition is None:
            return
        if self.guarded and condition.code >> 8 != RESET_OR_LOSS:
            self.check_reservation(nexus, command.access)
        if not self.interlock:
            self.attentions.take(nexus)
        raise CheckCondition(condition)

    def _wrong_bits(self, task: Task, command: Command[Any], wrong: int) -> None:
        """Bits that must be 0 are not; the first of them is pointed at.

        Hosts that do not know yet of what level a unit is have its number in byte 1 of INQUIRY, as in SCSI-2 §7.2.2:
        that is reported, and answered, as nobody has to look at reserved bits (SPC-4 §3.3.10).
        """
        size = command.layout.size
        highest = wrong.bit_length() - 1
        byte = size - 1 - highest // 8
        self._violation(task, "SPC-4 §4.2.5.1", f"{command.name}: byte {byte} is {task.cdb[byte]:#04x}")
        if command.opcode == _INQUIRY and wrong == ((task.lun or 0) & 7) << 8 * (size - 2) + 5:
            return
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
            self.turns.start(reply, partial(self._ended, task))

    def _ended(self, task: Task, result: bytes | None, error: BaseException | None) -> None:
        """A handler's coroutine is over."""
        if error is None:
            self._conclude(task, result)
        elif isinstance(error, CheckCondition):
            self.fail(task, error.sense)
        elif isinstance(error, Conflict):
            self._conflict(task)
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
        """End `task` with CHECK CONDITION, and with QERR others, too."""
        task.status = Status.CHECK_CONDITION
        task.sense = sense.build(descriptors=self.descriptor_sense)
        task.failure = sense.failure
        if self.queue_error and task.aborted_by is None:
            self._end_others(task)
        self.finish(task)

    def _end_others(self, task: Task) -> None:
        """End the tasks that QERR ends with `task`; the initiators of others are told (SAM-5 §5.6)."""
        own = self.tasks.select(lambda each: each.nexus is task.nexus and each is not task)
        if self.queue_error == ALL_TASKS:
            self.abort_others(self.tasks.select(lambda each: each.nexus is not task.nexus), _nothing)
        self.abort(own, Outcome.ABORTED, _GOOD, _nothing)

    def _conflict(self, task: Task) -> None:
        """End `task` with RESERVATION CONFLICT."""
        task.status = Status.RESERVATION_CONFLICT
        self._remember(task)
        self.finish(task)

    def _remember(self, task: Task) -> None:
        """With UA_INTLCK_CTRL, a status that has no sense data leaves a unit attention condition behind."""
        if self.interlock == INTERLOCK_STATUS and task.status in _PREVIOUS:
            self.attentions.establish((task.nexus,), _PREVIOUS[task.status])

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
        if self.front is not None:
            self.front.ended(task)
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
        self,
        tasks: Iterable[Task],
        outcome: Outcome,
        status: Status,
        over: Callable[[], None],
        sense: Sense | None = None,
    ) -> None:
        """End `tasks` before their time, and call `over` when they have ended.

        What has not begun ends at once; what cannot be taken back runs to its end, which nobody hears of; what
        something else has ended already, and runs on, is waited for all the same.  Their
        `outcome` is as given, and their `status`, unless it is GOOD, is sent with COMPLETE as outcome; `sense` with it.
        """
        there = [task for task in tasks if task in self.tasks.tasks]
        left = Countdown(len(there) + 1, over)
        data = b"" if sense is None else sense.build(descriptors=self.descriptor_sense)
        abort = Abort(outcome, status, left, data)
        chosen: list[Task] = []
        for task in there:
            if task.aborted_by is not None:
                task.aborted_by.later.append((task, left))
                continue
            chosen.append(task)
            task.aborted_by = abort
        running = {task for task in chosen if task.state is not DORMANT}
        for task in chosen:
            if task.state is DORMANT:
                self.finish(task)
        if running:
            self.cancel_requests(running.__contains__)
        left.one()

    def _finish_aborted(self, task: Task, abort: Abort) -> None:
        task.outcome = abort.outcome
        task.status = abort.status
        task.sense = abort.sense
        task.failure = None
        if task.status is not _GOOD:
            task.outcome = Outcome.COMPLETE
        task.done(task)
        abort.ended(task)

    def reset(self, over: Callable[[], None], code: Asc = Asc.BUS_DEVICE_RESET) -> None:
        """A logical unit reset: every task ends, everything is as after power on, every nexus is told (by `code`)."""
        self.abort(self.tasks, Outcome.RESET, _GOOD, over)
        self.was_reset()
        if self.front is not None:
            self.front.was_reset()
        self.establish(code)

    def leave(self, over: Callable[[], None]) -> None:
        """The unit is taken out of its target: its tasks end, then `over` is called."""
        self.abort(self.tasks, Outcome.RESET, _GOOD, over)

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


def _nothing() -> None:
    pass
