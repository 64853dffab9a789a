"""A split virtqueue as QEMU 7.2's devices have it, where that is something else than VIRTIO 1.4 §2.7."""

from __future__ import annotations

from functools import partial
from typing import Any

from devmodels.virtio.constants import NOTIFY_ON_EMPTY
from devmodels.virtio.layout import DESC_SIZE, VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_NEXT
from devmodels.virtio.ring import Chain
from devmodels.virtio.split import Fetch, SplitRing
from devmodels.virtio.state import RingState


class SplitRingAsQemu(SplitRing):
    """Of a chain the first descriptor alone can have a table, and then it has no NEXT (§2.7.5.3.1).

    Of the first buffers that are used the driver is told whatever it wishes (§2.7.7.2), and with NOTIFY_ON_EMPTY of
    those after which none is left (§6.3).
    """

    ALWAYS_INDIRECT = True

    __slots__ = ("_told",)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._told = False

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

    def save(self) -> RingState:
        """Also whether the driver was told of any buffers."""
        state = super().save()
        state.hints["told"] = int(self._told)
        return state

    def take_over(self, state: RingState) -> None:
        """Go on where `save` was called."""
        super().take_over(state)
        self._told = bool(state.hints.get("told", False))


def _direct(fetch: Fetch, at: int) -> tuple[int, ...]:
    """A descriptor with its buffer, whatever it says."""
    address, length, flags, following = fetch(at)
    return address, length, flags & ~VIRTQ_DESC_F_INDIRECT, following
