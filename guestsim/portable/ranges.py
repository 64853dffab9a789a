"""Byte ranges of a disk, each with what is known of it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Generic, TypeVar

V = TypeVar("V")


class RangeMap(Generic[V]):
    """Ranges from a start to an end, exclusive, each with a value; ranges that touch and have one value are one."""

    __slots__ = ("_ends", "_starts", "_values")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._values: list[V] = []

    def __bool__(self) -> bool:
        return bool(self._starts)

    def set(self, start: int, end: int, value: V | None) -> None:
        """From `start` to `end` it is `value` now; None takes the range out."""
        if start >= end:
            return
        starts, ends, values = self._starts, self._ends, self._values
        first, last = bisect_left(ends, start), bisect_right(starts, end)
        touched = [(starts[at], ends[at], values[at]) for at in range(first, last)]
        ranges = [(one, min(other, start), old) for one, other, old in touched if one < start]
        if value is not None:
            ranges.append((start, end, value))
        ranges += [(max(one, end), other, old) for one, other, old in touched if other > end]
        joined: list[tuple[int, int, V]] = []
        for one in ranges:
            if joined and joined[-1][1] == one[0] and joined[-1][2] == one[2]:
                joined[-1] = joined[-1][0], one[1], one[2]
            else:
                joined.append(one)
        starts[first:last] = [one[0] for one in joined]
        ends[first:last] = [one[1] for one in joined]
        values[first:last] = [one[2] for one in joined]

    def find(self, start: int, end: int) -> list[tuple[int, int, V]]:
        """The ranges within `start` to `end`, cut to it, in order."""
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end)
        return [
            (max(self._starts[at], start), min(self._ends[at], end), self._values[at])
            for at in range(first, last)
        ]

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """What of `start` to `end` is in no range, in order."""
        found = []
        for first, last, _ in self.find(start, end):
            if start < first:
                found.append((start, first))
            start = last
        if start < end:
            found.append((start, end))
        return found
