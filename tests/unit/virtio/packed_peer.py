"""The driver of `test_packed_processes`, in a process of its own: a packed ring that it fills as fast as it can.

Arguments: a memfd's number, how many buffers.  It ends with status 0 when every buffer has come back as it should.
"""

from __future__ import annotations

import mmap
import sys
import threading

SIZE = 201
"""Entries of the ring, no power of two."""
RING, DRIVER, DEVICE, END = 0, 0x4000, 0x4010, 0x5000
AVAIL, USED, NEXT, WRITE = 1 << 7, 1 << 15, 1, 2
PATIENCE = 200_000_000

_lock = threading.Lock()


def fence() -> None:
    _lock.acquire()
    _lock.release()


def elements(number: int) -> list[tuple[int, int, int]]:
    """(address, length, flags) of buffer `number`: one to three, the last one writable."""
    count = 1 + number % 3
    readable = [(number << 12 | k, number % 5000 + k, 0) for k in range(count - 1)]
    return [*readable, (number << 12 | 0xFFF, number % 7777 + 1, WRITE)]


def ident(number: int) -> int:
    return number * 40503 & 0xFFFF


class Driver:
    """Places are counted without end, as in `packed_model`; every word is stored and loaded as one."""

    def __init__(self, mapping: mmap.mmap) -> None:
        self.words = memoryview(mapping).cast("I")
        self.write = 0
        self.used = 0
        self.out: dict[int, int] = {}

    def full(self, count: int) -> bool:
        return self.write + count - self.used > SIZE

    def add(self, number: int) -> None:
        parts = elements(number)
        first = self.write
        for k in reversed(range(len(parts))):
            address, length, flags = parts[k]
            place = first + k
            flags |= NEXT * (k + 1 < len(parts)) | (USED if place // SIZE % 2 else AVAIL)
            at = 4 * (place % SIZE)
            self.words[at] = address & 0xFFFF_FFFF
            self.words[at + 1] = address >> 32
            self.words[at + 2] = length
            if k == 0:
                fence()
            self.words[at + 3] = ident(number) | flags << 16
        self.write += len(parts)
        self.out[ident(number)] = number

    def collect(self) -> int:
        """How many buffers came back; AssertionError where one is not what it should be."""
        found = 0
        while self.out:
            at = 4 * (self.used % SIZE)
            word = self.words[at + 3]
            wanted = 0 if self.used // SIZE % 2 else AVAIL | USED
            if word >> 16 & (AVAIL | USED) != wanted:
                break
            fence()
            number = self.out.pop(word & 0xFFFF)
            parts = elements(number)
            assert word >> 16 == wanted | WRITE
            assert self.words[at + 2] == parts[-1][1]
            self.used += len(parts)
            found += 1
        return found


def main() -> None:
    mapping = mmap.mmap(int(sys.argv[1]), END, mmap.MAP_SHARED)
    wanted = int(sys.argv[2])
    driver = Driver(mapping)
    sent = back = 0
    for _ in range(PATIENCE):
        while sent < wanted and not driver.full(len(elements(sent))):
            driver.add(sent)
            sent += 1
        back += driver.collect()
        if back == wanted:
            return
    raise SystemExit("the device does not answer")


if __name__ == "__main__":
    main()
