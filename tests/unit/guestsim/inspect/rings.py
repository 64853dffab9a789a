"""Rings in memory for the inspector: a driver and a device of the fewest lines, which a test makes err as it likes."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from guestsim.inspect.image import MemoryImage
from guestsim.inspect.queue import inspect_queue
from guestsim.inspect.state import QueueState, Virtqueue

BASE = 0x10_0000
SIZE = 0x2_0000
NEXT, WRITE, INDIRECT = 1, 2, 4
AVAIL, USED = 1 << 7, 1 << 15

Element = tuple[int, int, int]
"""Address, length, flags (WRITE or 0)."""


class Memory:
    """128 KiB from 1 MiB on, given out and never taken back."""

    def __init__(self) -> None:
        self.bytes = bytearray(SIZE)
        self._end = BASE

    def allocate(self, length: int, align: int = 16) -> int:
        address = -(-self._end // align) * align
        self._end = address + length
        assert self._end <= BASE + SIZE
        return address

    def store(self, data: bytes, align: int = 16) -> int:
        address = self.allocate(len(data), align)
        self.write(address, data)
        return address

    def write(self, address: int, data: bytes) -> None:
        self.bytes[address - BASE : address - BASE + len(data)] = data

    def blk(self, kind: int, sector: int, *data: int, writable: bool = False) -> list[Element]:
        """The elements of a block request with data in pieces of these lengths."""
        header = self.store(struct.pack("<IIQ", kind, 0, sector)), 16, 0
        # Where the data lies doesn't matter to anybody.
        pieces = [(BASE, length, WRITE if writable else 0) for length in data]
        return [header, *pieces, (self.store(b"\xff"), 1, WRITE)]

    def table(self, elements: Sequence[Element], *, packed: bool = False) -> Element:
        """An indirect table, as the element that refers to it."""
        data = b""
        for index, (address, length, flags) in enumerate(elements, 1):
            if packed:
                data += struct.pack("<QIHH", address, length, 0, flags)
            else:
                more = NEXT if index < len(elements) else 0
                data += struct.pack("<QIHH", address, length, flags | more, index if more else 0)
        return self.store(data), len(data), INDIRECT


class SplitRing:
    """A split ring; `index` is where both sides begin, as if they had come that far before."""

    def __init__(self, size: int = 8, *, index: int = 0, last_in_first_out: bool = True) -> None:
        self.memory = Memory()
        self.desc = self.memory.allocate(16 * size, 4096)
        self.driver = self.memory.allocate(6 + 2 * size, 2)
        self.device = self.memory.allocate(6 + 8 * size, 4)
        self.at = Virtqueue(self.desc, self.driver, self.device, size)
        # One buffer after another has come and gone before.
        first = 0 if last_in_first_out else index % size
        self.free: list[int] = [*range(first, size), *range(first)]
        for position in range(max(0, index - size), index):
            head = self.free[-1] if last_in_first_out else position % size
            self._write16(self.driver + 4 + 2 * (position % size), head)
            self.memory.write(self.device + 4 + 8 * (position % size), struct.pack("<II", head, 0))
        self.chains: dict[int, list[int]] = {}
        self.positions: dict[int, int] = {}
        self.available = self.used = index
        self._last_in_first_out = last_in_first_out
        self._write16(self.driver + 2, index)
        self._write16(self.device + 2, index)

    def _write16(self, address: int, value: int) -> None:
        self.memory.write(address, struct.pack("<H", value & 0xFFFF))

    def add(self, *elements: Element) -> int:
        """The driver makes a buffer available; returns its head."""
        taken = [self.free.pop() if self._last_in_first_out else self.free.pop(0) for _ in elements]
        for at, (index, (address, length, flags)) in enumerate(zip(taken, elements, strict=True)):
            more = at + 1 < len(taken)
            self.descriptor(
                index, address, length, flags | (NEXT if more else 0), taken[at + 1] if more else 0
            )
        self.chains[taken[0]] = taken
        self.expose(taken[0])
        return taken[0]

    def expose(self, head: int) -> None:
        """Any number becomes the next entry of the available ring."""
        self.positions[head] = self.available
        self._write16(self.driver + 4 + 2 * (self.available % self.at.size), head)
        self.available = self.available + 1 & 0xFFFF
        self._write16(self.driver + 2, self.available)

    def use(self, head: int) -> None:
        """The device gives a buffer back, and the driver takes it."""
        self.memory.write(self.device + 4 + 8 * (self.used % self.at.size), struct.pack("<II", head, 0))
        self.used = self.used + 1 & 0xFFFF
        self._write16(self.device + 2, self.used)
        self.free += self.chains.pop(head)
        del self.positions[head]

    def descriptor(self, index: int, address: int, length: int, flags: int, following: int) -> None:
        self.memory.write(self.desc + 16 * index, struct.pack("<QIHH", address, length, flags, following))

    def inspect(self, queue: Virtqueue | None = None) -> QueueState:
        return inspect_queue(MemoryImage([(BASE, self.memory.bytes)]), queue or self.at)


class PackedRing:
    """A packed ring with the wrap counters of both sides."""

    def __init__(self, size: int = 8) -> None:
        self.memory = Memory()
        self.desc = self.memory.allocate(16 * size, 4096)
        self.driver = self.memory.allocate(4, 4)
        self.device = self.memory.allocate(4, 4)
        self.at = Virtqueue(self.desc, self.driver, self.device, size, packed=True)
        self.free = list(range(size))
        self.lengths: dict[int, int] = {}
        self.next_available = self.next_used = 0
        self.driver_wrap = self.device_wrap = 1

    @property
    def room(self) -> int:
        return self.at.size - sum(self.lengths.values())

    def add(self, *elements: Element) -> int:
        """The driver makes a buffer available; returns its id."""
        buffer_id = self.free.pop()
        self.lengths[buffer_id] = len(elements)
        for number, (address, length, flags) in enumerate(elements, 1):
            flags |= (AVAIL if self.driver_wrap else USED) | (NEXT if number < len(elements) else 0)
            self.descriptor(self.next_available, address, length, buffer_id, flags)
            self.next_available += 1
            if self.next_available == self.at.size:
                self.next_available, self.driver_wrap = 0, self.driver_wrap ^ 1
        return buffer_id

    def use(self, buffer_id: int) -> None:
        """The device gives a buffer back, and the driver takes it."""
        flags = AVAIL | USED if self.device_wrap else 0
        place = self.desc + 16 * self.next_used + 8
        self.memory.write(place, struct.pack("<IHH", 0, buffer_id, flags))
        self.next_used += self.lengths.pop(buffer_id)
        if self.next_used >= self.at.size:
            self.next_used, self.device_wrap = self.next_used - self.at.size, self.device_wrap ^ 1
        self.free.append(buffer_id)

    def descriptor(self, index: int, address: int, length: int, buffer_id: int, flags: int) -> None:
        self.memory.write(self.desc + 16 * index, struct.pack("<QIHH", address, length, buffer_id, flags))

    def inspect(self, queue: Virtqueue | None = None) -> QueueState:
        return inspect_queue(MemoryImage([(BASE, self.memory.bytes)]), queue or self.at)
