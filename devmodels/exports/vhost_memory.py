"""The front end's memory, as vhost-user hands it over: file descriptors mapped as regions of a `GuestMemory`.

Descriptors carry guest addresses, ring addresses the front end's own ("user") addresses; both name the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from devmodels.exports.mapped_file import MappingError, check_part, map_part
from devmodels.memory import GuestMemory
from devmodels.memoryregions import ADDRESS_LIMIT, WORD_ALIGNMENT, SharedRegion


class MemoryTableError(Exception):
    """A region that the front end offered cannot be used; the text says which and why."""


class RegionInfo(msgspec.Struct, frozen=True):
    """One entry of a memory table: guest and user address, size and offset into the descriptor, in bytes."""

    guest: int
    size: int
    user: int
    offset: int

    def __str__(self) -> str:
        return f"region of {self.size:#x} bytes at guest {self.guest:#x}, user {self.user:#x}, offset {self.offset:#x}"


class FrontEndMemory:
    """What one front end shares, mapped into `memory`, whose only regions these are.

    `lost` is called, on any thread, when a file of it has become too short.
    """

    def __init__(self, memory: GuestMemory, lost: Callable[[], None]) -> None:
        self.memory = memory
        self._lost = lost
        self._mapped: dict[RegionInfo, SharedRegion] = {}

    def __len__(self) -> int:
        return len(self._mapped)

    def replace(self, table: Sequence[tuple[RegionInfo, int]]) -> None:
        """Map these regions instead of those there are; MemoryTableError, and no change, where one cannot be.

        The descriptors stay the caller's.
        """
        fresh: dict[RegionInfo, SharedRegion] = {}
        for info, fd in table:
            _check(info, fd, fresh)
            fresh[info] = _map(info, fd, self._lost)
        self.clear()
        for info, region in fresh.items():
            self.memory.add(region)
            self._mapped[info] = region

    def add(self, info: RegionInfo, fd: int) -> None:
        """Map one more region; `fd` stays the caller's.  MemoryTableError where it cannot be."""
        _check(info, fd, self._mapped)
        region = _map(info, fd, self._lost)
        self.memory.add(region)
        self._mapped[info] = region

    def remove(self, guest: int, user: int, size: int) -> None:
        """Unmap the region with these addresses; MemoryTableError where there is none."""
        for info, region in self._mapped.items():
            if (info.guest, info.user, info.size) == (guest, user, size):
                del self._mapped[info]
                self.memory.remove(region)
                return
        raise MemoryTableError(f"no region of {size:#x} bytes at guest {guest:#x}, user {user:#x}")

    def clear(self) -> None:
        """Unmap everything."""
        for region in self._mapped.values():
            self.memory.remove(region)
        self._mapped.clear()

    def guest_address(self, user: int) -> int | None:
        """The guest address of a user address, or None where no region holds it."""
        for info in self._mapped:
            if info.user <= user < info.user + info.size:
                return info.guest + user - info.user
        return None


def _check(info: RegionInfo, fd: int, others: Iterable[RegionInfo]) -> None:
    """MemoryTableError where `info` cannot be mapped from `fd` beside `others`."""
    if not info.size:
        raise MemoryTableError(f"{info}: empty")
    if (info.guest | info.size | info.offset) % WORD_ALIGNMENT:
        raise MemoryTableError(f"{info}: not aligned to {WORD_ALIGNMENT} bytes")
    if max(info.guest, info.user, info.offset) + info.size > ADDRESS_LIMIT:
        raise MemoryTableError(f"{info}: beyond 2**64")
    for other in others:
        if _overlap(info.guest, other.guest, info.size, other.size):
            raise MemoryTableError(f"{info}: overlaps the {other} in guest addresses")
        if _overlap(info.user, other.user, info.size, other.size):
            raise MemoryTableError(f"{info}: overlaps the {other} in user addresses")
    try:
        check_part(fd, info.offset, info.size)
    except MappingError as error:
        raise MemoryTableError(f"{info}: {error}") from None


def _overlap(one: int, other: int, one_size: int, other_size: int) -> bool:
    return one < other + other_size and other < one + one_size


def _map(info: RegionInfo, fd: int, lost: Callable[[], None]) -> SharedRegion:
    try:
        view = map_part(fd, info.offset, info.size, lost)
    except MappingError as error:
        raise MemoryTableError(f"{info}: {error}") from None
    return SharedRegion(info.guest, view, name=f"guest@{info.guest:#x}")
