"""A packed virtqueue as QEMU 7.2's devices have it, where that is something else than VIRTIO 1.4 §2.8."""

from __future__ import annotations

from devmodels.virtio.layout import RING_EVENT_FLAGS_DISABLE, RING_EVENT_FLAGS_ENABLE, WRAP_COUNTER
from devmodels.virtio.packed import PackedRing
from devmodels.virtio.ring_as_qemu import RingAsQemu


class PackedRingAsQemu(RingAsQemu, PackedRing):
    """Used descriptors never say that something was written (§2.8.3).

    Of the used buffers with which the ring begins anew the driver is told whichever descriptor it wishes to hear of
    (§2.8.10).  A `steady` one never says which buffers the device wants to hear of.
    """

    LOOSE = True
    WRITTEN = 0

    __slots__ = ("_steady", "_told")

    def publish(self) -> bool:
        """Show the driver what was pushed; returns whether to notify it."""
        shown = self.unshown
        wanted = super().publish()
        self._told |= shown
        return wanted

    def _crosses(self, event: int, old: int) -> bool:
        super()._crosses(event, old)
        size, new = self.size, self._used
        if not self._told or (old < size) is not (new < size):
            return True
        # Both are offsets of one turn, and so is the wish, which may lie in the turn before.
        wish = event & 0xFFFF & ~WRAP_COUNTER
        if (new < size) is not bool(event & WRAP_COUNTER):
            wish -= size
        return (new % size - wish - 1) & 0xFFFF < new - old

    def _notify_of(self, flags: int) -> None:
        """Say when the driver is to notify; the offset, where that says nothing, is nobody's."""
        self._device_event[0] = self._device_event[0] & 0xFFFF | flags << 16

    def disable_notifications(self) -> None:
        """Tell the driver that it need not notify."""
        if self._generation != self._memory.generation:
            self.attach()
        if self._notify_on and not self._steady:
            self._notify_on = False
            self._notify_of(RING_EVENT_FLAGS_DISABLE)

    def enable_notifications(self) -> int:
        """Ask for a notification of the next buffer; returns what `available` then does."""
        if self._steady:
            return self.available()
        if self._event_idx:
            return super().enable_notifications()
        if self._generation != self._memory.generation:
            self.attach()
        self._notify_on = True
        self._notify_of(RING_EVENT_FLAGS_ENABLE)
        self._memory.fence()
        return self.available()
