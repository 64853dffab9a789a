"""The front end's memory, as vhost-user hands it over: file descriptors mapped as regions of a `GuestMemory`.

Descriptors carry guest addresses, ring addresses the front end's own ("user") addresses; both name the same bytes.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from mmap import MAP_SHARED, PAGESIZE, PROT_READ, PROT_WRITE, mmap

from devmodels.memory import WORD_ALIGNMENT, GuestMemory, SharedRegion


class MemoryTableError(Exception):
    """A region that the front end offered cannot be used; the text says which and why."""


@dataclass(frozen=True, slots=True)
class RegionInfo:
    """One entry of a memory table: guest and user address, size and offset into the descriptor, in bytes."""

    guest: int
    size: int
    user: int
    offset: int

    def __str__(self) -> str:
        return f"region of {self.size:#x} bytes at guest {self.guest:#x}, user {self.user:#x}, offset {self.offset:#x}"


class FrontEndMemory:
    """Maps and unmaps what the front end shares."""

    def __init__(self, memory: GuestMemory) -> None:
        self.memory = memory
        self._mapped: dict[RegionInfo, SharedRegion] = {}

    def __len__(self) -> int:
        return len(self._mapped)

    def add(self, info: RegionInfo, fd: int) -> None:
        """Map one region; `fd` stays the caller's.  MemoryTableError where it cannot be."""
        region = _map(info, fd)
        for other in self._mapped:
            if info.user < other.user + other.size and other.user < info.user + info.size:
                raise MemoryTableError(f"{info} overlaps the {other}")
        try:
            self.memory.add(region)
        except ValueError as error:
            raise MemoryTableError(str(error)) from error
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


def _map(info: RegionInfo, fd: int) -> SharedRegion:
    if not info.size or (info.guest | info.size | info.offset) % WORD_ALIGNMENT:
        raise MemoryTableError(f"{info}: empty or not aligned to {WORD_ALIGNMENT}")
    if max(info.guest, info.user) + info.size > 1 << 64:
        raise MemoryTableError(f"{info}: beyond 2**64")
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and info.offset + info.size > status.st_size:
        # A mapping beyond the end of a file would kill this process (SIGBUS) at the first access.
        raise MemoryTableError(f"{info}: its descriptor holds only {status.st_size:#x} bytes")
    start = info.offset - info.offset % PAGESIZE
    skip = info.offset - start
    try:
        mapping = mmap(fd, skip + info.size, MAP_SHARED, PROT_READ | PROT_WRITE, offset=start)
    except (OSError, ValueError, OverflowError) as error:
        raise MemoryTableError(f"{info}: cannot be mapped: {error}") from error
    view = memoryview(mapping)[skip : skip + info.size]
    return SharedRegion(info.guest, view, name=f"guest@{info.guest:#x}")
