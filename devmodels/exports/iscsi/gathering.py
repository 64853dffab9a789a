"""Data out of a command that does not come whole with it (RFC 7143 §4.2.5, §11.7, §11.8).

Data comes in order (DataPDUInOrder and DataSequenceInOrder are Yes): immediate data first, then what is unsolicited,
then bursts that were asked for.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from devmodels.exports.iscsi.session import MAX_TRANSFER
from devmodels.protocols.iscsi.pdu import FINAL, R2T, RESERVED_TAG, Opcode

if TYPE_CHECKING:
    from devmodels.exports.iscsi.command import Command

UNEXPECTED_UNSOLICITED_DATA = 0x0C0C
NOT_ENOUGH_UNSOLICITED_DATA = 0x0C0D
PROTOCOL_SERVICE_CRC_ERROR = 0x4705
"""What an initiator is told where its data is wrong, as additional sense code and qualifier (§11.4.7.2)."""


class Burst:
    """Data out that may come, in one sequence of Data-Out PDUs; `view` is its room, `filled` bytes of it are there."""

    __slots__ = ("data_sn", "filled", "offset", "tag", "view")

    def __init__(self, tag: int, offset: int, view: memoryview) -> None:
        self.tag = tag
        self.offset = offset
        self.view = view
        self.filled = 0
        self.data_sn = 0


class Gathering:
    """The data of one command, as far as it has come; `asked` counts the bursts that were asked for.

    `failure` is what is wrong with it, 0 where nothing is.
    """

    __slots__ = ("_command", "_granted", "_unsolicited", "asked", "bursts", "failure")

    def __init__(self, command: Command) -> None:
        self._command = command
        self.bursts: deque[Burst] = deque()
        self.asked = 0
        self.failure = 0
        self._granted = 0
        self._unsolicited = False

    def begin(self, view: memoryview, filled: int, *, more: bool) -> None:
        """So much came with the command; `more` follows unasked, as much as there is room for in `view`."""
        burst = Burst(RESERVED_TAG, 0, view)
        burst.filled = filled
        self.bursts.append(burst)
        self._granted = filled
        self._unsolicited = more and filled < len(view)

    def go_on(self) -> None:
        """Ask for the next bursts; where nothing is left to ask for, the command can be done."""
        if self._unsolicited:
            return
        command = self._command
        total = min(command.expected_out, MAX_TRANSFER)
        session = command.connection.session
        agreed = session.parameters
        while self._granted < total and self._outstanding < agreed.max_outstanding_r2t:
            length = min(agreed.max_burst_length, total - self._granted)
            (view,) = session.pool.take(length)
            burst = Burst(command.connection.next_transfer_tag(), self._granted, view)
            self.bursts.append(burst)
            self._granted += length
            self._ask(burst)
        if self._granted >= total and not self._outstanding:
            command.data_out = [burst.view[: burst.filled] for burst in self.bursts if burst.filled]
            command.gathered()

    @property
    def _outstanding(self) -> int:
        return sum(burst.filled < len(burst.view) for burst in self.bursts if burst.tag != RESERVED_TAG)

    def _ask(self, burst: Burst) -> None:
        command = self._command
        connection = command.connection
        session = connection.session
        connection.stream.send(
            R2T.pack(
                Opcode.R2T,
                FINAL,
                0,
                command.lun_number,
                command.tag,
                burst.tag,
                connection.stat_sn,
                session.exp_cmd_sn,
                session.max_cmd_sn,
                self.asked,
                burst.offset,
                len(burst.view),
            )
        )
        self.asked += 1

    def burst(self, tag: int, data_sn: int, offset: int, length: int) -> Burst | None:
        """The burst that a Data-Out goes on with; None where it goes on with none."""
        if self.failure:
            return None
        for burst in self.bursts:
            if burst.filled == len(burst.view) or (burst.tag == RESERVED_TAG and not self._unsolicited):
                continue
            # They are filled in their order.
            here = burst.tag, burst.data_sn, burst.offset + burst.filled
            fits = here == (tag, data_sn, offset) and length <= len(burst.view) - burst.filled
            return burst if fits else None
        return None

    def came(self, burst: Burst, length: int, *, final: bool) -> None:
        """`length` bytes more of a burst are there."""
        burst.filled += length
        burst.data_sn += 1
        full = burst.filled == len(burst.view)
        if burst.tag == RESERVED_TAG:
            self._granted = burst.filled
            if final or full:
                self._unsolicited = False
                if self._command not in self._command.connection.session.waiting:
                    self.go_on()
        elif full:
            self.go_on()
        elif final:
            self.fail(NOT_ENOUGH_UNSOLICITED_DATA, final=True)

    def fail(self, code: int, *, final: bool) -> None:
        """Something is wrong: with the `final` PDU of a sequence the command ends with CHECK CONDITION."""
        self.failure = self.failure or code
        if final:
            self._command.end_here(self.failure)
