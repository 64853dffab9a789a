"""A vhost-user back end as a virtio transport: messages for registers, descriptors for notifications.

What a driver does through registers on PCI, a front end does here on its behalf, in the order that QEMU keeps:
owner and protocol features at once, SET_FEATURES with FEATURES_OK, memory and rings when a queue is enabled, and for a
reset SET_VRING_ENABLE and GET_VRING_BASE of each ring, then SET_STATUS or RESET_DEVICE where negotiated.
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from guestsim.drivers.layouts import USED, Feature, Status
from guestsim.drivers.transport import Interrupts
from guestsim.errors import DisconnectedError, GuestCheckError, GuestError
from guestsim.targets import vhost_messages as msg
from guestsim.targets.vhost_connection import RefusedError, VhostConnection
from guestsim.targets.vhost_messages import Protocol, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from guestsim.drivers.layouts import Field
    from guestsim.drivers.transport import Events
    from guestsim.guest import Guest
    from guestsim.targets.vhost_user import VhostUserTarget

QUEUE_SIZE = 128
"""What front ends take where nothing else is said: the protocol has no maximum of the back end's."""

WANTED = (
    Protocol.MQ
    | Protocol.REPLY_ACK
    | Protocol.BACKEND_REQ
    | Protocol.CONFIG
    | Protocol.INFLIGHT_SHMFD
    | Protocol.RESET_DEVICE
    | Protocol.CONFIGURE_MEM_SLOTS
    | Protocol.STATUS
)
_PATIENCE = 2.0
_PAUSE = 0.02
_NOT_FOR_DRIVERS = (
    1 << msg.PROTOCOL_FEATURES
    | 1 << msg.LOG_ALL
    | 1 << Feature.NOTIFICATION_DATA
    | 1 << Feature.NOTIF_CONFIG_DATA
)
"""Features of the protocol, and those about notifications, which carry nothing here."""
_FEATURES_END = 1 << 64
_BLOCK_CONFIG_END = 256


class _Ring:
    """A ring that was enabled: its descriptors, `call` None where nobody waits for interrupts, and its used ring."""

    __slots__ = ("call", "err", "kick", "used")

    def __init__(self, call: int | None, used: int) -> None:
        self.kick = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.call = call
        self.err = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.used = used


class VhostTransport:
    """One back end as a `Transport`.

    `queue_size` is the front end's choice for all queues, `packed` whether it offers its driver packed rings where the
    back end has them.  A back end that has gone is connected anew by the next reset.
    """

    def __init__(
        self,
        guest: Guest,
        target: VhostUserTarget,
        name: str,
        *,
        queue_size: int = QUEUE_SIZE,
        packed: bool = False,
    ) -> None:
        self.guest = guest
        self.name = name
        self._target = target
        self._queue_size = queue_size
        self._hidden = _NOT_FOR_DRIVERS | (0 if packed else 1 << Feature.RING_PACKED)
        self._status = 0
        self._features = 0
        self._refused = False
        self._broken = False
        self._shared = False
        self._prepared = False
        self._events: Events | None = None
        self._vectors: dict[int | None, int] = {}
        self._calls: dict[int, int] = {}
        self._rings: dict[int, _Ring] = {}
        self._errs: dict[int, int] = {}
        self._watched: set[int] = set()
        self.connection = self._connect()
        target.add(self)

    def __str__(self) -> str:
        return f"{self.name} (vhost-user)"

    def _connect(self) -> VhostConnection:
        """Connect; again for a while where the back end hangs up at once, which may not be done with the last one."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return self._introduce()
            except DisconnectedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)

    def _introduce(self) -> VhostConnection:
        """Connect and agree on protocol features."""
        target = self._target
        connection = VhostConnection(
            target.sockets[self.name], target.label(self.name), last_words=target.last_words
        )
        connection.trace = self._target.emit
        try:
            connection.introduce(WANTED)
            if Protocol.CONFIG not in connection.protocol:
                raise GuestError(
                    f"{connection.label}: the back end has no protocol feature CONFIG, "
                    f"which a disk needs: it offers {msg.names(connection.offered_protocol)}"
                )
            self._queues = 1
            if Protocol.MQ in connection.protocol:
                self._queues = connection.number(Request.GET_QUEUE_NUM)
        except BaseException:
            connection.close()
            raise
        connection.on_config_change = self._on_config_change
        for fd in connection.descriptors:
            self._target.watch(fd, self)
            self._watched.add(fd)
        self._shared = False
        return connection

    # --- what every transport has

    @property
    def legacy(self) -> bool:
        """False."""
        return False

    @property
    def fixed_queue_size(self) -> bool:
        """False: the front end chooses."""
        return False

    def read_status(self) -> int:
        """The back end's status where STATUS was negotiated, else the front end's own account."""
        status = self._status
        if Protocol.STATUS in self.connection.protocol:
            status = int(self.connection.number(Request.GET_STATUS))
        if self._broken:
            status |= Status.NEEDS_RESET
        return status

    def write_status(self, value: int) -> None:
        """Tell the back end; 0 stops all rings first, and connects anew where the back end has gone."""
        if value == 0:
            self._reset()
            return
        if self._refused:
            value &= ~Status.FEATURES_OK
        self._status = value
        if Protocol.STATUS in self.connection.protocol:
            self.connection.send(Request.SET_STATUS, msg.U64.pack(value))

    def _reset(self) -> None:
        broken = self._broken
        self._status = 0
        self._refused = self._broken = self._prepared = False
        running: list[int] = []
        try:
            running = [index for index in tuple(self._rings) if self._stop(index)]
            if Protocol.STATUS in self.connection.protocol:
                self.connection.send(Request.SET_STATUS, msg.U64.pack(0))
            elif Protocol.RESET_DEVICE in self.connection.protocol:
                self.connection.send(Request.RESET_DEVICE)
        except DisconnectedError:
            self._forget_rings()
            self._leave()
            self.connection.close()
            self.connection = self._connect()
        if running and not broken:
            self._still_running(running)

    def _still_running(self, indices: Sequence[int]) -> NoReturn:
        """A stopped ring is processed no more; what was taken from it has been given back before ("Ring states")."""
        rings = ", ".join(map(str, indices))
        raise GuestCheckError(
            "vhost-user: Ring states",
            f"{self}: GET_VRING_BASE was answered while buffers of ring {rings} had not been given back",
        )

    def read_features(self) -> int:
        """The back end's features, without those that this front end doesn't hand on."""
        return self.connection.number(Request.GET_FEATURES) & ~self._hidden

    def write_features(self, bits: int) -> None:
        """Accept features; a refusal shows in FEATURES_OK, as on any transport (VIRTIO 1.4 §2.2.2)."""
        self._features = bits
        own = 1 << msg.PROTOCOL_FEATURES if self._has_protocol else 0
        if bits >= _FEATURES_END or bits & self._hidden:
            self._refused = True
            return
        try:
            self.connection.send(Request.SET_FEATURES, msg.U64.pack(bits | own))
        except RefusedError:
            self._refused = True

    @property
    def _packed(self) -> bool:
        return bool(self._features >> Feature.RING_PACKED & 1)

    @property
    def _has_protocol(self) -> bool:
        return bool(self.connection.features >> msg.PROTOCOL_FEATURES & 1)

    def read_config(self, fields: Iterable[Field]) -> list[int]:
        """Fields of the configuration space, in one message."""
        wanted = list(fields)
        end = max((field.offset + field.size for field in wanted), default=0)
        if end > _BLOCK_CONFIG_END:
            raise GuestError(
                f"{self}: {end} bytes of configuration space, expected at most {_BLOCK_CONFIG_END}"
            )
        # From the beginning: some back ends take no notice of the offset.
        payload = msg.CONFIG.pack(0, end, 0) + bytes(end)
        answer = self.connection.ask(Request.GET_CONFIG, payload)
        if len(answer) != len(payload):
            raise GuestCheckError(
                "vhost-user: GET_CONFIG",
                f"{self}: asked for {end} bytes of configuration, answered with a payload of {len(answer)}",
            )
        space = answer[msg.CONFIG.size :]
        return [int.from_bytes(space[field.offset : field.offset + field.size], "little") for field in wanted]

    def write_config(self, field: Field, value: int) -> None:
        """Write a field of the configuration space."""
        payload = msg.CONFIG.pack(field.offset, field.size, 0) + value.to_bytes(field.size, "little")
        self.connection.send(Request.SET_CONFIG, payload)

    # --- interrupts

    def connect(self, mode: Interrupts, queues: int, events: Events) -> None:
        """A call descriptor for each queue, or one for all of them as a line is; none for a driver that polls."""
        self._events = events
        if mode is Interrupts.POLLING:
            return
        self._vectors[None] = self.guest.interrupts.allocate(events.on_config, f"{self} configuration")
        if mode is Interrupts.INTX:
            self._open_call(partial(events.on_used, None), "all queues", range(queues))
        else:
            for index in range(queues):
                self._open_call(partial(events.on_used, (index,)), f"queue {index}", (index,))

    def _open_call(self, handler: Callable[[], None], what: str, queues: Iterable[int]) -> None:
        vector = self.guest.interrupts.allocate(handler, f"{self} {what}")
        fd = self._target.open_vector(vector)
        for index in queues:
            self._vectors[index] = vector
            self._calls[index] = fd

    def disconnect(self) -> None:
        """Give the call descriptors up."""
        for fd in set(self._calls.values()):
            self._target.close_vector(fd)
        self._calls.clear()
        for vector in set(self._vectors.values()):
            self.guest.interrupts.free(vector)
        self._vectors.clear()

    def _on_config_change(self) -> None:
        if None in self._vectors:
            self._target.signal(self._vectors[None])

    # --- queues

    def queue_limit(self, index: int) -> int:
        """The front end's size for its queues."""
        return self._queue_size if index < self._queues else 0

    def notifier(self, index: int) -> Callable[[int], None]:
        """Signals the queue's kick descriptor."""

        def notify(_state: int) -> None:
            ring = self._rings.get(index)
            if ring is not None:
                os.eventfd_write(ring.kick, 1)

        return notify

    def enable_queue(self, index: int, size: int, addresses: Sequence[int]) -> None:
        """Share memory where that has not been done, set the ring up and start it."""
        self._prepare(size)
        users = [self._target.memory.user(address, 1) for address in addresses]
        if None in users:
            raise GuestError(f"{self} queue {index}: its rings lie outside memory: {addresses}")
        descriptor, available, used = users
        ring = _Ring(self._calls.get(index), addresses[2])
        self._rings[index] = ring
        self._errs[ring.err] = index
        self._target.watch(ring.err, self)
        send = self.connection.send
        send(Request.SET_VRING_NUM, msg.VRING_STATE.pack(index, size))
        base = msg.PACKED_BASE if self._packed else 0
        send(Request.SET_VRING_BASE, msg.VRING_STATE.pack(index, base))
        send(Request.SET_VRING_ADDR, msg.VRING_ADDR.pack(index, 0, descriptor, used, available, 0))
        self._send_fd(Request.SET_VRING_ERR, index, ring.err)
        self._send_fd(Request.SET_VRING_CALL, index, ring.call)
        self._send_fd(Request.SET_VRING_KICK, index, ring.kick)
        if self._has_protocol:
            send(Request.SET_VRING_ENABLE, msg.VRING_STATE.pack(index, 1))

    def _send_fd(self, request: Request, index: int, fd: int | None) -> None:
        payload = msg.U64.pack(index if fd is not None else index | msg.VRING_NO_FD)
        self.connection.send(request, payload, [fd] if fd is not None else [])

    def _prepare(self, queue_size: int) -> None:
        """Before the first ring: memory once, an in-flight area each time."""
        if not self._shared:
            self._share()
            self._shared = True
        if not self._prepared:
            self._prepared = True
            if Protocol.INFLIGHT_SHMFD in self.connection.protocol:
                self._prepare_inflight(queue_size)

    def _share(self) -> None:
        """Tell the back end of memory, region by region where it takes that."""
        memory = self._target.memory
        send = self.connection.send
        regions = [msg.REGION.pack(one.guest, one.size, one.user, one.offset) for one in memory.regions]
        if Protocol.CONFIGURE_MEM_SLOTS in self.connection.protocol:
            slots = self.connection.number(Request.GET_MAX_MEM_SLOTS)
            if slots < len(regions):
                raise GuestError(f"{self}: {slots} memory slots, expected at least {len(regions)}")
            for region in regions:
                send(Request.ADD_MEM_REG, bytes(8) + region, [memory.fd])
        else:
            table = msg.MEM_TABLE.pack(len(regions), 0) + b"".join(regions)
            send(Request.SET_MEM_TABLE, table, [memory.fd] * len(regions))

    def _prepare_inflight(self, queue_size: int) -> None:
        """Get an area for requests in flight and give it back, as at every start ("Inflight I/O tracking")."""
        asked = msg.INFLIGHT.pack(0, 0, self._queues, queue_size)
        answer, fd = self.connection.ask_with_fd(Request.GET_INFLIGHT_FD, asked)
        if fd is None:
            return
        try:
            if len(answer) not in (msg.INFLIGHT.size, msg.INFLIGHT_PADDED):
                raise GuestCheckError(
                    "vhost-user: GET_INFLIGHT_FD", f"{self}: answered with a payload of {len(answer)} bytes"
                )
            self.connection.send(Request.SET_INFLIGHT_FD, answer, [fd])
        finally:
            os.close(fd)

    def _stop(self, index: int) -> bool:
        """Stop a ring, and say whether the back end has not done with it, by where it says that it stopped."""
        if self._has_protocol:
            self.connection.send(Request.SET_VRING_ENABLE, msg.VRING_STATE.pack(index, 0))
        answer = self.connection.ask(
            Request.GET_VRING_BASE, msg.VRING_STATE.pack(index, 0), msg.VRING_STATE.size
        )
        found, base = msg.VRING_STATE.unpack(answer)
        running = self._is_ahead(self._rings[index], base)
        self._forget_ring(index)
        if found != index:
            raise GuestCheckError(
                "vhost-user: GET_VRING_BASE", f"{self}: asked for ring {index}, answered for ring {found}"
            )
        return running

    def _is_ahead(self, ring: _Ring, base: int) -> bool:
        """Whether buffers before `base` have not been used."""
        if self._packed:
            return base & 0xFFFF != base >> 16
        used = self._target.memory.read(ring.used + USED["idx"].offset, 2)
        return int.from_bytes(used, "little") != base & 0xFFFF

    def reset_queue(self, index: int) -> None:
        """Stop one ring: it is over when the back end has answered."""
        if self._stop(index) and not self._broken:
            self._still_running([index])

    def queue_in_reset(self, index: int) -> bool:  # noqa: ARG002
        """False: `reset_queue` has waited for it."""
        return False

    def _forget_ring(self, index: int) -> None:
        ring = self._rings.pop(index)
        self._target.unwatch(ring.err)
        del self._errs[ring.err]
        os.close(ring.err)
        os.close(ring.kick)

    def _forget_rings(self) -> None:
        for index in tuple(self._rings):
            self._forget_ring(index)

    # --- below the driver

    def get(self, register: str) -> int:
        """GuestError: there are no registers; of the status field there is an account."""
        if register == "device_status":
            return self.read_status()
        raise GuestError(f"{self} has no register {register}")

    def set(self, register: str, value: int) -> None:
        """GuestError: there are no registers."""
        raise GuestError(f"{self} has no register {register} that could be set to {value:#x}")

    def notify(self, queue: int, value: int, size: int) -> None:
        """GuestError: a notification carries nothing here."""
        raise GuestError(f"{self}: no notification of queue {queue} with {value:#x} in {size} bytes")

    # --- for the target

    def look(self) -> None:
        """Take what has come from the back end without being asked for."""
        for err in tuple(self._errs):
            try:
                os.eventfd_read(err)
            except BlockingIOError:
                continue
            # The device can't go on: NEEDS_RESET and a configuration interrupt tell the driver (VIRTIO 1.4 §2.1.2).
            self._broken = True
            self._on_config_change()
        self.connection.look()
        self._leave(self.connection.descriptors)

    def lost(self) -> str | None:
        """How the back end went, where queues are set up."""
        return self.connection.lost if self._rings else None

    def _leave(self, but: Collection[int] = ()) -> None:
        """No longer watch the connection's descriptors, but those named."""
        for fd in self._watched.difference(but):
            self._target.unwatch(fd)
            self._watched.discard(fd)

    def close(self) -> None:
        """Leave the back end. Idempotent."""
        self._forget_rings()
        self._leave()
        self.connection.close()
