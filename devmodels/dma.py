"""Direct memory access: guest memory mapped for the payload of one transfer."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING

from devmodels.memoryregions import Region
from devmodels.trace import EventKind

if TYPE_CHECKING:
    from devmodels.memory import GuestMemory


class Direction(Enum):
    """Which way a DMA goes, from the device's point of view."""

    TO_DEVICE = "to-device"
    FROM_DEVICE = "from-device"


class DmaMap:
    """Guest memory mapped for one transfer; `unmap` must be called exactly once.

    `views` lists memoryviews in order, `scatter` the (address, length) that they are of.  `regions` are held until it
    ends; `bounces` are (place in the transfer, region, offset, buffer) of what could only be copied.
    """

    __slots__ = ("bounces", "direction", "memory", "regions", "scatter", "views")

    def __init__(
        self,
        memory: GuestMemory,
        scatter: Sequence[tuple[int, int]],
        direction: Direction,
        views: list[memoryview],
        pieces: Sequence[tuple[Region, int, int]],
        bounces: list[tuple[int, Region, int, bytearray]] | None,
    ) -> None:
        """`pieces` are (region, offset, length) of the memory that `scatter` names."""
        self.memory = memory
        self.scatter = scatter
        self.direction = direction
        self.views = views
        self.regions: Sequence[Region] = [region for region, _, _ in pieces]
        self.bounces = bounces

    @property
    def nbytes(self) -> int:
        """How long `views` are together."""
        return sum(map(len, self.views))

    def unmap(self, bytes_done: int) -> None:
        """End the map after the first `bytes_done` bytes were written (0 for a map to the device).

        Copies bounced bytes back, marks the dirty log, emits the trace and lets removed regions go.
        """
        memory = self.memory
        if self.bounces is not None:
            for start, region, offset, buffer in self.bounces:
                memory.bounced_bytes -= len(buffer)
                if start < bytes_done and self.direction is Direction.FROM_DEVICE:
                    region.store(offset, memoryview(buffer)[: bytes_done - start])
        if bytes_done and memory.observed and self.direction is Direction.FROM_DEVICE:
            self._observe(bytes_done)
        for view in self.views:
            view.release()
        for region in self.regions:
            region.maps.pop()
            if region.removed and not region.maps:
                region.let_go()

    def _places(self) -> Sequence[tuple[int, int]]:
        """(address, length) of the mapped memory as the dirty log knows it."""
        return self.scatter

    def _observe(self, bytes_done: int) -> None:
        memory = self.memory
        if memory.dirty_log is not None:
            left = bytes_done
            for address, length in self._places():
                memory.dirty_log.mark(address, min(length, left))
                left -= min(length, left)
        if memory.trace is not None:
            done = 0
            for address, length in self.scatter:
                length = min(length, bytes_done - done)
                if length:
                    memory.trace.emit(memory.name, EventKind.DMA_WRITE, address, self.gather(done, length))
                done += length

    def gather(self, start: int, length: int) -> bytes:
        """`length` bytes of the transfer, from byte `start` of it on."""
        if len(self.views) == 1:
            view = self.views[0]
            whole = view.obj if view.readonly and length == len(view) else None
            return whole if type(whole) is bytes else bytes(view[start : start + length])
        out = bytearray()
        for view in self.views:
            if start < len(view):
                out += view[start : start + length - len(out)]
                start = 0
            else:
                start -= len(view)
            if len(out) == length:
                break
        return bytes(out)
