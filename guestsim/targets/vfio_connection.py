"""A client's conversation with a vfio-user server: commands and their answers, and what the server asks of our memory.

Every call ends within the connection's time limit, on the wall clock.  What goes wrong is told in one line with the
socket's path; after a closed connection, or an answer that nobody could read, nothing more is sent.
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn, Protocol

from guestsim.errors import DisconnectedError, GuestError
from guestsim.targets import TargetError
from guestsim.targets import vfio_messages as msg
from guestsim.targets.vfio_messages import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TIMEOUT = 20.0
"""Seconds that a server has for one answer: that to DEVICE_RESET comes after all that runs."""

CAPABILITIES: dict[str, object] = {
    "max_msg_fds": 16,
    "max_data_xfer_size": 1 << 20,
    "max_dma_maps": 65535,
    "pgsizes": 4096,
    "write_multiple": True,
}


class RefusedError(GuestError):
    """The server answered with an error; `error` is its errno, 0 where it gave none."""

    def __init__(self, text: str, error: int) -> None:
        super().__init__(text)
        self.error = error


class Memory(Protocol):
    """Memory that the server asks for by messages."""

    def read(self, address: int, length: int) -> bytes:
        """Read; TargetError where there is none."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Write; TargetError where there is none."""
        ...


class VfioConnection:
    """One connection to the server that listens at `path`, whose capabilities are `capabilities` when it is made.

    `label` names it in messages; `last_words` is asked for what the server has said elsewhere when the connection is
    lost; `pump` lets servers of this very thread go on; servers of `beside` are served while this one is waited for.
    Raises `TargetError` where nobody listens; `DisconnectedError` once the connection is lost, `lost` saying why.
    """

    def __init__(
        self,
        path: str,
        label: str,
        *,
        memory: Memory | None = None,
        timeout: float = TIMEOUT,
        last_words: Callable[[], str] = str,
        pump: Callable[[], object] | None = None,
        proposal: dict[str, object] | None = None,
        beside: Callable[[], Sequence[VfioConnection]] = tuple,
    ) -> None:
        """`proposal` are the capabilities that we propose, ours if not given."""
        self.label = label
        self.lost: str | None = None
        self.trace: Callable[[str], None] | None = None
        self._memory = memory
        self._timeout = timeout
        self._last_words = last_words
        self._pump = pump
        self._beside = beside
        self._id = 0
        self._poll = select.poll()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise TargetError(f"{label}: cannot connect: {error.strerror or error}") from error
        self._poll.register(self._socket, select.POLLIN)
        try:
            self.capabilities = self._introduce(CAPABILITIES if proposal is None else proposal)
        except BaseException:
            self.close()
            raise

    def _introduce(self, proposal: dict[str, object]) -> dict[str, object]:
        """Propose a version and our capabilities; returns the server's."""
        text = json.dumps({"capabilities": proposal}).encode() + b"\0"
        answer = self.ask(Command.VERSION, msg.VERSION.pack(0, 1) + text)
        try:
            major, minor = msg.VERSION.unpack_from(answer)
            data = json.loads(answer[msg.VERSION.size : -1] or b"{}")
        except (ValueError, struct.error) as error:
            self._lose(f"answered VERSION with {len(answer)} bytes that are none: {error}")
        if major != 0 or minor > 1 or not isinstance(data, dict):
            self._lose(f"answered VERSION with version {major}.{minor}")
        return dict(data.get("capabilities", {}))

    def fileno(self) -> int:
        """What can be read when `look` should be called."""
        return self._socket.fileno()

    def close(self) -> None:
        """Leave the server. Idempotent."""
        if self.lost is None:
            self.lost = f"{self.label}: the connection has been closed"
        self._socket.close()

    # --- commands

    def ask(self, command: int, payload: bytes = b"", fds: Sequence[int] = ()) -> bytes:
        """Send a command and return its answer's payload; RefusedError where the server says that it cannot be."""
        number = self.send(command, payload, fds)
        return self.answer(command, number)

    def post(self, command: int, payload: bytes = b"") -> None:
        """Send a command that has no answer."""
        self.send(command, payload, flags=msg.NO_REPLY)

    def send(self, command: int, payload: bytes = b"", fds: Sequence[int] = (), *, flags: int = 0) -> int:
        """Send a command and return its id, by which `answer` finds its answer."""
        if self.lost is not None:
            raise DisconnectedError(self.lost)
        self._id = (self._id + 1) & 0xFFFF
        if self.trace is not None:
            shown = payload[:48].hex(" ", 8) + (f" and {len(fds)} descriptors" if fds else "")
            self.trace(f"vfio {msg.name(command)} {shown}")
        header = msg.HEADER.pack(self._id, command, msg.HEADER.size + len(payload), flags, 0)
        self._put(header + payload, fds)
        return self._id

    def answer(self, command: int, number: int) -> bytes:
        """The payload of the answer to the command with the id `number`; the server's own commands are served."""
        deadline = time.monotonic() + self._timeout
        what = msg.name(command)
        while True:
            found, kind, flags, error, payload = self._receive(what, deadline)
            if flags & msg.TYPE_MASK != msg.REPLY:
                self._serve(found, kind, flags, payload)
                continue
            if (found, kind) != (number, command):
                self._lose(f"answered {what} with an answer to {msg.name(kind)}")
            if flags & msg.ERROR:
                text = os.strerror(error) if error else "no reason given"
                raise RefusedError(f"{self.label}: the server refused {what}: {text}", error)
            return payload

    # --- the server's commands

    def look(self) -> None:
        """Serve what the server asks for; `lost` is set where the connection has ended."""
        while self.lost is None and self._poll.poll(0):
            with suppress(DisconnectedError):
                number, kind, flags, _, payload = self._receive("nothing", time.monotonic() + self._timeout)
                if flags & msg.TYPE_MASK == msg.REPLY:
                    self._lose(f"answered {msg.name(kind)}, which nobody had asked for")
                self._serve(number, kind, flags, payload)

    def _serve(self, number: int, command: int, flags: int, payload: bytes) -> None:
        """Read or write memory for the server, and answer."""
        answer, error = b"", 0
        if self._memory is None or command not in (Command.DMA_READ, Command.DMA_WRITE):
            error = errno.ENOSYS
        elif len(payload) < msg.DMA_ACCESS.size:
            error = errno.EINVAL
        else:
            address, count = msg.DMA_ACCESS.unpack_from(payload)
            answer = payload[: msg.DMA_ACCESS.size]
            try:
                if command == Command.DMA_READ:
                    answer += self._memory.read(address, count)
                else:
                    self._memory.write(address, payload[msg.DMA_ACCESS.size :])
            except TargetError:
                answer, error = b"", errno.EFAULT
        if not flags & msg.NO_REPLY:
            reply = msg.REPLY | (msg.ERROR if error else 0)
            self._put(msg.HEADER.pack(number, command, msg.HEADER.size + len(answer), reply, error) + answer)

    # --- bytes

    def _put(self, data: bytes, fds: Sequence[int] = ()) -> None:
        try:
            sent = socket.send_fds(self._socket, [data], list(fds), socket.MSG_NOSIGNAL)
            while sent < len(data):
                sent += self._socket.send(data[sent:], socket.MSG_NOSIGNAL)
        except TimeoutError:
            self._lose(f"takes no message within {self._timeout:g} s")
        except OSError as error:
            self._lose("closed the connection", error)

    def _receive(self, what: str, deadline: float) -> tuple[int, int, int, int, bytes]:
        """Id, command, flags, errno and payload of the next message."""
        header = self._take(msg.HEADER.size, what, deadline)
        number, command, size, flags, error = msg.HEADER.unpack(header)
        if not msg.HEADER.size <= size <= msg.MAX_MESSAGE:
            self._lose(f"sent {msg.name(command)} of {size} bytes")
        return number, command, flags, error, self._take(size - msg.HEADER.size, what, deadline)

    def _take(self, length: int, what: str, deadline: float) -> bytes:
        data = b""
        while len(data) < length:
            self._wait(what, deadline)
            try:
                piece = self._socket.recv(length - len(data))
            except OSError as error:
                self._lose(f"closed the connection instead of answering {what}", error)
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
            others = {
                each.fileno(): each for each in self._beside() if each.lost is None and each is not self
            }
            poll = select.poll()
            for fd in (self.fileno(), *others):
                poll.register(fd, select.POLLIN)
            ready = [fd for fd, _ in poll.poll(max(0, left * 1000) if self._pump is None else 0)]
            if self.fileno() in ready:
                return
            for fd in ready:
                others[fd].look()
            if left <= 0:
                self._lose(f"gave no answer to {what} within {self._timeout:g} s")

    def _lose(self, how: str, error: OSError | None = None) -> NoReturn:
        """End the conversation: nobody could tell which answer would come next."""
        words = self._last_words()
        self.lost = f"{self.label}: the server {how}{': ' if words else ''}{words}"
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        raise DisconnectedError(self.lost) from error
