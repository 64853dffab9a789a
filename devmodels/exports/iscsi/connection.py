"""A connection in full feature phase: every PDU of the initiator goes to what deals with it (RFC 7143 §4.3, §11)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from struct import Struct

from devmodels.exports.iscsi import commands, management
from devmodels.exports.iscsi.command import Command
from devmodels.exports.iscsi.gathering import Burst
from devmodels.exports.iscsi.liveness import Liveness
from devmodels.exports.iscsi.negotiation import MAX_RECV_DATA_SEGMENT, Negotiation
from devmodels.exports.iscsi.session import MAX_IMMEDIATE, Early, Session
from devmodels.exports.iscsi.texts import Texts
from devmodels.iscsistream import BrokenConnectionError, Stream
from devmodels.protocols.iscsi.codes import AsyncEvent, LogoutReason, LogoutStatus, RejectReason
from devmodels.protocols.iscsi.keys import CRC32C
from devmodels.protocols.iscsi.pdu import (
    ASYNC_MESSAGE,
    BHS_SIZE,
    CMD_SN_OFFSET,
    FINAL,
    IMMEDIATE,
    LOGOUT_REQUEST,
    LOGOUT_RESPONSE,
    NOP_IN,
    NOP_OUT,
    NUMBERED,
    OPCODE_MASK,
    REJECT,
    RESERVED_TAG,
    Opcode,
)
from devmodels.protocols.iscsi.reserved import wrong_byte
from devmodels.scsi.constants import TaskAttribute

log = logging.getLogger("devmodels.iscsi")

_SERIALS = 0xFFFFFFFF
_number = Struct(">I").unpack_from

_COMMAND, _DATA_OUT = int(Opcode.SCSI_COMMAND), int(Opcode.DATA_OUT)
_IS_NUMBERED = [opcode in NUMBERED for opcode in range(64)]


class Connection:
    """One connection of a session, the receiver of its stream's PDUs.

    `max_segment` is how much data one PDU to the initiator can have, `one_segment` how much a Data-In can that is the
    only one of its command.  `listing()` tells what targets there are, by name, and where.
    """

    def __init__(
        self,
        session: Session,
        stream: Stream,
        cid: int,
        stat_sn: int,
        negotiation: Negotiation,
        listing: Callable[[], Mapping[str, Sequence[str]]],
    ) -> None:
        self.session = session
        self.stream = stream
        self.cid = cid
        self.stat_sn = stat_sn
        self.listing = listing
        self.closed = False
        self._leaves_session = False
        self.on_closed: Callable[[], None] | None = None
        """Told once, when it is closed."""
        self._transfer_tag = 0
        self.placed: memoryview | None = None
        """Room for the data of a command, where that was read straight to where it is wanted."""
        self.filling: Burst | None = None
        """Where the data of a Data-Out goes that is still on its way."""
        self._strict = session.target is not None and session.target.scsi.violations.strict
        self._texts = Texts(self, negotiation)
        self.parameters = negotiation.parameters
        self.parameters_changed()
        self._liveness = Liveness(self)
        stream.header_digest = self.parameters.header_digest == CRC32C
        stream.data_digest = self.parameters.data_digest == CRC32C
        stream.receiver = self
        session.connections[cid] = self

    def __repr__(self) -> str:
        target = self.session.target
        name = "discovery" if target is None else target.name
        return f"<Connection {self.cid} of {self.session.initiator} with {name}>"

    def parameters_changed(self) -> None:
        """The initiator has said how much data a PDU may have."""
        self.max_segment = self.parameters.max_recv_data_segment_length
        self.one_segment = min(self.max_segment, self.session.parameters.max_burst_length)

    def take_stat_sn(self) -> int:
        """The number of the next status (§4.2.2.2)."""
        number = self.stat_sn
        self.stat_sn = (number + 1) & _SERIALS
        return number

    def next_transfer_tag(self) -> int:
        """A target transfer tag that is not in use."""
        self._transfer_tag = (self._transfer_tag + 1) % RESERVED_TAG
        return self._transfer_tag

    # --- its end

    def close(self, reason: str | None = None) -> None:
        """Give up the socket.  What runs ends by itself, unheard.  Idempotent."""
        if self.closed:
            return
        self.paused()
        self.closed = True
        self.drop_placed()
        self._liveness.close()
        self.stream.close()
        if self.session.connections.get(self.cid) is self:
            del self.session.connections[self.cid]
        log.info("%r: %s", self, reason or "closed")
        if self.on_closed is not None:
            self.on_closed()

    def ended(self, reason: str | None) -> None:
        """The stream has ended: with error recovery level 0 the session ends with it (§7.1.4.1)."""
        self.close(reason)
        if not self._leaves_session or not self.session.connections:
            self.end_session(reason)

    def end_session(self, reason: str | None) -> None:
        """End the whole session."""
        if self.session.target is not None:
            self.session.target.end_session(self.session, reason)
        self.session.closed = True

    # --- what comes

    def place(self, opcode: int, header: bytes, length: int) -> memoryview | None:
        """Where data goes."""
        if length > MAX_RECV_DATA_SEGMENT:
            raise BrokenConnectionError(f"data of {length} bytes in one PDU (RFC 7143 §13.12)")
        if opcode == _DATA_OUT:
            return commands.place_data_out(self, header, length)
        if opcode == _COMMAND:
            return commands.place(self, header, length)
        return memoryview(bytearray(length))

    def received(self, opcode: int, header: bytes, ahs: bytes, data: memoryview, intact: bool) -> None:
        """One PDU; those with a CmdSN in the order of that, which the session gives them (§4.2.2.1)."""
        if not intact:
            self._corrupt(opcode, header)
            return
        if self._strict:
            self._check(opcode, header)
        handler = _HANDLERS[opcode]
        if handler is None:
            self.reject(RejectReason.COMMAND_NOT_SUPPORTED, header, f"opcode {opcode:#x}")
        elif not _IS_NUMBERED[opcode]:
            handler(self, header, ahs, data)
        elif header[0] & IMMEDIATE:
            self._take_immediate(handler, header, ahs, data)
        else:
            (cmd_sn,) = _number(header, CMD_SN_OFFSET)
            session = self.session
            if cmd_sn != session.exp_cmd_sn or cmd_sn == (session.max_cmd_sn + 1) & _SERIALS:
                # Another one is next, or the window is closed.
                self._out_of_turn(cmd_sn, opcode, header, ahs, data)
                return
            session.exp_cmd_sn = (cmd_sn + 1) & _SERIALS
            handler(self, header, ahs, data)
            if session.early or session.postponed:
                session.deliver_early()

    def _check(self, opcode: int, header: bytes) -> None:
        """Under the profile `strict`: bits that an initiator should have left alone, and a target passes over (§11)."""
        at = wrong_byte(opcode, header)
        if at is not None:
            self.violated("RFC 7143 §11", f"reserved bits in byte {at} of opcode {opcode:#x}", header)

    def _take_immediate(self, handler: Handler, header: bytes, ahs: bytes, data: memoryview) -> None:
        session = self.session
        # Beside commands there is always room for something else (§4.2.2.1).
        limit = MAX_IMMEDIATE if header[0] & OPCODE_MASK == _COMMAND else 2 * MAX_IMMEDIATE
        if session.immediate >= limit:
            self.drop_placed()
            self.reject(RejectReason.TOO_MANY_IMMEDIATE, header, f"{session.immediate} immediate commands")
            return
        session.immediate += 1
        handler(self, header, ahs, data)

    def _out_of_turn(self, cmd_sn: int, opcode: int, header: bytes, ahs: bytes, data: memoryview) -> None:
        """Keep what comes before its turn; what is outside the window, or there already, is ignored."""
        session = self.session
        if not session.in_window(cmd_sn) or cmd_sn in session.early:
            self.drop_placed()
            self.violated("RFC 7143 §4.2.2.1", f"CmdSN {cmd_sn}, {session.exp_cmd_sn} is expected", header)
            return
        if self.placed is None:
            data = memoryview(bytes(data))
        session.early[cmd_sn] = Early(self, opcode, header, ahs, data, self.placed)
        self.placed = None

    def deliver(self, early: Early) -> None:
        """It is the turn of a PDU that has come before it."""
        handler = _HANDLERS[early.opcode]
        assert handler is not None
        self.placed = early.placed
        handler(self, early.header, early.ahs, early.data)

    def drop_placed(self) -> None:
        """What was placed is not wanted."""
        placed, self.placed = self.placed, None
        if placed is not None:
            self.session.pool.give((placed,))

    def _corrupt(self, opcode: int, header: bytes) -> None:
        """The digest of a PDU's data is wrong: it is rejected, and counts as not received (§7.8)."""
        self.drop_placed()
        self.reject(RejectReason.DATA_DIGEST_ERROR, header, "the digest of the data is wrong")
        if opcode == _DATA_OUT:
            commands.corrupt_data_out(self, header)

    # --- SCSI commands

    def submit(self, command: Command) -> None:
        """Hand a command to the core: at once, but writes together with what else has come by now."""
        session = self.session
        if self.stream.reading and command.expected_out and command.attribute is TaskAttribute.SIMPLE:
            session.held_back.append(command)
            return
        if session.held_back:
            # Of this connection, or of another one: nothing passes them (§4.2.2.1).
            session.submit_held_back()
        assert session.target is not None
        session.target.scsi.submit(command)

    def paused(self) -> None:
        """Submit writes that were held back."""
        if self.session.held_back:
            self.session.submit_held_back()

    # --- other PDUs

    def _nop_out(self, header: bytes, _ahs: bytes, data: memoryview) -> None:
        """§11.18: a ping is answered; an answer to ours needs nothing."""
        opcode, _, _, lun, itt, _, _, _ = NOP_OUT.unpack_from(header, 0)
        self.session.retire(bool(opcode & IMMEDIATE))
        if itt == RESERVED_TAG and not opcode & IMMEDIATE:
            self.violated("RFC 7143 §11.18", "a NOP-Out that is no ping, and not immediate", header)
        if itt != RESERVED_TAG:
            self._nop_in(lun, itt, RESERVED_TAG, self.take_stat_sn(), bytes(data[: self.max_segment]))

    def ping(self) -> None:
        """Ask whether the initiator is still there (§11.19)."""
        self._nop_in(0, RESERVED_TAG, self.next_transfer_tag(), self.stat_sn, b"")

    def _nop_in(self, lun: int, itt: int, ttt: int, stat_sn: int, data: bytes) -> None:
        session = self.session
        numbers = stat_sn, session.exp_cmd_sn, session.max_cmd_sn
        header = NOP_IN.pack(Opcode.NOP_IN, FINAL, len(data), lun, itt, ttt, *numbers)
        self.stream.send(header, (data,), len(data))

    def _text(self, header: bytes, _ahs: bytes, data: memoryview) -> None:
        self.session.retire(bool(header[0] & IMMEDIATE))
        self._texts.request(header, data)

    def _task_management(self, header: bytes, _ahs: bytes, _data: memoryview) -> None:
        self.paused()
        management.request(self, header)

    def _snack(self, header: bytes, _ahs: bytes, _data: memoryview) -> None:
        """§11.16: with error recovery level 0 there are none."""
        self.reject(RejectReason.SNACK_REJECT, header, "a SNACK with error recovery level 0")

    def _login(self, header: bytes, _ahs: bytes, _data: memoryview) -> None:
        self.reject(RejectReason.PROTOCOL_ERROR, header, "a Login Request in full feature phase")

    def _logout(self, header: bytes, _ahs: bytes, _data: memoryview) -> None:
        """§11.14: the connection, or all of the session's, end after the answer."""
        opcode, flags, _, itt, cid, _, _ = LOGOUT_REQUEST.unpack_from(header, 0)
        session = self.session
        session.retire(bool(opcode & IMMEDIATE))
        reason = flags & ~FINAL
        if reason not in (*LogoutReason,):
            self.reject(RejectReason.INVALID_PDU_FIELD, header, f"logout reason {reason}")
            return
        status = LogoutStatus.CLOSED
        other = session.connections.get(cid)
        if reason == LogoutReason.REMOVE_FOR_RECOVERY:
            status = LogoutStatus.NO_RECOVERY
        elif reason == LogoutReason.CLOSE_CONNECTION and other is None:
            status = LogoutStatus.NO_CONNECTION
        if status is not LogoutStatus.CLOSED:
            self._answer_logout(itt, status)
        elif reason == LogoutReason.CLOSE_CONNECTION and other is not self and other is not None:
            management.end_tasks_of([other], lambda: self._answer_logout(itt, status))
            other.close("logged out")
        else:
            self._leave(itt, whole=reason == LogoutReason.CLOSE_SESSION)

    def _leave(self, itt: int, *, whole: bool) -> None:
        """Log out, with the `whole` session or without it: that is answered when the tasks have ended."""
        connections = list(self.session.connections.values()) if whole else [self]
        self._leaves_session = not whole
        for connection in connections:
            connection.stream.hush()

        def over() -> None:
            self._answer_logout(itt, LogoutStatus.CLOSED)
            self.stream.finish()

        management.end_tasks_of(connections, over)

    def _answer_logout(self, itt: int, status: LogoutStatus) -> None:
        session = self.session
        agreed = session.parameters
        numbers = self.take_stat_sn(), session.exp_cmd_sn, session.max_cmd_sn
        times = agreed.default_time2wait, agreed.default_time2retain
        self.stream.send(
            LOGOUT_RESPONSE.pack(Opcode.LOGOUT_RESPONSE, FINAL, status, 0, itt, *numbers, *times)
        )

    # --- what is said without being asked

    def reject(self, reason: RejectReason, header: bytes, why: str) -> None:
        """§11.17."""
        self.violated("RFC 7143 §11.17", f"{reason.name}: {why}", header)
        session = self.session
        numbers = self.take_stat_sn(), session.exp_cmd_sn, session.max_cmd_sn
        self.stream.send(
            REJECT.pack(Opcode.REJECT, FINAL, reason, BHS_SIZE, RESERVED_TAG, *numbers, 0),
            (header,),
            BHS_SIZE,
        )

    def announce(self, event: AsyncEvent, lun: int = 0, data: bytes = b"") -> None:
        """An asynchronous message, §11.9."""
        session = self.session
        numbers = self.take_stat_sn(), session.exp_cmd_sn, session.max_cmd_sn
        agreed = session.parameters
        dropping = event in (AsyncEvent.DROPPING_CONNECTION, AsyncEvent.DROPPING_SESSION)
        times = (agreed.default_time2wait, agreed.default_time2retain) if dropping else (0, 0)
        first = self.cid if event is AsyncEvent.DROPPING_CONNECTION else 0
        parameters = event, 0, first, *times
        self.stream.send(
            ASYNC_MESSAGE.pack(
                Opcode.ASYNC_MESSAGE, FINAL, len(data), lun, RESERVED_TAG, *numbers, *parameters
            ),
            (data,),
            len(data),
        )

    def violated(self, clause: str, summary: str, header: bytes) -> None:
        """The initiator has broken the standard."""
        if self.session.target is not None:
            self.session.target.scsi.violations.report(clause, summary, self.session.initiator, header)
        else:
            log.info("%r: %s (%s)", self, summary, clause)


Handler = Callable[[Connection, bytes, bytes, memoryview], None]

_HANDLERS: list[Handler | None] = [None] * 64
for _opcode, _handler in {
    Opcode.NOP_OUT: Connection._nop_out,
    Opcode.SCSI_COMMAND: commands.request,
    Opcode.TASK_MANAGEMENT_REQUEST: Connection._task_management,
    Opcode.LOGIN_REQUEST: Connection._login,
    Opcode.TEXT_REQUEST: Connection._text,
    Opcode.DATA_OUT: commands.data_out,
    Opcode.LOGOUT_REQUEST: Connection._logout,
    Opcode.SNACK_REQUEST: Connection._snack,
}.items():
    _HANDLERS[_opcode] = _handler
