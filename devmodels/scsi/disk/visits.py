"""Tasks of other units that work on a disk: copies (SPC-4 §5.16).

They are in another task set, so that whoever ends all work on the disk, or on their unit, has to look here as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from operator import is_
from typing import TYPE_CHECKING

from devmodels.scsi.request import TaskRequest
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk


class Visits:
    """Those of one disk: `guests` work on it for other units, `away` are its own at work on other disks."""

    __slots__ = ("_left", "away", "guests")

    def __init__(self) -> None:
        self.guests: set[Task] = set()
        self.away: dict[Task, list[Disk]] = {}
        self._left: list[Callable[[], None]] = []

    def send_off(self, disk: Disk, over: Callable[[], None]) -> None:
        """What guests have not begun on `disk` is dropped; `over` is called when none of them is there any more."""
        if not self.guests:
            over()
            return
        self._left.append(over)
        cancel(disk, self.guests.__contains__)

    def cancel_away(self, wanted: Callable[[Task], bool]) -> None:
        """What `wanted` tasks have not begun on other disks is dropped."""
        for task, disks in list(self.away.items()):
            if wanted(task):
                for disk in disks:
                    cancel(disk, partial(is_, task))

    def leave(self, task: Task) -> None:
        """A guest is gone."""
        self.guests.discard(task)
        if not self.guests:
            left, self._left = self._left, []
            for over in left:
                over()


def cancel(disk: Disk, wanted: Callable[[Task], bool]) -> None:
    """Requests of `wanted` tasks that have not started at `disk` end with ECANCELED."""
    disk.backend.cancel_held(lambda request: isinstance(request, TaskRequest) and wanted(request.task))


@contextmanager
def visiting(disk: Disk, task: Task, disks: Iterable[Disk]) -> Iterator[None]:
    """`with visiting(...):` a task of `disk` works on these."""
    others = [each for each in dict.fromkeys(disks) if each is not disk]
    disk.visits.away[task] = others
    for each in others:
        each.visits.guests.add(task)
    try:
        yield
    finally:
        del disk.visits.away[task]
        for each in others:
            each.visits.leave(task)
