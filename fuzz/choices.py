"""Bytes as the source of choices: what a fuzzer mutates is what a grammar decides by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Choices(Random):
    """A `Random` whose numbers are the bytes of an input; zeroes when there are none left.

    Each draw takes as few bytes as its range needs, so that one byte of the input is one choice and changing it leaves
    the others what they are.
    """

    data: bytes
    at: int

    def __new__(cls, data: bytes) -> Choices:
        """Nothing is seeded."""
        made = super().__new__(cls)
        made.data = data
        made.at = 0
        return made

    def __init__(self, data: bytes) -> None:
        pass

    @property
    def left(self) -> int:
        """How many bytes there are."""
        return max(0, len(self.data) - self.at)

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        piece = self.data[self.at : self.at + count]
        self.at += count
        return piece.ljust(count, b"\0")

    def random(self) -> float:
        """One of 256 numbers from 0 on, below 1."""
        return self.take(1)[0] / 256

    def getrandbits(self, k: int, /) -> int:
        """A number of `k` bits."""
        return int.from_bytes(self.take((k + 7) // 8), "little") & ((1 << k) - 1)

    def randbytes(self, n: int) -> bytes:
        """The next `n` bytes."""
        return self.take(n)

    def sample(self, population: Sequence[T], k: int, *, counts: Iterable[int] | None = None) -> list[T]:
        """`k` different ones; `Random`'s own tries until it finds one that is new, which with zeroes never comes."""
        assert counts is None
        pool = list(population)
        return [pool.pop(self._randbelow(len(pool))) for _ in range(k)]

    def _randbelow(self, n: int) -> int:
        """A number below `n`; all that `Random` makes of whole numbers comes from here."""
        if n < 2:
            return 0
        return int.from_bytes(self.take(((n - 1).bit_length() + 7) // 8), "little") % n
