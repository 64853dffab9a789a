"""What a disk does to all of its medium at once: formatting, sanitizing (SBC-4 §4.10, §4.11).

It goes on by itself, whatever becomes of the command that began it; meanwhile other commands for the medium end with
NOT READY, and say how far it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from devmodels.iocontext import Coro, Future
from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import SenseKey
from devmodels.scsi.sense import CheckCondition, Sense
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk

logger = logging.getLogger(__name__)

WHOLE = 1 << 16
"""Progress is told in parts of this."""
SANITIZE_FAILED = Sense(SenseKey.MEDIUM_ERROR, Asc.SANITIZE_COMMAND_FAILED)
FORMAT_FAILED = Sense(SenseKey.MEDIUM_ERROR, Asc.FORMAT_COMMAND_FAILED)


class Operation:
    """The one that runs, if any (`code` says which); `failed`: a sanitize operation that did not succeed.

    `unrestricted`: whether such a failure may be left by EXIT FAILURE MODE (AUSE).
    """

    __slots__ = ("_waiting", "code", "done", "failed", "length", "unrestricted")

    def __init__(self) -> None:
        self.code: Asc | None = None
        self.done = 0
        self.length = 1
        self.failed = False
        self.unrestricted = False
        self._waiting: dict[Task, Future[Sense | None]] = {}

    @property
    def running(self) -> bool:
        """Whether one runs."""
        return self.code is not None

    @property
    def guarded(self) -> bool:
        """Whether commands for the medium are refused."""
        return self.code is not None or self.failed

    def sense(self) -> Sense | None:
        """What goes on, or went wrong."""
        if self.code is not None:
            progress = min(WHOLE - 1, self.done * WHOLE // self.length)
            return Sense(SenseKey.NOT_READY, self.code, progress=progress)
        return SANITIZE_FAILED if self.failed else None

    def start(self, disk: Disk, code: Asc, length: int, work: Callable[[], Coro[None]]) -> None:
        """Begin `work` on `length` bytes, in the next turn: who wants to `wait` has time to."""
        self.code = code
        self.done = 0
        self.length = max(length, 1)
        disk.guard()

        def over(_result: None, error: BaseException | None) -> None:
            self._over(disk, error)

        def begin() -> None:
            disk.turns.start(work(), over)

        disk.turns.call_soon(begin)

    def _over(self, disk: Disk, error: BaseException | None) -> None:
        sense: Sense | None = None
        if error is not None:
            sense = SANITIZE_FAILED if self.code is Asc.SANITIZE_IN_PROGRESS else FORMAT_FAILED
            if not isinstance(error, CheckCondition):
                logger.error("%s: %s ended with %r", disk.name, self.code, error, exc_info=error)
        self.failed = sense is SANITIZE_FAILED
        self.code = None
        disk.guard()
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set_result(sense)

    async def wait(self, disk: Disk, task: Task) -> None:
        """Return when it is over, for the command that began it; CheckCondition where it failed."""
        future: Future[Sense | None] = Future(disk.context)
        self._waiting[task] = future
        sense = await future
        if sense is not None:
            raise CheckCondition(sense)

    def let_go(self, wanted: Callable[[Task], bool]) -> None:
        """`wanted` tasks are aborted: they wait no longer, and it goes on."""
        for task in [each for each in self._waiting if wanted(each)]:
            self._waiting.pop(task).set_result(Sense(SenseKey.ABORTED_COMMAND))
