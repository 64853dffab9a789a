"""The task set of a logical unit: which task may begin, by the attributes of all (SAM-5 §8)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from devmodels.scsi.constants import TaskAttribute
from devmodels.scsi.nexus import Nexus
from devmodels.scsi.task import DORMANT, ENABLED, ENDED, Task

_SIMPLE = TaskAttribute.SIMPLE
_ORDERED = TaskAttribute.ORDERED
_HEAD = TaskAttribute.HEAD_OF_QUEUE


class TaskSet:
    """The tasks of one logical unit, in order of arrival; at most `limit`.  With `named` they can be found by tag.

    SIMPLE tasks run beside each other, after what is HEAD OF QUEUE and what is ORDERED before them; an ORDERED one runs
    when all before it are over; HEAD OF QUEUE begins at once.
    """

    __slots__ = ("_barriers", "_heads", "_names", "limit", "startable", "tasks")

    def __init__(self, limit: int, *, named: bool = False) -> None:
        self.limit = limit
        self._names: dict[tuple[Nexus, int], Task] | None = {} if named else None
        self.tasks: dict[Task, None] = {}
        self.startable: deque[Task] = deque()
        """Tasks that have become enabled and have not begun."""
        self._barriers = 0
        """How many are not SIMPLE: others may have to wait for them."""
        self._heads = 0

    def __len__(self) -> int:
        return len(self.tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(list(self.tasks))

    @property
    def full(self) -> bool:
        """Whether one more is answered with TASK SET FULL."""
        return len(self.tasks) >= self.limit

    @property
    def open(self) -> bool:
        """Whether a SIMPLE task would begin at once."""
        return not self._barriers and len(self.tasks) < self.limit

    def enter(self, task: Task) -> bool:
        """Take `task`; whether it begins now."""
        alone = not self.tasks
        self.tasks[task] = None
        if self._names is not None:
            self._names[task.nexus, task.tag] = task
        if task.attribute is _SIMPLE and not self._barriers:
            task.state = ENABLED
            return True
        if task.attribute is not _SIMPLE:
            self._barriers += 1
        if task.attribute is _HEAD:
            self._heads += 1
        elif not alone:
            return False
        task.state = ENABLED
        return True

    def leave(self, task: Task) -> None:
        """`task` is over; who waited for it becomes `startable`."""
        del self.tasks[task]
        task.state = ENDED
        names = self._names
        if names is not None and names.get((task.nexus, task.tag)) is task:
            del names[task.nexus, task.tag]
        if not self._barriers:
            return
        if task.attribute is not _SIMPLE:
            self._barriers -= 1
            self._heads -= task.attribute is _HEAD
        if self._heads:
            return
        for index, each in enumerate(self.tasks):
            ordered = each.attribute is _ORDERED
            if each.state is DORMANT and not (ordered and index):
                each.state = ENABLED
                self.startable.append(each)
            if ordered:
                break

    def overlaps(self, task: Task) -> bool:
        """Whether the set, which is `named`, has one of the same tag and nexus that has not been aborted."""
        other = self._names.get((task.nexus, task.tag)) if self._names else None
        return other is not None and not other.aborted

    def select(self, wanted: Callable[[Task], bool]) -> list[Task]:
        """Those that are `wanted`, in order."""
        return [task for task in self.tasks if wanted(task)]
