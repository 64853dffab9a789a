"""A leaky bucket, exactly: integers, and no state but the moment at which it will have run empty.

What comes in raises the level; it runs out at a steady rate; nothing more is let in while the level is above the
bucket's size.  Instead of the level the bucket keeps `rate * (time at which it is empty)`: the level is the distance
of that from `rate * now`, so nothing has to be done as time passes, and nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Sequence

SECOND = 10**9


class Bucket:
    """`rate` units run out each second; the level may exceed `size` units only by what was let in last.

    Units are counted in parts of 10**-9 / `scale`, `scale` being how many parts of a unit matter to the user.
    """

    __slots__ = ("_empty", "_part", "_rate", "_size")

    def __init__(self, rate: int, size_tenths: int, *, scale: int = 1) -> None:
        """`size_tenths` is the size in tenths of a unit."""
        self._part = SECOND * scale
        self._rate = rate * scale
        self._size = size_tenths * (self._part // 10)
        self._empty = 0

    def level(self, now: int) -> float:
        """How many units are in it at `now` ns."""
        return max(0, self._empty - self._rate * now) / self._part

    def wait(self, now: int) -> int:
        """In how many ns it will let something in; 0 where it does."""
        above = self._empty - self._rate * now - self._size
        return -(-above // self._rate) if above > 0 else 0

    def fits(self, now: int, amounts: Sequence[int]) -> int:
        """How many of `amounts` (as of `add`) it would let in at `now` ns, one after the other."""
        room = self._size - max(self._empty - self._rate * now, 0)
        for count, amount in enumerate(amounts):
            # What was let in last may go beyond the size.
            if room < 0:
                return count
            room -= amount * SECOND
        return len(amounts)

    def add(self, now: int, amount: int) -> None:
        """Let in `amount` parts, each 1 / `scale` of a unit."""
        base = self._rate * now
        empty = self._empty
        self._empty = (empty if empty > base else base) + amount * SECOND


Buckets = tuple[tuple[Bucket, bool], ...]
"""Buckets that a request goes through, each with whether it counts bytes (else operations)."""


def let_in(buckets: Buckets, now: int, amounts: tuple[int, int], last: tuple[int, int]) -> bool:
    """Let requests into all of `buckets` at `now` ns if each has room; False, and nothing changed, where one has not.

    `amounts` are what they count together, operations and bytes; `last` what the last of them does.  `fits` and `add`
    of all buckets in one call: every request passes here.
    """
    for bucket, in_bytes in buckets:
        level = bucket._empty - bucket._rate * now
        ahead = (amounts[in_bytes] - last[in_bytes]) * SECOND
        if (level + ahead if level > 0 else ahead) > bucket._size:
            return False
    for bucket, in_bytes in buckets:
        base = bucket._rate * now
        empty = bucket._empty
        bucket._empty = (empty if empty > base else base) + amounts[in_bytes] * SECOND
    return True
