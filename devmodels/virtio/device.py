"""The core of every virtio device, VIRTIO 1.4 chapters 2 and 3: status, features, configuration, queues, reset.

A transport (PCI, vhost-user) drives it through this surface and is told of notifications through `Transport`; a device
type derives from `VirtioDevice` and turns chains into work.  Neither knows the other.

Reset is a state: from the write of 0 until the last running request has come back, `status` keeps its value, new work
is refused and completions no longer touch the ring; then everything is 0 (VIRTIO 1.4 §2.4.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from devmodels.conformance import ViolationLog, written
from devmodels.iocontext import Hold, IoContext, IoThread
from devmodels.memory import GuestMemory
from devmodels.trace import EventKind, Tracer
from devmodels.virtio import devicestate, suspension
from devmodels.virtio.configread import read_as_qemu
from devmodels.virtio.constants import (
    ANY_LAYOUT,
    EVENT_IDX,
    INDIRECT_DESC,
    MAX_QUEUE_SIZE,
    NOT_QEMUS,
    NOTIFICATION_DATA,
    NOTIFY_ON_EMPTY,
    RING_PACKED,
    RING_RESET,
    SUSPEND,
    VERSION_1,
    Status,
)
from devmodels.virtio.devicetype import DeviceType, Transport
from devmodels.virtio.holding import holding
from devmodels.virtio.negotiation import (
    judge_notification,
    new_bits,
    notified,
    write_features,
    write_legacy_features,
)
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain, RingError
from devmodels.virtio.state import DeviceState

CORE_FEATURES = VERSION_1 | INDIRECT_DESC | EVENT_IDX | RING_RESET | NOTIFICATION_DATA | SUSPEND
"""What the device core itself can offer on every transport."""

BATCH = 16
"""Buffers that are handled before what is done of them is shown; neighbours among them are merged."""
BUDGET = 4096
"""Descriptors after which a queue lets other work of its context go on."""


class VirtioDevice(DeviceType):
    """A virtio device without its transport.

    `features` are the feature bits it offers; `num_queues` virtqueues have at most `queue_size` entries.
    """

    front_end = False
    """Whether a vhost-user front end stands between driver and device: it judges VIRTIO_F_VERSION_1 itself, and a reset
    by it may only mean that its machine pauses, unseen by the driver."""

    config_of_front_end = False
    """Whether a vhost-user front end has the configuration space by itself."""

    notifies_anywhere = False
    """Whether the transport's `notify_used` may be called on a queue's own thread."""

    def __init__(
        self,
        *,
        name: str,
        context: IoContext,
        memory: GuestMemory,
        features: int,
        num_queues: int,
        queue_size: int,
        violations: ViolationLog | None = None,
        threads: Sequence[IoThread | None] = (),
    ) -> None:
        """`threads`, where given, are those of the queues, one for each, None for one without; ValueError where
        `memory` is not for that."""
        if features & RING_PACKED:
            if not 1 <= queue_size <= MAX_QUEUE_SIZE:
                raise ValueError(f"queue-size {queue_size} is not one from 1 to {MAX_QUEUE_SIZE}")
        elif queue_size & (queue_size - 1) or not 2 <= queue_size <= MAX_QUEUE_SIZE:
            raise ValueError(f"queue-size {queue_size} is not a power of two from 2 to {MAX_QUEUE_SIZE}")
        self.name = name
        self.context = context
        self.memory = memory
        self.violations = ViolationLog() if violations is None else violations
        self.trace: Tracer | None = None
        self.transport: Transport | None = None
        self.device_features = features & ~NOT_QEMUS if self.violations.as_qemu else features
        self.driver_features = 0
        self.features_written = 0
        """What the driver has written of them, as QEMU's functions show it: also after a reset."""
        self.as_qemu = self.violations.as_qemu and not self.front_end
        """Whether to do as QEMU's core does: queues run from when they are enabled on, whatever was negotiated."""
        self.legacy_features = ANY_LAYOUT | NOTIFY_ON_EMPTY if self.as_qemu else ANY_LAYOUT
        """What the legacy interface offers beside them."""
        self.queues: list[VirtQueue] = []
        self._resetting = False
        self._paused = False
        self._legacy = False
        self.suspending = False
        """Whether the driver has asked for a suspension that waits for requests."""
        self.notification_clause = "VIRTIO 1.4 §4.1.5.2.1"
        self.status = Status(0)
        self.put_off: list[Callable[[], None]] = []
        """What was done while paused and is still to be shown."""
        self.on_reset: Callable[[], None] | None = None
        self.config_generation = 0
        self.config_unread = False
        self.hold = Hold(thread for thread in threads if thread is not None)
        """`with device.hold:` queues on threads of their own stand still, and everything may be touched."""
        if self.hold.threads:
            from devmodels.virtio.threaded import queues_on

            self.queues += queues_on(threads, self, queue_size)
        else:
            self.queues += (VirtQueue(self, index, queue_size) for index in range(len(threads) or num_queues))

    def usable_queues(self) -> int:
        """How many queues the negotiated features give the driver."""
        return len(self.queues)

    # --- status (VIRTIO 1.4 §2.1)

    @property
    def status(self) -> Status:
        """Device status, VIRTIO 1.4 §2.1."""
        return self._status

    @status.setter
    def status(self, value: Status) -> None:
        self._status = value
        if self.as_qemu:
            self.stopped = bool(value & Status.DEVICE_NEEDS_RESET)
        else:
            self.stopped = not (value & Status.DRIVER_OK or self._legacy) or bool(
                value & (Status.DEVICE_NEEDS_RESET | Status.FAILED)
            )
        self.settle_open()

    @property
    def shown_status(self) -> int:
        """The status that the driver reads: QEMU's says to no driver without VERSION_1 that it needs a reset."""
        return int(self._status if self._tells_of_errors else self._status & ~Status.DEVICE_NEEDS_RESET)

    @property
    def _tells_of_errors(self) -> bool:
        return not self.as_qemu or bool(self.driver_features & VERSION_1)

    @property
    def legacy(self) -> bool:
        """Whether the driver uses the legacy interface (VIRTIO 1.4 §2.2.3), so that queues run before DRIVER_OK."""
        return self._legacy

    @legacy.setter
    def legacy(self, value: bool) -> None:
        if value is not self._legacy:
            self._legacy = value
            self.status = self._status

    @property
    def suspended(self) -> bool:
        """Whether the driver has suspended the device (VIRTIO 1.4 §3.4): it touches no queue and sends nothing."""
        return bool(self._status & Status.SUSPEND)

    @property
    def packed(self) -> bool:
        """Whether packed rings were negotiated (VIRTIO 1.4 §2.8)."""
        return bool(self.driver_features & RING_PACKED and (self.status & Status.FEATURES_OK or self.as_qemu))

    @property
    def resetting(self) -> bool:
        """Whether a reset of the device is not over yet."""
        return self._resetting

    @resetting.setter
    def resetting(self, value: bool) -> None:
        self._resetting = value
        self.settle_open()

    @property
    def paused(self) -> bool:
        """Whether the device may not master the bus: it takes no buffers and gives none back."""
        return self._paused

    @paused.setter
    def paused(self, value: bool) -> None:
        self._paused = value
        self.settle_open()

    def settle_open(self) -> None:
        """Something has changed of which it depends whether queues show used buffers."""
        for queue in self.queues:
            queue.settle_open()

    @holding
    def write_status(self, value: int) -> None:
        """The driver writes device status: 0 resets, anything else sets bits."""
        if value == 0:
            self.reset()
            return
        if self.resetting:
            self.violation(
                "VIRTIO 1.4 §4.1.4.3.2",
                f"status {value:#x} written before reset was complete",
                written(value, 1),
            )
            return
        old = self.status
        new = new_bits(self, value)
        if old & Status.SUSPEND and new & Status.DRIVER_OK:
            suspension.resume(self, new)
            return
        self.status = old | new & ~Status.SUSPEND
        if new & Status.FEATURES_OK or (new & Status.DRIVER_OK and self.as_qemu):
            for queue in self.queues:
                queue.settle_size()
            self.note(EventKind.FEATURES, self.driver_features)
            self.features_accepted()
        if new & Status.DRIVER_OK:
            if self._legacy:
                self.legacy_driver_ok()
            self.start_queues()
        if new & Status.SUSPEND:
            suspension.suspend(self, ready=bool(old & Status.DRIVER_OK))

    def write_features(self, value: int, *, select: int) -> None:
        """The driver writes 32 feature bits, those from bit 32 * `select` on."""
        write_features(self, value, select)

    @holding
    def write_legacy_features(self, value: int) -> None:
        """The driver writes its 32 feature bits through the legacy interface; queues that run go on with them."""
        write_legacy_features(self, value)

    def start_queues(self) -> None:
        """DRIVER_OK: the queues that are enabled run from now on."""
        for queue in self.queues:
            if queue.enabled and queue.ring is None and not queue.start():
                return
        looks = self.ioeventfd or not self.as_qemu
        for queue in self.queues[: self.usable_queues()]:
            if queue.ring is not None and looks:
                # A driver may have filled the ring before DRIVER_OK and need not notify again.
                self.soon(queue.context, partial(self.process, queue))

    def process(self, queue: VirtQueue) -> None:
        """Take every buffer that is available, at most some `BUDGET` descriptors in one go, then show what is done."""
        ring = queue.ring
        if ring is None or not queue.enabled or not queue.open:
            return
        queue.flush_due = True
        budget = BUDGET
        chains: list[Chain] = []
        try:
            ring.disable_notifications()
            count = ring.available()
            while True:
                if count:
                    budget -= ring.take(min(count, BATCH), budget, chains)
                    if self.as_qemu:
                        self.judge_chains(queue, chains)
                    if self.trace is not None:
                        queue.note_taken(chains)
                    self.handle(queue, chains)
                    chains = []
                if budget <= 0:
                    self.soon(queue.context, partial(self.process, queue))
                    break
                if count > BATCH:
                    # The driver can go on with these while we do the next.
                    queue.show()
                    count = ring.available()
                    continue
                count = ring.available() if queue.polled else ring.enable_notifications()
                if not count:
                    break
        except RingError as error:
            if self.trace is not None:
                queue.note_taken(chains)
            self.handle_last(queue, chains, error)
        else:
            queue.flush()

    # --- suspension (VIRTIO 1.4 §3.4)

    @holding
    def pause(self) -> None:
        """The device may no longer master the bus; what QEMU's has done then is never given back (PCI 3.0 §6.2.2)."""
        self.paused = True
        if self.as_qemu:
            self.status &= ~Status.DRIVER_OK

    @holding
    def resume(self) -> None:
        """The device may master the bus again: show what was put off, look for what came meanwhile; QEMU's does not."""
        self.paused = False
        if self.as_qemu:
            return
        self._show_put_off()
        for queue in self.queues[: self.usable_queues()]:
            queue.serve(queue)
        suspension.settle(self)

    def _show_put_off(self) -> None:
        put_off, self.put_off = self.put_off, []
        for show in put_off:
            show()

    @holding
    def needs_reset(self) -> None:
        """An error from which only a reset helps (VIRTIO 1.4 §2.1.2).

        QEMU notifies no driver without VERSION_1.
        """
        if not self.status & Status.DEVICE_NEEDS_RESET:
            self.status |= Status.DEVICE_NEEDS_RESET
            if self.status & Status.DRIVER_OK and self._tells_of_errors:
                self._notify_config()

    @holding
    def ring_broken(self, queue: VirtQueue, error: RingError) -> None:
        """The driver broke a ring: report it and ask for a reset."""
        self.violations.report(error.clause, error.summary, queue.name, error.data)
        self.needs_reset()

    def note(self, kind: EventKind, *detail: int | str | bytes) -> None:
        """Give an event of this device to the trace, if there is one."""
        if self.trace is not None:
            self.trace.emit(self.name, kind, *detail)

    def soon(self, context: IoContext, callback: Callable[[], None]) -> None:
        """Do `callback` in the context's next turn."""
        context.call_soon(callback if self.trace is None else self.trace.put_off(callback))

    # --- queues

    @holding
    def enable_queue(self, queue: VirtQueue) -> None:
        """The driver wrote 1 to queue_enable, or the transport's equivalent."""
        if queue.enabled or queue.resetting or self.resetting:
            return
        if not (self.status & Status.FEATURES_OK or self._legacy):
            self.violation(
                "VIRTIO 1.4 §3.1.1", f"queue {queue.index} enabled before FEATURES_OK", written(1, 2)
            )
        queue.enabled = True
        started = not self.stopped and queue.start() and queue.index < self.usable_queues()
        # QEMU looks into a ring when it is told of buffers, or of DRIVER_OK.
        if started and not self.as_qemu:
            queue.serve(queue)

    @holding
    def reset_queue(self, queue: VirtQueue) -> None:
        """The driver resets one queue (VIRTIO 1.4 §2.6.1.1.1); complete when `resetting` is False again."""
        if queue.resetting or self.resetting:
            return
        self.note(EventKind.RESET, queue.index)
        queue.resetting = True
        self.cancel(queue)
        self._show_put_off()
        self.settle(queue)
        if self.as_qemu and queue.resetting and not self.packed:
            queue.on_idle = partial(self.notify_used, queue.index)  # Nothing says no to that.

    @holding
    def settle(self, queue: VirtQueue) -> None:
        """A request of `queue` came back or was dropped: a reset that waited for it may be complete."""
        if queue.resetting and not queue.in_flight:
            queue.clear()
        if self.resetting:
            self._settle_reset()

    def kick(self, index: int, data: int | None = None) -> None:
        """An available buffer notification for queue `index`; `data` is what was written, where it carries more."""
        self.note(EventKind.KICK, index, -1 if data is None else data)
        if index >= self.usable_queues():
            reason = f"notification of queue {index}, which is not there"
            self.violation(self.notification_clause, reason, notified(index, data))
            return
        queue = self.queues[index]
        if queue.ring is None or self.stopped or self.suspending:
            if not judge_notification(self, index, data) and not queue.enabled:
                reason = f"notification of queue {index}, which is disabled"
                self.violation(self.notification_clause, reason, notified(index, data))
            return
        if data is not None and queue.open and self.driver_features & NOTIFICATION_DATA:
            queue.check_notification(data >> 16 & 0xFFFF)
        queue.serve(queue)

    def notify_used(self, queue: int) -> None:
        """Notify the driver of used buffers."""
        self.note(EventKind.NOTIFY, queue)
        if self.transport is not None:
            self.transport.notify_used(queue)

    # --- configuration space (VIRTIO 1.4 §2.5)

    def config_changed(self, *, notify: bool = True) -> None:
        """The device configuration space has changed."""
        self.config_unread = True
        if notify and self.status & Status.DRIVER_OK and not self.stopped:
            self._notify_config()

    def _notify_config(self) -> None:
        self.note(EventKind.NOTIFY, -1)
        if self.transport is not None:
            self.transport.notify_config()

    def store_config(self, offset: int, size: int, value: int) -> None:
        """A driver's write, which a suspended device ignores (VIRTIO 1.4 §3.4.2)."""
        if self.suspending or self.suspended:
            self.violation(
                "VIRTIO 1.4 §3.4.1", "configuration space of a suspended device written", written(value, size)
            )
        else:
            self.note(EventKind.CONFIG_WRITE, offset, value.to_bytes(size, "little"))
            self.write_config(offset, size, value)

    def load_config(self, offset: int, size: int) -> int:
        """A driver's read: the generation moves on once for each change that a read can see (§4.1.4.3.1)."""
        if self.config_unread:
            self.config_unread = False
            self.config_generation = (self.config_generation + 1) & 0xFF
        value = read_as_qemu(self, offset, size) if self.as_qemu else self.read_config(offset, size)
        self.note(EventKind.CONFIG_READ, offset, value.to_bytes(size, "little"))
        return value

    # --- state

    @holding
    def save(self) -> DeviceState:
        """The device's state; requests in flight are saved as the buffers they came in, and start anew on restore.

        Those that a reset waits for do not: it is over where the state is restored.
        """
        for queue in self.queues:
            queue.show()
        return self.state()

    def state(self) -> DeviceState:
        """The same, and nothing is shown to the driver for it."""
        return devicestate.taken(self)

    @holding
    def restore(self, state: DeviceState) -> None:
        """Take what `save` gave, into a device that has been reset and was made with the same options.

        ValueError, and nothing changed, where the state is another device's; RuntimeError without the reset.
        """
        self.judge(state)
        devicestate.give(self, state)

    def judge(self, state: DeviceState) -> None:
        """ValueError where `state` cannot be this device's."""
        devicestate.judge(self, state)

    # --- reset

    @holding
    def reset(self) -> None:
        """Reset by the driver or the transport; `status` reads 0 when it is complete."""
        if self.resetting:
            return
        self.note(EventKind.RESET, -1)
        self.resetting = True
        if self.suspending or self.as_qemu:
            self.suspending = False
            for queue in self.queues:
                # What is under way of QEMU's is given back first.
                queue.on_idle = partial(self.settle, queue) if self.as_qemu and queue.in_flight else None
        for queue in self.queues:
            self.cancel(queue)
        self._show_put_off()
        self._settle_reset()

    def _settle_reset(self) -> None:
        # A request that is cancelled ends the reset as one that comes back does: once.
        if not self.resetting or any(queue.in_flight for queue in self.queues):
            return
        for queue in self.queues if self.as_qemu else ():
            queue.show()
        self.driver_features = 0
        for queue in self.queues:
            queue.clear()
        self.resetting = False
        self.legacy = False
        self.status = Status(0)
        self.device_was_reset()
        if self.on_reset is not None:
            self.on_reset()
