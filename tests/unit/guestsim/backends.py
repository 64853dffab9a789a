"""Back ends that do wrong, for tests of the front end: a thread that serves one connection by hand."""

from __future__ import annotations

import os
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


GET_INFLIGHT, GET_BASE, GET_QUEUES, GET_CONFIG, GET_SLOTS, GET_STATUS, SET_STATUS = 31, 11, 17, 24, 36, 40, 39
ANSWERED = {GET_QUEUES: 2, GET_SLOTS: 32}
CAPACITY = 2048


class Recorder:
    """A back end that does as it is told and keeps a record of (request, payload, number of descriptors).

    `refused` are requests that it answers with an error; `configuration` is how a GET_CONFIG is answered, made of its
    payload; `base` is where rings say that they stopped.
    """

    def __init__(self, features: int = F_PROTOCOL | F_VERSION_1, protocol: int = REPLY_ACK | CONFIG) -> None:
        self.features = features
        self.protocol = protocol
        self.record: list[tuple[int, bytes, int]] = []
        self.refused: set[int] = set()
        self.base = 0
        self.status = 0
        self.configuration: Callable[[bytes], bytes] = lambda payload: (
            payload[:12] + struct.pack("<Q", CAPACITY) + payload[20:]
        )
        self.fds: dict[int, int] = {}

    def requests(self) -> list[int]:
        """The requests in order."""
        return [request for request, _, _ in self.record]

    def payload(self, request: int) -> bytes:
        """The payload of the last such request."""
        return next(payload for one, payload, _ in reversed(self.record) if one == request)

    def __call__(self, back: BackEnd) -> None:
        while True:
            request, flags, payload = back.take()
            self.record.append((request, payload, len(back.fds)))
            for fd in back.fds:
                self._keep(request, fd)
            back.fds.clear()
            self._answer(back, request, flags, payload)

    def _keep(self, request: int, fd: int) -> None:
        if request in self.fds:
            os.close(self.fds[request])
        self.fds[request] = fd

    def _answer(self, back: BackEnd, request: int, flags: int, payload: bytes) -> None:
        numbers = {
            GET_FEATURES: self.features,
            GET_PROTOCOL: self.protocol,
            GET_STATUS: self.status,
            **ANSWERED,
        }
        if request == SET_STATUS:
            self.status = struct.unpack("<Q", payload)[0]
        if request in numbers:
            back.number(request, numbers[request])
        elif request == GET_CONFIG:
            back.say(request, self.configuration(payload))
        elif request == GET_BASE:
            back.say(request, payload[:4] + struct.pack("<I", self.base))
        elif request == GET_INFLIGHT:
            area = os.memfd_create("inflight")
            data = struct.pack("<QQHHI", 4096, 0, 2, 128, 0)
            socket.send_fds(back.socket, [HEADER.pack(request, 5, len(data)) + data], [area])
            os.close(area)
        elif flags & 8:
            back.number(request, int(request in self.refused))

    def close(self) -> None:
        """Close the descriptors that came."""
        for fd in self.fds.values():
            os.close(fd)
        self.fds.clear()
