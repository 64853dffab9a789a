"""The socket of a vhost-user connection: bytes and file descriptors in, whole messages out, one at a time.

Follows "Message Specification" and "Communication" of the protocol's document.  The next message is not looked at
before the one at hand has been answered, and while a reply cannot be sent nothing is read: a front end that floods or
does not listen holds up itself alone.
"""

from __future__ import annotations

import array
import os
import select
import socket
from collections.abc import Callable

from devmodels.iocontext import IoContext
from devmodels.protocols.vhost_user import (
    FLAG_REPLY,
    HEADER,
    MAX_FDS,
    MAX_PAYLOAD,
    VERSION,
    VERSION_MASK,
    message_name,
)

MESSAGES_PER_TURN = 32
"""After so many messages in a row others have their turn."""

_INT = array.array("i").itemsize


class ProtocolError(Exception):
    """The front end broke the protocol: its connection ends."""


class RequestRefused(Exception):
    """A well-formed request that cannot be done: answered with an error where a reply was asked for."""


_HANG_UP = 0
"""EPOLLHUP is reported in any case."""


class Channel:
    """One connection's socket, which it owns.

    `on_message(request, flags, payload, fds)` is called for each message, and `answer` once for each of these calls,
    perhaps later; descriptors that it leaves in the list are closed.  It may raise ProtocolError.
    `on_end(reason)` is called once when the connection has ended by itself, None where in peace; not after `close`.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: IoContext,
        on_message: Callable[[int, int, bytes, list[int]], None],
        on_end: Callable[[str | None], None],
    ) -> None:
        self._sock = sock
        self._context = context
        self._on_message = on_message
        self._on_end = on_end
        self._data = bytearray()
        self._fds: list[int] = []
        self._request = 0
        self._answering = False
        self._outgoing = bytearray()
        self._outgoing_fd: int | None = None
        self._watching: int | None = None
        self._closed = False
        sock.setblocking(False)
        self._rewatch()

    def answer(self, payload: bytes | None, fd: int | None = None) -> None:
        """The message at hand is dealt with: reply with `payload` (None: with nothing) and go on.

        A descriptor `fd` goes with the reply, and is closed here then.
        """
        if self._closed:
            if fd is not None:
                os.close(fd)
            return
        self._answering = False
        self._outgoing_fd = fd
        if payload is not None:
            self._outgoing += HEADER.pack(self._request, VERSION | FLAG_REPLY, len(payload)) + payload
            self._guarded(self._send)
        self._rewatch()

    def close(self) -> None:
        """Give up the socket and what came in by it. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._watching is not None:
            self._context.unwatch(self._sock.fileno())
        self._sock.close()
        _close_all(self._fds)
        self._drop_outgoing_fd()

    def _rewatch(self) -> None:
        """Wait for what the state asks for: room for a reply, a message, or, while one is at hand, the end only."""
        if self._closed:
            return
        if self._outgoing:
            wanted = select.EPOLLOUT
        else:
            wanted = _HANG_UP if self._answering else select.EPOLLIN
        if wanted == self._watching:
            return
        fd = self._sock.fileno()
        if self._watching is not None:
            self._context.unwatch(fd)
        self._context.watch(fd, wanted, self._ready)
        self._watching = wanted

    def _ready(self, events: int) -> None:
        if self._answering and events & (select.EPOLLHUP | select.EPOLLERR):
            # Nobody is left to be answered; what the answer waits for may never come.
            self._end(None)
            return
        self._guarded(self._work)
        self._rewatch()

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run a step that uses the socket; what goes wrong ends the connection."""
        try:
            step()
        except ProtocolError as error:
            self._end(f"connection ended: {error}")
        except OSError as error:
            self._end(f"connection lost: {error.strerror or error}")

    def _end(self, reason: str | None) -> None:
        if not self._closed:
            self.close()
            self._on_end(reason)

    def _work(self) -> None:
        if self._outgoing:
            self._send()
        for _ in range(MESSAGES_PER_TURN):
            if self._closed or self._answering or self._outgoing or not self._receive():
                return

    # --- out

    def _send(self) -> None:
        try:
            while self._outgoing:
                if self._outgoing_fd is None:
                    sent = self._sock.send(self._outgoing)
                else:
                    # It travels with the first byte.
                    sent = socket.send_fds(self._sock, [self._outgoing], [self._outgoing_fd])
                    self._drop_outgoing_fd()
                del self._outgoing[:sent]
        except BlockingIOError:
            return

    def _drop_outgoing_fd(self) -> None:
        if self._outgoing_fd is not None:
            os.close(self._outgoing_fd)
            self._outgoing_fd = None

    # --- in

    def _receive(self) -> bool:
        """Read once, and hand over a message that is whole; False where nothing was there."""
        try:
            data, fds = self._read(self._missing())
        except BlockingIOError:
            return False
        if not data:
            _close_all(fds)
            if self._data:
                raise ProtocolError("the front end left in the middle of a message")
            self._end(None)
            return False
        begun = bool(self._data)
        self._fds += fds
        self._data += data
        if fds and begun:
            raise ProtocolError("file descriptors in the middle of a message")
        if len(self._data) == HEADER.size:
            self._check_header()
        if not self._missing():
            self._deliver()
        return True

    def _missing(self) -> int:
        """How many bytes the header, or then the whole message, still lacks."""
        have = len(self._data)
        if have < HEADER.size:
            return HEADER.size - have
        return HEADER.size + HEADER.unpack_from(self._data, 0)[2] - have

    def _read(self, count: int) -> tuple[bytes, list[int]]:
        data, ancillary, flags, _ = self._sock.recvmsg(
            count, socket.CMSG_SPACE(MAX_FDS * _INT), socket.MSG_CMSG_CLOEXEC
        )
        fds = array.array("i")
        for level, kind, body in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(body[: len(body) - len(body) % _INT])
        found = fds.tolist()
        if flags & socket.MSG_CTRUNC:
            _close_all(found)
            raise ProtocolError(
                f"file descriptors are lost: there were more than {MAX_FDS}, or too many are open here"
            )
        return data, found

    def _check_header(self) -> None:
        request, flags, size = HEADER.unpack_from(self._data, 0)
        if flags & VERSION_MASK != VERSION or flags & FLAG_REPLY:
            raise ProtocolError(
                f"{message_name(request)} has flags {flags:#x}, expected version {VERSION} and no reply bit"
            )
        if size > MAX_PAYLOAD:
            raise ProtocolError(
                f"{message_name(request)} has a payload of {size} bytes, expected at most {MAX_PAYLOAD}"
            )

    def _deliver(self) -> None:
        self._request, flags, _ = HEADER.unpack_from(self._data, 0)
        payload = bytes(self._data[HEADER.size :])
        fds, self._fds = self._fds, []
        self._data.clear()
        self._answering = True
        try:
            self._on_message(self._request, flags, payload, fds)
        finally:
            _close_all(fds)


def _close_all(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())
