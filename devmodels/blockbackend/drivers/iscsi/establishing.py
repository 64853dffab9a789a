"""From nothing to full feature phase: connect, log in, follow a target that has moved (RFC 7143 §6.3)."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from typing import Protocol

import msgspec

from devmodels.blockbackend.drivers.iscsi.connection import Connection
from devmodels.blockbackend.drivers.iscsi.connection import Owner as ConnectionOwner
from devmodels.blockbackend.drivers.iscsi.login import (
    MAX_LOGIN_DATA,
    Identity,
    Login,
    LoginFailedError,
    MovedError,
)
from devmodels.blockbackend.drivers.iscsi.options import parse_portal
from devmodels.blockbackend.drivers.iscsi.transport import Transport
from devmodels.blockbackend.options import BlockOptionError
from devmodels.iocontext import Future, IoContext
from devmodels.iscsistream import BrokenConnectionError, Stream
from devmodels.protocols.iscsi.chap import Credentials
from devmodels.protocols.iscsi.pdu import Opcode

LOGIN_NS = 15 * 10**9
"""How long a connection and its login may take."""

MAX_MOVES = 4
"""How often a target may send us elsewhere."""


class Owner(ConnectionOwner, Protocol):
    """Who wants a connection."""

    def arriving(self, newcomer: Newcomer) -> None:
        """There is a socket, which may have to be closed again."""
        ...


class Way(msgspec.Struct, frozen=True):
    """How a target is reached, and as whom."""

    transport: Transport
    host: str
    port: int
    identity: Identity
    digests: Mapping[str, tuple[str, ...]]
    credentials: Credentials | None = None


async def establish(context: IoContext, way: Way, lun: int, owner: Owner) -> Connection:
    """A connection that has logged in; OSError or LoginFailedError."""
    for _ in range(MAX_MOVES + 1):
        try:
            return await context.wait_for(_once(context, way, lun, owner), LOGIN_NS)
        except TimeoutError:
            raise OSError(errno.ETIMEDOUT, "the target does not answer the login") from None
        except MovedError as moved:
            try:
                host, port = parse_portal(moved.address)
            except BlockOptionError:
                raise LoginFailedError(f"the target has moved to {moved.address[:64]!r}") from None
            way = msgspec.structs.replace(way, host=host, port=port)
    raise LoginFailedError("the target has moved too often")


async def _once(context: IoContext, way: Way, lun: int, owner: Owner) -> Connection:
    sock = await way.transport.connect(context, way.host, way.port)
    newcomer = Newcomer(sock, context, Login(way.identity, way.digests, way.credentials), owner, lun)
    owner.arriving(newcomer)
    try:
        return await newcomer.over
    except BaseException:
        newcomer.close()
        raise


class Newcomer:
    """A connection until its login is `over`; the receiver of its stream's PDUs till then."""

    def __init__(self, sock: socket.socket, context: IoContext, login: Login, owner: Owner, lun: int) -> None:
        self._login = login
        self._owner = owner
        self._lun = lun
        self.over: Future[Connection] = Future(context)
        self._stream = Stream(sock, context, self)
        self._send(*login.first())

    def close(self) -> None:
        """Give it up."""
        self._stream.close()

    def _enter(self) -> Connection:
        """Full feature phase begins, and with it PDUs of other kinds."""
        login = self._login
        return Connection(
            self._owner,
            self._stream,
            login.negotiation.parameters,
            self._lun,
            cmd_sn=login.cmd_sn,
            max_cmd_sn=login.max_cmd_sn,
            exp_stat_sn=login.exp_stat_sn,
        )

    def _send(self, header: bytes, text: bytes) -> None:
        self._stream.send(header, (text,), len(text))

    # --- what comes

    def place(self, opcode: int, header: bytes, length: int) -> memoryview | None:  # noqa: ARG002
        """Only Login Responses come, with little data."""
        if length > MAX_LOGIN_DATA:
            raise BrokenConnectionError(f"a Login Response with {length} bytes (RFC 7143 §13.12)")
        return None

    def received(self, opcode: int, header: bytes, ahs: bytes, data: memoryview, intact: bool) -> None:  # noqa: ARG002
        """A Login Response."""
        if self.over.done:
            return  # It has failed.
        if opcode != Opcode.LOGIN_RESPONSE:
            raise BrokenConnectionError(f"opcode {opcode:#04x} in a login (RFC 7143 §6.3)")
        try:
            request = self._login.response(header, data)
        except (LoginFailedError, MovedError) as error:
            self.over.set_error(error)
            return
        if request is None:
            self.over.set_result(self._enter())
        else:
            self._send(*request)

    def paused(self) -> None:
        """Every PDU is dealt with at once."""

    def ended(self, reason: str | None) -> None:
        """The target has gone."""
        if not self.over.done:
            self.over.set_error(OSError(errno.ECONNRESET, reason or "the target has closed the connection"))
