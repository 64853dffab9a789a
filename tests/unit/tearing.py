"""The writing process of `test_memory_tearing`: stores two patterns in turn until it is told to stop.

Arguments: a memfd's number, a word's code (H, I, Q), and how to store: `words`, `struct` or `bytes`.
"""

from __future__ import annotations

import mmap
import struct
import sys
from collections.abc import Callable

from devmodels.memory import GuestMemory
from devmodels.memoryregions import SharedRegion

SIZE = mmap.PAGESIZE
WORD = 64
"""Address of the word that changes all the time."""
STOP = 128
"""Address of the byte that ends the writer."""
SIZES = {"H": 2, "I": 4, "Q": 8}
MOST_STORES = 100_000_000


def patterns(code: str) -> tuple[int, int]:
    """Two values that have no byte in common."""
    return int.from_bytes(b"\x5a" * SIZES[code]), int.from_bytes(b"\xa5" * SIZES[code])


def open_memory(fd: int) -> tuple[mmap.mmap, GuestMemory]:
    mapping = mmap.mmap(fd, SIZE, mmap.MAP_SHARED)
    return mapping, GuestMemory(SharedRegion(0, mapping))


def storer(mapping: mmap.mmap, memory: GuestMemory, code: str, how: str) -> Callable[[int], None]:
    """A function that stores one value at WORD."""
    if how == "words":
        words = memory.words(WORD, 1, code, write=True)
        return lambda value: words.__setitem__(0, value)
    if how == "struct":
        pack_into = struct.Struct("<" + code).pack_into
        return lambda value: pack_into(mapping, WORD, value)

    def byte_by_byte(value: int) -> None:
        for at, byte in enumerate(value.to_bytes(SIZES[code], "little")):
            mapping[WORD + at] = byte

    return byte_by_byte


def main() -> None:
    fd, code, how = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    mapping, memory = open_memory(fd)
    store = storer(mapping, memory, code, how)
    first, second = patterns(code)
    for _ in range(MOST_STORES // 200):
        for _ in range(100):
            store(first)
            store(second)
        if mapping[STOP]:
            return


if __name__ == "__main__":
    main()
