"""The machine at work: its client's socket and the machine's context, served in turn, until somebody ends it."""

from __future__ import annotations

import os
import select
from _socket import MSG_DONTWAIT, socket
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from devmodels.qtest.board import Board

RECEIVE = 1 << 20
MAX_EVENTS = 8


class Stream(Protocol):
    """Where requests come from and answers go."""

    def fileno(self) -> int:
        """The descriptor that requests come at."""
        ...

    def receive(self) -> bytes | None:
        """What has come; empty at the end, None where nothing is there."""
        ...

    def send(self, data: bytes | bytearray) -> None:
        """Send all of it; OSError where nobody is there."""
        ...

    def close(self) -> None:
        """Nothing comes or goes any more."""
        ...


class SocketStream:
    """A connected socket, which it owns."""

    def __init__(self, connection: socket) -> None:
        self._connection = connection
        self.fileno = connection.fileno
        self._recv = connection.recv
        self.send = connection.sendall
        self.close = connection.close

    def receive(self) -> bytes | None:
        """What has come."""
        try:
            return self._recv(RECEIVE, MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            return b""


class StandardStream:
    """Standard input and output."""

    def fileno(self) -> int:
        """Standard input."""
        return 0

    def receive(self) -> bytes | None:
        """What has come."""
        # Whoever else has the descriptor may want it to block.
        ready, _, _ = select.select([0], [], [], 0)
        return os.read(0, RECEIVE) if ready else None

    def send(self, data: bytes | bytearray) -> None:
        """Write all of it."""
        view = memoryview(data)
        while view:
            view = view[os.write(1, view) :]

    def close(self) -> None:
        """They are not ours to close."""


class RequestLog:
    """Writes each request and what is sent to a file, as QEMU does: `[R +SECONDS]`, `[S +SECONDS]`, `[I …]`.

    Seconds are since the client came.  Where nobody reads any more, nothing is written.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._start = 0.0

    def opened(self) -> None:
        """A client has come."""
        self._start = perf_counter()
        self._write(b"[I %.6f] OPENED\n" % 0.0)

    def request(self, line: bytes) -> None:
        """A request is about to be done."""
        self._write(b"[R +%.6f] %b\n" % (perf_counter() - self._start, line))

    def sent(self, text: bytes) -> None:
        """Lines that go to the client, each with its end."""
        self._write(b"[S +%.6f] %b" % (perf_counter() - self._start, text))

    def closed(self) -> None:
        """The client has gone."""
        self._write(b"[I +%.6f] CLOSED\n" % (perf_counter() - self._start))

    def _write(self, text: bytes) -> None:
        view = memoryview(text)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            pass


class Loop:
    """Serves a client, when there is one, and everything that the board's context has to do.

    `on_left`, where there is one, is called when the client has left, and another one may come; else that is the end.
    """

    def __init__(self, board: Board, log: RequestLog | None = None) -> None:
        self._board = board
        self._context = board.context
        self._qtest = board.qtest
        self._log = log
        self._stream: Stream | None = None
        self._fd = -1
        """The client's descriptor, where it can be waited for."""
        self.on_left: Callable[[], None] | None = None
        self.stopping = False
        self._stop_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.epoll()
        self._poll.register(self._context.fileno(), select.EPOLLIN)
        self._poll.register(self._stop_fd, select.EPOLLIN)

    def stop(self) -> None:
        """Leave `run` soon; signal handlers may call it."""
        self.stopping = True
        if self._stop_fd >= 0:
            os.eventfd_write(self._stop_fd, 1)

    def attach(self, stream: Stream) -> None:
        """A client has come; there was none."""
        self._stream, self._fd = stream, stream.fileno()
        try:
            self._poll.register(self._fd, select.EPOLLIN)
        except PermissionError:
            # A regular file: always ready, and nobody waits.
            self._fd = -1
        self._board.interrupts.tell_anew()
        self._qtest.log = self._log
        if self._log is not None:
            self._log.opened()

    def _detach(self) -> None:
        """The client has gone, if there was one."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        if self._fd >= 0:
            self._poll.unregister(self._fd)
            self._fd = -1
        stream.close()
        self._qtest.log = None
        if self._log is not None:
            self._log.closed()

    def run(self) -> None:
        """Serve until the last client leaves, or until `stop`."""
        context, poll = self._context, self._poll
        with poll:
            timeout = self._work()
            while not self.stopping:
                stream, ours = self._stream, self._fd
                if stream is not None and ours < 0:
                    self._serve(stream)
                    timeout = self._work()
                    continue
                found = poll.poll(timeout, MAX_EVENTS)
                for fd, _ in found:
                    if fd == ours:
                        assert stream is not None
                        self._serve(stream)
                if context.ready or len(found) != 1 or found[0][0] != ours:
                    timeout = self._work()
            self._detach()
        fd, self._stop_fd = self._stop_fd, -1
        os.close(fd)

    def _serve(self, stream: Stream) -> None:
        """Do what the client asks for, as long as it goes on and nothing else is to be done."""
        qtest, context = self._qtest, self._context
        while (data := stream.receive()) is not None:
            if not data or not qtest.feed(data) or not self._send(stream):
                self._left()
                return
            if context.ready:
                return

    def _left(self) -> None:
        """The client has left, or can no longer be served."""
        if self.on_left is None:
            self.stopping = True
            return
        self._detach()
        self.on_left()

    def _work(self) -> float:
        """Let devices work; returns seconds until the context is to be looked at again, -1 for ever."""
        left = self._context.run_ready()
        if self._stream is None:
            # As on QEMU, whoever is not there is not told.
            self._qtest.out.clear()
        elif not self._send(self._stream):
            self._left()
        return -1 if left is None else left / 1e9

    def _send(self, stream: Stream) -> bool:
        """Send what there is; False where nobody is there."""
        out = self._qtest.out
        if not out:
            return True
        try:
            stream.send(out)
        except OSError:
            return False
        finally:
            out.clear()
        return True
