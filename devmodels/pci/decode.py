"""Address decode: a flat, sorted table of the ranges that somebody claims, and the cutting of accesses at its edges.

Where claims overlap, the earlier one wins. An access that lies whole in one range is given to its handler as it is;
one that does not is cut into naturally aligned pieces of 1, 2, 4 or 8 bytes, none of which leaves a range.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec


class BarHandler(Protocol):
    """What answers accesses to a range; offsets count from the range's beginning, values are little-endian."""

    def read(self, offset: int, size: int, /) -> int:
        """Read `size` bytes: 1, 2, 4 or 8."""
        ...

    def write(self, offset: int, size: int, value: int, /) -> None:
        """Write `size` bytes; `value` fits in them."""
        ...


class Guard(Protocol):
    """Something that must not be entered twice: `accessing` is true while one of its registers is being accessed."""

    accessing: bool


class Claim(msgspec.Struct, frozen=True):
    """`size` bytes from `base` on belong to `handler`, and through it to `owner` (None: may be entered again)."""

    base: int
    size: int
    handler: BarHandler
    owner: Guard | None


class Window:
    """A range of the flat table: `start` up to `end` (exclusive) of a claim that begins at `base`."""

    __slots__ = ("base", "end", "handler", "owner", "start")

    def __init__(self, start: int, end: int, claim: Claim) -> None:
        self.start = start
        self.end = end
        self.base = claim.base
        self.handler = claim.handler
        self.owner = claim.owner


class DecodeTable:
    """The flat table of one address space."""

    __slots__ = ("_starts", "windows")

    def __init__(self, claims: Iterable[Claim] = ()) -> None:
        self.windows: list[Window] = []
        self._starts: list[int] = []
        for claim in claims:
            self._add(claim)

    def _add(self, claim: Claim) -> None:
        """Give the claim what earlier ones have left of its range."""
        windows, starts = self.windows, self._starts
        start, end = claim.base, claim.base + claim.size
        index = bisect_right(starts, start)
        if index:
            start = max(start, windows[index - 1].end)
        while start < end:
            following = windows[index] if index < len(windows) else None
            stop = end if following is None else min(end, following.start)
            if start < stop:
                windows.insert(index, Window(start, stop, claim))
                starts.insert(index, start)
                index += 1
            if following is None:
                return
            start = max(start, following.end)
            index += 1

    def at(self, address: int) -> Window | None:
        """The window that holds `address`."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0:
            window = self.windows[index]
            if address < window.end:
                return window
        return None

    def find(self, address: int, size: int) -> Window | None:
        """The window that holds the whole access."""
        window = self.at(address)
        return window if window is not None and address + size <= window.end else None

    def unclaimed(self, address: int, end: int) -> int:
        """How many bytes from `address` on, up to `end`, nobody claims."""
        index = bisect_right(self._starts, address)
        if index and address < self.windows[index - 1].end:
            return 0
        return (min(end, self._starts[index]) if index < len(self._starts) else end) - address

    def pieces(self, address: int, size: int) -> Iterator[tuple[Window | None, int, int]]:
        """Cut an access into (window, address, size); bytes that nobody claims come one by one with None."""
        end = address + size
        while address < end:
            window = self.at(address)
            length = 1 if window is None else _aligned(address, min(end, window.end) - address)
            yield window, address, length
            address += length


def _aligned(address: int, room: int) -> int:
    """The largest access that is naturally aligned at `address` and fits in `room` bytes."""
    size = 8
    while size > room or address % size:
        size //= 2
    return size
