"""A monitor's socket: JSON objects in both directions, or what else a splitter cuts.

Follows QEMU's docs/interop/qmp-spec ("QEMU Machine Protocol Specification").  What we send are lines; what comes in may
be cut into lines or not: an object ends with its last brace.
"""

from __future__ import annotations

import logging
import select
import socket
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from devmodels.iocontext import IoContext

log = logging.getLogger("devmodels.monitor")

MAX_COMMAND = 1 << 20
"""A longer command ends the connection."""
CHUNK = 1 << 16


class Cutter(Protocol):
    """Cuts a stream into pieces."""

    def __len__(self) -> int:
        """Bytes of what has not been cut off yet."""
        ...

    def feed(self, data: bytes) -> None:
        """More of the stream."""
        ...

    def next(self) -> bytes | None:
        """The next piece that is whole; None where there is none."""
        ...


class Splitter:
    """Cuts a stream into objects, without judging them; what is no object goes on to the line's end."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = 0
        self._depth = 0
        self._quote = 0
        """Within a string: what ends it."""

    def __len__(self) -> int:
        """Bytes of what has not been cut off yet."""
        return len(self._data)

    def feed(self, data: bytes) -> None:
        """More of the stream."""
        self._data += data

    def next(self) -> bytes | None:
        """The next piece that is whole; None where there is none."""
        data = self._data
        at = self._at
        while at < len(data):
            byte = data[at]
            at += 1
            if self._quote:
                if byte == _BACKSLASH:
                    if at == len(data):
                        at -= 1
                        break
                    at += 1
                elif byte == self._quote:
                    self._quote = 0
            elif byte in _QUOTES and self._depth:
                self._quote = byte
            elif byte in b"{[":
                self._depth += 1
            elif byte in b"}]" and self._depth:
                self._depth -= 1
                if not self._depth:
                    return self._cut(at)
            elif byte == _LINE_FEED and not self._depth:
                line = self._cut(at)
                if line:
                    return line
                at = 0
        self._at = at
        return None

    def _cut(self, at: int) -> bytes:
        piece = bytes(self._data[:at]).strip()
        del self._data[:at]
        self._at = 0
        return piece


_QUOTES = b"\"'"
_BACKSLASH, _LINE_FEED = b"\\\n"


def line_of(message: object) -> bytes:
    """A JSON object as one line, spaced as QEMU's are: scripts look for `"return": {}`."""
    return msgspec.json.format(msgspec.json.encode(message), indent=0) + b"\r\n"


_HANG_UP = 0
"""EPOLLHUP is reported in any case: the client has closed its socket, and not only said that it sends no more."""


class ObjectChannel:
    """One client's connection, which it owns; `encode` says how messages to it look, `splitter` what an object is.

    `on_object(text)` is called for each object that comes, the next one not before `answer`, nor before the client has
    read what was sent to it: what waits here is bounded.  `on_end()` once when the client has gone or broke the form;
    not after `close`.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: IoContext,
        on_object: Callable[[bytes], None],
        on_end: Callable[[], None],
        *,
        splitter: Cutter | None = None,
        encode: Callable[[Any], bytes] = line_of,
    ) -> None:
        self._sock = sock
        self._encode = encode
        self._context = context
        self._on_object = on_object
        self._on_end = on_end
        self._incoming: Cutter = Splitter() if splitter is None else splitter
        self._outgoing = bytearray()
        self._answering = False
        self._watching: int | None = None
        self._closed = False
        sock.setblocking(False)
        self._rewatch()

    @property
    def unread(self) -> int:
        """How many bytes wait because the client does not read."""
        return len(self._outgoing)

    def put(self, message: object) -> None:
        """Send a message."""
        if not self._closed:
            self._outgoing += self._encode(message)
            self._send()
            self._rewatch()

    def answer(self, message: object) -> None:
        """Send what the object at hand is answered with, and go on with the next one."""
        self._answering = False
        self.put(message)
        if not self._closed:
            self._context.call_soon(self._deliver)

    def close(self) -> None:
        """Give up the socket. Idempotent."""
        if not self._closed:
            self._closed = True
            if self._watching is not None:
                self._context.unwatch(self._sock.fileno())
            self._sock.close()

    def _end(self) -> None:
        if not self._closed:
            self.close()
            self._on_end()

    def _rewatch(self) -> None:
        """Wait for room where something is to be sent, else for input; while an object is at hand, for the end only."""
        if self._closed:
            return
        wanted = select.EPOLLOUT if self._outgoing else _HANG_UP if self._answering else select.EPOLLIN
        if wanted == self._watching:
            return
        fd = self._sock.fileno()
        if self._watching is not None:
            self._context.unwatch(fd)
        self._context.watch(fd, wanted, self._ready)
        self._watching = wanted

    def _ready(self, _events: int) -> None:
        if self._outgoing:
            self._send()
            self._deliver()
        elif self._answering:
            self._end()
        else:
            self._receive()
        self._rewatch()

    def _send(self) -> None:
        try:
            sent = self._sock.send(self._outgoing, socket.MSG_NOSIGNAL)
            del self._outgoing[:sent]
        except BlockingIOError:
            return
        except OSError:
            self._end()

    def _receive(self) -> None:
        try:
            data = self._sock.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end()
            return
        self._incoming.feed(data)
        self._deliver()

    def _deliver(self) -> None:
        """Hand over the next object that is whole."""
        if self._answering or self._closed or self._outgoing:
            return
        piece = self._incoming.next()
        if piece is not None and not self._closed:
            self._answering = True
            self._on_object(piece)
        elif len(self._incoming) > MAX_COMMAND:
            log.warning("a command is longer than %d bytes: connection ended", MAX_COMMAND)
            self._end()
        self._rewatch()
