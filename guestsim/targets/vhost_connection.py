"""A front end's conversation with a vhost-user back end: requests, replies, and what the back end asks for itself.

Every call ends within the connection's time limit, on the wall clock.  What goes wrong is told in one line with the
socket's path; after a closed connection, or a reply that nobody could read, nothing more is sent.
"""

from __future__ import annotations

import os
import select
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from guestsim.errors import DisconnectedError, GuestError
from guestsim.targets import TargetError
from guestsim.targets import vhost_messages as msg
from guestsim.targets.vhost_messages import BackendRequest, Protocol, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TIMEOUT = 20.0
"""Seconds that a back end has for one answer: GET_VRING_BASE comes after all that runs."""


class RefusedError(GuestError):
    """The back end answered that it could not do what it was asked for ("VHOST_USER_PROTOCOL_F_REPLY_ACK")."""


class VhostConnection:
    """One connection to the back end that listens at `path`; `protocol` is what `introduce` has agreed on.

    `label` names it in messages; `last_words` is asked for what the back end has said elsewhere when the connection is
    lost.  `on_config_change` is called when the back end says that the configuration space has changed.  Raises
    `TargetError` where nobody listens; `DisconnectedError` once the connection is lost, `lost` saying why.
    """

    def __init__(
        self,
        path: str,
        label: str,
        *,
        timeout: float = TIMEOUT,
        last_words: Callable[[], str] = str,
        pump: Callable[[], object] | None = None,
    ) -> None:
        self.label = label
        self.last_words = last_words
        self._pump = pump
        self.timeout = timeout
        self.lost: str | None = None
        self.protocol = Protocol(0)
        self.offered_protocol = 0
        self.features = 0
        self.on_config_change: Callable[[], None] | None = None
        self.trace: Callable[[str], None] | None = None
        self._channel: socket.socket | None = None
        self._ended: socket.socket | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._poll = select.poll()
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            reason = error.strerror or str(error)
            raise TargetError(f"{label}: cannot connect: {reason}") from error
        self._poll.register(self._socket, select.POLLIN)

    @property
    def descriptors(self) -> set[int]:
        """What can be read when `look` should be called: descriptors that stay open until `close`."""
        if self.lost is not None:
            return set()
        return {one.fileno() for one in (self._socket, self._channel) if one is not None}

    @property
    def has_protocol(self) -> bool:
        """Whether the back end has protocol features, and its rings are enabled by message ("Ring states")."""
        return bool(self.features >> msg.PROTOCOL_FEATURES & 1)

    def close(self) -> None:
        """Leave the back end. Idempotent."""
        if self.lost is None:
            self.lost = f"{self.label}: the connection has been closed"
        self._socket.close()
        for one in (self._channel, self._ended):
            if one is not None:
                one.close()

    # --- what every connection begins with

    def introduce(self, wanted: Protocol) -> None:
        """Ask for features and agree on those protocol features of `wanted` that the back end has, and own it."""
        self.features = self.number(Request.GET_FEATURES)
        if self.has_protocol:
            self.offered_protocol = self.number(Request.GET_PROTOCOL_FEATURES)
            agreed = wanted & Protocol(self.offered_protocol & sum(Protocol))
            self.send(Request.SET_PROTOCOL_FEATURES, msg.U64.pack(agreed))
            self.protocol = agreed
        self.send(Request.SET_OWNER)
        if Protocol.BACKEND_REQ in self.protocol:
            self._open_channel()

    def _open_channel(self) -> None:
        """Give the back end a way to ask for something ("Back-end communication")."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._channel = ours
        self._poll.register(ours, select.POLLIN)
        try:
            self.send(Request.SET_BACKEND_REQ_FD, fds=[theirs.fileno()])
        finally:
            theirs.close()

    # --- messages

    def send(self, request: int, payload: bytes = b"", fds: Sequence[int] = ()) -> None:
        """Send a request that has no reply of its own; with REPLY_ACK, wait until it is done.

        `RefusedError` where the back end says that it could not.
        """
        need_reply = Protocol.REPLY_ACK in self.protocol
        self._put(request, payload, fds, need_reply=need_reply)
        if need_reply:
            (answer,) = msg.U64.unpack(self._reply(request, msg.U64.size))
            if answer:
                raise RefusedError(f"{self.label}: the back end refused {msg.name(request)}")

    def ask(self, request: int, payload: bytes = b"", size: int | None = None) -> bytes:
        """Send a request and return its reply's payload, which must have `size` bytes where that is given."""
        self._put(request, payload, ())
        return self._reply(request, size)

    def number(self, request: int) -> int:
        """The number that a request without payload is answered with."""
        return int(msg.U64.unpack(self.ask(request, size=msg.U64.size))[0])

    def ask_with_fd(self, request: int, payload: bytes) -> tuple[bytes, int | None]:
        """As `ask`, for a reply that may bring a descriptor, which is the caller's then."""
        self._put(request, payload, ())
        fds: list[int] = []
        answer = self._reply(request, None, fds)
        for fd in fds[1:]:
            os.close(fd)
        return answer, fds[0] if fds else None

    def _put(self, request: int, payload: bytes, fds: Sequence[int], *, need_reply: bool = False) -> None:
        if self.lost is not None:
            raise DisconnectedError(self.lost)
        data = msg.header(request, len(payload), need_reply=need_reply) + payload
        if self.trace is not None:
            shown = payload[:48].hex(" ", 8) + (f" and {len(fds)} descriptors" if fds else "")
            self.trace(f"vhost {msg.name(request)} {shown}")
        try:
            socket.send_fds(self._socket, [data], list(fds), socket.MSG_NOSIGNAL)
        except TimeoutError:
            self._lose(f"takes no message within {self.timeout:g} s")
        except OSError as error:
            self._lose(f"closed the connection before {msg.name(request)}", error)

    def _reply(self, request: int, size: int | None, fds: list[int] | None = None) -> bytes:
        """The payload of the reply to `request`; the back end's own requests are served meanwhile."""
        deadline = time.monotonic() + self.timeout
        what = msg.name(request)
        number, flags, length = msg.HEADER.unpack(self._take(msg.HEADER.size, what, deadline, fds))
        if flags & (msg.VERSION_MASK | msg.FLAG_REPLY) != msg.VERSION | msg.FLAG_REPLY:
            self._lose(f"answered {what} with flags {flags:#x}, expected version 1 and the reply bit")
        if number != request:
            self._lose(f"answered {what} with a reply to {msg.name(number)}")
        if length > msg.MAX_PAYLOAD or (size is not None and length != size):
            self._lose(f"answered {what} with {length} bytes, expected {size}")
        return self._take(length, what, deadline, fds) if length else b""

    def _take(self, length: int, what: str, deadline: float, fds: list[int] | None) -> bytes:
        data = b""
        while len(data) < length:
            self._wait(what, deadline)
            try:
                piece, found, _, _ = socket.recv_fds(
                    self._socket, length - len(data), msg.MAX_FDS, socket.MSG_CMSG_CLOEXEC
                )
            except OSError as error:
                self._lose(f"closed the connection instead of answering {what}", error)
            if fds is not None:
                fds += found
            else:
                for fd in found:
                    os.close(fd)
            if not piece:
                self._lose(f"closed the connection instead of answering {what}")
            data += piece
        return data

    def _wait(self, what: str, deadline: float) -> None:
        """Wait until the connection can be read."""
        while True:
            left = deadline - time.monotonic()
            if self._pump is not None:
                self._pump()
            ready = [fd for fd, _ in self._poll.poll(max(0, left * 1000) if self._pump is None else 0)]
            if self._channel is not None and self._channel.fileno() in ready:
                self._serve_channel()
            if self._socket.fileno() in ready:
                return
            if left <= 0:
                self._lose(f"gave no answer to {what} within {self.timeout:g} s")

    def _lose(self, how: str, error: OSError | None = None) -> NoReturn:
        """End the conversation: nobody could tell which answer would come next."""
        self._end(how)
        raise DisconnectedError(self.lost or how) from error

    def _end(self, how: str) -> None:
        words = self.last_words()
        self.lost = f"{self.label}: the back end {how}{': ' if words else ''}{words}"
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    # --- what comes of its own accord

    def look(self) -> None:
        """Take what has come without being asked for; `lost` is set where the connection has ended."""
        if self.lost is not None:
            return
        ready = {fd for fd, _ in self._poll.poll(0)}
        if self._channel is not None and self._channel.fileno() in ready:
            self._serve_channel()
        if self._socket.fileno() in ready:
            try:
                left = self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except OSError:
                left = b""
            self._end("sent a message that nobody had asked for" if left else "closed the connection")

    def _serve_channel(self) -> None:
        """Take one request of the back end's and answer it where it wants that."""
        assert self._channel is not None
        try:
            data = self._channel.recv(msg.HEADER.size)
            if len(data) < msg.HEADER.size:
                self._end_channel()
                return
            request, flags, size = msg.HEADER.unpack(data)
            payload = self._channel.recv(size) if 0 < size <= msg.MAX_PAYLOAD else b""
            if len(payload) != size:
                self._end_channel()
                return
            known = request == BackendRequest.CONFIG_CHANGE_MSG
            if flags & msg.FLAG_NEED_REPLY:
                self._channel.send(msg.header(request, 8, reply=True) + msg.U64.pack(0 if known else 1))
        except OSError:
            self._end_channel()
            return
        if self.trace is not None:
            self.trace(f"vhost back end's request {request}")
        if known and self.on_config_change is not None:
            self.on_config_change()

    def _end_channel(self) -> None:
        """The back end has closed its channel, or sent what is no message: nobody listens there any more."""
        assert self._channel is not None
        self._poll.unregister(self._channel)
        self._ended, self._channel = self._channel, None
