"""What comes in on a vfio-user connection's socket: messages with their descriptors, out of what is read at a time.

Follows "Header" of the protocol's document.  As much is read as there is, so that a short message, or several, cost
one system call.  A client sends a message, or the first piece of one, with its descriptors by one call, and a reading
ends behind what came with descriptors: they belong to the message that begins last in it.
"""

from __future__ import annotations

import array
import os
import socket
from typing import NamedTuple

from devmodels.protocols.vfio_user import HEADER, MAX_FDS, MAX_MESSAGE, TYPE_MASK, TYPE_REPLY, command_name

READ_AHEAD = 4096
"""How many bytes are read at a time; more where a message that has begun needs them."""

_INT = array.array("i").itemsize
_ROOM = socket.CMSG_SPACE(MAX_FDS * _INT)
_CLOEXEC, _LOST = int(socket.MSG_CMSG_CLOEXEC), int(socket.MSG_CTRUNC)
"""As plain numbers: a message is worth half a microsecond."""
_HEADER = HEADER.size
_unpack = HEADER.unpack_from


class ProtocolError(Exception):
    """The client broke the protocol: its connection ends."""


class LeftError(Exception):
    """The client has closed the connection, between two messages."""


class Message(NamedTuple):
    """A message of the client's; descriptors that are left in `fds` are closed."""

    id: int
    command: int
    flags: int
    error: int
    payload: bytes
    fds: list[int]


class Incoming:
    """The messages that `sock`, which does not block, has for us."""

    __slots__ = ("_at", "_data", "_fds", "_missing", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._data: bytes | bytearray = b""
        self._at = 0
        """Where in `_data` the next message begins."""
        self._missing = 0
        self._fds: dict[int, list[int]] = {}
        """Descriptors, by where their message begins."""

    @property
    def pending(self) -> bool:
        """Whether something has been read that has not been taken."""
        return self._at < len(self._data)

    def receive(self) -> Message | None:
        """The next message, if all of it is there; ProtocolError, LeftError, OSError."""
        while True:
            if self._at < len(self._data):
                message = self._take()
                if message is not None:
                    return message
            if not self._read():
                return None

    def close(self) -> None:
        """Close descriptors that nobody has taken."""
        for fds in self._fds.values():
            close_all(fds)
        self._fds.clear()

    def _take(self) -> Message | None:
        """The next message, if all of it has been read."""
        data, at = self._data, self._at
        have = len(data) - at
        self._missing = 0
        if have < _HEADER:
            return None
        number, command, size, flags, error = _unpack(data, at)
        if not _HEADER <= size <= MAX_MESSAGE:
            raise ProtocolError(
                f"{command_name(command)} of {size} bytes, expected {_HEADER} to {MAX_MESSAGE}"
            )
        if flags & TYPE_MASK > TYPE_REPLY:
            raise ProtocolError(f"{command_name(command)} has flags {flags:#x}: neither command nor reply")
        if have < size:
            self._missing = size - have
            return None
        self._at = end = at + size
        fds = self._fds.pop(at) if at in self._fds else []
        return Message(number, command, flags, error, bytes(data[at + _HEADER : end]), fds)

    def _read(self) -> bool:
        """Read what there is; False where that is nothing."""
        size = READ_AHEAD if self._missing < READ_AHEAD else self._missing
        try:
            data, ancillary, flags, _ = self._sock.recvmsg(size, _ROOM, _CLOEXEC)
        except BlockingIOError:
            return False
        at = self._at
        begun = len(self._data) - at
        self._at = 0
        if begun:
            if at and self._fds:
                self._fds = {0: self._fds.pop(at)}
            rest = bytearray(self._data[at:]) if at or isinstance(self._data, bytes) else self._data
            rest += data
            self._data = rest
        else:
            self._data = data
        if ancillary:
            self._take_fds(ancillary, begun)
        if flags & _LOST:
            raise ProtocolError(
                f"file descriptors are lost: there were more than {MAX_FDS}, or too many are open here"
            )
        if not data:
            if begun:
                raise ProtocolError("the client left in the middle of a message")
            raise LeftError
        return True

    def _take_fds(self, ancillary: list[tuple[int, int, bytes]], first: int) -> None:
        """Keep descriptors for the message that begins last, from `first` on."""
        fds: list[int] = []
        for level, kind, body in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(body[: len(body) - len(body) % _INT])
                fds += numbers.tolist()
        begins = at = 0
        while at < len(self._data):
            begins = at
            if len(self._data) - at < _HEADER:
                break
            # A length that cannot be is judged in its turn.
            at += max(_unpack(self._data, at)[2], _HEADER)
        if begins >= first:
            self._fds[begins] = fds
            return
        close_all(fds)
        if first - begins < _HEADER:
            raise ProtocolError("file descriptors in the middle of a message")


def close_all(fds: list[int]) -> None:
    """Close descriptors, and forget them."""
    while fds:
        os.close(fds.pop())
