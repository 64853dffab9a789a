"""A split virtqueue as QEMU 7.2's devices have it, where that is something else than VIRTIO 1.4 §2.7."""

from __future__ import annotations

from functools import partial

from devmodels.virtio.constants import NOTIFY_ON_EMPTY
from devmodels.virtio.layout import DESC_SIZE, VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_NEXT
from devmodels.virtio.ring import Chain, RingError
from devmodels.virtio.ring_as_qemu import RingAsQemu
from devmodels.virtio.split import Fetch, SplitRing


class SplitRingAsQemu(RingAsQemu, SplitRing):
    """Of a chain the first descriptor alone can have a table, and then it has no NEXT (§2.7.5.3.1).

    With NOTIFY_ON_EMPTY the driver is told of the buffers after which none is left (§6.3).  A `steady` one asks for the
    buffer after every one that it takes, the others for the one that comes next in the end (§2.7.10).
    """

    ALWAYS_INDIRECT = True

    __slots__ = ("_steady", "_told")

    def _walk(self, chain: Chain, fetch: Fetch, index: int, limit: int, steps: range) -> int:
        if fetch is self._fetch:
            address, length, flags, _ = fetch(index * DESC_SIZE)
            if flags & VIRTQ_DESC_F_INDIRECT:
                return self._walk_table(chain, address, length, flags & ~VIRTQ_DESC_F_NEXT, fetch)
        return super()._walk(chain, partial(_direct, fetch), index, limit, steps)

    def publish(self) -> bool:
        """Show the driver what was pushed; returns whether to notify it."""
        shown = self.unshown
        told, self._told = self._told, self._told or shown
        if super().publish() or (self._event_idx and self._told and not told):
            return True
        empty = self.features & NOTIFY_ON_EMPTY and shown and not self.in_flight
        return bool(empty) and not self.available()

    def take(self, count: int, budget: int, chains: list[Chain]) -> int:
        """Append the next buffers; a broken one was taken, too, where it begins in the table."""
        if not (self._steady and self._event_idx):
            return super().take(count, budget, chains)
        begun = self._last_avail
        try:
            taken = super().take(count, budget, chains)
        except RingError:
            entry = self._avail[2 + (self._last_avail & self._mask)]
            self._ask(begun, self._last_avail + (entry < self.size))
            raise
        self._ask(begun, self._last_avail)
        return taken

    def _ask(self, begun: int, index: int) -> None:
        if begun != index:
            self._avail_event[0] = index & 0xFFFF

    def disable_notifications(self) -> None:
        """Tell the driver that it need not notify."""
        if not self._steady:
            super().disable_notifications()
        elif self._generation != self._memory.generation:
            self.attach()

    def enable_notifications(self) -> int:
        """Ask for a notification of the next buffer; returns what `available` then does."""
        if not (self._steady or self._event_idx):
            return super().enable_notifications()
        if self._generation != self._memory.generation:
            self.attach()
        if not self._steady:
            self._notify_on = True
            self._avail_event[0] = self._avail[1]
            self._memory.fence()
        return self.available()


def _direct(fetch: Fetch, at: int) -> tuple[int, ...]:
    """A descriptor with its buffer, whatever it says."""
    address, length, flags, following = fetch(at)
    return address, length, flags & ~VIRTQ_DESC_F_INDIRECT, following
