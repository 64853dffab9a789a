"""A task: one command on its way through a target (SAM-5 §5, §8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from devmodels.scsi.constants import Failure, Outcome, Status, TaskAttribute
from devmodels.scsi.nexus import Nexus

if TYPE_CHECKING:
    from devmodels.scsi.unit import LogicalUnit

DORMANT, ENABLED, ENDED = 0, 1, 2
"""The states of a task: waiting for others of its set, being processed, over (SAM-5 §8.5)."""


_COMPLETE, _GOOD = Outcome.COMPLETE, Status.GOOD
"""Names of the module: half the price of an enumeration's members, which counts here."""


class Task:
    """One command.

    `lun` as of `parse_lun`; `tag` identifies the command on its nexus; `cdb` may be longer than the command.
    `data_out` and `data_in` are the carrier's memoryviews of bytes, read and filled in place: what the initiator has
    given, and its room.  `done(task)` is called once, perhaps before `submit` returns.

    Then `outcome`, `status`, `sense` and `failure` say how it ended; `received` and `sent` how many bytes of
    `data_out` were taken and of `data_in` filled; `wanted` how many the command asks to have transferred, so that a
    residual is the difference to what the initiator expected: under where `wanted` is less, over where it is more.
    """

    whole = False
    """Whether a command that is given less than it asks for, or has less room than it may fill, changes nothing: the
    carrier will not deliver the rest."""

    __slots__ = (
        "aborted_by",
        "attribute",
        "cdb",
        "data_in",
        "data_out",
        "done",
        "failure",
        "lun",
        "nexus",
        "outcome",
        "priority",
        "received",
        "sense",
        "sent",
        "state",
        "status",
        "tag",
        "unit",
        "wanted",
    )

    def __init__(
        self,
        nexus: Nexus,
        lun: int | None,
        tag: int,
        cdb: bytes,
        done: Callable[[Task], None],
        *,
        data_out: Sequence[memoryview] = (),
        data_in: Sequence[memoryview] = (),
        attribute: TaskAttribute = TaskAttribute.SIMPLE,
        priority: int = 0,
    ) -> None:
        self.nexus = nexus
        self.lun = lun
        self.tag = tag
        self.cdb = cdb
        self.done = done
        self.data_out = data_out
        self.data_in = data_in
        self.attribute = attribute
        self.priority = priority
        self.outcome = _COMPLETE
        self.status = _GOOD
        self.sense = b""
        self.failure: Failure | None = None
        self.received = self.sent = self.wanted = 0
        self.state = DORMANT
        self.unit: LogicalUnit | None = None
        self.aborted_by: Abort | None = None

    @property
    def refused(self) -> bool:
        """Whether its carrier has something else to say of it than its status."""
        return False

    def overrun(self) -> None:
        """It has more data than its carrier knows of, or the other way."""

    @property
    def buffer(self) -> tuple[int, int]:
        """Queue and head of the buffer of a virtqueue that it came in; (-1, -1) where it came in none."""
        return -1, -1

    @property
    def aborted(self) -> bool:
        """Whether it only runs on because what it has begun cannot be taken back."""
        return self.aborted_by is not None

    def __repr__(self) -> str:
        return f"<Task {self.tag:#x} LUN {self.lun}: {self.cdb.hex(' ')}>"


class Countdown:
    """Calls `over` after the last of `left` things is done (`one`)."""

    __slots__ = ("left", "over")

    def __init__(self, left: int, over: Callable[[], None]) -> None:
        self.left = left
        self.over = over

    def one(self) -> None:
        """One of them is done."""
        self.left -= 1
        if not self.left:
            self.over()


class Abort:
    """What the initiators of tasks that were ended before their time hear, and who waits until all have ended."""

    __slots__ = ("later", "left", "outcome", "sense", "status")

    def __init__(self, outcome: Outcome, status: Status, left: Countdown, sense: bytes = b"") -> None:
        self.later: list[tuple[Task, Countdown]] = []
        """Who would have ended one of the tasks afterwards, and waits for it, too."""
        self.outcome = outcome
        self.status = status
        self.left = left
        self.sense = sense

    def ended(self, task: Task) -> None:
        """One of the tasks has ended."""
        self.left.one()
        for each, left in self.later:
            if each is task:
                left.one()
