"""A SCSI command on its way: its data out is gathered, the core does it, its data in and its status are sent.

Follows RFC 7143 §4.2.5 (data transfer), §11.3, §11.4, §11.7 and §11.8.  Data out comes in order (DataPDUInOrder and
DataSequenceInOrder are Yes): immediate data first, then what is unsolicited, then bursts that were asked for.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, cast

from devmodels.exports.iscsi import answers
from devmodels.exports.iscsi.buffers import Buffer
from devmodels.exports.iscsi.session import MAX_TRANSFER
from devmodels.protocols.iscsi.pdu import FINAL, R2T, RESERVED_TAG, Opcode
from devmodels.scsi.constants import Outcome, SenseKey, Status, TaskAttribute
from devmodels.scsi.sense import Sense
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.exports.iscsi.connection import Connection

UNEXPECTED_UNSOLICITED_DATA = 0x0C0C
NOT_ENOUGH_UNSOLICITED_DATA = 0x0C0D
PROTOCOL_SERVICE_CRC_ERROR = 0x4705
"""What an initiator is told where its data is wrong, as additional sense code and qualifier (§11.4.7.2)."""


class Burst:
    """Data out that may come, in one sequence of Data-Out PDUs; `view` is its room, `filled` bytes of it are there."""

    __slots__ = ("buffer", "data_sn", "filled", "offset", "tag", "view")

    def __init__(self, tag: int, offset: int, buffer: Buffer) -> None:
        self.tag = tag
        self.offset = offset
        self.buffer = buffer
        self.view = buffer.view
        self.filled = 0
        self.data_sn = 0


class Command(Task):
    """One command; `expected_in` and `expected_out` are the bytes that the initiator expects to move.

    `need` is the room that its data takes.  `unsolicited`: more data comes unasked.
    """

    __slots__ = (
        "buffers",
        "bursts",
        "connection",
        "data_sn",
        "expected_in",
        "expected_out",
        "failure",
        "granted",
        "immediate",
        "lun_number",
        "need",
        "ready",
        "submitted",
        "unsolicited",
    )

    def __init__(
        self,
        connection: Connection,
        lun_number: int,
        tag: int,
        cdb: bytes,
        attribute: TaskAttribute,
        *,
        expected_in: int,
        expected_out: int,
        immediate: bool,
    ) -> None:
        session = connection.session
        nexus = session.nexus
        assert nexus is not None
        super().__init__(nexus, session.lun(lun_number), tag, cdb, _done, attribute=attribute)
        self.connection = connection
        self.lun_number = lun_number
        self.expected_in = expected_in
        self.expected_out = expected_out
        self.immediate = immediate
        self.need = min(expected_in, MAX_TRANSFER) + min(expected_out, MAX_TRANSFER)
        self.buffers: list[Buffer] = []
        self.bursts: deque[Burst] = deque()
        self.granted = 0
        self.data_sn = 0
        self.unsolicited = False
        self.ready = False
        self.submitted = False
        self.failure = 0

    # --- data out

    def place_unsolicited(self, burst: Burst, *, more: bool) -> None:
        """What came with the command; `more` follows unasked."""
        self.granted = len(burst.view) if more else burst.filled
        self.unsolicited = more
        self.bursts.append(burst)

    def complete(self, burst: Burst | None) -> bool:
        """Whether all its data has come with it, in `burst`."""
        return self.expected_out == (0 if burst is None else burst.filled)

    def start(self, burst: Burst | None) -> None:
        """All is there, and there is room: do it."""
        if self.expected_in:
            self._make_room()
        if burst is not None:
            self.bursts.append(burst)
            self.data_out = (burst.view,)
        self.ready = True
        self.submit()

    def begin(self) -> None:
        """There is room for its data."""
        if self.expected_in:
            self._make_room()
        if not self.unsolicited:
            self._solicit()

    def _make_room(self) -> None:
        self.buffers = self.connection.session.pool.take(min(self.expected_in, MAX_TRANSFER))
        self.data_in = [buffer.view for buffer in self.buffers]

    def _solicit(self) -> None:
        """Ask for the next bursts; where nothing is left to ask for, it can be done."""
        total = min(self.expected_out, MAX_TRANSFER)
        session = self.connection.session
        agreed = session.parameters
        while self.granted < total and self._outstanding < agreed.max_outstanding_r2t:
            length = min(agreed.max_burst_length, total - self.granted)
            (buffer,) = session.pool.take(length)
            burst = Burst(self.connection.next_transfer_tag(), self.granted, buffer)
            self.bursts.append(burst)
            self.granted += length
            self._ask(burst, length)
        if self.granted >= total and not self._outstanding:
            self._gathered()

    @property
    def _outstanding(self) -> int:
        return sum(burst.filled < len(burst.view) for burst in self.bursts if burst.tag != RESERVED_TAG)

    def _ask(self, burst: Burst, length: int) -> None:
        connection = self.connection
        session = connection.session
        connection.stream.send(
            R2T.pack(
                Opcode.R2T,
                FINAL,
                0,
                self.lun_number,
                self.tag,
                burst.tag,
                connection.stat_sn,
                session.exp_cmd_sn,
                session.max_cmd_sn,
                self.data_sn,
                burst.offset,
                length,
            )
        )
        self.data_sn += 1

    def current_burst(self, tag: int) -> Burst | None:
        """The burst that a Data-Out with this target transfer tag belongs to, if it is that one's turn."""
        for burst in self.bursts:
            if burst.tag == RESERVED_TAG and not self.unsolicited:
                continue
            if burst.filled < len(burst.view):
                return burst if burst.tag == tag else None
        return None

    def data_came(self, burst: Burst, length: int, *, final: bool) -> None:
        """`length` bytes more of a burst are there."""
        burst.filled += length
        burst.data_sn += 1
        if burst.tag == RESERVED_TAG:
            if final or burst.filled == len(burst.view):
                self.unsolicited = False
                self.granted = burst.filled
                if not self._waits_for_room:
                    self._solicit()
        elif burst.filled == len(burst.view):
            self._solicit()
        elif final:
            self.fail(NOT_ENOUGH_UNSOLICITED_DATA, final=True)

    @property
    def _waits_for_room(self) -> bool:
        return self in self.connection.session.waiting

    def fail(self, code: int, *, final: bool) -> None:
        """Its data is wrong: with the `final` PDU of a sequence it ends with CHECK CONDITION."""
        self.failure = self.failure or code
        if final:
            self._end_here(Sense(SenseKey.ABORTED_COMMAND, self.failure))

    def _end_here(self, sense: Sense) -> None:
        """End it without the core."""
        session = self.connection.session
        session.unsubmitted.pop(self, None)
        if self in session.waiting:
            session.waiting.remove(self)
            self.need = 0
        self.status = Status.CHECK_CONDITION
        self.sense = sense.build(descriptors=False)
        answers.respond(self)

    # --- in order

    def _gathered(self) -> None:
        self.ready = True
        if self.bursts:
            self.data_out = [burst.view[: burst.filled] for burst in self.bursts if burst.filled]
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

    def forget(self) -> None:
        """It was taken back: nothing is sent for it."""
        self.outcome = Outcome.ABORTED
        answers.respond(self)

    def release(self) -> None:
        """Its data is no longer needed."""
        for burst in self.bursts:
            burst.buffer.release()
        for buffer in self.buffers:
            buffer.release()
        self.connection.session.give_back(self.need)


def _done(task: Task) -> None:
    answers.respond(cast("Command", task))
