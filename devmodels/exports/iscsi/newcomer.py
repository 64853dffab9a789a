"""A connection before full feature phase: it logs in, in time, or it is gone (RFC 7143 §6.3, §4.6.2)."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

from devmodels.exports.iscsi import management
from devmodels.exports.iscsi.authentication import LoginRefusedError
from devmodels.exports.iscsi.connection import Connection
from devmodels.exports.iscsi.endings import Port
from devmodels.exports.iscsi.login import Answer, Login
from devmodels.exports.iscsi.session import Session
from devmodels.iscsistream import BrokenConnectionError, Stream
from devmodels.protocols.iscsi.codes import LoginStatus
from devmodels.protocols.iscsi.pdu import LOGIN_RESPONSE, Opcode, unpack_login_request
from devmodels.protocols.iscsi.reserved import wrong_byte
from devmodels.protocols.iscsi.text import is_name

if TYPE_CHECKING:
    from devmodels.exports.iscsi.portal import Portal

log = logging.getLogger("devmodels.iscsi")

LOGIN_TIMEOUT_NS = 15 * 10**9
"""How long a login may take."""

MAX_LOGIN_DATA = 8192
"""Data of a Login Request: MaxRecvDataSegmentLength before anything is negotiated (§13.12)."""


class Newcomer:
    """One connection until its login has succeeded or failed; the receiver of its stream's PDUs till then."""

    def __init__(self, sock: socket.socket, portal: Portal) -> None:
        self._portal = portal
        self._login = Login(portal.find_target)
        self._stat_sn = 0
        self._peer = _name_of(sock)
        self._local = sock.getsockname()
        context = portal.context
        self.since_ns = context.now_ns()
        self._timer = context.call_at(self.since_ns + LOGIN_TIMEOUT_NS, self.late)
        self._stream = Stream(sock, context, self)

    def close(self) -> None:
        """Give it up."""
        self._over()
        self._stream.close()

    @property
    def complete(self) -> bool:
        """Whether it has said all that it has to say."""
        return self._login.complete

    def late(self) -> None:
        """It has taken too long."""
        log.warning("%s: %s has not logged in in time", self._portal.name, self._peer)
        self.close()
        self._portal.left(self)

    def _over(self) -> None:
        """It has logged in, or never will."""
        self._timer.cancel()
        target = self._login.target
        if target is not None:
            target.endings.forget(self._port, self)

    # --- what comes

    def place(self, opcode: int, header: bytes, length: int) -> memoryview | None:  # noqa: ARG002
        """Only Login Requests come, with little data."""
        if opcode != Opcode.LOGIN_REQUEST:
            raise BrokenConnectionError("something else than a login (RFC 7143 §6.3)")
        if length > MAX_LOGIN_DATA:
            raise BrokenConnectionError(f"a Login Request with {length} bytes (RFC 7143 §13.12)")
        return memoryview(bytearray(length))

    def received(self, opcode: int, header: bytes, ahs: bytes, data: memoryview, intact: bool) -> None:  # noqa: ARG002
        """A Login Request."""
        if opcode != Opcode.LOGIN_REQUEST:
            raise BrokenConnectionError("something else than a login (RFC 7143 §6.3)")
        answer = self._login.request(header, data)
        self._check(opcode, header)
        if self._login.complete and answer.status is LoginStatus.SUCCESS:
            self._complete(header, answer)
        else:
            self._answer(header, answer, self._login.joins)

    def _complete(self, header: bytes, answer: Answer) -> None:
        """The last request, and what is to be said to it where the session can begin: when it can."""
        try:
            self._judge()
            self._displace()
            if self._waits(header, answer):
                return
            session = self._begin_session()
        except LoginRefusedError as error:
            self._answer(header, Answer(0, status=error.status, reason=str(error)), None)
        else:
            self._answer(header, answer, session)

    def _answer(self, header: bytes, answer: Answer, session: Session | None) -> None:
        self._send(header, answer, session)
        if answer.status is not LoginStatus.SUCCESS:
            log.warning(
                "%s: login of %s refused: %s: %s",
                self._portal.name,
                self._peer,
                answer.status.name,
                answer.reason,
            )
            self._stream.finish()
        elif self._login.complete:
            assert session is not None
            self._enter(session)

    def _check(self, opcode: int, header: bytes) -> None:
        """Reserved bits (RFC 7143 §11) and the form of the name, where it is known whose profile counts."""
        target = self._login.target
        if target is None or not target.scsi.violations.strict:
            return
        at = wrong_byte(opcode, header)
        if at is not None:
            summary = f"reserved bits in byte {at} of a Login Request"
            target.scsi.violations.report("RFC 7143 §11", summary, self._peer, header)

        if self._login.complete and not is_name(self._port[0]):
            summary = f"InitiatorName={self._port[0][:64]}"
            target.scsi.violations.report("RFC 7143 §4.2.7", summary, self._peer, header)

    def paused(self) -> None:
        """Every PDU is dealt with at once."""

    def ended(self, reason: str | None) -> None:
        """The initiator has gone."""
        if reason is not None:
            log.warning("%s: %s: %s", self._portal.name, self._peer, reason)
        self._over()
        self._portal.left(self)

    # --- what is said

    def _send(self, header: bytes, answer: Answer, session: Session | None) -> None:
        _, _, _, _, _, isid, tsih, itt, _, cmd_sn, _ = unpack_login_request(header, 0)
        expected = highest = cmd_sn
        if session is not None:
            expected, highest = session.exp_cmd_sn, session.max_cmd_sn
            tsih = session.tsih
        self._stream.send(
            LOGIN_RESPONSE.pack(
                Opcode.LOGIN_RESPONSE,
                answer.flags,
                0,
                0,
                len(answer.text),
                isid,
                tsih,
                itt,
                self._stat_sn,
                expected,
                highest,
                answer.status,
            ),
            (answer.text,),
            len(answer.text),
        )
        self._stat_sn += 1

    # --- full feature phase

    @property
    def _port(self) -> Port:
        """Who logs in."""
        login = self._login
        assert login.identity is not None
        return login.negotiation.parameters.initiator_name, login.identity.isid

    def _judge(self) -> None:
        """What was so when the login began may be otherwise now: LoginRefusedError."""
        login = self._login
        target, session = login.target, login.joins
        assert login.identity is not None
        if target is not None and self._portal.find_target(target.name) is not target:
            raise LoginRefusedError(LoginStatus.TARGET_REMOVED, "the target has gone meanwhile")
        if session is not None:
            if session.closed:
                raise LoginRefusedError(LoginStatus.SESSION_DOES_NOT_EXIST, "the session has ended")
            session.check_room_for(login.identity.cid)

    def _displace(self) -> None:
        """End what is begun anew: a connection of the session, or the initiator port's session (§6.3.4, §6.3.5)."""
        login = self._login
        assert login.identity is not None
        if login.joins is not None:
            before = login.joins.connections.get(login.identity.cid)
            if before is not None:
                management.end_tasks_of([before], lambda: None)
                before.close("the initiator has begun it anew")
        elif login.target is not None:
            login.target.displace(self._port)

    def _waits(self, header: bytes, answer: Answer) -> bool:
        """Whether something of the initiator port still runs: then it goes on when that is over."""
        target = self._login.target

        def over() -> None:
            self._stream.go_on()
            self._complete(header, answer)

        waits = target is not None and target.endings.wait(self._port, self, over)
        if waits:
            self._stream.hush()
        return waits

    def _begin_session(self) -> Session:
        """The session that the connection belongs to; LoginRefusedError."""
        login = self._login
        assert login.identity is not None
        if login.joins is not None:
            return login.joins
        isid, parameters = login.identity.isid, login.negotiation.parameters
        if login.target is None:
            return self._portal.node.open_discovery(isid, parameters, login.cmd_sn)
        return login.target.open_session(isid, parameters, login.cmd_sn)

    def _enter(self, session: Session) -> None:
        self._over()
        login = self._login
        assert login.identity is not None
        connection = Connection(
            session,
            self._stream,
            login.identity.cid,
            self._stat_sn,
            login.negotiation,
            lambda: self._portal.node.listing(self._local),
        )
        self._portal.entered(self, connection)
        log.info("%s: %r from %s", self._portal.name, connection, self._peer)


def _name_of(sock: socket.socket) -> str:
    try:
        peer = sock.getpeername()
    except OSError:
        return "somebody"
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "a socket"
