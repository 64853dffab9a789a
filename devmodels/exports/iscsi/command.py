"""A SCSI command between its initiator and the core (RFC 7143 §11.3, SAM-5 §5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from devmodels.exports.iscsi import answers
from devmodels.exports.iscsi.buffers import SMALL
from devmodels.exports.iscsi.gathering import Gathering
from devmodels.exports.iscsi.session import MAX_TRANSFER
from devmodels.scsi.constants import Outcome, SenseKey, Status, TaskAttribute
from devmodels.scsi.sense import Sense
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.exports.iscsi.connection import Connection
    from devmodels.scsi.nexus import Nexus


class Command(Task):
    """One command; `expected_in` and `expected_out` are the bytes that the initiator expects to move.

    `need` is the room that its data takes.  `gathering` is there where it did not come with all its data, or has to
    wait.
    """

    __slots__ = (
        "connection",
        "expected_in",
        "expected_out",
        "gathering",
        "immediate",
        "lun_number",
        "need",
        "ready",
        "submitted",
    )

    def __init__(
        self,
        connection: Connection,
        nexus: Nexus,
        lun_number: int,
        tag: int,
        cdb: bytes,
        attribute: TaskAttribute,
        expected_in: int,
        expected_out: int,
        immediate: bool,
    ) -> None:
        Task.__init__(self, nexus, connection.session.lun(lun_number), tag, cdb, _done, attribute=attribute)
        self.connection = connection
        self.lun_number = lun_number
        self.expected_in = expected_in
        self.expected_out = expected_out
        self.immediate = immediate
        need = expected_in + expected_out
        if need > MAX_TRANSFER:
            need = min(expected_in, MAX_TRANSFER) + min(expected_out, MAX_TRANSFER)
        self.need = need
        self.gathering: Gathering | None = None
        self.ready = False
        self.submitted = False

    def start(self) -> None:
        """All its data is there, and there is room: do it."""
        if self.expected_in:
            self.data_in = self.connection.session.pool.take(min(self.expected_in, MAX_TRANSFER))
        self.ready = True
        self.submit()

    def begin(self) -> None:
        """There is room for its data now: gather it."""
        if self.expected_in:
            self.data_in = self.connection.session.pool.take(min(self.expected_in, MAX_TRANSFER))
        assert self.gathering is not None
        self.gathering.go_on()

    def gathered(self) -> None:
        """All its data is there: do it when it is its turn."""
        self.ready = True
        session = self.connection.session
        if len(session.unsubmitted) == 1:
            session.unsubmitted.clear()
            self.submit()
        else:
            session.submit_ready()

    @property
    def is_barrier(self) -> bool:
        """Whether nothing may pass it."""
        return self.attribute is TaskAttribute.ORDERED

    def may_pass(self, others: bool) -> bool:
        """Whether it may go to the core while `others` that came earlier are still here."""
        return not (others and self.is_barrier)

    def submit(self) -> None:
        """Hand it to the core."""
        self.submitted = True
        self.connection.submit(self)

    # --- its end

    def end_here(self, code: int) -> None:
        """End it without the core: ABORTED COMMAND, with this additional sense code."""
        session = self.connection.session
        session.unsubmitted.pop(self, None)
        if self in session.waiting:
            session.waiting.remove(self)
            self.need = 0
        self.status = Status.CHECK_CONDITION
        self.sense = Sense(SenseKey.ABORTED_COMMAND, code).build(descriptors=False)
        answers.respond(self)
        session.submit_ready()

    def forget(self) -> None:
        """It was taken back: nothing is sent for it."""
        self.outcome = Outcome.ABORTED
        answers.respond(self)

    def release(self) -> None:
        """Its data is no longer needed."""
        session = self.connection.session
        if self.need > SMALL:
            gathering = self.gathering
            session.pool.give(self.data_in)
            if gathering is None:
                session.pool.give(self.data_out)
            else:
                # What is still being read to may be nobody else's.
                filling = self.connection.filling
                session.pool.give(burst.view for burst in gathering.bursts if burst is not filling)
        session.give_back(self.need)


def _done(task: Task) -> None:
    answers.respond(cast("Command", task))
