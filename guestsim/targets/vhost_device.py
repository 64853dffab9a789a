"""A vhost-user back end as a virtio transport: messages for registers, descriptors for notifications.

What a driver does through registers on PCI, a front end does here on its behalf, in the order that QEMU keeps:
owner and protocol features at once, SET_FEATURES with FEATURES_OK, memory and rings when a queue is enabled, and for a
reset SET_VRING_ENABLE and GET_VRING_BASE of each ring, then SET_STATUS or RESET_DEVICE where negotiated.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from guestsim.drivers.layouts import Feature, Status
from guestsim.drivers.scsi_layouts import CDB_SIZE, EVENT, FIRST_REQUEST_QUEUE, SCSI_CONFIG, SENSE_SIZE
from guestsim.drivers.transport import Interrupts
from guestsim.errors import DisconnectedError, GuestCheckError, GuestError
from guestsim.targets import vhost_messages as msg
from guestsim.targets.vhost_connection import TIMEOUT, RefusedError, VhostConnection
from guestsim.targets.vhost_messages import Protocol, Request
from guestsim.targets.vhost_rings import VhostRings

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


class OwnConfig:
    """The configuration space of a SCSI host device, which front ends keep by themselves (VIRTIO 1.4 §5.6.4)."""

    def __init__(self) -> None:
        self._space = bytes(SCSI_CONFIG.size)

    def fill(self, num_queues: int, seg_max: int) -> None:
        """What front ends take where nothing else is said."""
        self._space = SCSI_CONFIG.pack(
            num_queues, seg_max, 0xFFFF, 128, EVENT.size, SENSE_SIZE, CDB_SIZE, 0, 255, 16383
        )

    def read(self, field: Field) -> int:
        """A field's value."""
        return int.from_bytes(self._space[field.offset : field.offset + field.size], "little")


class VhostTransport:
    """One back end as a `Transport`.

    `queue_size` is the front end's choice for all queues, `packed` whether it offers its driver packed rings where the
    back end has them, `own_config` that the configuration space is the front end's own (a SCSI host device's, with as
    many request queues as the back end has), `timeout` in seconds how long an answer may take.  A back end that has
    gone is connected anew by the next reset.
    """

    def __init__(
        self,
        guest: Guest,
        target: VhostUserTarget,
        name: str,
        *,
        queue_size: int = QUEUE_SIZE,
        packed: bool = False,
        own_config: bool = False,
        timeout: float = TIMEOUT,
    ) -> None:
        self.guest = guest
        self.name = name
        self._target = target
        self._queue_size = queue_size
        self._timeout = timeout
        self._own_config: OwnConfig | None = OwnConfig() if own_config else None
        self._hidden = _NOT_FOR_DRIVERS | (0 if packed else 1 << Feature.RING_PACKED)
        self._status = 0
        self._features = 0
        self._refused = False
        self._broken = False
        self._events: Events | None = None
        self._vectors: dict[int | None, int] = {}
        self._calls: dict[int, int] = {}
        self._watched: set[int] = set()
        self.connection = self._connect()
        target.add(self)

    def __str__(self) -> str:
        return f"{self.name} (vhost-user)"

    def _connect(self) -> VhostConnection:
        """Connect; again for a while where the back end hangs up at once, which may not be done with the last one."""
        deadline = time.monotonic() + min(_PATIENCE, self._timeout)
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
            target.sockets[self.name],
            target.label(self.name),
            timeout=self._timeout,
            last_words=target.last_words,
            pump=target.pump,
        )
        connection.trace = self._target.emit
        try:
            connection.introduce(WANTED if self._own_config is None else WANTED & ~Protocol.CONFIG)
            if self._own_config is None and Protocol.CONFIG not in connection.protocol:
                raise GuestError(
                    f"{connection.label}: the back end has no protocol feature CONFIG, "
                    f"which a disk needs: it offers {msg.names(connection.offered_protocol)}"
                )
            self._queues = 1
            if Protocol.MQ in connection.protocol:
                self._queues = connection.number(Request.GET_QUEUE_NUM)
            if self._own_config is not None:
                self._own_config.fill(self._queues - FIRST_REQUEST_QUEUE, self._queue_size - 2)
        except BaseException:
            connection.close()
            raise
        connection.on_config_change = self._on_config_change
        for fd in connection.descriptors:
            self._target.watch(fd, self)
            self._watched.add(fd)
        self._rings = VhostRings(connection, target, self, self._queues, self._queue_size)
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
        self._refused = self._broken = False
        self._rings.begin()
        running: list[int] = []
        try:
            running = self._rings.stop_all()
            if Protocol.STATUS in self.connection.protocol:
                self.connection.send(Request.SET_STATUS, msg.U64.pack(0))
            elif Protocol.RESET_DEVICE in self.connection.protocol:
                self.connection.send(Request.RESET_DEVICE)
        except DisconnectedError:
            self._rings.forget()
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
        own = 1 << msg.PROTOCOL_FEATURES if self.connection.has_protocol else 0
        if bits >= _FEATURES_END or bits & self._hidden:
            self._refused = True
            return
        try:
            self.connection.send(Request.SET_FEATURES, msg.U64.pack(bits | own))
        except RefusedError:
            self._refused = True

    def read_config(self, fields: Iterable[Field]) -> list[int]:
        """Fields of the configuration space, in one message."""
        wanted = list(fields)
        if self._own_config is not None:
            return [self._own_config.read(field) for field in wanted]
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
        if self._own_config is not None:
            raise GuestError(f"{self}: the front end changes nothing of the configuration space")
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
            self._rings.kick(index)

        return notify

    def enable_queue(self, index: int, size: int, addresses: Sequence[int]) -> None:
        """Share memory where that has not been done, set the ring up and start it."""
        packed = bool(self._features >> Feature.RING_PACKED & 1)
        self._rings.enable(index, size, addresses, self._calls.get(index), packed=packed)

    def reset_queue(self, index: int) -> None:
        """Stop one ring: it is over when the back end has answered."""
        if self._rings.stop(index) and not self._broken:
            self._still_running([index])

    def queue_in_reset(self, index: int) -> bool:  # noqa: ARG002
        """False: `reset_queue` has waited for it."""
        return False

    # --- below the driver

    def get(self, register: str) -> int:
        """GuestError: there are no registers; of the status field there is an account."""
        if register == "device_status":
            return self.read_status()
        raise GuestError(f"{self} has no register {register}")

    def set(self, register: str, value: int) -> None:
        """GuestError: there are no registers."""
        raise GuestError(f"{self} has no register {register} that could be set to {value:#x}")

    def notify(self, queue: int, value: int, size: int | None) -> None:
        """GuestError: a notification carries nothing here."""
        raise GuestError(f"{self}: no notification of queue {queue} with {value:#x}, {size=}")

    # --- for the target

    def look(self) -> None:
        """Take what has come from the back end without being asked for."""
        if self._rings.take_errors():
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
        self._rings.forget()
        self._leave()
        self.connection.close()
