"""Words in guest memory that the guest looks at, or changes, at any moment: each load or store is one access.

A cast memoryview's item does not tear; `struct.pack_into` writes byte by byte.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from devmodels.memoryregions import GuestMemoryError, Region
from devmodels.trace import EventKind

if TYPE_CHECKING:
    from devmodels.memory import GuestMemory

NATIVE_LITTLE = sys.byteorder == "little"
ITEM_SIZE = {"H": 2, "I": 4, "Q": 8}
"""Bytes of a word, by its code."""


class Words(Protocol):
    """An array of little-endian words in guest memory; each load or store is one access."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...


def cast(view: memoryview, code: str) -> memoryview[int]:
    """`view` as words of this host's own byte order; `code` as in `ITEM_SIZE`."""
    return view.cast(code)  # type: ignore[call-overload,no-any-return]


class SeenWords:
    """Words in one region that both have, whose accesses are observed."""

    __slots__ = ("_address", "_memory", "_size", "_view")

    def __init__(self, memory: GuestMemory, address: int, view: memoryview[int], size: int) -> None:
        self._memory = memory
        self._address = address
        self._view = view
        self._size = size

    def __getitem__(self, index: int, /) -> int:
        value = self._view[index]
        memory, size = self._memory, self._size
        if memory.trace is not None:
            address = self._address + index * size
            memory.trace.emit(memory.name, EventKind.DMA_READ, address, value.to_bytes(size, "little"))
        return value

    def __setitem__(self, index: int, value: int, /) -> None:
        self._view[index] = value
        size = self._size
        self._memory.note_write(self._address + index * size, size, value.to_bytes(size, "little"))


class SlowWords:
    """Words that lie in bounced or several regions."""

    __slots__ = ("_address", "_code", "_count", "_memory", "_size")

    def __init__(self, memory: GuestMemory, address: int, count: int, code: str) -> None:
        self._memory = memory
        self._address = address
        self._count = count
        self._code = code
        self._size = ITEM_SIZE[code]

    def _at(self, index: int, *, write: bool = False) -> tuple[Region, int]:
        if not 0 <= index < self._count:
            raise IndexError(index)
        address = self._address + index * self._size
        region, offset, length = self._memory.pieces(address, self._size, write=write)[0]
        if length < self._size:
            raise GuestMemoryError(address, self._size, "a word over two pieces of memory")
        return region, offset

    def __getitem__(self, index: int, /) -> int:
        region, offset = self._at(index)
        if region.view is not None and NATIVE_LITTLE:
            value = cast(region.view[offset : offset + self._size], self._code)[0]
        else:
            value = int.from_bytes(region.load(offset, self._size), "little")
        if self._memory.trace is not None:
            data = value.to_bytes(self._size, "little")
            address = self._address + index * self._size
            self._memory.trace.emit(self._memory.name, EventKind.DMA_READ, address, data)
        return value

    def __setitem__(self, index: int, value: int, /) -> None:
        region, offset = self._at(index, write=True)
        data = value.to_bytes(self._size, "little")
        if region.view is not None and NATIVE_LITTLE:
            cast(region.view[offset : offset + self._size], self._code)[0] = value
        else:
            region.store(offset, data)
        if self._memory.observed:
            self._memory.note_write(self._address + index * self._size, self._size, data)
