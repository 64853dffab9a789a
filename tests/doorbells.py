"""What a device may do for one doorbell: a budget of accesses to guest memory, and of bytes allocated."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from devmodels.dma import Direction, DmaMap
from devmodels.memory import GuestMemory
from devmodels.memoryregions import Region
from devmodels.memorywords import Words

STRUCTURE = 16
"""Bytes of a descriptor, and of a PRD: so many more of a read are an access more."""
UNLIMITED = 1 << 62


class Overdone(AssertionError):
    """A device accessed guest memory more often, or allocated more, than a doorbell is worth."""


class CountedMemory(GuestMemory):
    """Guest memory that a device may access `left` times: structures that it fetches, reads, writes, elements that it
    maps, and words of rings."""

    __slots__ = ("left",)

    def __init__(self, *regions: Region) -> None:
        self.left = UNLIMITED
        super().__init__(*regions)

    def spend(self, count: int) -> None:
        """So many accesses are made; Overdone."""
        self.left -= count
        if self.left < 0:
            raise Overdone("guest memory is accessed more often than the doorbell is worth")

    def read(self, address: int, length: int) -> bytes:
        """One access, and one for each structure behind the first."""
        self.spend(1 + max(length - 1, 0) // STRUCTURE)
        return super().read(address, length)

    def unpack(self, address: int, layout: struct.Struct) -> tuple[int, ...]:
        """One access for each structure; a read besides where it is one."""
        self.spend(-(-layout.size // STRUCTURE))
        return super().unpack(address, layout)

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """One access."""
        self.spend(1)
        super().write(address, data)

    def map(self, scatter: Sequence[tuple[int, int]], direction: Direction) -> DmaMap:
        """One access for each element."""
        self.spend(len(scatter))
        return super().map(scatter, direction)

    def words(self, address: int, count: int, code: str, *, write: bool = False) -> Words:
        """Each of them, read or written, is one access."""
        return _CountedWords(self, super().words(address, count, code, write=write))

    def records(self, address: int, count: int, layout: struct.Struct) -> Callable[[int], tuple[int, ...]]:
        """Each of them is one access."""
        fetch = super().records(address, count, layout)

        def fetched(offset: int) -> tuple[int, ...]:
            self.spend(1)
            return fetch(offset)

        return fetched


class _CountedWords:
    __slots__ = ("_memory", "_words")

    def __init__(self, memory: CountedMemory, words: Words) -> None:
        self._memory = memory
        self._words = words

    def __getitem__(self, index: int, /) -> int:
        self._memory.spend(1)
        return self._words[index]

    def __setitem__(self, index: int, value: int, /) -> None:
        self._memory.spend(1)
        self._words[index] = value


_peaks: list[int] = []


@contextmanager
def measured() -> Iterator[Callable[[], int]]:
    """Allocations are traced; how many bytes there were at the peak."""
    tracemalloc.start()
    _peaks.clear()
    try:
        yield lambda: max(*_peaks, tracemalloc.get_traced_memory()[1], 0)
    finally:
        tracemalloc.stop()


@contextmanager
def allocates(most: int) -> Iterator[None]:
    """At no moment more than `most` bytes more than at the beginning, where allocations are traced; Overdone."""
    if not tracemalloc.is_tracing():
        yield
        return
    before, peak = tracemalloc.get_traced_memory()
    _peaks.append(peak)
    tracemalloc.reset_peak()
    yield
    more = tracemalloc.get_traced_memory()[1] - before
    if more > most:
        raise Overdone(f"{more} bytes were allocated for one doorbell, which is worth {most}")
