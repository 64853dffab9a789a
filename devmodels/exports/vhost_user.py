"""A vhost-user back end: a virtio device driven by the messages of one front end (QEMU, another VMM).

Follows "Vhost-user Protocol" (docs/interop/vhost-user.rst of QEMU); what it says of rings is in `vhost_rings`.  What a
front end does wrong ends its connection, or is answered with an error where it asked for answers, with one log line;
and nothing of it stays behind: no mapping, no descriptor, no request.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

from devmodels.exports.eventfd import Notifier, is_eventfd
from devmodels.exports.vhost_backend_req import BackendChannel
from devmodels.exports.vhost_channel import Channel, ProtocolError, RequestRefused
from devmodels.exports.vhost_device_state import StateTransfer
from devmodels.exports.vhost_inflight import InflightArea
from devmodels.exports.vhost_log import DirtyLogging
from devmodels.exports.vhost_memory import FrontEndMemory, MemoryTableError, RegionInfo
from devmodels.exports.vhost_rings import LATER, Later, Rings
from devmodels.protocols.vhost_user import (
    CONFIG,
    CONFIG_WRITABLE,
    DEVICE_STATE,
    DEVICE_STATE_NO_FD,
    F_LOG_ALL,
    F_PROTOCOL_FEATURES,
    FLAG_NEED_REPLY,
    INFLIGHT,
    INFLIGHT_PADDED,
    LOG,
    MAX_CONFIG,
    MAX_MEM_SLOTS,
    MAX_REGIONS,
    MEM_TABLE,
    REGION,
    SHAPES,
    SINGLE_REGION,
    U64,
    Message,
    ProtocolFeature,
    message_name,
)
from devmodels.trace import EventKind
from devmodels.virtio.constants import MAX_QUEUE_SIZE, Status
from devmodels.virtio.device import VirtioDevice

log = logging.getLogger("devmodels.vhost-user")

PROTOCOL_FEATURES = sum(1 << feature for feature in ProtocolFeature)
"""What can be offered in GET_PROTOCOL_FEATURES."""

_OWN_FEATURES = F_PROTOCOL_FEATURES | F_LOG_ALL
"""Feature bits between the front end and us, which the device does not know."""
_RUNNING = Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK | Status.DRIVER_OK
_SUCCESS = U64.pack(0)
_FAILURE = U64.pack(1)


Handler = Callable[[bytes, list[int]], "bytes | Later | None"]


class Session:
    """One front end's connection.

    Messages are dealt with while queues on threads of their own stand still; notifications of used buffers come from
    those threads.
    `ended` is called when it is over and the last of its requests has come back.
    """

    def __init__(self, sock: socket.socket, device: VirtioDevice, ended: Callable[[], None]) -> None:
        self.device = device
        self._ended = ended
        self._gone = False
        self._memory = FrontEndMemory(device.memory, self._memory_lost)
        self._offered = PROTOCOL_FEATURES
        if device.config_of_front_end:
            self._offered &= ~(1 << ProtocolFeature.CONFIG)
        self._protocol_features = 0
        self._features = 0
        self._status = 0
        self._acknowledge = False
        self._reset_by_driver = False
        self._logging = DirtyLogging(device.memory, device.name)
        self._reply_fd: int | None = None
        self._transfer = StateTransfer(device)
        self._back: BackendChannel | None = None
        self._config_known: bytes | None = None
        """The configuration space as the front end read it last, or wrote it."""
        self._rings = rings = Rings(
            device, self._memory, self._logging, answer=self._answer, woken=self._tell_config
        )
        self.vrings = rings.vrings
        self._handlers: dict[int, Handler] = {
            Message.GET_FEATURES: self._get_features,
            Message.SET_FEATURES: self._set_features,
            Message.SET_OWNER: _ignore,
            Message.RESET_OWNER: _ignore,
            Message.SET_MEM_TABLE: self._set_mem_table,
            Message.SET_LOG_BASE: self._set_log_base,
            Message.SET_LOG_FD: self._set_log_fd,
            Message.SET_VRING_NUM: rings.set_num,
            Message.SET_VRING_ADDR: rings.set_addr,
            Message.SET_VRING_BASE: rings.set_base,
            Message.GET_VRING_BASE: rings.get_base,
            Message.SET_VRING_KICK: rings.set_kick,
            Message.SET_VRING_CALL: rings.set_call,
            Message.SET_VRING_ERR: rings.set_err,
            Message.GET_PROTOCOL_FEATURES: lambda _payload, _fds: U64.pack(self._offered),
            Message.SET_PROTOCOL_FEATURES: self._set_protocol_features,
            Message.GET_QUEUE_NUM: lambda _payload, _fds: U64.pack(len(self.vrings)),
            Message.SET_VRING_ENABLE: rings.set_enable,
            Message.SET_BACKEND_REQ_FD: self._set_backend_req_fd,
            Message.GET_CONFIG: self._get_config,
            Message.SET_CONFIG: self._set_config,
            Message.GET_INFLIGHT_FD: self._get_inflight_fd,
            Message.SET_INFLIGHT_FD: self._set_inflight_fd,
            Message.RESET_DEVICE: self._driver_reset,
            Message.GET_MAX_MEM_SLOTS: lambda _payload, _fds: U64.pack(MAX_MEM_SLOTS),
            Message.ADD_MEM_REG: self._add_mem_reg,
            Message.REM_MEM_REG: self._rem_mem_reg,
            Message.SET_STATUS: self._set_status,
            Message.GET_STATUS: self._get_status,
            Message.SET_DEVICE_STATE_FD: self._set_device_state_fd,
            Message.CHECK_DEVICE_STATE: self._check_device_state,
        }
        device.transport = self
        self._channel = Channel(sock, device.context, self._message, self._end)

    # --- what the device asks of its transport

    def notify_used(self, queue: int) -> None:
        """Signal the queue's call descriptor."""
        call = self.vrings[queue].call
        if call is not None:
            call.signal()

    def notify_config(self) -> None:
        """Tell the front end that a ring is broken, or that the configuration space is another one."""
        if self.device.status & Status.DEVICE_NEEDS_RESET:
            for vring in self.vrings:
                vring.stop_polling()
                if vring.err is not None:
                    vring.err.signal()
        self._tell_config()

    def _tell_config(self) -> None:
        """Where what the front end knows is no longer so, tell it, but not while all rings rest."""
        if (
            self._back is not None
            and self._config_known is not None
            and self._config_known != self.device.config_bytes()
            and self._rings.running
        ):
            self._back.config_changed()

    # --- messages

    def _message(self, number: int, flags: int, payload: bytes, fds: list[int]) -> None:
        with self.device.hold:
            self._do(number, flags, payload, fds)

    def _do(self, number: int, flags: int, payload: bytes, fds: list[int]) -> None:
        shape = SHAPES.get(number)
        self._acknowledge = (
            bool(flags & FLAG_NEED_REPLY)
            and bool(self._protocol_features >> ProtocolFeature.REPLY_ACK & 1)
            and not (shape is not None and shape.answered)
        )
        try:
            if shape is None:
                raise RequestRefused("not supported")
            if shape.payload is not None and len(payload) != shape.payload:
                raise ProtocolError(
                    f"{message_name(number)}: payload of {len(payload)} bytes, expected {shape.payload}"
                )
            if not shape.fewest <= len(fds) <= shape.most:
                expected = f"{shape.fewest} to {shape.most}" if shape.most > shape.fewest else shape.most
                raise ProtocolError(
                    f"{message_name(number)}: {len(fds)} file descriptors, expected {expected}"
                )
            reply = self._handlers[number](payload, fds)
        except (RequestRefused, MemoryTableError) as error:
            text = f"{message_name(number)}: {error}"
            if not self._acknowledge:
                raise ProtocolError(text) from None
            log.warning("%s: refused: %s", self.device.name, text)
            self._channel.answer(_FAILURE)
            return
        if not isinstance(reply, Later):
            self._answer(reply)

    def _answer(self, reply: bytes | None) -> None:
        """The message at hand has been carried out; `reply` is its own answer, if it has one."""
        if reply is None and self._acknowledge:
            reply = _SUCCESS
        fd, self._reply_fd = self._reply_fd, None
        self._channel.answer(reply, fd)

    # --- features and status

    def _get_features(self, _payload: bytes, _fds: list[int]) -> bytes:
        return U64.pack(self.device.device_features | _OWN_FEATURES)

    def _set_features(self, payload: bytes, _fds: list[int]) -> None:
        (value,) = U64.unpack_from(payload, 0)
        device = self.device
        extra = value & ~(device.device_features | _OWN_FEATURES)
        if extra:
            raise RequestRefused(f"features {extra:#x} were not offered")
        if self._rings.running:
            if (value ^ self._features) & ~F_LOG_ALL:
                raise RequestRefused(f"features become {value:#x} while rings run with {self._features:#x}")
            self._features = value
            self._logging.want(bool(value & F_LOG_ALL))
            return
        self._features = value
        device.reset()
        device.driver_features = value & ~_OWN_FEATURES
        device.write_status(_RUNNING)
        if not device.status & Status.FEATURES_OK:
            raise RequestRefused(f"features {value:#x} do not go together")
        self._logging.want(bool(value & F_LOG_ALL))
        if not value & F_PROTOCOL_FEATURES:
            for vring in self.vrings:
                vring.enabled = True

    def _set_protocol_features(self, payload: bytes, _fds: list[int]) -> None:
        (value,) = U64.unpack_from(payload, 0)
        extra = value & ~self._offered
        if extra:
            raise RequestRefused(f"protocol features {extra:#x} were not offered")
        self._protocol_features = value

    def _get_status(self, _payload: bytes, _fds: list[int]) -> bytes:
        return U64.pack(self._status | self.device.status & Status.DEVICE_NEEDS_RESET)

    def _set_status(self, payload: bytes, fds: list[int]) -> Later | None:
        """A status of 0 resets a device whose rings rest.

        While they run it is QEMU 7.2 that pauses its machine, and will ask each ring where it stopped: the driver knows
        nothing of it, and what is in flight has to come back.
        """
        (value,) = U64.unpack_from(payload, 0)
        if value > 0xFF:
            raise RequestRefused(f"status {value:#x} has more than 8 bits")
        self._status = value
        if value or self._rings.running:
            return None
        return self._reset_device(payload, fds)

    def _driver_reset(self, payload: bytes, fds: list[int]) -> Later:
        """The driver itself has reset the device."""
        self._reset_by_driver = True
        return self._reset_device(payload, fds)

    def _reset_device(self, _payload: bytes, _fds: list[int]) -> Later:
        """The answer, and the next message, wait until requests that run have come back."""
        self._status = 0
        for vring in self.vrings:
            vring.reset()
        self.device.on_reset = self._reset_done
        self.device.reset()
        return LATER

    def _reset_done(self) -> None:
        self.device.on_reset = None
        for vring in self.vrings:
            vring.forget_in_flight()
        if self._reset_by_driver:
            self._reset_by_driver = False
            self.device.note(EventKind.DRIVER_RESET)
            self.device.driver_reset()
        self._rings.rest(lambda: self._answer(None))

    # --- memory

    def _set_mem_table(self, payload: bytes, fds: list[int]) -> None:
        if len(payload) < MEM_TABLE.size:
            raise ProtocolError(f"SET_MEM_TABLE: payload of {len(payload)} bytes, expected {MEM_TABLE.size}")
        count, _ = MEM_TABLE.unpack_from(payload, 0)
        if not 1 <= count <= MAX_REGIONS:
            raise ProtocolError(f"SET_MEM_TABLE: {count} regions, expected 1 to {MAX_REGIONS}")
        expected = MEM_TABLE.size + count * REGION.size
        if len(payload) != expected:
            raise ProtocolError(f"SET_MEM_TABLE: payload of {len(payload)} bytes, expected {expected}")
        if len(fds) != count:
            raise ProtocolError(f"SET_MEM_TABLE: {len(fds)} file descriptors for {count} regions")
        entries = [REGION.unpack_from(payload, MEM_TABLE.size + n * REGION.size) for n in range(count)]
        self._memory.replace([(_region(*entry), fd) for entry, fd in zip(entries, fds, strict=True)])
        self._memory_changed()

    def _add_mem_reg(self, payload: bytes, fds: list[int]) -> None:
        if len(self._memory) >= MAX_MEM_SLOTS:
            raise RequestRefused(f"more than {MAX_MEM_SLOTS} memory regions")
        self._memory.add(_region(*SINGLE_REGION.unpack_from(payload, 0)[1:]), fds[0])
        self._memory_changed()

    def _rem_mem_reg(self, payload: bytes, _fds: list[int]) -> None:
        _, guest, size, user, _ = SINGLE_REGION.unpack_from(payload, 0)
        self._memory.remove(guest, user, size)
        self._memory_changed()

    def _memory_changed(self) -> None:
        for vring in self.vrings:
            vring.memory_changed()

    # --- the device's own state

    def _set_device_state_fd(self, payload: bytes, fds: list[int]) -> bytes:
        direction, phase = DEVICE_STATE.unpack_from(payload, 0)
        try:
            if self._rings.running:
                raise RequestRefused("rings run")
            self._transfer.begin(direction, phase, fds[0])
        except RequestRefused as error:
            log.warning("%s: refused: SET_DEVICE_STATE_FD: %s", self.device.name, error)
            return U64.pack(DEVICE_STATE_NO_FD | 1)
        fds.pop()
        return U64.pack(DEVICE_STATE_NO_FD)

    def _check_device_state(self, _payload: bytes, _fds: list[int]) -> Later:
        """The answer waits for the end of the transfer."""
        self._transfer.check(lambda good: self._answer(_SUCCESS if good else _FAILURE))
        return LATER

    # --- the dirty log

    def _set_log_base(self, payload: bytes, fds: list[int]) -> bytes:
        size, offset = LOG.unpack_from(payload, 0)
        self._logging.set_base(fds[0], size, offset)
        return _SUCCESS

    def _set_log_fd(self, _payload: bytes, fds: list[int]) -> None:
        if not is_eventfd(fds[0]):
            raise RequestRefused("the log's descriptor is no eventfd")
        if self._logging.notifier is not None:
            self._logging.notifier.close()
        self._logging.notifier = Notifier(fds.pop())

    # --- the in-flight area

    def _get_inflight_fd(self, payload: bytes, _fds: list[int]) -> bytes:
        """Make an area for this front end to keep."""
        _, _, num_queues, queue_size = self._inflight_of(payload)
        area, fd, size = InflightArea.create(num_queues, queue_size, packed=self.device.packed)
        self._rings.track(area)
        self._reply_fd = fd
        return INFLIGHT.pack(size, 0, num_queues, queue_size).ljust(len(payload), b"\0")

    def _set_inflight_fd(self, payload: bytes, fds: list[int]) -> None:
        """Go on with an area that an earlier connection made, perhaps to another process."""
        size, offset, num_queues, queue_size = self._inflight_of(payload)
        self._rings.track(
            InflightArea(fds[0], size, offset, num_queues, queue_size, packed=self.device.packed)
        )

    def _inflight_of(self, payload: bytes) -> tuple[int, int, int, int]:
        """Size, offset, number and size of queues of a message that comes at a time when it may."""
        if len(payload) not in (INFLIGHT.size, INFLIGHT_PADDED):
            raise ProtocolError(
                f"payload of {len(payload)} bytes, expected {INFLIGHT.size} or {INFLIGHT_PADDED}"
            )
        size, offset, num_queues, queue_size = INFLIGHT.unpack_from(payload, 0)
        if not 1 <= num_queues <= len(self.vrings):
            raise RequestRefused(f"in-flight area for {num_queues} queues of {len(self.vrings)}")
        if not 1 <= queue_size <= MAX_QUEUE_SIZE:
            raise RequestRefused(f"in-flight area for queues of {queue_size}, expected 1 to {MAX_QUEUE_SIZE}")
        if self._rings.running:
            raise RequestRefused("in-flight area while rings run")
        return size, offset, num_queues, queue_size

    # --- configuration space

    def _get_config(self, payload: bytes, _fds: list[int]) -> bytes:
        """An answer of no bytes stands for an error."""
        offset, size, _flags = _config_range(Message.GET_CONFIG, payload)
        if offset + size > MAX_CONFIG:
            return b""
        self._config_known = self.device.config_bytes()
        space = self._config_known.ljust(MAX_CONFIG, b"\0")
        self.device.note(EventKind.CONFIG_READ, offset, space[offset : offset + size])
        return payload[: CONFIG.size] + space[offset : offset + size]

    def _set_config(self, payload: bytes, _fds: list[int]) -> None:
        offset, size, flags = _config_range(Message.SET_CONFIG, payload)
        if flags != CONFIG_WRITABLE:
            raise RequestRefused(f"flags {flags:#x}, expected {CONFIG_WRITABLE}: no live migration here")
        if offset + size > MAX_CONFIG:
            raise RequestRefused(f"{size} bytes at {offset} of a space of {MAX_CONFIG}")
        device = self.device
        wrong = device.violations.total
        for at, value in enumerate(payload[CONFIG.size :], offset):
            device.note(EventKind.CONFIG_WRITE, at, bytes((value,)))
            device.write_config(at, 1, value)
        if device.violations.total != wrong:
            raise RequestRefused(f"{size} bytes at {offset} cannot be written so")
        self._config_known = device.config_bytes()

    def _set_backend_req_fd(self, _payload: bytes, fds: list[int]) -> None:
        back = BackendChannel(fds[0], self.device.context)
        fds.pop()
        if self._back is not None:
            self._back.close()
        self._back = back

    # --- the end

    def close(self) -> None:
        """End the connection from this side. Idempotent."""
        self._channel.close()
        self._end(None)

    def _memory_lost(self) -> None:
        def give_up() -> None:
            self._channel.close()
            self._end("connection ended: a file with its memory has become too short")

        self.device.context.post(give_up)

    def _end(self, reason: str | None) -> None:
        if self._gone:
            return
        self._gone = True
        if reason is not None:
            log.warning("%s: %s", self.device.name, reason)
        with self.device.hold:
            for vring in self.vrings:
                vring.close()
            if self._back is not None:
                self._back.close()
                self._back = None
            self._transfer.close()
            self.device.transport = None
            self.device.on_reset = self._finished
            self.device.reset()

    def _finished(self) -> None:
        self.device.on_reset = None
        self._rings.track(None)
        self._logging.close()
        self.device.note(EventKind.DRIVER_LEFT)
        self.device.driver_left()
        self._memory.clear()
        self._rings.rest(self._ended)


def _ignore(_payload: bytes, _fds: list[int]) -> None:
    """SET_OWNER says nothing that the connection did not; RESET_OWNER is deprecated and to be ignored."""


def _region(guest: int, size: int, user: int, offset: int) -> RegionInfo:
    return RegionInfo(guest, size, user, offset)


def _config_range(message: Message, payload: bytes) -> tuple[int, int, int]:
    """Offset, size and flags of a configuration message whose length is right."""
    if len(payload) < CONFIG.size:
        raise ProtocolError(f"{message.name}: payload of {len(payload)} bytes, expected {CONFIG.size}")
    offset, size, flags = CONFIG.unpack_from(payload, 0)
    if len(payload) != CONFIG.size + size:
        raise ProtocolError(
            f"{message.name}: payload of {len(payload)} bytes, expected {CONFIG.size} and {size}"
        )
    return offset, size, flags
