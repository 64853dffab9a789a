"""What a disk does to all of its medium at once: formatting, sanitizing (SBC-4 §4.10, §4.11).

It goes on by itself, whatever becomes of the command that began it; meanwhile all but a few other commands end with
NOT READY, and say how far it is.  One that did not end well, or that nobody saw end, leaves a medium that is not to be
read until another one has succeeded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from devmodels import logs
from devmodels.iocontext import Coro, Future
from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import Outcome, SenseKey, Status
from devmodels.scsi.nexus import Nexus
from devmodels.scsi.request import OwnRequest
from devmodels.scsi.sense import CheckCondition, Sense
from devmodels.scsi.table import Command
from devmodels.scsi.task import DORMANT, Countdown, Task

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk
    from devmodels.scsi.statefile import WholeFailure

logger = logs.logger(__name__)

WHOLE = 1 << 16
"""Progress is told in parts of this."""
SANITIZE_FAILED = Sense(SenseKey.MEDIUM_ERROR, Asc.SANITIZE_COMMAND_FAILED)
FORMAT_FAILED = Sense(SenseKey.MEDIUM_ERROR, Asc.FORMAT_COMMAND_FAILED)
FORMAT_CORRUPTED = Sense(SenseKey.MEDIUM_ERROR, Asc.MEDIUM_FORMAT_CORRUPTED)

_FORMAT_UNIT, _LOG_SENSE, _SANITIZE = 0x04, 0x4D, 0x48
_ALWAYS = frozenset((0x03, 0x12, 0xA0))
"""REQUEST SENSE, INQUIRY and REPORT LUNS, which are answered whatever is going on."""
_DURING = {
    Asc.FORMAT_IN_PROGRESS: _ALWAYS,
    Asc.SANITIZE_IN_PROGRESS: _ALWAYS | {_LOG_SENSE},
}
_LEFT: dict[WholeFailure, Sense | None] = {
    "": None,
    "sanitize": SANITIZE_FAILED,
    "format": FORMAT_CORRUPTED,
}
"""What commands for the medium end with afterwards."""
_MENDING: dict[WholeFailure, frozenset[int]] = {
    "": frozenset(),
    "sanitize": frozenset((_SANITIZE,)),
    "format": frozenset((_FORMAT_UNIT, _SANITIZE)),
}
"""Commands that may make good what is left."""


class Operation:
    """The one that runs, if any (`code` says which); `failure`: which one did not succeed, and left the medium so.

    `unrestricted`: whether such a failure may be left by EXIT FAILURE MODE (AUSE).
    """

    __slots__ = ("_on_end", "_waiting", "code", "done", "failure", "length", "unrestricted")

    def __init__(self) -> None:
        self.code: Asc | None = None
        self.done = 0
        self.length = 1
        self.failure: WholeFailure = ""
        self.unrestricted = False
        self._waiting: dict[Task, Future[Sense | None]] = {}
        self._on_end: list[Callable[[], None]] = []

    @property
    def running(self) -> bool:
        """Whether one runs."""
        return self.code is not None

    @property
    def guarded(self) -> bool:
        """Whether commands are refused."""
        return self.code is not None or bool(self.failure)

    @property
    def outlook(self) -> WholeFailure:
        """The failure that is left behind where nothing goes on from now."""
        if self.code is None:
            return self.failure
        return "sanitize" if self.code is Asc.SANITIZE_IN_PROGRESS else "format"

    def sense(self) -> Sense | None:
        """What goes on, or went wrong."""
        if self.code is not None:
            progress = min(WHOLE - 1, self.done * WHOLE // self.length)
            return Sense(SenseKey.NOT_READY, self.code, progress=progress)
        return _LEFT[self.failure]

    def refusal(self, command: Command[Any]) -> Sense | None:
        """What `command` ends with because of it; None where it may go on."""
        if self.code is not None:
            return None if command.opcode in _DURING[self.code] else self.sense()
        if command.ready and command.opcode not in _MENDING[self.failure]:
            return _LEFT[self.failure]
        return None

    async def keep(self, disk: Disk, failure: WholeFailure) -> None:
        """Have the state file say so, if there is one; OSError where that cannot be."""
        if disk.state is not None:
            await disk.state.keep(failure=failure, unrestricted=self.unrestricted)

    async def start(
        self,
        disk: Disk,
        task: Task,
        code: Asc,
        length: int,
        work: Callable[[], Coro[None]],
        *,
        unrestricted: bool = False,
    ) -> None:
        """End all other tasks, then begin `work` on `length` bytes, in the next turn: who wants to `wait` has time to.

        OSError where the state file cannot be written; then nothing was begun.
        """
        before = self.failure, self.unrestricted
        self.code = code
        self.unrestricted = unrestricted
        self.done = 0
        self.length = max(length, 1)
        disk.guard()
        try:
            await self._end_others(disk, task)
            await self.keep(disk, self.outlook)
        except OSError:
            self.code = None
            self.failure, self.unrestricted = before
            disk.guard()
            raise

        async def whole() -> None:
            self.go_on(disk)
            await work()
            await self.keep(disk, "")

        def over(_result: None, error: BaseException | None) -> None:
            self._over(disk, task.nexus, error)

        def begin() -> None:
            disk.turns.start(whole(), over)

        disk.turns.call_soon(begin)

    async def _end_others(self, disk: Disk, task: Task) -> None:
        """What was begun before has ended before anything is done to the medium (SBC-4 §4.11.2).

        Commands that have yet to begin, and that are answered meanwhile, stay.
        """
        assert self.code is not None
        during = _DURING[self.code]
        ended: Future[None] = Future(disk.context)
        left = Countdown(2, lambda: ended.set_result(None))

        def goes(each: Task) -> bool:
            waits = each.state is DORMANT or each in disk.tasks.startable
            return each is not task and not (waits and each.cdb and each.cdb[0] in during)

        others = disk.tasks.select(goes)
        disk.abort(others, Outcome.ABORTED, Status.CHECK_CONDITION, left.one, self.sense())
        disk.visits.send_off(disk, left.one)
        await ended

    def _over(self, disk: Disk, nexus: Nexus, error: BaseException | None) -> None:
        sense: Sense | None = None
        if error is not None:
            sense = SANITIZE_FAILED if self.code is Asc.SANITIZE_IN_PROGRESS else FORMAT_FAILED
            if not isinstance(error, CheckCondition | OSError):
                logger.error("%s: %s ended with %r", disk.name, self.code, error, exc_info=error)
        self.failure = "" if error is None else self.outlook
        self.code = None
        disk.guard()
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set_result(sense)
        ended, self._on_end = self._on_end, []
        for each in ended:
            each()
        if (
            sense is FORMAT_FAILED
            and not waiting
            and disk.target is not None
            and nexus in disk.target.nexuses
        ):
            disk.attentions.queue(nexus, msgspec.structs.replace(sense, deferred=True))

    @staticmethod
    def go_on(disk: Disk) -> None:
        """Between its pieces: CheckCondition where the disk is being taken out."""
        if disk.leaving:
            raise CheckCondition(Sense(SenseKey.ABORTED_COMMAND))

    async def wait(self, disk: Disk, task: Task) -> None:
        """Return when it is over, for the command that began it; CheckCondition where it failed."""
        if task.aborted:
            raise CheckCondition(Sense(SenseKey.ABORTED_COMMAND))
        future: Future[Sense | None] = Future(disk.context)
        self._waiting[task] = future
        sense = await future
        if sense is not None:
            raise CheckCondition(sense)

    def stop(self, disk: Disk, over: Callable[[], None]) -> None:
        """End it in the middle, which leaves a failure behind; `over` is called when nothing of it is going on."""
        if self.code is None:
            over()
            return
        self._on_end.append(over)
        disk.backend.cancel_held(lambda request: isinstance(request, OwnRequest))

    def let_go(self, wanted: Callable[[Task], bool]) -> None:
        """`wanted` tasks are aborted: they wait no longer, and it goes on."""
        for task in [each for each in self._waiting if wanted(each)]:
            self._waiting.pop(task).set_result(Sense(SenseKey.ABORTED_COMMAND))
