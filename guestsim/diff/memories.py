"""Guest memory of both sides: what the guest has to do with, and where it is not the same."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from guestsim.diff.arena import ARENA
from guestsim.targets.qemu import RAM

if TYPE_CHECKING:
    from mmap import mmap

    from guestsim.targets.inprocess import InProcessTarget
    from guestsim.targets.qemu import QemuTarget

VECTORS = 2048
MESSAGES = ARENA
"""The words that messages are written to, one a vector."""
MEMORY = MESSAGES + 4 * VECTORS
"""Where the memory begins that the guest may use."""
_BLOCK = 1 << 12
_RAM_START = 1 << 20


class Watch(Protocol):
    """What hears of memory as the guest uses it."""

    def wrote(self, address: int, length: int) -> None:
        """The guest has written there."""

    def looked(self, address: int, data: bytes) -> None:
        """The guest has seen this there."""


class Memories:
    """The two; `there` is QEMU's, `high` ours from the arena on.  Addresses and lengths are in bytes."""

    def __init__(self, ours: InProcessTarget, theirs: QemuTarget, high: mmap, there: mmap) -> None:
        self._ours = ours
        self._theirs = theirs
        self._high = high
        self._there = there
        self._touched: set[int] = set()
        self._vectors = 0
        self.watch: Watch | None = None

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """The guest writes to both."""
        self._ours.ram_write(address, data)
        self._touch(address, len(data))
        self.put_there(address, data)
        if self.watch is not None:
            self.watch.wrote(address, len(data))

    def read(self, address: int, length: int) -> bytes:
        """The guest reads: what it sees is ours."""
        data = self._ours.ram_read(address, length)
        self._touch(address, length)
        if self.watch is not None:
            self.watch.looked(address, data)
        return data

    def put_there(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write to QEMU's alone."""
        if address < _RAM_START:
            self._theirs.ram_write(address, data)
        else:
            self._there[address : address + len(data)] = data

    def theirs(self, address: int, length: int) -> bytes:
        """What QEMU's holds."""
        if address < _RAM_START:
            return self._theirs.ram_read(address, length)
        return self._there[address : address + length]

    def sides(self, address: int, length: int) -> tuple[bytes, bytes]:
        """What memory holds on each side."""
        return self._ours.ram_read(address, length), self.theirs(address, length)

    def _touch(self, address: int, length: int) -> None:
        if address >= ARENA:
            self._touched.update(range(address // _BLOCK, (address + length - 1) // _BLOCK + 1))

    def blocks(self, *, everywhere: bool = False) -> Iterator[int]:
        """Addresses of blocks that are not the same, of those that the guest uses, or of all from the arena on."""
        if everywhere:
            self._touched.update(range(ARENA // _BLOCK, RAM // _BLOCK))
        for block in sorted({*range(MESSAGES // _BLOCK, MEMORY // _BLOCK), *self._touched}):
            at = block * _BLOCK
            if self._high[at - ARENA : at - ARENA + _BLOCK] != self._there[at : at + _BLOCK]:
                yield at

    def runs(self, at: int) -> Iterator[tuple[int, bytes, bytes]]:
        """Where a block is not the same: address, ours, theirs."""
        ours = self._high[at - ARENA : at - ARENA + _BLOCK]
        theirs = self._there[at : at + _BLOCK]
        for start, end in runs(ours, theirs):
            yield at + start, ours[start:end], theirs[start:end]

    def make_alike(self, at: int) -> None:
        """QEMU's block becomes what ours is."""
        self._there[at : at + _BLOCK] = self._high[at - ARENA : at - ARENA + _BLOCK]

    # --- messages

    def message(self, vector: int) -> tuple[int, int]:
        """A word of guest memory, and what is written there."""
        if not 0 <= vector < VECTORS:
            raise ValueError(f"vector {vector}: expected 0 to {VECTORS - 1}")
        self._vectors = max(self._vectors, vector + 1)
        return MESSAGES + 4 * vector, vector + 1

    def messages(self) -> list[int]:
        """The vectors of our messages that have come."""
        words = self._high[MESSAGES - ARENA : MESSAGES - ARENA + 4 * self._vectors]
        if not any(words):
            return []
        return [vector for vector, (word,) in enumerate(struct.iter_unpack("<I", words)) if word]

    def forget_messages(self, vectors: list[int]) -> None:
        """Those have been taken, on both sides."""
        for vector in vectors:
            at = MESSAGES + 4 * vector
            for memory, start in ((self._high, at - ARENA), (self._there, at)):
                memory[start : start + 4] = bytes(4)


def runs(ours: bytes, theirs: bytes) -> Iterator[tuple[int, int]]:
    """Ranges in which two blocks differ."""
    start = None
    for at, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        if mine != other and start is None:
            start = at
        elif mine == other and start is not None:
            yield start, at
            start = None
    if start is not None:
        yield start, len(ours)
