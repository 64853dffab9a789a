"""A scripted vfio-user client, and a server with a function of the tests' own.

Messages are written here from the protocol's document and <linux/vfio.h> with `struct`; nothing of the code under test
is used for them.  Both ends run in one thread: after each message the server's context runs until it is idle.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from devmodels.conformance import ViolationLog
from devmodels.exports.vfio_user import VfioUserServer
from devmodels.exports.vfio_user_session import Offered
from devmodels.iocontext import ClockKind, IoContext
from devmodels.machine import Machine
from devmodels.memory import GuestMemory
from tests.unit.exports.vfio.function import COMMAND, TestFunction

(
    VERSION,
    DMA_MAP,
    DMA_UNMAP,
    GET_INFO,
    REGION_INFO,
    IO_FDS,
    IRQ_INFO,
    SET_IRQS,
    READ,
    WRITE,
    DMA_READ,
    DMA_WRITE,
) = range(1, 13)
RESET, WRITE_MULTI, FEATURE = 13, 15, 16
COMMANDS = (*range(1, 14), 15, 16)

NO_REPLY = 0x10
NONE, BOOL, EVENTFD, MASK, UNMASK, TRIGGER = 1, 2, 4, 8, 16, 32
INTX, MSI, MSIX, ERR, REQ = range(5)
CONFIG = 7
PAGE = 4096
MEMORY_NAME = "vfio-client-memory"

PROPOSAL: dict[str, object] = {
    "max_msg_fds": 8,
    "max_data_xfer_size": 1 << 20,
    "max_dma_maps": 65535,
    "pgsizes": 4096,
    "write_multiple": True,
}


class Disconnected(Exception):
    """The server has closed the connection."""


class Unanswered(Exception):
    """An answer did not come, or another one."""


class Answer(NamedTuple):
    """What came back: errno, 0 where there was no error; payload."""

    error: int
    payload: bytes


def message(
    command: int, payload: bytes = b"", *, flags: int = 0, number: int = 7, size: int | None = None
) -> bytes:
    """A command's bytes."""
    size = 16 + len(payload) if size is None else size
    return struct.pack("<HHIII", number, command, size, flags, 0) + payload


def greeting(capabilities: dict[str, object] | None = None, *, major: int = 0, minor: int = 1) -> bytes:
    """The payload of VERSION."""
    text = b"" if capabilities is None else json.dumps({"capabilities": capabilities}).encode() + b"\0"
    return struct.pack("<HH", major, minor) + text


def dma_map(address: int, size: int, *, offset: int = 0, flags: int = 3, argsz: int = 32) -> bytes:
    return struct.pack("<IIQQQ", argsz, flags, offset, address, size)


def dma_unmap(address: int, size: int, *, flags: int = 0, argsz: int = 24) -> bytes:
    return struct.pack("<IIQQ", argsz, flags, address, size)


def irq_set(flags: int, index: int, start: int, count: int, data: bytes = b"", *, argsz: int = 20) -> bytes:
    return struct.pack("<IIIII", argsz, flags, index, start, count) + data


def access(region: int, offset: int, count: int, data: bytes = b"") -> bytes:
    return struct.pack("<QII", offset, region, count) + data


class Eventfd:
    """An eventfd of the client's."""

    def __init__(self, flags: int = os.EFD_NONBLOCK | os.EFD_CLOEXEC) -> None:
        self.fd = os.eventfd(0, flags)

    def take(self) -> int:
        """How often it was signalled since the last time."""
        if not select.select([self.fd], [], [], 0)[0]:
            return 0
        return os.eventfd_read(self.fd)

    def close(self) -> None:
        """Idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class Shared:
    """A memfd of the client's, mapped here too."""

    def __init__(self, size: int = 64 * PAGE) -> None:
        self.fd = os.memfd_create(MEMORY_NAME, os.MFD_CLOEXEC)
        os.ftruncate(self.fd, size)
        self.size = size
        self.bytes = mmap.mmap(self.fd, size)

    def close(self) -> None:
        """Idempotent."""
        self.bytes.close()
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


Owned = TypeVar("Owned", Eventfd, Shared)


class Client:
    """One connection; `run` lets the server work, and does nothing where the server has a thread of its own."""

    def __init__(self, path: Path, run: Callable[[], object]) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))
        self.run = run
        self.number = 100
        self.limit = 10.0
        self.capabilities: dict[str, object] = {}
        self._owned: list[Eventfd | Shared] = []
        run()

    # --- messages

    def put(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send bytes as they are."""
        socket.send_fds(self.socket, [data], list(fds))
        self.run()

    def post(self, command: int, payload: bytes = b"", fds: Sequence[int] = ()) -> None:
        """Send a command that wants no answer."""
        self.put(message(command, payload, flags=NO_REPLY), fds)

    def send(self, command: int, payload: bytes = b"", fds: Sequence[int] = ()) -> int:
        """Send a command; its id."""
        self.number += 1
        self.put(message(command, payload, number=self.number), fds)
        return self.number

    def take(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            self.run()
            if not select.select([self.socket], [], [], self.limit)[0]:
                raise Unanswered
            piece = self.socket.recv(length - len(data))
            if not piece:
                raise Disconnected
            data += piece
        return data

    def receive(self) -> tuple[int, int, int, int, bytes]:
        """Id, command, flags, errno and payload of the next message."""
        number, command, size, flags, error = struct.unpack("<HHIII", self.take(16))
        return number, command, flags, error, self.take(size - 16)

    def answer(self, number: int, command: int) -> Answer:
        found, kind, flags, error, payload = self.receive()
        if (found, kind) != (number, command) or not flags & 1:
            raise Unanswered(f"{found} {kind} {flags:#x}, expected {number} {command}")
        assert bool(flags & 0x20) == bool(error)
        assert not (error and payload)
        return Answer(error, payload)

    def ask(self, command: int, payload: bytes = b"", fds: Sequence[int] = ()) -> Answer:
        return self.answer(self.send(command, payload, fds), command)

    def ok(self, command: int, payload: bytes = b"", fds: Sequence[int] = ()) -> bytes:
        """As `ask`, for a command that must not be refused."""
        answer = self.ask(command, payload, fds)
        assert not answer.error, os.strerror(answer.error)
        return answer.payload

    def silent(self) -> bool:
        """Whether nothing has come."""
        self.run()
        return not select.select([self.socket], [], [], 0)[0]

    def gone(self) -> bool:
        """Whether the server has closed the connection, whatever it said before."""
        self.run()
        self.socket.settimeout(self.limit)
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionError:
            pass
        except TimeoutError:
            return False
        return True

    # --- in fewer words

    def own(self, thing: Owned) -> Owned:
        """Something that is closed with the client, whatever becomes of it."""
        self._owned.append(thing)
        return thing

    def greet(self, capabilities: dict[str, object] | None = None) -> dict[str, object]:
        payload = self.ok(VERSION, greeting(PROPOSAL if capabilities is None else capabilities))
        assert payload[:4] == struct.pack("<HH", 0, 1)
        assert payload[-1] == 0
        found: dict[str, object] = json.loads(payload[4:-1])["capabilities"]
        self.capabilities = found
        return found

    def memory(self, address: int = 0, size: int = 64 * PAGE) -> Shared:
        """Memory of ours, mapped at `address`."""
        shared = self.own(Shared(size))
        assert self.ok(DMA_MAP, dma_map(address, size), [shared.fd]) == b""
        return shared

    def eventfds(self, index: int, count: int = 1, start: int = 0) -> list[Eventfd]:
        """Eventfds for interrupts."""
        made = [self.own(Eventfd()) for _ in range(count)]
        assert (
            self.ok(SET_IRQS, irq_set(EVENTFD | TRIGGER, index, start, count), [each.fd for each in made])
            == b""
        )
        return made

    def irqs(self, flags: int, index: int, start: int = 0, count: int = 1, data: bytes = b"") -> None:
        self.ok(SET_IRQS, irq_set(flags, index, start, count, data))

    def read(self, region: int, offset: int, count: int) -> bytes:
        payload = self.ok(READ, access(region, offset, count))
        assert payload[:16] == access(region, offset, count)
        assert len(payload) == 16 + count
        return payload[16:]

    def word(self, region: int, offset: int, size: int = 4) -> int:
        return int.from_bytes(self.read(region, offset, size), "little")

    def write(self, region: int, offset: int, data: bytes) -> None:
        assert self.ok(WRITE, access(region, offset, len(data), data)) == access(region, offset, len(data))

    def set(self, region: int, offset: int, value: int, size: int = 4) -> None:
        self.write(region, offset, value.to_bytes(size, "little"))

    def do(self, command: int, **registers: int) -> None:
        """Have the function carry out a command, its registers written before."""
        for name, value in registers.items():
            place, size = {"address": (0, 8), "length": (8, 4), "value": (12, 4)}[name]
            self.set(0, place, value, size)
        self.set(0, COMMAND, command)

    def master(self) -> None:
        """Let the function decode and master the bus."""
        self.set(CONFIG, 4, 7, 2)

    def close(self) -> None:
        self.socket.close()
        for each in self._owned:
            each.close()
        self._owned.clear()
        self.run()


class World:
    """A server with its function, and clients that come and go."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "vfu.sock"
        self.context = IoContext(ClockKind.STEPPED)
        self.memory = GuestMemory(name="dut.memory")
        self.machine = Machine(self.memory, self.context, name="dut")
        self.function = TestFunction(self.memory)
        self.machine.plug(self.function, 1)
        self.server = VfioUserServer(str(self.path), Offered(self.machine, self.function, ViolationLog()))

    @contextmanager
    def client(self, *, greeted: bool = True) -> Iterator[Client]:
        client = Client(self.path, self.context.run_until_idle)
        try:
            if greeted:
                client.greet()
                client.master()
            yield client
        finally:
            client.close()

    def close(self) -> None:
        self.server.close()
        self.function.settle()
        while self.function.held:
            self.function.give_back()
        self.context.run_until_idle()
        self.context.close()


@contextmanager
def elsewhere(context: IoContext) -> Iterator[None]:
    """A context runs in a thread of its own meanwhile: its client can be asked for memory."""
    ended = threading.Event()

    def run() -> None:
        context.adopt()
        while not ended.is_set():
            context.run_once()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        context.post(ended.set)
        thread.join()
        context.adopt()
