"""Guest memory as one device reaches it through an IOMMU: bus addresses, translated by the embedder (ACCESS_PLATFORM).

The embedder gives a function; a `TranslatedMemory` over the machine's memory is what the device then has for its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from devmodels.dma import Direction, DmaMap
from devmodels.memory import GuestMemory
from devmodels.memoryregions import ADDRESS_LIMIT, GuestMemoryError, Region
from devmodels.trace import EventKind

Translate = Callable[[int, int, Direction], Sequence[tuple[int, int]]]
"""`translate(address, length, direction)`: the (physical address, length) in order of which a range of bus addresses
consists; GuestMemoryError where any of it may not be accessed in this direction."""


class _TranslatedMap(DmaMap):
    """It knows where it is: when it ends, its addresses may be translated otherwise, or not at all."""

    __slots__ = ("_physical",)

    def __init__(
        self,
        memory: GuestMemory,
        scatter: Sequence[tuple[int, int]],
        direction: Direction,
        views: list[memoryview],
        pieces: Sequence[tuple[Region, int, int]],
        bounces: list[tuple[int, Region, int, bytearray]] | None,
    ) -> None:
        super().__init__(memory, scatter, direction, views, pieces, bounces)
        self._physical = [(region.base + offset, length) for region, offset, length in pieces]

    def _places(self) -> Sequence[tuple[int, int]]:
        return self._physical


class TranslatedMemory(GuestMemory):
    """`physical` seen through `translate`.

    Translations of rings are kept until something changes: after every change that takes a translation away, the
    embedder calls `invalidate`.  What a transfer has mapped stays mapped until the transfer's end.
    """

    __slots__ = ("_physical", "_translate")

    map_type = _TranslatedMap

    def __init__(self, physical: GuestMemory, translate: Translate, *, name: str = "memory") -> None:
        super().__init__(name=name)
        self._physical = physical
        self._translate = translate
        physical.followers.append(self._changed)
        self._follow()

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions of physical memory."""
        return self._physical.regions

    def invalidate(self) -> None:
        """Translations have changed: none that was asked for earlier is used any more."""
        self.generation += 1
        self.show_regions()

    def note_write(self, address: int, length: int, data: bytes) -> None:
        """A device wrote `data` at bus address `address`: the dirty log knows physical ones, the trace what it did."""
        if self.dirty_log is not None and length:
            for physical, size in self._translate(address, length, Direction.FROM_DEVICE):
                self.dirty_log.mark(physical, size)
        if self.trace is not None and length:
            self.trace.emit(self.name, EventKind.DMA_WRITE, address, data)

    def _changed(self) -> None:
        self._follow()
        self.show_regions()

    def _follow(self) -> None:
        self.dirty_log = self._physical.dirty_log
        self.trace = self._physical.trace
        self.observed = self._physical.observed
        self.generation += 1

    def pieces(self, address: int, length: int, *, write: bool) -> list[tuple[Region, int, int]]:
        """Split a range of bus addresses into (region, offset, length) of physical memory, all of it checked."""
        try:
            return self._translated(address, length, write=write)
        except GuestMemoryError as error:
            if self.trace is not None:
                what = address, length, int(write), error.address, error.length, error.reason
                self.trace.emit(self.name, EventKind.FAULT, *what)
            raise

    def _translated(self, address: int, length: int, *, write: bool) -> list[tuple[Region, int, int]]:
        if address < 0 or length < 0 or address + length > ADDRESS_LIMIT:
            raise GuestMemoryError(address, length, "beyond the address space")
        pieces: list[tuple[Region, int, int]] = []
        left = length
        direction = Direction.FROM_DEVICE if write else Direction.TO_DEVICE
        for physical, size in self._translate(address, length, direction) if length else ():
            if not 0 < size <= left:
                break
            pieces += self._physical.pieces(physical, size, write=write)
            left -= size
        if left:
            raise GuestMemoryError(address, length, "translated only in part")
        return pieces
