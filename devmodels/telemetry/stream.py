"""A UNIX socket where every reader gets the figures as lines of JSON, one at once and then one in each interval.

A slow reader does not delay anybody: while it has not taken a line, further ones are dropped for it, and counted in
its next one.  Readers are not listened to.  While there are none nothing is done at all.
"""

from __future__ import annotations

import select
import socket

import msgspec

from devmodels.acceptor import Acceptor
from devmodels.iocontext import Timer
from devmodels.telemetry.figures import Figures, Source
from devmodels.unixlistener import listen, remove

MAX_READERS = 16


class _Reader:
    """One connection; `pending` is what it has not taken yet of its last line."""

    __slots__ = ("dropped", "pending", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.pending = b""
        self.dropped = 0


class TelemetryServer:
    """Listens at `path`; tells the figures of `source` each `interval_ns`, with the oldest `requests` in flight.

    Raises OSError where the socket cannot be bound.
    """

    def __init__(self, path: str, source: Source, *, interval_ns: int, requests: int) -> None:
        self.path = path
        self._context = source.context
        self._source = source
        self._interval = interval_ns
        self._requests = requests
        self._readers: dict[int, _Reader] = {}
        self._timer: Timer | None = None
        self._closed = False
        self._acceptor = Acceptor(listen(path), self._context, self._connected, name="telemetry")

    @property
    def readers(self) -> int:
        """How many there are."""
        return len(self._readers)

    def close(self) -> None:
        """End all connections and remove the socket.  Idempotent."""
        if self._closed:
            return
        self._closed = True
        for reader in list(self._readers.values()):
            self._leave(reader)
        self._acceptor.close()
        remove(self.path)

    def _connected(self, sock: socket.socket) -> None:
        if len(self._readers) == MAX_READERS:
            sock.close()
            return
        # Nothing is read: what a reader sends is an error at its end.
        sock.shutdown(socket.SHUT_RD)
        reader = self._readers[sock.fileno()] = _Reader(sock)
        self._watch(reader)
        self._tell(reader, self._source.take(self._requests))
        if self._timer is None and self._readers:
            self._arm(self._context.now_ns() + self._interval)

    def _arm(self, when: int) -> None:
        self._timer = self._context.call_at(when, lambda: self._tick(when))

    def _tick(self, when: int) -> None:
        figures = self._source.take(self._requests)
        for reader in list(self._readers.values()):
            self._tell(reader, figures)
        if self._readers:
            # On the beat, but what was missed is not made up for.
            missed = (self._context.now_ns() - when) // self._interval
            self._arm(when + (missed + 1) * self._interval)

    def _tell(self, reader: _Reader, figures: Figures) -> None:
        if reader.pending:
            reader.dropped += 1
            return
        if reader.dropped:
            figures = msgspec.structs.replace(figures, dropped=reader.dropped)
        reader.pending = msgspec.json.encode(figures) + b"\n"
        self._send(reader)

    def _send(self, reader: _Reader) -> None:
        try:
            sent = reader.sock.send(reader.pending, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._leave(reader)
            return
        waited = len(reader.pending)
        reader.pending = reader.pending[sent:]
        if sent < waited:
            self._watch(reader)

    def _watch(self, reader: _Reader) -> None:
        """Wait for room where something is left to send; epoll tells of a hang-up in any case."""
        fd = reader.sock.fileno()
        self._context.unwatch(fd)
        events = select.EPOLLOUT if reader.pending else 0
        self._context.watch(fd, events, lambda found: self._ready(reader, found))

    def _ready(self, reader: _Reader, events: int) -> None:
        if events & (select.EPOLLHUP | select.EPOLLERR):
            self._leave(reader)
            return
        self._send(reader)
        if not reader.pending and reader.sock.fileno() in self._readers:
            self._watch(reader)

    def _leave(self, reader: _Reader) -> None:
        fd = reader.sock.fileno()
        self._context.unwatch(fd)
        del self._readers[fd]
        reader.sock.close()
        if not self._readers and self._timer is not None:
            self._timer.cancel()
            self._timer = None
