"""The guest's own memory management: who uses which range of guest memory.

First fit over the RAM windows that firmware has told the guest of; windows that touch are one for the guest.  A range
is never handed out twice, and giving back what isn't in use is an error: both would be bugs of a driver.
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from guestsim.errors import GuestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guestsim.targets import Target, Window

PAGE = 4096
_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of guest memory: `length` bytes at guest-physical `address`."""

    address: int
    length: int

    @property
    def end(self) -> int:
        """First address after the segment."""
        return self.address + self.length


class Memory:
    """The guest's memory: an allocator, and the accesses themselves.

    `seed` drives the places that `allocate_far` and `cut` choose.
    """

    __slots__ = ("_borders", "_free", "_random", "_turn", "_used", "read", "target", "windows", "write")

    def __init__(self, target: Target, windows: Sequence[Window], *, seed: int = 0) -> None:
        self.target = target
        self.windows = tuple(sorted(windows, key=lambda window: window.base))
        self.read = target.ram_read
        self.write = target.ram_write
        self._borders = [one.end for one, other in pairwise(self.windows) if one.end == other.base]
        self._free: list[tuple[int, int]] = []
        for window in self.windows:
            start = self._free.pop()[0] if window.base in self._borders else window.base
            self._free.append((start, window.end))
        self._used: dict[int, int] = {}
        self._random = random.Random(seed)
        self._turn = 0

    @property
    def in_use(self) -> int:
        """Bytes handed out and not given back."""
        return sum(self._used.values())

    def allocate(self, length: int, align: int = 16) -> int:
        """Address of `length` bytes (at least 1) at a multiple of `align`; GuestError where none are left."""
        for at, (start, end) in enumerate(self._free):
            address = -(-start // align) * align
            if address + length <= end:
                self._take(at, address, length)
                return address
        raise GuestError(f"out of guest memory: {length} bytes asked for, {self.in_use} in use")

    def allocate_zeroed(self, length: int, align: int = 16) -> int:
        """As `allocate`, filled with zeroes."""
        address = self.allocate(length, align)
        self.write(address, bytes(length))
        return address

    def store(self, data: bytes, align: int = 16) -> int:
        """Put `data` into fresh memory and return its address."""
        address = self.allocate(len(data), align)
        self.write(address, data)
        return address

    def free(self, address: int) -> None:
        """Give back what `allocate` returned."""
        length = self._used.pop(address, None)
        if length is None:
            raise GuestError(f"freed {address:#x}, which is not allocated")
        start, end = address, address + length
        at = bisect_left(self._free, (start, end))
        if at < len(self._free) and self._free[at][0] == end:
            end = self._free.pop(at)[1]
        if at and self._free[at - 1][1] == start:
            start = self._free.pop(at - 1)[0]
        insort(self._free, (start, end))

    def cut(self, length: int, pieces: int) -> list[int]:
        """`length` in up to `pieces` uneven parts, none of them empty."""
        if length <= 0:
            return []
        cuts = sorted(self._random.sample(range(1, length), min(pieces, length) - 1))
        return [end - start for start, end in pairwise((0, *cuts, length))]

    def allocate_far(self, length: int, align: int = 1) -> int:
        """As `allocate`, in a place far from others: each window has its turn, and each border between two of them."""
        self._turn += 1
        turn = self._turn % (len(self.windows) + len(self._borders))
        for _ in range(_ATTEMPTS):
            if turn < len(self.windows):
                window = self.windows[turn]
                wanted = window.base + self._random.randrange(max(1, window.size - length))
            else:
                wanted = self._borders[turn - len(self.windows)] - self._random.randrange(length + 1)
            address = -(-wanted // align) * align
            at = bisect_left(self._free, (address + 1, 0)) - 1
            if at >= 0 and address + length <= self._free[at][1]:
                self._take(at, address, length)
                return address
        return self.allocate(length, align)

    def _take(self, at: int, address: int, length: int) -> None:
        start, end = self._free.pop(at)
        if address + length < end:
            self._free.insert(at, (address + length, end))
        if start < address:
            self._free.insert(at, (start, address))
        self._used[address] = length
