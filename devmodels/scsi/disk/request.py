"""The block requests that a task makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.blockbackend import Origin, Request
from devmodels.iocontext import Future
from devmodels.scsi.task import Task


class TaskRequest(Request):
    """A block request of a task; `over` and `future` are for a coroutine that waits for it."""

    __slots__ = ("future", "over", "task")

    task: Task
    over: bool
    future: Future[None] | None

    @property
    def origin(self) -> Origin:
        """The unit, its LUN, and the task's tag."""
        unit = self.task.unit
        assert unit is not None
        return Origin(unit.name, unit.lun, self.task.tag)


def wake(request: Request) -> None:
    """The `done` of a request that a coroutine waits for."""
    if TYPE_CHECKING:
        assert isinstance(request, TaskRequest)
    request.over = True
    if request.future is not None:
        request.future.set_result(None)
