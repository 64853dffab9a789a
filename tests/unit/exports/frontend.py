"""A scripted vhost-user front end, and a device whose requests come back when a test says so.

Messages, memory and rings are written here from the protocol's document and VIRTIO 1.4 §2.7 with `struct`; nothing of
the code under test is used for them.  Both ends run in one thread: after each message the server's context runs until
it is idle.
"""

from __future__ import annotations

import array
import mmap
import os
import select
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from devmodels.conformance import ViolationLog
from devmodels.exports.vhost_server import VhostUserServer
from devmodels.iocontext import ClockKind, IoContext
from devmodels.iocontext.polling import Poller
from devmodels.memory import GuestMemory
from devmodels.virtio.device import VirtioDevice
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain

GET_FEATURES = 1
SET_FEATURES = 2
SET_OWNER = 3
RESET_OWNER = 4
SET_MEM_TABLE = 5
SET_LOG_BASE = 6
SET_LOG_FD = 7
SET_VRING_NUM = 8
SET_VRING_ADDR = 9
SET_VRING_BASE = 10
GET_VRING_BASE = 11
SET_VRING_KICK = 12
SET_VRING_CALL = 13
SET_VRING_ERR = 14
GET_PROTOCOL_FEATURES = 15
SET_PROTOCOL_FEATURES = 16
GET_QUEUE_NUM = 17
SET_VRING_ENABLE = 18
SET_BACKEND_REQ_FD = 21
GET_CONFIG = 24
SET_CONFIG = 25
GET_INFLIGHT_FD = 31
SET_INFLIGHT_FD = 32
RESET_DEVICE = 34
GET_MAX_MEM_SLOTS = 36
ADD_MEM_REG = 37
REM_MEM_REG = 38
SET_STATUS = 39
GET_STATUS = 40
SET_DEVICE_STATE_FD = 42
CHECK_DEVICE_STATE = 43

REQUESTS = tuple(
    value for name, value in list(globals().items()) if name.isupper() and isinstance(value, int)
)

NEED_REPLY = 8
NO_FD = 1 << 8

MQ, LOG, REPLY_ACK, BACKEND_REQ, CONFIG, INFLIGHT, RESET, MEM_SLOTS, STATUS, DEVICE_STATE = (
    1 << bit for bit in (0, 1, 3, 5, 9, 12, 13, 15, 16, 19)
)

F_LOG_ALL = 1 << 26
F_PROTOCOL = 1 << 30
F_INDIRECT = 1 << 28
F_EVENT_IDX = 1 << 29
F_VERSION_1 = 1 << 32
F_PACKED = 1 << 34

MEMORY_SIZE = 1 << 20
GUEST_BASE = 0x4000_0000
USER_BASE = 0x7F00_0000_0000
MEMORY_NAME = "front-end-memory"


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def state(index: int, num: int) -> bytes:
    return struct.pack("<II", index, num)


def region(guest: int, size: int, user: int, offset: int = 0) -> bytes:
    return struct.pack("<QQQQ", guest, size, user, offset)


def table(*regions: bytes) -> bytes:
    return struct.pack("<II", len(regions), 0) + b"".join(regions)


def inflight(size: int, num_queues: int, queue_size: int, offset: int = 0) -> bytes:
    """The description of an in-flight area, padded as C pads it."""
    return struct.pack("<QQHH4x", size, offset, num_queues, queue_size)


class Disconnected(Exception):
    """The back end has closed the connection."""


class Unanswered(Exception):
    """A reply did not come, or another one."""


class HeldRequest:
    """A buffer that `HoldingDevice` has taken."""

    def __init__(self, queue: VirtQueue, chain: Chain) -> None:
        self.queue = queue
        self.chain = chain


class HoldingDevice(VirtioDevice):
    """Takes buffers and keeps them until `give_back`, or, where `immediate`, gives them back at once."""

    DEVICE_ID = 42
    CONFIG_SIZE = 60

    def __init__(self, context: IoContext, *, num_queues: int = 2, immediate: bool = False) -> None:
        super().__init__(
            name="dut",
            context=context,
            memory=GuestMemory(),
            features=F_VERSION_1 | F_EVENT_IDX | F_INDIRECT | F_PACKED | 1 << 5,
            num_queues=num_queues,
            queue_size=32768,
            violations=ViolationLog(),
        )
        self.immediate = immediate
        self.held: list[HeldRequest] = []
        self.space = bytearray(range(60))

    def read_config(self, offset: int, size: int) -> int:
        return int.from_bytes(self.space[offset : offset + size], "little")

    def config_bytes(self) -> bytes:
        return bytes(self.space)

    def write_config(self, offset: int, size: int, value: int) -> None:
        """Only byte 32 can be written."""
        if offset == 32:
            self.space[32] = value
        else:
            self.violations.report("test", f"write at {offset}", self.name)

    def handle(self, queue: VirtQueue, chains: Sequence[Chain]) -> None:
        for chain in chains:
            self.held.append(HeldRequest(queue, chain))
            if self.immediate:
                self.give_back()

    def give_back(self, number: int = 0) -> None:
        """Complete the held request `number`, its writable part filled with its head."""
        request = self.held.pop(number)
        chain = request.chain
        for address, length in chain.writable:
            if self.memory.contains(address, length, write=True):
                self.memory.write(address, bytes([chain.head & 0xFF]) * length)
        request.queue.finish(((chain, chain.writable_bytes),))


class SharedMemory:
    """A memfd of the front end's, mapped here too."""

    def __init__(self, size: int = MEMORY_SIZE, *, name: str = MEMORY_NAME) -> None:
        self.fd = os.memfd_create(name, os.MFD_CLOEXEC)
        os.ftruncate(self.fd, size)
        self.size = size
        self.bytes = mmap.mmap(self.fd, size)

    def close(self) -> None:
        self.bytes.close()
        os.close(self.fd)


class Ring:
    """The driver's side of a split ring of `size` entries at `offset` of the memory; data buffers follow it.

    Buffer `n` is one writable descriptor of 16 bytes.
    """

    def __init__(self, memory: SharedMemory, offset: int = 0, size: int = 8, *, fresh: bool = True) -> None:
        """A ring of zeroes, or, not `fresh`, one that goes on with what is in memory."""
        self.memory = memory
        self.size = size
        self.desc = offset
        self.avail = offset + 16 * size
        self.used = (self.avail + 6 + 2 * size + 3) & ~3
        self.data = self.used + 6 + 8 * size + 10 & ~15
        self.avail_idx = int(struct.unpack_from("<H", memory.bytes, self.avail + 2)[0])
        self.used_seen = self.used_idx
        if fresh:
            self.clear()

    def clear(self) -> None:
        """A driver starts anew: zeroes everywhere."""
        self.memory.bytes[self.desc : self.data] = bytes(self.data - self.desc)
        self.avail_idx = self.used_seen = 0

    def addresses(self, index: int, user: int = USER_BASE, *, log: int | None = None) -> bytes:
        """The payload of SET_VRING_ADDR; `log` is where writes of the used ring are to be logged."""
        parts = (user + self.desc, user + self.used, user + self.avail)
        return struct.pack("<IIQQQQ", index, int(log is not None), *parts, log or 0)

    def add(self, guest: int = GUEST_BASE, *, readable: int | None = None) -> int:
        """Make one buffer available and return its head."""
        head = self.avail_idx % self.size
        address = guest + self.data + 16 * head
        struct.pack_into("<QIHH", self.memory.bytes, self.desc + 16 * head, address, 16, 2, 0)
        struct.pack_into("<H", self.memory.bytes, self.avail + 4 + 2 * head, head)
        self.avail_idx = (self.avail_idx + 1) & 0xFFFF
        struct.pack_into("<H", self.memory.bytes, self.avail + 2, self.avail_idx)
        return head

    def taken_back(self) -> list[tuple[int, int]]:
        """The used elements (head, length) since the last call."""
        (idx,) = struct.unpack_from("<H", self.memory.bytes, self.used + 2)
        found = []
        while self.used_seen != idx:
            at = self.used + 4 + 8 * (self.used_seen % self.size)
            head, length = struct.unpack_from("<II", self.memory.bytes, at)
            found.append((head, length))
            self.used_seen = (self.used_seen + 1) & 0xFFFF
        return found

    @property
    def used_idx(self) -> int:
        return int(struct.unpack_from("<H", self.memory.bytes, self.used + 2)[0])

    def kicks_wanted(self) -> bool:
        """Whether the flags of the used ring ask for notifications (without the event index)."""
        return not struct.unpack_from("<H", self.memory.bytes, self.used)[0] & 1


def eventfd() -> int:
    return os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)


def signalled(fd: int) -> int:
    """How often an eventfd was signalled since it was read last."""
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0


class FrontEnd:
    """One connection.  `close` closes it and all that was made by it."""

    def __init__(self, path: Path, context: IoContext) -> None:
        self._context = context
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.socket.setblocking(False)
        self.memory = SharedMemory()
        self.kicks: dict[int, int] = {}
        self.calls: dict[int, int] = {}
        self.errs: dict[int, int] = {}
        self.run()

    def run(self) -> None:
        self._context.run_until_idle()

    def close(self) -> None:
        self.socket.close()
        self.memory.close()
        for fds in (self.kicks, self.calls, self.errs):
            for fd in fds.values():
                os.close(fd)
            fds.clear()
        self.run()

    # --- messages

    def put(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send raw bytes and let the server look at them."""
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self.socket.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError):
            raise Disconnected from None
        self.run()

    def send(self, request: int, payload: bytes = b"", fds: Sequence[int] = (), *, flags: int = 1) -> None:
        """Send one message."""
        self.put(struct.pack("<III", request, flags, len(payload)) + payload, fds)

    def reply(self) -> tuple[int, bytes] | None:
        """The next reply (request, payload), None where there is none; Disconnected at the connection's end."""
        try:
            header = self.socket.recv(12)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            raise Disconnected from None
        if not header:
            raise Disconnected
        request, flags, size = struct.unpack("<III", header)
        assert flags == 5, f"a reply's flags are version 1 and the reply bit, not {flags:#x}"
        return request, self.socket.recv(size) if size else b""

    def ask(self, request: int, payload: bytes = b"", fds: Sequence[int] = (), *, flags: int = 1) -> bytes:
        """Send one message and return the payload of its reply."""
        self.send(request, payload, fds, flags=flags)
        answer = self.reply()
        if answer is None or answer[0] != request:
            raise Unanswered(f"request {request}: {answer}")
        return answer[1]

    def ask_fd(self, request: int, payload: bytes = b"") -> tuple[bytes, int]:
        """Send one message and return the payload of its reply, and the descriptor that came with it."""
        self.send(request, payload)
        data, fds, _, _ = socket.recv_fds(self.socket, 12 + len(payload), 1)
        found, flags, size = struct.unpack_from("<III", data)
        assert (found, flags, size, len(fds)) == (request, 5, len(payload), 1)
        return data[12:], fds[0]

    def acknowledged(self, request: int, payload: bytes = b"", fds: Sequence[int] = ()) -> int:
        """Send one message with need_reply and return the number in its reply: 0 for success."""
        answer = self.ask(request, payload, fds, flags=1 | NEED_REPLY)
        return int(struct.unpack("<Q", answer)[0])

    def number(self, request: int) -> int:
        """The number that a request without payload is answered with."""
        return int(struct.unpack("<Q", self.ask(request))[0])

    @property
    def connected(self) -> bool:
        """Whether the back end still holds the connection."""
        try:
            return self.socket.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False

    # --- a device's start, in the order that QEMU keeps

    def introduce(self, protocol: int = MQ | REPLY_ACK | CONFIG | RESET | MEM_SLOTS | STATUS) -> None:
        """What a front end does as soon as it is connected."""
        self.number(GET_FEATURES)
        self.number(GET_PROTOCOL_FEATURES)
        self.send(SET_PROTOCOL_FEATURES, u64(protocol))
        self.send(SET_OWNER)

    def set_features(self, features: int = F_PROTOCOL | F_VERSION_1) -> None:
        self.send(SET_FEATURES, u64(features))

    def share(self, *, guest: int = GUEST_BASE, user: int = USER_BASE) -> None:
        """The whole memory as one region."""
        self.send(SET_MEM_TABLE, table(region(guest, self.memory.size, user)), [self.memory.fd])

    def set_kick(self, index: int) -> None:
        self._fresh(self.kicks, index)
        self.send(SET_VRING_KICK, u64(index), [self.kicks[index]])

    def set_call(self, index: int) -> None:
        self._fresh(self.calls, index)
        self.send(SET_VRING_CALL, u64(index), [self.calls[index]])

    def set_err(self, index: int) -> None:
        self._fresh(self.errs, index)
        self.send(SET_VRING_ERR, u64(index), [self.errs[index]])

    def _fresh(self, fds: dict[int, int], index: int) -> None:
        if index in fds:
            os.close(fds[index])
        fds[index] = eventfd()

    def set_ring(self, index: int, ring: Ring, base: int = 0) -> None:
        self.send(SET_VRING_NUM, state(index, ring.size))
        self.send(SET_VRING_BASE, state(index, base))
        self.send(SET_VRING_ADDR, ring.addresses(index))

    def enable(self, index: int, on: int = 1) -> None:
        self.send(SET_VRING_ENABLE, state(index, on))

    def start(self, index: int, ring: Ring, base: int = 0) -> None:
        """Ring, kick, call and enabling."""
        self.set_ring(index, ring, base)
        self.set_kick(index)
        self.set_call(index)
        self.enable(index)

    def stop(self, index: int) -> int:
        """Stop a ring and return where it stopped."""
        answer = self.ask(GET_VRING_BASE, state(index, 0))
        found, base = struct.unpack("<II", answer)
        assert found == index
        return int(base)

    def up(self, *, rings: int = 1, features: int = F_PROTOCOL | F_VERSION_1) -> list[Ring]:
        """From nothing to running rings."""
        self.introduce()
        self.set_features(features)
        self.share()
        found = [Ring(self.memory, 0x1000 * index) for index in range(rings)]
        for index, ring in enumerate(found):
            self.start(index, ring)
        return found

    def kick(self, index: int) -> None:
        os.eventfd_write(self.kicks[index], 1)
        self.run()


class _WatchedContext(IoContext):
    """A context on a virtual clock that shows its pollers."""

    def __init__(self) -> None:
        super().__init__(ClockKind.VIRTUAL)
        self.pollers: list[Poller] = []

    def add_poller(self, poller: Poller) -> None:
        self.pollers.append(poller)

    def remove_poller(self, poller: Poller) -> None:
        self.pollers.remove(poller)


class World:
    """A server with its device, and front ends that come and go."""

    def __init__(self, folder: Path, *, num_queues: int = 2, immediate: bool = False) -> None:
        self.path = folder / "vu.sock"
        self.context = _WatchedContext()
        self.pollers = self.context.pollers
        self.device = HoldingDevice(self.context, num_queues=num_queues, immediate=immediate)
        self.server = VhostUserServer(str(self.path), self.device)

    @contextmanager
    def front_end(self) -> Iterator[FrontEnd]:
        front_end = FrontEnd(self.path, self.context)
        try:
            yield front_end
        finally:
            front_end.close()

    def close(self) -> None:
        self.server.close()
        while self.device.held:
            self.device.give_back()
        self.context.run_until_idle()
        self.context.close()


# --- what a connection must not leave behind


def open_files() -> dict[int, str]:
    """This process's descriptors and what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the listing's own
    return found


def front_end_mappings() -> list[str]:
    """Mappings of front ends' memory in this process."""
    with open("/proc/self/maps") as maps:
        return [line for line in maps if MEMORY_NAME in line]


def readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def writable(fd: int) -> bool:
    return bool(select.select([], [fd], [], 0)[1])
