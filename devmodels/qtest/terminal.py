"""Bytes carried between descriptors of any kind and a socket, for whoever serves sockets only."""

from __future__ import annotations

import os
import select
import socket
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from devmodels.iocontext import IoContext

if TYPE_CHECKING:
    import _socket

IFLAG, LFLAG = 0, 3
"""Where termios has them."""
IAC, DO, WILL = 255, 253, 251
"""What begins a command of telnet's; WILL and the three after it have an option behind them."""
BINARY, ECHO, SUPPRESS_GO_AHEAD = 0, 1, 3
HELLO = bytes([IAC, WILL, ECHO, IAC, WILL, SUPPRESS_GO_AHEAD, IAC, WILL, BINARY, IAC, DO, BINARY])
CHUNK = select.PIPE_BUF
"""So much a pipe takes without blocking when it is ready."""
Change = Callable[[bytes], bytes]


class Relay:
    """Carries from `source` to `sink` when both are ready, and owns neither; what comes is changed by `change`.

    `on_end` is called once, where the source ends or nobody is at the sink.
    """

    def __init__(
        self,
        context: IoContext,
        source: int,
        sink: int,
        on_end: Callable[[], None],
        change: Change = bytes,
    ) -> None:
        self._context = context
        self._source, self._sink = source, sink
        self._on_end = on_end
        self._change = change
        self._watched = -1
        self._ended = False
        self._await_source()

    def close(self) -> None:
        """Carry nothing more, but what is there already and can be taken at once."""
        if not self._ended:
            self._stop()
            while _ready(self._source, select.POLLIN) and _ready(self._sink, select.POLLOUT):
                if not self._move():
                    break

    def _stop(self) -> None:
        self._ended = True
        if self._watched >= 0:
            self._context.unwatch(self._watched)
            self._watched = -1

    def _await(self, fd: int, events: int, then: Callable[[], None]) -> None:
        def ready(_events: int = 0) -> None:
            if not self._ended:
                if self._watched >= 0:
                    self._context.unwatch(fd)
                    self._watched = -1
                then()

        try:
            self._context.watch(fd, events, ready)
            self._watched = fd
        except PermissionError:
            # A regular file: always ready.
            self._context.call_soon(ready)

    def _await_source(self) -> None:
        self._await(self._source, select.EPOLLIN, self._await_sink)

    def _await_sink(self) -> None:
        self._await(self._sink, select.EPOLLOUT, self._carry)

    def _carry(self) -> None:
        if self._move():
            self._await_source()
        else:
            self._stop()
            self._on_end()

    def _move(self) -> bool:
        """Carry what is there; False where nothing comes or goes any more."""
        try:
            data = os.read(self._source, CHUNK)
            view = memoryview(self._change(data))
            while view:
                view = view[os.write(self._sink, view) :]
        except OSError:
            return False
        return bool(data)


def _ready(fd: int, events: int) -> bool:
    look = select.poll()
    look.register(fd, events)
    return bool(look.poll(0))


class Relayed:
    """Two descriptors, one to read and one to write, as a connected socket: `end`, which is somebody else's.

    Where nothing comes any more, things can still be said; with `hang_up` the socket ends, too.
    """

    def __init__(
        self, context: IoContext, source: int, sink: int, *, hang_up: bool, change: Change = bytes
    ) -> None:
        self.end, self._ours = socket.socketpair()
        self._back = self._ours.dup()
        on_end = self._shut if hang_up else lambda: None
        self._inwards = Relay(context, source, self._ours.fileno(), on_end, change)
        self._outwards = Relay(context, self._back.fileno(), sink, lambda: None)

    def _shut(self) -> None:
        self._ours.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Say what has come from the other end, and end."""
        self._inwards.close()
        self._outwards.close()
        self._ours.close()
        self._back.close()


class Standard(Relayed):
    """Standard input and output; a terminal is left to whoever echoes what is typed, until the end.

    As on QEMU the program goes on where the input ends.
    """

    def __init__(self, context: IoContext) -> None:
        super().__init__(context, 0, 1, hang_up=False)
        self._settings: list[Any] | None = None
        if os.isatty(0):
            self._settings = termios.tcgetattr(0)
            settings = termios.tcgetattr(0)
            settings[IFLAG] &= ~(
                termios.BRKINT | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.ISTRIP | termios.IXON
            )
            settings[LFLAG] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN)
            termios.tcsetattr(0, termios.TCSANOW, settings)

    def close(self) -> None:
        """The terminal is again as it was."""
        super().close()
        if self._settings is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self._settings)


class Telnet(Relayed):
    """A connection, which it owns, whose other side speaks telnet (RFC 854): its commands are taken out.

    It is told that we echo (RFC 857), send no GO AHEAD (RFC 858) and use all eight bits (RFC 856).
    """

    def __init__(self, context: IoContext, connection: _socket.socket) -> None:
        connection.sendall(HELLO)
        self._connection = connection
        self._other_way = os.dup(connection.fileno())
        self._command = b""
        super().__init__(
            context, connection.fileno(), self._other_way, hang_up=True, change=self._without_commands
        )

    def _without_commands(self, data: bytes) -> bytes:
        out = bytearray()
        for byte in data:
            if self._command:
                self._command += bytes([byte])
                if self._command == bytes([IAC, IAC]):
                    out.append(IAC)
                elif len(self._command) == 2 and byte >= WILL:
                    continue
                self._command = b""
            elif byte == IAC:
                self._command = bytes([IAC])
            else:
                out.append(byte)
        return bytes(out)

    def close(self) -> None:
        """Hang up."""
        super().close()
        os.close(self._other_way)
        self._connection.close()
