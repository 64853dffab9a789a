"""Where an initiator's sockets come from: TCP, without ever blocking."""

from __future__ import annotations

import errno
import os
import socket
from typing import Protocol

from devmodels.iocontext import IoContext

MAX_ADDRESSES = 8
"""Addresses of one name that are tried."""


class Transport(Protocol):
    """Opens connections.  `outside`: what is at the other end belongs to somebody else's context."""

    outside: bool

    async def connect(self, context: IoContext, host: str, port: int) -> socket.socket:
        """A connected socket that does not block; OSError."""
        ...


class TcpTransport:
    """TCP to the addresses of a name, one after the other."""

    outside = True

    async def connect(self, context: IoContext, host: str, port: int) -> socket.socket:
        """A connected socket that does not block; OSError."""
        try:
            found = await context.worker(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except socket.gaierror as error:
            raise OSError(errno.EHOSTUNREACH, error.strerror) from None
        except UnicodeError:
            raise OSError(errno.EHOSTUNREACH, "no name of a host") from None
        failure = OSError(errno.EHOSTUNREACH, "no address")
        for family, kind, protocol, _, address in found[:MAX_ADDRESSES]:
            try:
                return await _connect(context, socket.socket(family, kind, protocol), address)
            except OSError as error:
                failure = error
        raise failure


async def _connect(context: IoContext, sock: socket.socket, address: object) -> socket.socket:
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        code = sock.connect_ex(address)  # type: ignore[arg-type]
        if code == errno.EINPROGRESS:
            await context.writable(sock.fileno())
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock
