"""The block requests that a task, or the disk itself, makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from devmodels.blockbackend import Flags, Op, Origin, Request
from devmodels.blockbackend.passthrough import PassthroughRequest
from devmodels.blockbackend.request import UpdateRequest
from devmodels.iocontext import Future
from devmodels.scsi.task import Task


def _origin(task: Task | None) -> Origin | None:
    """The unit, its LUN, and the task's tag."""
    if task is None or task.unit is None:
        return None
    return Origin(task.unit.name, task.unit.lun, task.tag)


class TaskRequest(Request):
    """A block request of `task`; None where the disk works for itself."""

    __slots__ = ("future", "over", "task")

    task: Task
    over: bool
    future: Future[None] | None

    @property
    def origin(self) -> Origin | None:
        """The unit, its LUN, and the task's tag."""
        return _origin(self.task)

    @property
    def buffer(self) -> tuple[int, int]:
        """That of the task."""
        return self.task.buffer


class TaskPassthrough(PassthroughRequest):
    """The command of `task`, handed on."""

    __slots__ = ("task",)

    task: Task

    @property
    def buffer(self) -> tuple[int, int]:
        """That of the task."""
        return self.task.buffer


class OwnRequest(Request):
    """A block request that goes on whatever becomes of the task that began it."""

    __slots__ = ("future", "over")

    POLICY = False
    buffer = (-1, -1)
    over: bool
    future: Future[None] | None


class LateFlush(Request):
    """A flush whose task is over."""

    __slots__ = ()

    buffer = (-1, -1)


class TaskUpdate(UpdateRequest):
    """An update of `task`."""

    __slots__ = ("future", "over", "task")

    task: Task
    over: bool
    future: Future[None] | None

    def __init__(
        self,
        task: Task,
        offset: int,
        length: int,
        change: Callable[[int, bytearray], bytes | bytearray | None],
        flags: Flags = Flags.NONE,
    ) -> None:
        super().__init__(offset, length, change, flags, wake)
        self.task = task

    @property
    def origin(self) -> Origin | None:
        """The unit, its LUN, and the task's tag."""
        return _origin(self.task)

    @property
    def buffer(self) -> tuple[int, int]:
        """That of the task."""
        return self.task.buffer


def wake(request: Request) -> None:
    """The `done` of a request that a coroutine waits for."""
    if TYPE_CHECKING:
        assert isinstance(request, TaskRequest | OwnRequest | TaskUpdate)
    request.over = True
    if request.future is not None:
        request.future.set_result(None)


def is_write(op: Op) -> bool:
    """Whether an error of `op` is one of writing."""
    return op not in (Op.READ, Op.BLOCK_STATUS)
