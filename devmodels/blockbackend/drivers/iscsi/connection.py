"""One connection in full feature phase, the initiator's side: commands out, data and answers in (RFC 7143 §4, §11).

What a target does against the standard ends the connection (BrokenConnectionError): a session of error recovery level
0 has no other remedy (§7.1.4.1).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from struct import Struct
from typing import Protocol

from devmodels.blockbackend.drivers.iscsi.negotiation import MAX_RECV_DATA_SEGMENT
from devmodels.blockbackend.drivers.iscsi.sending import Sender
from devmodels.blockbackend.drivers.iscsi.task import GOOD, Task
from devmodels.iscsistream import BrokenConnectionError, Stream
from devmodels.protocols.iscsi.codes import AsyncEvent, FunctionResponse
from devmodels.protocols.iscsi.keys import Parameters
from devmodels.protocols.iscsi.pdu import (
    ASYNC_MESSAGE,
    BHS_SIZE,
    COMPLETED_AT_TARGET,
    DATA_IN,
    FINAL,
    LOGOUT_RESPONSE,
    NOP_IN,
    OPCODE_MASK,
    R2T,
    REJECT,
    RESERVED_TAG,
    SCSI_COMMAND,
    SCSI_RESPONSE,
    SENSE_LENGTH,
    STATUS_PRESENT,
    TASK_MANAGEMENT_RESPONSE,
    TEXT_RESPONSE,
    UNDERFLOW,
    Opcode,
    next_serial,
    serial_after,
)

_SERIALS = 0xFFFFFFFF
_serials = Struct(">III").unpack_from
_SERIALS_OFFSET = DATA_IN.offsets["stat_sn"]
_tag = Struct(">I").unpack_from
_TAG_OFFSET = SCSI_COMMAND.offsets["itt"]

_DATA_IN, _COMMAND = int(Opcode.DATA_IN), int(Opcode.SCSI_COMMAND)
SECOND = 10**9
MAX_SENSE = 4096
"""What one answer may have of sense data and other response data, in bytes."""


class Owner(Protocol):
    """Who holds the connection: a session."""

    def idle(self) -> None:
        """What had come has been dealt with: the window may be open, tasks may be over."""
        ...

    def connection_ended(self, reason: str, wait_ns: int = 0) -> None:
        """It is gone, and is not to be begun again before `wait_ns` have passed."""
        ...

    def attention(self, sense: bytes) -> None:
        """The logical unit tells something by itself (a unit attention condition)."""
        ...

    def asked_to_leave(self, seconds: int) -> None:
        """The target wants a logout within so many seconds."""
        ...


class Connection(Sender):
    """The receiver of a stream's PDUs.

    `lun`: the logical unit, as PDUs have it.  `parameters` are what the login has come to.
    """

    def __init__(
        self,
        owner: Owner,
        stream: Stream,
        parameters: Parameters,
        lun: int,
        *,
        cmd_sn: int,
        max_cmd_sn: int,
        exp_stat_sn: int,
    ) -> None:
        super().__init__(
            stream, parameters, lun, cmd_sn=cmd_sn, max_cmd_sn=max_cmd_sn, exp_stat_sn=exp_stat_sn
        )
        self._owner = owner
        self.closed = False
        self._placed = False
        self._wait_ns = parameters.default_time2wait * SECOND
        """How long after its end nobody is to come again (§13.15)."""
        stream.receiver = self

    def __repr__(self) -> str:
        return f"<Connection with {len(self.tasks)} tasks, CmdSN {self.cmd_sn} of {self.max_cmd_sn}>"

    # --- its end

    def close(self) -> None:
        """Give up the socket; nobody is told.  Idempotent."""
        self.closed = True
        self._stream.close()

    def ended(self, reason: str | None) -> None:
        """The stream has ended."""
        self.give_up(reason or "the target has closed the connection")

    def give_up(self, reason: str) -> None:
        """End it, and tell the session; perhaps because the target does not do what it should."""
        if not self.closed:
            self.close()
            self._owner.connection_ended(reason, self._wait_ns)

    # --- what comes in

    def place(self, opcode: int, header: bytes, length: int) -> memoryview | None:
        """Where data goes: what is read straight to where it is wanted, if that is one place."""
        if length > MAX_RECV_DATA_SEGMENT:
            raise BrokenConnectionError(f"data of {length} bytes in one PDU (RFC 7143 §13.12)")
        if opcode != _DATA_IN:
            return None
        (itt,) = _tag(header, _TAG_OFFSET)
        task = self._task_of(itt)
        room = task.room(task.received, length) if task.received + length <= task.reads else None
        self._placed = room is not None
        return room

    def received(self, opcode: int, header: bytes, ahs: bytes, data: memoryview, intact: bool) -> None:  # noqa: ARG002
        """One PDU."""
        if not intact:
            raise BrokenConnectionError("the digest of data is wrong (RFC 7143 §7.8)")
        handler = _HANDLERS[opcode]
        if handler is None:
            raise BrokenConnectionError(f"opcode {opcode:#04x}, which is no target's (RFC 7143 §11.2.1.2)")
        _, exp_cmd_sn, max_cmd_sn = _serials(header, _SERIALS_OFFSET)
        if serial_after(exp_cmd_sn, self.cmd_sn):
            raise BrokenConnectionError(f"ExpCmdSN {exp_cmd_sn}, CmdSN is {self.cmd_sn} (RFC 7143 §4.2.2.1)")
        if serial_after(max_cmd_sn, self.max_cmd_sn) and not serial_after(
            exp_cmd_sn, max_cmd_sn + 1 & _SERIALS
        ):
            self.max_cmd_sn = max_cmd_sn
        handler(self, header, data)

    def paused(self) -> None:
        """What has come is dealt with."""
        if not self.closed:
            self._owner.idle()

    def _task_of(self, itt: int) -> Task:
        task = self.tasks.get(itt)
        if task is None:
            raise BrokenConnectionError(f"a PDU of a task {itt:#x} that is not there")
        return task

    def _take_status(self, stat_sn: int) -> None:
        """A numbered status: the next one, or one before it has been lost (§4.2.2.2)."""
        if stat_sn != self.exp_stat_sn:
            raise BrokenConnectionError(
                f"StatSN {stat_sn}, {self.exp_stat_sn} is expected (RFC 7143 §4.2.2.2)"
            )
        self.exp_stat_sn = next_serial(stat_sn)

    def _finish(self, task: Task, flags: int, residual: int) -> None:
        """A task has got its status."""
        missing = task.reads - task.received
        if missing and task.status == GOOD and not (flags & UNDERFLOW and residual == missing):
            # Data that was sent has not come.
            raise BrokenConnectionError(f"{missing} bytes of data are missing (RFC 7143 §11.4.5)")
        task.residual = residual if flags & UNDERFLOW else 0
        del self.tasks[task.itt]
        task.finish()

    def _data_in(self, header: bytes, data: memoryview) -> None:
        """§11.7."""
        fields = DATA_IN.unpack_from(header, 0)
        _, flags, status, _, _, itt, _, stat_sn, _, _, data_sn, offset, residual = fields
        placed, self._placed = self._placed, False
        task = self._task_of(itt)
        length = len(data)
        if data_sn != task.data_sn or (length and offset != task.received):
            raise BrokenConnectionError(f"DataSN {data_sn}, offset {offset} out of order (RFC 7143 §11.7)")
        if offset + length > task.reads:
            raise BrokenConnectionError(
                f"{length} bytes at {offset}, {task.reads} are wanted (RFC 7143 §11.7.4)"
            )
        task.data_sn += 1
        if length:
            if not placed:
                task.store(offset, data)
            task.received += length
        if flags & STATUS_PRESENT:
            if not flags & FINAL:
                raise BrokenConnectionError("a status before the last data (RFC 7143 §11.7.3)")
            self._take_status(stat_sn)
            task.status = status
            self._finish(task, flags, residual)

    def _response(self, header: bytes, data: memoryview) -> None:
        """§11.4."""
        fields = SCSI_RESPONSE.unpack_from(header, 0)
        _, flags, response, status, _, itt, _, stat_sn, _, _, _, _, residual = fields
        task = self._task_of(itt)
        self._take_status(stat_sn)
        if response != COMPLETED_AT_TARGET:
            del self.tasks[itt]
            task.finish(OSError(errno.EIO, f"the target failed (response {response:#04x})"))
            return
        task.status = status
        if len(data) >= SENSE_LENGTH.size:
            (length,) = SENSE_LENGTH.unpack_from(data, 0)
            if length > len(data) - SENSE_LENGTH.size or length > MAX_SENSE:
                raise BrokenConnectionError(f"sense data of {length} bytes (RFC 7143 §11.4.7)")
            task.sense = bytes(data[SENSE_LENGTH.size : SENSE_LENGTH.size + length])
        self._finish(task, flags, residual)

    def _r2t(self, header: bytes, _data: memoryview) -> None:
        """§11.8: the target asks for data."""
        _, _, _, _, itt, ttt, _, _, _, r2t_sn, offset, desired = R2T.unpack_from(header, 0)
        task = self._task_of(itt)
        if r2t_sn != task.data_sn or ttt == RESERVED_TAG:
            raise BrokenConnectionError(f"R2TSN {r2t_sn}, {task.data_sn} is expected (RFC 7143 §11.8.1)")
        task.data_sn += 1
        if not 0 < desired <= self.parameters.max_burst_length or offset + desired > task.writes:
            raise BrokenConnectionError(
                f"{desired} bytes at {offset} of {task.writes} are wanted (RFC 7143 §11.8.4)"
            )
        if offset != task.sent:
            # Nor is anything sent twice: there would be no end of it.
            raise BrokenConnectionError(f"data is asked for out of order, at {offset} (RFC 7143 §13.19)")
        task.sent += desired
        if not task.aborting:
            self.data_out(task, ttt, offset, desired)

    def _task_management(self, header: bytes, _data: memoryview) -> None:
        """§11.6: what has been aborted is over."""
        _, _, response, _, itt, stat_sn, _, _ = TASK_MANAGEMENT_RESPONSE.unpack_from(header, 0)
        task = self.aborting.pop(itt, None)
        if task is None:
            raise BrokenConnectionError("an answer to no task management request")
        self._take_status(stat_sn)
        if task.over:
            return
        if response not in (FunctionResponse.COMPLETE, FunctionResponse.NO_TASK):
            raise BrokenConnectionError(f"ABORT TASK is refused (response {response})")
        self.tasks.pop(task.itt, None)
        task.finish(task.abort_error)

    def _nop_in(self, header: bytes, _data: memoryview) -> None:
        """§11.19: an answer to ours, or a question."""
        _, _, _, lun, itt, ttt, stat_sn, _, _ = NOP_IN.unpack_from(header, 0)
        if itt != RESERVED_TAG:
            if itt not in self.pings:
                raise BrokenConnectionError("an answer to no NOP-Out")
            self.pings.discard(itt)
            self._take_status(stat_sn)
        elif ttt != RESERVED_TAG:
            self.nop_out(RESERVED_TAG, ttt, lun)

    def _reject(self, header: bytes, data: memoryview) -> None:
        """§11.17: a command that is rejected leaves a gap; only a new session fills it."""
        _, _, reason, _, _, stat_sn, _, _, _ = REJECT.unpack_from(header, 0)
        self._take_status(stat_sn)
        if len(data) >= BHS_SIZE and data[0] & OPCODE_MASK in (Opcode.NOP_OUT, Opcode.TEXT_REQUEST):
            (itt,) = _tag(data, _TAG_OFFSET)
            self.pings.discard(itt)
            self.texts.discard(itt)
            return
        raise BrokenConnectionError(f"the target rejects what it was sent, reason {reason:#04x}")

    def _async(self, header: bytes, data: memoryview) -> None:
        """§11.9."""
        _, _, _, _, _, stat_sn, _, _, event, _, _, second, third = ASYNC_MESSAGE.unpack_from(header, 0)
        self._take_status(stat_sn)
        if event == AsyncEvent.SCSI:
            if len(data) > SENSE_LENGTH.size:
                self._owner.attention(bytes(data[SENSE_LENGTH.size : SENSE_LENGTH.size + MAX_SENSE]))
        elif event == AsyncEvent.LOGOUT_REQUESTED:
            self._owner.asked_to_leave(third)
        elif event in (AsyncEvent.DROPPING_CONNECTION, AsyncEvent.DROPPING_SESSION):
            self._wait_ns = second * SECOND
            raise BrokenConnectionError("the target drops the session")
        elif event == AsyncEvent.NEGOTIATION_REQUESTED:
            self.negotiate()

    def _text(self, header: bytes, _data: memoryview) -> None:
        """§11.11: an answer to what we declared, which changes nothing."""
        _, _, _, _, itt, _, stat_sn, _, _ = TEXT_RESPONSE.unpack_from(header, 0)
        if itt not in self.texts:
            raise BrokenConnectionError("an answer to no Text Request")
        self.texts.discard(itt)
        self._take_status(stat_sn)

    def _logged_out(self, header: bytes, _data: memoryview) -> None:
        """§11.15."""
        *_, seconds, _ = LOGOUT_RESPONSE.unpack_from(header, 0)
        if self.logging_out is None:
            raise BrokenConnectionError("an answer to no Logout Request")
        self._wait_ns = seconds * SECOND
        self.give_up("logged out")


Handler = Callable[[Connection, bytes, memoryview], None]

_HANDLERS: list[Handler | None] = [None] * 64
for _opcode, _handler in {
    Opcode.NOP_IN: Connection._nop_in,
    Opcode.SCSI_RESPONSE: Connection._response,
    Opcode.TASK_MANAGEMENT_RESPONSE: Connection._task_management,
    Opcode.TEXT_RESPONSE: Connection._text,
    Opcode.DATA_IN: Connection._data_in,
    Opcode.LOGOUT_RESPONSE: Connection._logged_out,
    Opcode.R2T: Connection._r2t,
    Opcode.ASYNC_MESSAGE: Connection._async,
    Opcode.REJECT: Connection._reject,
}.items():
    _HANDLERS[_opcode] = _handler
