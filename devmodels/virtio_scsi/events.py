"""The event queue: the driver's buffers wait there until there is something to tell (VIRTIO 1.4 §5.6.6.3).

What finds no buffer is lost, and the next event, or the next buffer, says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from devmodels.conformance import written
from devmodels.scsi import LogicalUnit
from devmodels.scsi.asc import Asc
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain, RingError
from devmodels.virtio_scsi.layout import (
    EVENT,
    EVENT_SIZE,
    EVENTS_MISSED,
    AsyncEvent,
    EventType,
    ResetReason,
    ScsiFeature,
)
from devmodels.virtio_scsi.wellknown import lun_field

if TYPE_CHECKING:
    from devmodels.virtio_scsi.device import VirtioScsi

CLAUSE = "VIRTIO 1.4 §5.6.6.3"
NO_LUN = bytes(8)

_PARAMETERS_CHANGED = 0x2A


def supported_events(unit: LogicalUnit) -> AsyncEvent:
    """The events that `unit` can report: a bit for each class of events, as drives number them."""
    return AsyncEvent(unit.notification_classes)


class EventQueue:
    """The event queue of `device`.  `missed` says that the driver has yet to be told of lost events."""

    def __init__(self, device: VirtioScsi, queue: VirtQueue) -> None:
        self._device = device
        self._queue = queue
        self.missed = False
        queue.on_demand = True

    def reset(self) -> None:
        """There is nothing to tell."""
        self.missed = False

    def given_up(self) -> None:
        """The queue is being reset: the driver will not look for what it has not been shown."""
        ring = self._queue.ring
        if ring is not None and ring.unshown:
            self.missed = True

    # --- what happens on the bus

    def unit_added(self, target: int, unit: LogicalUnit) -> None:
        """The driver is to look at it."""
        self._transport_reset(target, unit.lun, ResetReason.VIRTIO_SCSI_EVT_RESET_RESCAN)

    def unit_removed(self, target: int, lun: int) -> None:
        """The driver is to forget it."""
        self._device.subscriptions.pop((target, lun), None)
        self._transport_reset(target, lun, ResetReason.VIRTIO_SCSI_EVT_RESET_REMOVED)

    def _transport_reset(self, target: int, lun: int, reason: ResetReason) -> None:
        if self._wanted(ScsiFeature.VIRTIO_SCSI_F_HOTPLUG):
            self._tell(EventType.VIRTIO_SCSI_T_TRANSPORT_RESET, lun_field(target, lun), reason)
            if self._device.bus.attention is not None:
                self._device.bus.attention.luns_changed()

    def unit_attention(self, target: int, unit: LogicalUnit, code: Asc) -> None:
        """A unit attention condition, of which drivers that know how hear at once.

        Parameters of MMC units are none of these (VIRTIO 1.4 §5.6.6.3.2).
        """
        if (
            code >> 8 == _PARAMETERS_CHANGED
            and not unit.notification_classes
            and self._wanted(ScsiFeature.VIRTIO_SCSI_F_CHANGE)
        ):
            swapped = code >> 8 | (code & 0xFF) << 8
            self._tell(EventType.VIRTIO_SCSI_T_PARAM_CHANGE, lun_field(target, unit.lun), swapped)

    def unit_event(self, target: int, unit: LogicalUnit, classes: int) -> None:
        """What drives have to tell, as far as the driver has subscribed to it."""
        reason = classes & self._device.subscriptions.get((target, unit.lun), 0)
        if reason:
            self._tell(EventType.VIRTIO_SCSI_T_ASYNC_NOTIFY, lun_field(target, unit.lun), reason)

    def _wanted(self, feature: ScsiFeature) -> bool:
        """Whether the driver is to be told now; one that waits will have missed it."""
        if self._device.driver_waits:
            self.missed = True
        return self._device.has(feature)

    @property
    def _tells_anything(self) -> bool:
        device = self._device
        changes = device.has(ScsiFeature.VIRTIO_SCSI_F_CHANGE)
        return changes or device.has(ScsiFeature.VIRTIO_SCSI_F_HOTPLUG) or bool(device.subscriptions)

    # --- buffers

    def more(self) -> None:
        """Buffers may have come: what was missed is told."""
        if self.missed and self._tells_anything:
            self._tell(EventType.VIRTIO_SCSI_T_NO_EVENT, NO_LUN, 0)

    def give_back(self, chains: Sequence[Chain]) -> None:
        """Buffers that an earlier back end had taken: what they were for is not known."""
        for chain in chains:
            self._write(chain, EventType.VIRTIO_SCSI_T_NO_EVENT | EVENTS_MISSED, NO_LUN, 0)

    def _tell(self, event: int, lun: bytes, reason: int) -> None:
        """Send an event; without a buffer it is lost."""
        chain = self._take()
        if chain is None:
            self.missed = True
            return
        if self.missed:
            event |= EVENTS_MISSED
            self.missed = False
        self._write(chain, event, lun, reason)

    def _take(self) -> Chain | None:
        """A buffer that can hold an event; None where there is none, and then the next one is heard of."""
        queue = self._queue
        ring = queue.ring
        if ring is None or not queue.enabled or not queue.open:
            return None
        chains: list[Chain] = []
        try:
            if ring.available() or ring.enable_notifications():
                ring.take(1, 1, chains)
        except RingError as error:
            queue.broken(error)
            return None
        if not chains:
            return None
        if self._device.trace is not None:
            queue.note_taken(chains)
        return chains[0]

    def _write(self, chain: Chain, event: int, lun: bytes, reason: int) -> None:
        device, queue = self._device, self._queue
        data = EVENT.pack(event, lun, reason)
        if chain.writable_bytes < EVENT_SIZE:
            summary = f"event buffer of {chain.writable_bytes} bytes, expected {EVENT_SIZE}"
            device.violations.report(
                CLAUSE, summary, f"{queue.name} head {chain.head}", written(chain.writable_bytes, 4)
            )
            self.missed = True
            data = b""
        queue.finish(((chain, device.write_all(queue, chain, data)),))
