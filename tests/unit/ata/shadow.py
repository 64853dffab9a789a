"""Guest memory of a hostile guest: what it must hold, and where a device may write."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from devmodels.memoryregions import BouncedRegion, SharedRegion
from tests.doorbells import CountedMemory

NOISE = Random(1).randbytes(1 << 17)


class Shadow:
    """What guest memory must hold, and where a device may write."""

    def __init__(self, base: int, size: int, *, shared: bool) -> None:
        self.base = base
        self.data = bytearray((NOISE * (size // len(NOISE) + 1))[:size])
        self._expected = bytearray(self.data)
        self._allowed: set[tuple[int, int]] = set()
        self._always: list[tuple[int, int]] = []
        region = (
            SharedRegion(base, self.data) if shared else BouncedRegion(base, size, self._read, self._write)
        )
        self.region = region
        self.memory = CountedMemory(region)

    def _read(self, address: int, length: int) -> bytes:
        return bytes(self.data[address - self.base : address - self.base + length])

    def _write(self, address: int, data: bytes) -> None:
        self.data[address - self.base : address - self.base + len(data)] = data

    def put(self, at: int, data: bytes) -> None:
        """The guest writes, at an offset."""
        self.data[at : at + len(data)] = data
        self._expected[at : at + len(data)] = data

    def allow(self, address: int, length: int) -> None:
        """A device may write there from now on, and until the example is over."""
        first = max(address - self.base, 0)
        end = min(address - self.base + length, len(self.data))
        if first < end:
            self._allowed.add((first, end))

    def always(self, at: int, length: int) -> None:
        """The same for all examples, by an offset."""
        self._always.append((at, at + length))

    def check(self) -> None:
        """Nothing else has been written; what was allowed is not any more."""
        self._look((*self._allowed, *self._always))

    def rests(self, *but: tuple[int, int]) -> None:
        """Since `check` nothing has been written at all, `but` there, at offsets."""
        self._look([(at, at + length) for at, length in but])

    def _look(self, allowed: Iterable[tuple[int, int]]) -> None:
        for first, end in allowed:
            self._expected[first:end] = self.data[first:end]
        self._allowed.clear()
        if self._expected != self.data:
            at = next(n for n, byte in enumerate(self.data) if byte != self._expected[n])
            raise AssertionError(f"a device has written at {self.base + at:#x}")
