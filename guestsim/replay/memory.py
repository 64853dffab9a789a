"""Guest memory in a replay: there is none.  What the device reads comes from the trace, what it writes is compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from mmap import mmap
from struct import Struct

from devmodels.dma import Direction, DmaMap
from devmodels.memory import BOUNCE_LIMIT, GuestMemory
from devmodels.memoryregions import GuestMemoryError, Region
from devmodels.memorywords import ITEM_SIZE, Words
from devmodels.trace import EventKind
from guestsim.replay.follow import Follower

NONE = 0, 0, True
"""No region: first address, end, whether it is read-only."""
_LAZY = 1 << 20


def _room(length: int) -> bytearray | mmap:
    """Memory for what a device writes; where it is much, it takes none before it is touched."""
    return bytearray(length) if length < _LAZY else mmap(-1, length)


def _cut(whole: memoryview, sizes: Sequence[int]) -> list[memoryview]:
    """Its pieces of these sizes, one after the other."""
    if len(sizes) == 1:
        return [whole]
    ends = list(accumulate(sizes))
    return [whole[end - size : end] for end, size in zip(ends, sizes, strict=True)]


class _Nowhere(Region):
    """A region without bytes: its place is known, so that what lies outside is refused as it was."""

    __slots__ = ()

    def load(self, offset: int, length: int) -> bytes:
        """Zeroes; what is there is not known."""
        del offset
        return bytes(length)

    def store(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Nothing is kept."""


class ReplayMemory(GuestMemory):
    """The address space of a recorded guest; `bounced` says that the device could only copy from and to it."""

    __slots__ = ("_bounced", "_follower", "_largest")

    def __init__(self, follower: Follower, name: str, *, bounced: bool) -> None:
        super().__init__(name=name)
        self.trace = self._follower = follower
        self.observed = True
        self._bounced = bounced
        self._largest = NONE
        """The largest region, where most of it happens: first address, end, whether it is read-only."""

    def numbers(self) -> list[int]:
        """Its regions, as a MEMORY event has them."""
        parts = [(region.base, region.size, int(region.readonly)) for region in self._regions]
        return [number for part in parts for number in part]

    def become(self, numbers: Sequence[int]) -> None:
        """Have the regions of a MEMORY event from now on."""
        before = {(region.base, region.size, int(region.readonly)): region for region in self._regions}
        parts = list(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))
        self._regions = [
            before.get((base, size, readonly)) or _Nowhere(base, size, readonly=bool(readonly))
            for base, size, readonly in parts
        ]
        largest = max(self._regions, key=lambda region: region.size, default=None)
        self._largest = NONE if largest is None else (largest.base, largest.end, largest.readonly)
        self._changed()

    def read(self, address: int, length: int) -> bytes:
        """A device reads: the trace knows what."""
        data = self._follower.read(self.name, address, length)
        if data is None:
            self.pieces(address, length, write=False)
            if self._follower.paused:
                return bytes(length)
            self._follower.part(f"{self.name} {EventKind.DMA_READ.value}  {length} bytes at {address:#x}")
        return data

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """A device writes: the trace has to have it."""
        if not self._follower.write(self.name, address, data):
            self.pieces(address, len(data), write=True)
            if data:
                self._follower.emit(self.name, EventKind.DMA_WRITE, address, bytes(data))

    def map(self, scatter: Sequence[tuple[int, int]], direction: Direction) -> DmaMap:
        """What goes to the device comes from the trace; what comes from it is compared at the end."""
        write = direction is Direction.FROM_DEVICE
        views: list[memoryview] = []
        taken: list[bytes] = []
        lengths = [self._lengths(address, length, write=write) for address, length in scatter]
        nbytes = sum(map(sum, lengths)) if self._bounced else 0
        if self.bounced_bytes + nbytes > BOUNCE_LIMIT:
            raise GuestMemoryError(*scatter[0], "more bytes to bounce than are allowed at a time")
        for (address, length), sizes in zip(scatter, lengths, strict=True):
            if write:
                whole = memoryview(_room(length))
            else:
                taken.append(self.read(address, length))
                whole = memoryview(taken[-1])
            views += _cut(whole, sizes)
        self.bounced_bytes += nbytes
        return ReplayMap(self, scatter, direction, views, taken, nbytes)

    def _lengths(self, address: int, length: int, *, write: bool) -> Sequence[int]:
        """How long the pieces are into which borders of regions cut a range."""
        base, end, readonly = self._largest
        if base <= address and 0 < length <= end - address and not (write and readonly):
            return (length,)
        return [size for _, _, size in self.pieces(address, length, write=write)]

    def words(self, address: int, count: int, code: str, *, write: bool = False) -> Words:
        """Words that the trace knows."""
        size = ITEM_SIZE[code]
        if address % size:
            raise ValueError(f"words of {size} bytes at {address:#x} are not aligned")
        self.pieces(address, count * size, write=write)
        return _ReplayWords(self, address, size)

    def records(self, address: int, count: int, layout: Struct) -> Callable[[int], tuple[int, ...]]:
        """Structures that the trace knows."""
        size = layout.size
        self.pieces(address, count * size, write=False)
        return lambda offset: layout.unpack(self.read(address + offset, size))


class ReplayMap(DmaMap):
    """One transfer's memory, which is ours alone; `taken` is what the trace has of each of its pieces, for a device to
    read."""

    __slots__ = ("_nbytes", "taken")

    def __init__(
        self,
        memory: ReplayMemory,
        scatter: Sequence[tuple[int, int]],
        direction: Direction,
        views: list[memoryview],
        taken: Sequence[bytes],
        nbytes: int,
    ) -> None:
        super().__init__(memory, scatter, direction, views, (), None)
        self.taken = taken
        self._nbytes = nbytes

    def take(self, taken: Sequence[bytes]) -> None:
        """Have this instead, in new `views`; ValueError where it does not fit."""
        if [len(piece) for piece in taken] != [length for _, length in self.scatter]:
            raise ValueError("data of another length")
        self.taken = taken
        sizes = [len(view) for view in self.views]
        self.views = _cut(memoryview(b"".join(taken)), sizes)

    def unmap(self, bytes_done: int) -> None:
        """What was written has to be what the trace has."""
        self.memory.bounced_bytes -= self._nbytes
        super().unmap(bytes_done)

    def _observe(self, bytes_done: int) -> None:
        memory = self.memory
        views, done = self.views, 0
        alike = len(views) == len(self.scatter)
        for at, (address, length) in enumerate(self.scatter):
            length = min(length, bytes_done - done)
            if length:
                whole = alike and len(views[at]) == length
                memory.write(address, bytes(views[at]) if whole else self.gather(done, length))
            done += length


class _ReplayWords:
    """Words of a ring."""

    __slots__ = ("_address", "_memory", "_size")

    def __init__(self, memory: ReplayMemory, address: int, size: int) -> None:
        self._memory = memory
        self._address = address
        self._size = size

    def __getitem__(self, index: int, /) -> int:
        size = self._size
        return int.from_bytes(self._memory.read(self._address + index * size, size), "little")

    def __setitem__(self, index: int, value: int, /) -> None:
        size = self._size
        self._memory.write(self._address + index * size, value.to_bytes(size, "little"))


class TranslatedReplayMemory(ReplayMemory):
    """What a device reaches through an IOMMU: the trace knows which translations failed."""

    __slots__ = ()

    def pieces(self, address: int, length: int, *, write: bool) -> list[tuple[Region, int, int]]:
        """Nothing is known of where they are, only whether the translation failed."""
        found = self._follower.fault(self.name, address, length, int(write))
        if found is not None:
            self._follower.emit(self.name, EventKind.FAULT, address, length, int(write), *found)
            raise GuestMemoryError(*found)
        return [(_ANYWHERE, 0, length)] if length else []

    def _lengths(self, address: int, length: int, *, write: bool) -> Sequence[int]:
        return [size for _, _, size in self.pieces(address, length, write=write)]

    def read(self, address: int, length: int) -> bytes:
        """A device reads: the trace knows what, if anything."""
        self.pieces(address, length, write=False)
        return super().read(address, length)

    def words(self, address: int, count: int, code: str, *, write: bool = False) -> Words:
        """Words that the trace knows; each access may fail."""
        super().words(address, count, code, write=write)
        return _TranslatedWords(self, address, ITEM_SIZE[code])


_ANYWHERE = _Nowhere(0, 8)


class _TranslatedWords(_ReplayWords):
    """Words of a ring, each behind its translation."""

    __slots__ = ()

    def __getitem__(self, index: int, /) -> int:
        self._memory.pieces(self._address + index * self._size, self._size, write=False)
        return super().__getitem__(index)

    def __setitem__(self, index: int, value: int, /) -> None:
        self._memory.pieces(self._address + index * self._size, self._size, write=True)
        super().__setitem__(index, value)
