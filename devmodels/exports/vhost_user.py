"""A vhost-user back end: a virtio device offered to a front end (QEMU, another VMM) over a UNIX socket.

Follows "Vhost-user Protocol" (docs/interop/vhost-user.rst of QEMU).  One front end at a time; the next is served when
it has gone.  What a front end does wrong ends its connection with one log line, and nothing of it stays behind: no
mapping, no descriptor, no request.
"""

from __future__ import annotations

import array
import logging
import os
import select
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass

from devmodels.exports.vhost_memory import FrontEndMemory, MemoryTableError, RegionInfo
from devmodels.iocontext import IoContext
from devmodels.memory import GuestMemory
from devmodels.protocols.vhost_user import (
    CONFIG,
    F_PROTOCOL_FEATURES,
    FLAG_NEED_REPLY,
    FLAG_REPLY,
    HEADER,
    MAX_CONFIG,
    MAX_FDS,
    MAX_MEM_SLOTS,
    MAX_PAYLOAD,
    MAX_REGIONS,
    MEM_TABLE,
    REGION,
    SINGLE_REGION,
    U64,
    VERSION,
    VERSION_MASK,
    VRING_ADDR,
    VRING_INDEX_MASK,
    VRING_NO_FD,
    VRING_STATE,
    Message,
    ProtocolFeature,
)
from devmodels.virtio.constants import MAX_QUEUE_SIZE, Status
from devmodels.virtio.device import VirtioDevice, VirtQueue
from devmodels.wire import Codec

log = logging.getLogger("devmodels.vhost-user")

_HEADER = Codec.ints(HEADER)
_U64 = Codec.ints(U64)
_STATE = Codec.ints(VRING_STATE)
_ADDR = Codec.ints(VRING_ADDR)
_REGION = Codec.ints(REGION)
_MEM_TABLE = Codec.ints(MEM_TABLE)
_SINGLE = Codec.ints(SINGLE_REGION)
_CONFIG = Codec.ints(CONFIG)

MAX_QUEUES = 256
"""Vring indices are 8 bits wide in SET_VRING_KICK and its like."""

PROTOCOL_FEATURES = sum(1 << feature for feature in ProtocolFeature)

_RUNNING = Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK | Status.DRIVER_OK
_FD_MESSAGES = {Message.SET_VRING_KICK, Message.SET_VRING_CALL, Message.SET_VRING_ERR}


class ProtocolError(Exception):
    """The front end broke the protocol: its connection ends."""


class RequestRefused(Exception):
    """A well-formed request that cannot be done: answered with an error where a reply was asked for."""


class Notifier:
    """A descriptor that the front end waits on; signalling it never blocks."""

    __slots__ = ("_blocking", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        # O_NONBLOCK belongs to the open file description, which the front end shares: look, never change it.
        self._blocking = os.get_blocking(fd)

    def signal(self) -> None:
        """Add 1 to the eventfd."""
        try:
            if not self._blocking or select.select((), (self.fd,), (), 0)[1]:
                os.write(self.fd, b"\1\0\0\0\0\0\0\0")
        except OSError as error:
            log.debug("notification lost: %s", error)

    def close(self) -> None:
        """Give up the descriptor."""
        os.close(self.fd)


class Vring:
    """What the front end set up for one queue."""

    def __init__(self, session: Session, queue: VirtQueue) -> None:
        self._session = session
        self.queue = queue
        self.num = 0
        self.base = 0
        self.parts: tuple[int, int, int] | None = None
        self.enabled = False
        self.kick: int | None = None
        self.call: Notifier | None = None
        self.err: Notifier | None = None

    @property
    def running(self) -> bool:
        """Whether the device takes buffers from this ring."""
        return self.queue.ring is not None and self.queue.enabled

    def set_kick(self, fd: int | None) -> None:
        """A kick descriptor starts the ring, once it is enabled too."""
        self._drop_kick()
        self.kick = fd
        if fd is not None:
            # Edge-triggered and never read: one wake-up for each notification, and none is lost.
            self._session.context.watch(fd, select.EPOLLIN | select.EPOLLET, self._kicked)
        self.update()

    def _drop_kick(self) -> None:
        if self.kick is not None:
            self._session.context.unwatch(self.kick)
            os.close(self.kick)
            self.kick = None

    def update(self) -> None:
        """Start the ring where everything is there."""
        queue = self.queue
        if queue.ring is not None or not self.enabled or self.kick is None or self.parts is None:
            if queue.ring is not None:
                queue.enabled = self.enabled
            return
        desc, driver, device = self._session.translate(self.parts)
        queue.size, queue.desc, queue.driver, queue.device = self.num, desc, driver, device
        queue.enabled = True
        used = self._session.used_index(device)
        if not queue.start(last_avail=self.base, used_idx=used):
            raise RequestRefused(f"vring {queue.index} cannot be started")
        self._session.context.add_poller(self)
        self._session.context.call_soon(self._look)

    def _kicked(self, _events: int) -> None:
        self._session.device.process(self.queue)

    def _look(self) -> None:
        """Buffers may have been there before the ring was."""
        self._session.device.process(self.queue)

    # Poller

    def begin(self) -> None:
        """Busy polling begins: kicks are not needed."""
        self.queue.polled = True
        if self.queue.ring is not None:
            self.queue.ring.disable_notifications()

    def poll(self) -> bool:
        """Look at the available index."""
        ring = self.queue.ring
        if ring is None or not ring.pending() or not self.queue.enabled:
            return False
        self._session.device.process(self.queue)
        return True

    def end(self) -> bool:
        """Busy polling ends: ask for kicks again."""
        self.queue.polled = False
        self._session.device.process(self.queue)
        return False

    def stop(self, stopped: Callable[[int], None]) -> None:
        """Stop the ring; `stopped(last available index)` once everything taken has been given back."""
        queue = self.queue
        self._session.context.remove_poller(self)
        queue.polled = False

        def idle() -> None:
            if queue.ring is not None:
                self.base = queue.ring.last_avail
            self._drop_kick()
            self.parts = None
            queue.clear()
            stopped(self.base)

        queue.stop_when_idle(idle)

    def close(self) -> None:
        """The front end has gone: give up the descriptors."""
        self._session.context.remove_poller(self)
        self.queue.polled = False
        self._drop_kick()
        for notifier in (self.call, self.err):
            if notifier is not None:
                notifier.close()
        self.call = self.err = None


@dataclass(slots=True)
class _Incoming:
    """A message as far as it has arrived."""

    data: bytearray
    fds: list[int]


class Session:
    """One front end's connection."""

    def __init__(
        self,
        sock: socket.socket,
        device: VirtioDevice,
        memory: GuestMemory,
        context: IoContext,
        closed: Callable[[], None],
    ) -> None:
        self.context = context
        self.device = device
        self._sock = sock
        self._closed = closed
        self._gone = False
        self._memory = FrontEndMemory(memory)
        self._protocol_features = 0
        self._features = 0
        self._status = 0
        self._incoming = _Incoming(bytearray(), [])
        self._busy = False
        self._late_reply: int | None = None
        self._outgoing = bytearray()
        self._writing = False
        self.vrings = [Vring(self, queue) for queue in device.queues]
        device.transport = self
        self._handlers: dict[int, Callable[[bytes, list[int]], bytes | None]] = {
            Message.GET_FEATURES: self._get_features,
            Message.SET_FEATURES: self._set_features,
            Message.SET_OWNER: lambda _payload, _fds: None,
            Message.RESET_OWNER: lambda _payload, _fds: None,
            Message.SET_MEM_TABLE: self._set_mem_table,
            Message.SET_VRING_NUM: self._set_vring_num,
            Message.SET_VRING_ADDR: self._set_vring_addr,
            Message.SET_VRING_BASE: self._set_vring_base,
            Message.GET_VRING_BASE: self._get_vring_base,
            Message.SET_VRING_KICK: self._set_vring_kick,
            Message.SET_VRING_CALL: self._set_vring_call,
            Message.SET_VRING_ERR: self._set_vring_err,
            Message.GET_PROTOCOL_FEATURES: lambda _payload, _fds: _U64.pack(PROTOCOL_FEATURES),
            Message.SET_PROTOCOL_FEATURES: self._set_protocol_features,
            Message.GET_QUEUE_NUM: lambda _payload, _fds: _U64.pack(len(self.vrings)),
            Message.SET_VRING_ENABLE: self._set_vring_enable,
            Message.GET_CONFIG: self._get_config,
            Message.SET_CONFIG: self._set_config,
            Message.RESET_DEVICE: self._reset_device,
            Message.GET_MAX_MEM_SLOTS: lambda _payload, _fds: _U64.pack(MAX_MEM_SLOTS),
            Message.ADD_MEM_REG: self._add_mem_reg,
            Message.REM_MEM_REG: self._rem_mem_reg,
            Message.SET_STATUS: self._set_status,
            Message.GET_STATUS: lambda _payload, _fds: _U64.pack(self._status),
        }
        sock.setblocking(False)
        context.watch(sock.fileno(), select.EPOLLIN, lambda _events: self._receive())

    # --- Transport (what the device asks for)

    def notify_used(self, queue: int) -> None:
        """Signal the queue's call descriptor."""
        call = self.vrings[queue].call
        if call is not None:
            call.signal()

    def notify_config(self) -> None:
        """Tell the front end that a ring is broken; a new capacity it reads with its next GET_CONFIG."""
        if self.device.status & Status.DEVICE_NEEDS_RESET:
            for vring in self.vrings:
                if vring.err is not None:
                    vring.err.signal()

    # --- addresses

    def translate(self, parts: tuple[int, int, int]) -> tuple[int, int, int]:
        """Guest addresses of a ring's parts, given as the front end's own."""
        found = [self._memory.guest_address(user) for user in parts]
        desc, driver, device = found
        if desc is None or driver is None or device is None:
            raise RequestRefused(f"ring parts {', '.join(map(hex, parts))} are not in shared memory")
        return desc, driver, device

    def used_index(self, device_area: int) -> int:
        """The used index as it stands in memory: where an earlier back end stopped."""
        memory = self._memory.memory
        if not memory.contains(device_area, 4):
            raise RequestRefused(f"used ring at {device_area:#x} is not in shared memory")
        return int.from_bytes(memory.read(device_area + 2, 2), "little")

    # --- receiving

    def _receive(self) -> None:
        try:
            while not self._gone and not self._busy and self._receive_some():
                pass
        except (ProtocolError, ConnectionError) as error:
            self.close(f"connection ended: {error}")
        except OSError as error:
            self.close(f"connection lost: {error}")

    def _receive_some(self) -> bool:
        """Read what is there, handle a message that is whole; False where nothing more is there."""
        incoming = self._incoming
        want = _HEADER.size
        if len(incoming.data) >= want:
            want += _HEADER.unpack_from(incoming.data, 0)[2]
        if len(incoming.data) < want:
            try:
                data, fds = self._recv(want - len(incoming.data))
            except BlockingIOError:
                return False
            incoming.fds.extend(fds)
            if not data:
                if incoming.data:
                    raise ProtocolError("the front end left in the middle of a message")
                self.close(None)
                return False
            if fds and incoming.data:
                raise ProtocolError("file descriptors in the middle of a message")
            incoming.data += data
            if len(incoming.data) == _HEADER.size:
                self._check_header()
                want = _HEADER.size + _HEADER.unpack_from(incoming.data, 0)[2]
        if len(incoming.data) < want or len(incoming.data) < _HEADER.size:
            return True
        self._incoming = _Incoming(bytearray(), [])
        self._dispatch(bytes(incoming.data), incoming.fds)
        return True

    def _recv(self, count: int) -> tuple[bytes, list[int]]:
        item = array.array("i").itemsize
        data, ancillary, flags, _ = self._sock.recvmsg(
            count, socket.CMSG_SPACE(MAX_FDS * item), socket.MSG_CMSG_CLOEXEC
        )
        fds = array.array("i")
        for level, kind, body in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(body[: len(body) - len(body) % item])
        if flags & socket.MSG_CTRUNC:
            for fd in fds:
                os.close(fd)
            raise ProtocolError(f"more than {MAX_FDS} file descriptors")
        return data, list(fds)

    def _check_header(self) -> None:
        request, flags, size = _HEADER.unpack_from(self._incoming.data, 0)
        if flags & VERSION_MASK != VERSION or flags & FLAG_REPLY:
            raise ProtocolError(
                f"request {request} has flags {flags:#x}, expected version 1 and no reply bit"
            )
        if size > MAX_PAYLOAD:
            raise ProtocolError(f"request {request} has a payload of {size} bytes, at most {MAX_PAYLOAD}")

    def _dispatch(self, data: bytes, fds: list[int]) -> None:
        number, flags, _ = _HEADER.unpack_from(data, 0)
        payload = data[_HEADER.size :]
        acknowledge = bool(flags & FLAG_NEED_REPLY) and self._speaks(ProtocolFeature.REPLY_ACK)
        handler = self._handlers.get(number)
        try:
            if handler is None:
                raise RequestRefused(f"request {number} is not supported")
            if fds and number not in _FD_MESSAGES | {
                Message.SET_MEM_TABLE,
                Message.ADD_MEM_REG,
                Message.REM_MEM_REG,
            }:
                raise ProtocolError(f"{Message(number).name} with {len(fds)} file descriptors, expected none")
            reply = handler(payload, fds)
        except RequestRefused as error:
            name = Message(number).name if handler is not None else f"request {number}"
            if not acknowledge:
                raise ProtocolError(f"{name}: {error}") from error
            log.warning("%s: %s: %s", self.device.name, name, error)
            self._reply(number, _U64.pack(1))
            return
        finally:
            for fd in fds:
                if fd >= 0:
                    os.close(fd)
        if reply is not None:
            self._reply(number, reply)
        elif acknowledge and number != Message.GET_VRING_BASE:
            if self._busy:
                self._late_reply = number
            else:
                self._reply(number, _U64.pack(0))

    def _reply(self, number: int, payload: bytes) -> None:
        self._outgoing += _HEADER.pack(number, VERSION | FLAG_REPLY, len(payload)) + payload
        self._send()

    def _send(self) -> None:
        """Send what waits; a front end that does not read its replies stalls only itself."""
        try:
            while self._outgoing:
                sent = self._sock.send(self._outgoing)
                del self._outgoing[:sent]
        except BlockingIOError:
            if not self._writing:
                self._writing = True
                self._busy = True
                self.context.unwatch(self._sock.fileno())
                self.context.watch(self._sock.fileno(), select.EPOLLOUT, lambda _events: self._flushed())

    def _flushed(self) -> None:
        try:
            sent = self._sock.send(self._outgoing)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(f"connection lost: {error}")
            return
        del self._outgoing[:sent]
        if not self._outgoing:
            self._writing = False
            self._busy = False
            self.context.unwatch(self._sock.fileno())
            self.context.watch(self._sock.fileno(), select.EPOLLIN, lambda _events: self._receive())

    def _speaks(self, feature: ProtocolFeature) -> bool:
        return bool(self._protocol_features >> feature & 1)

    # --- features and status

    def _get_features(self, _payload: bytes, _fds: list[int]) -> bytes:
        return _U64.pack(self.device.device_features | F_PROTOCOL_FEATURES)

    def _set_features(self, payload: bytes, _fds: list[int]) -> None:
        value = _u64(payload)
        device = self.device
        extra = value & ~(device.device_features | F_PROTOCOL_FEATURES)
        if extra:
            raise RequestRefused(f"features {extra:#x} were not offered")
        if any(vring.running for vring in self.vrings):
            if value != self._features:
                raise RequestRefused("features changed while rings run")
            return
        self._features = value
        device.reset()
        device.driver_features = value & ~F_PROTOCOL_FEATURES
        device.write_status(_RUNNING)
        if not value & F_PROTOCOL_FEATURES:
            for vring in self.vrings:
                vring.enabled = True

    def _set_protocol_features(self, payload: bytes, _fds: list[int]) -> None:
        value = _u64(payload)
        if value & ~PROTOCOL_FEATURES:
            raise RequestRefused(f"protocol features {value & ~PROTOCOL_FEATURES:#x} were not offered")
        self._protocol_features = value

    def _set_status(self, payload: bytes, _fds: list[int]) -> None:
        self._status = _u64(payload) & 0xFF
        if not self._status:
            self._reset_rings()

    def _reset_device(self, _payload: bytes, _fds: list[int]) -> None:
        self._reset_rings()

    def _reset_rings(self) -> None:
        """Reset the device; the next message is looked at when that is complete."""
        for vring in self.vrings:
            vring.enabled = False
            self.context.remove_poller(vring)
        self._busy = True
        self.device.on_reset = self._reset_done
        self.device.reset()

    def _reset_done(self) -> None:
        self.device.on_reset = None
        self._busy = False
        if self._late_reply is not None:
            number, self._late_reply = self._late_reply, None
            self._reply(number, _U64.pack(0))
        self.context.call_soon(self._receive)

    # --- memory

    def _set_mem_table(self, payload: bytes, fds: list[int]) -> None:
        _need(payload, _MEM_TABLE.size)
        count, _ = _MEM_TABLE.unpack_from(payload, 0)
        if not 0 < count <= MAX_REGIONS or len(payload) != _MEM_TABLE.size + count * _REGION.size:
            raise ProtocolError(f"memory table of {count} regions in {len(payload)} bytes")
        if len(fds) != count:
            raise ProtocolError(f"memory table of {count} regions with {len(fds)} file descriptors")
        self._memory.clear()
        for number, fd in enumerate(fds):
            self._add(_REGION.unpack_from(payload, _MEM_TABLE.size + number * _REGION.size), fd)

    def _add_mem_reg(self, payload: bytes, fds: list[int]) -> None:
        _need(payload, _SINGLE.size, exactly=True)
        if len(fds) != 1:
            raise ProtocolError(f"one memory region with {len(fds)} file descriptors")
        if len(self._memory) >= MAX_MEM_SLOTS:
            raise RequestRefused(f"more than {MAX_MEM_SLOTS} memory regions")
        self._add(_SINGLE.unpack_from(payload, 0)[1:], fds[0])

    def _add(self, fields: tuple[int, ...], fd: int) -> None:
        guest, size, user, offset = fields
        try:
            self._memory.add(RegionInfo(guest, size, user, offset), fd)
        except MemoryTableError as error:
            raise RequestRefused(str(error)) from error

    def _rem_mem_reg(self, payload: bytes, fds: list[int]) -> None:
        _need(payload, _SINGLE.size, exactly=True)
        if len(fds) > 1:
            raise ProtocolError(f"one memory region with {len(fds)} file descriptors")
        _, guest, size, user, _ = _SINGLE.unpack_from(payload, 0)
        try:
            self._memory.remove(guest, user, size)
        except MemoryTableError as error:
            raise RequestRefused(str(error)) from error

    # --- rings

    def _vring(self, index: int) -> Vring:
        if index >= len(self.vrings):
            raise RequestRefused(f"vring {index} of {len(self.vrings)}")
        return self.vrings[index]

    def _set_vring_num(self, payload: bytes, _fds: list[int]) -> None:
        _need(payload, _STATE.size, exactly=True)
        index, num = _STATE.unpack_from(payload, 0)
        vring = self._vring(index)
        if num & (num - 1) or not 1 <= num <= MAX_QUEUE_SIZE:
            raise RequestRefused(
                f"vring {index} of {num} entries, expected a power of two up to {MAX_QUEUE_SIZE}"
            )
        self._stopped(vring).num = num

    def _stopped(self, vring: Vring) -> Vring:
        if vring.running:
            raise RequestRefused(f"vring {vring.queue.index} is changed while it runs")
        return vring

    def _set_vring_addr(self, payload: bytes, _fds: list[int]) -> None:
        _need(payload, _ADDR.size, exactly=True)
        index, _flags, desc, used, available, _log = _ADDR.unpack_from(payload, 0)
        vring = self._vring(index)
        parts = (desc, available, used)
        if vring.running:
            # QEMU sends the addresses again when it switches the dirty log: the same ones are fine.
            if parts != vring.parts:
                raise RequestRefused(f"addresses of vring {index} are changed while it runs")
            return
        self.translate(parts)
        vring.parts = parts
        vring.update()

    def _set_vring_base(self, payload: bytes, _fds: list[int]) -> None:
        _need(payload, _STATE.size, exactly=True)
        index, base = _STATE.unpack_from(payload, 0)
        if base > 0xFFFF:
            raise RequestRefused(f"base {base} of vring {index} is no available index")
        self._stopped(self._vring(index)).base = base

    def _get_vring_base(self, payload: bytes, _fds: list[int]) -> None:
        _need(payload, _STATE.size, exactly=True)
        index, _ = _STATE.unpack_from(payload, 0)
        vring = self._vring(index)
        self._busy = True

        def stopped(base: int) -> None:
            self._busy = False
            if not self._gone:
                self._reply(Message.GET_VRING_BASE, _STATE.pack(index, base))
                self.context.call_soon(self._receive)

        vring.stop(stopped)

    def _ring_fd(self, payload: bytes, fds: list[int]) -> tuple[Vring, int | None]:
        """The vring that a descriptor is for, and the descriptor, now ours (None: poll instead)."""
        value = _u64(payload)
        vring = self._vring(value & VRING_INDEX_MASK)
        expected = 0 if value & VRING_NO_FD else 1
        if len(fds) != expected:
            raise ProtocolError(f"{len(fds)} file descriptors for vring {value & VRING_INDEX_MASK}")
        if not fds:
            return vring, None
        if not _pollable(fds[0]):
            raise RequestRefused("a ring's descriptor is neither eventfd, pipe nor socket")
        return vring, fds.pop()

    def _set_vring_kick(self, payload: bytes, fds: list[int]) -> None:
        vring, fd = self._ring_fd(payload, fds)
        if fd is None:
            raise RequestRefused("a ring without a kick descriptor would have to be polled")
        vring.set_kick(fd)

    def _set_vring_call(self, payload: bytes, fds: list[int]) -> None:
        vring, fd = self._ring_fd(payload, fds)
        if vring.call is not None:
            vring.call.close()
        vring.call = None if fd is None else Notifier(fd)
        if vring.call is not None and vring.running:
            # What was used between the old descriptor and the new one may have gone unheard.
            vring.call.signal()

    def _set_vring_err(self, payload: bytes, fds: list[int]) -> None:
        vring, fd = self._ring_fd(payload, fds)
        if vring.err is not None:
            vring.err.close()
        vring.err = None if fd is None else Notifier(fd)

    def _set_vring_enable(self, payload: bytes, _fds: list[int]) -> None:
        _need(payload, _STATE.size, exactly=True)
        index, num = _STATE.unpack_from(payload, 0)
        if num > 1:
            raise RequestRefused(f"vring {index} enabled with {num}, expected 0 or 1")
        vring = self._vring(index)
        vring.enabled = bool(num)
        vring.update()
        if vring.running:
            self.device.process(vring.queue)

    # --- configuration space

    def _get_config(self, payload: bytes, _fds: list[int]) -> bytes:
        offset, size = self._config_range(payload)
        data = b"".join(self.device.load_config(offset + i, 1).to_bytes(1, "little") for i in range(size))
        return payload[: _CONFIG.size] + data

    def _set_config(self, payload: bytes, _fds: list[int]) -> None:
        offset, size = self._config_range(payload)
        data = payload[_CONFIG.size :]
        for i in range(size):
            self.device.write_config(offset + i, 1, data[i])

    def _config_range(self, payload: bytes) -> tuple[int, int]:
        _need(payload, _CONFIG.size)
        offset, size, _flags = _CONFIG.unpack_from(payload, 0)
        if size != len(payload) - _CONFIG.size or offset + size > MAX_CONFIG:
            raise ProtocolError(f"configuration access of {size} bytes at {offset} in {len(payload)} bytes")
        return offset, size

    # --- the end

    def close(self, reason: str | None) -> None:
        """End the session; `closed` is called when the last request has come back and everything is given up."""
        if self._gone:
            return
        self._gone = True
        if reason is not None:
            log.warning("%s: %s", self.device.name, reason)
        self.context.unwatch(self._sock.fileno())
        self._sock.close()
        for fd in self._incoming.fds:
            os.close(fd)
        for vring in self.vrings:
            vring.close()
        self.device.transport = None
        self.device.on_reset = self._finished
        self.device.reset()

    def _finished(self) -> None:
        self.device.on_reset = None
        self._memory.clear()
        self._closed()


def _need(payload: bytes, size: int, *, exactly: bool = False) -> None:
    if len(payload) < size or (exactly and len(payload) != size):
        raise ProtocolError(f"payload of {len(payload)} bytes, expected {size}")


def _u64(payload: bytes) -> int:
    _need(payload, _U64.size, exactly=True)
    return _U64.unpack_from(payload, 0)[0]


def _pollable(fd: int) -> bool:
    """Whether epoll can watch it: an eventfd (an anonymous inode), a pipe or a socket, never a file."""
    mode = os.fstat(fd).st_mode
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISBLK(mode) or stat.S_ISCHR(mode))


class VhostUserServer:
    """Listens on a UNIX socket and serves one front end after the other with one device.

    `device` and `memory` stay the same over all connections; the memory's regions are the front end's.
    """

    def __init__(self, path: str, device: VirtioDevice, memory: GuestMemory, context: IoContext) -> None:
        if len(device.queues) > MAX_QUEUES:
            raise ValueError(f"{len(device.queues)} queues, vhost-user has at most {MAX_QUEUES}")
        self.path = path
        self._device = device
        self._memory = memory
        self._context = context
        self._session: Session | None = None
        self._closing = False
        _remove_stale(path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._listener.bind(path)
        except BaseException:
            self._listener.close()
            raise
        self._listener.listen(1)
        self._accepting = False
        self._accept_more()

    def _accept_more(self) -> None:
        self._accepting = True
        self._context.watch(self._listener.fileno(), select.EPOLLIN, lambda _events: self._accept())

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        self._context.unwatch(self._listener.fileno())
        self._accepting = False
        log.info("%s: front end connected", self._device.name)
        self._session = Session(sock, self._device, self._memory, self._context, self._ended)

    def _ended(self) -> None:
        log.info("%s: front end disconnected", self._device.name)
        self._session = None
        if not self._closing:
            self._accept_more()

    def close(self) -> None:
        """End the session, if any, and remove the socket. Idempotent."""
        if self._closing:
            return
        self._closing = True
        if self._accepting:
            self._context.unwatch(self._listener.fileno())
        self._listener.close()
        if self._session is not None:
            self._session.close(None)
        try:
            os.unlink(self.path)
        except OSError:
            log.debug("socket %s was already gone", self.path)


def _remove_stale(path: str) -> None:
    """Remove a socket that an earlier process left behind; anything else stays, and binding will fail."""
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        pass
