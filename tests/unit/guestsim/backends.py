"""Back ends that do wrong, for tests of the front end: a thread that serves one connection by hand."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

HEADER = struct.Struct("<III")
GET_FEATURES, SET_OWNER, GET_PROTOCOL, SET_PROTOCOL, SET_CHANNEL = 1, 3, 15, 16, 21
F_PROTOCOL = 1 << 30
F_VERSION_1 = 1 << 32
REPLY_ACK, CHANNEL, CONFIG = 1 << 3, 1 << 5, 1 << 9


class BackEnd:
    """The back end's side of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.fds: list[int] = []

    def take(self) -> tuple[int, int, bytes]:
        """The next message: request, flags, payload; EOFError at the end."""
        data, fds, _, _ = socket.recv_fds(self.socket, HEADER.size, 8)
        self.fds += fds
        if not data:
            raise EOFError
        request, flags, size = HEADER.unpack(data)
        return request, flags, self.socket.recv(size) if size else b""

    def say(self, request: int, payload: bytes, *, flags: int = 5, size: int | None = None) -> None:
        """Send a reply."""
        self.socket.sendall(HEADER.pack(request, flags, len(payload) if size is None else size) + payload)

    def number(self, request: int, value: int) -> None:
        """Answer with a number."""
        self.say(request, struct.pack("<Q", value))

    def introduce(self, protocol: int = REPLY_ACK | CHANNEL | CONFIG) -> None:
        """Answer what a front end begins with, with every request acknowledged."""
        while True:
            request, flags, _ = self.take()
            if request == GET_FEATURES:
                self.number(request, F_PROTOCOL | F_VERSION_1)
            elif request == GET_PROTOCOL:
                self.number(request, protocol)
            elif flags & 8:
                self.number(request, 0)
            if request == (SET_CHANNEL if protocol & CHANNEL else SET_OWNER):
                return


@contextmanager
def serving(path: Path, behave: Callable[[BackEnd], None]) -> Iterator[None]:
    """Serve one connection at `path` with `behave`; an end of the connection ends it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def run() -> None:
            connection, _ = listener.accept()
            with connection, suppress(EOFError, OSError):
                behave(BackEnd(connection))

        thread = Thread(target=run, daemon=True)
        thread.start()
        yield
        thread.join(5)
        assert not thread.is_alive()
