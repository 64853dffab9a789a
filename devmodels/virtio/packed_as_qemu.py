"""A packed virtqueue as QEMU 7.2's devices have it, where that is something else than VIRTIO 1.4 §2.8."""

from __future__ import annotations

from typing import Any

from devmodels.virtio.layout import WRAP_COUNTER
from devmodels.virtio.packed import PackedRing
from devmodels.virtio.state import RingState


class PackedRingAsQemu(PackedRing):
    """Used descriptors never say that something was written (§2.8.4).

    Of the first buffers that are used, and of those with which the ring begins anew, the driver is told whichever
    descriptor it wishes to hear of (§2.8.10).
    """

    LOOSE = True
    WRITTEN = 0

    __slots__ = ("_told",)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._told = False

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

    def save(self) -> RingState:
        """Also whether the driver was told of any buffers."""
        state = super().save()
        state.hints["told"] = int(self._told)
        return state

    def take_over(self, state: RingState) -> None:
        """Go on where `save` was called."""
        super().take_over(state)
        self._told = bool(state.hints.get("told", False))
