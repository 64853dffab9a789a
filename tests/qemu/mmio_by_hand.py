"""virtio-blk over MMIO programmed by hand, register by register, in both versions (VIRTIO 1.4 §4.2)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol

PAGE = 4096
SIZE = 8
"""Entries of queue 0."""


class Bus(Protocol):
    """What the driver needs of a machine."""

    def read(self, address: int, size: int) -> int: ...

    def write(self, address: int, size: int, value: int) -> None: ...

    def ram_read(self, address: int, length: int) -> bytes: ...

    def ram_write(self, address: int, data: bytes) -> None: ...


class MmioBlk:
    """A disk at `base`, queue and buffers from `memory` on; `wait` lets the device work, and says whether to go on."""

    def __init__(self, bus: Bus, base: int, memory: int, wait: Callable[[], bool]) -> None:
        self.bus = bus
        self.base = base
        self.desc = memory
        self.avail = memory + 16 * SIZE
        self.used = memory + PAGE
        self.buffers = memory + 2 * PAGE
        self.wait = wait
        self._submitted = 0

    def get(self, offset: int, size: int = 4) -> int:
        return self.bus.read(self.base + offset, size)

    def set(self, offset: int, value: int, size: int = 4) -> None:
        self.bus.write(self.base + offset, size, value)

    @property
    def version(self) -> int:
        return self.get(0x004)

    def features(self) -> int:
        bits = 0
        for word in range(2):
            self.set(0x014, word)
            bits |= self.get(0x010) << 32 * word
        return bits

    def accept(self, bits: int) -> None:
        for word in range(2):
            self.set(0x024, word)
            self.set(0x020, bits >> 32 * word & 0xFFFF_FFFF)

    def start(self, features: int = 0) -> None:
        """Look what it is, reset, negotiate, set queue 0 up, DRIVER_OK."""
        assert (self.get(0x000), self.version in (1, 2), self.get(0x008)) == (0x7472_6976, True, 2)
        if self.version == 1:
            self.set(0x028, PAGE)
        self.set(0x070, 0)
        assert self.get(0x070) == 0
        self.set(0x070, 1)
        self.set(0x070, 3)
        self.features()
        self.accept(features if self.version == 1 else features | 1 << 32)
        if self.version == 2:
            self.set(0x070, 11)
            assert self.get(0x070) == 11
        self.place_queue()
        self.set(0x070, self.get(0x070) | 4)

    def place_queue(self) -> None:
        self.bus.ram_write(self.desc, bytes(2 * PAGE))
        self._submitted = 0
        self.set(0x030, 0)
        self.set(0x038, SIZE)
        if self.version == 1:
            self.set(0x03C, PAGE)
            self.set(0x040, self.desc // PAGE)
            return
        for register, address in ((0x080, self.desc), (0x090, self.avail), (0x0A0, self.used)):
            self.set(register, address & 0xFFFF_FFFF)
            self.set(register + 4, address >> 32)
        self.set(0x044, 1)

    def expose(self, kind: int, sector: int, *, data: bytes = b"", room: int = 0) -> None:
        """Make one request available without notifying."""
        header, payload, status = self.buffers, self.buffers + 0x200, self.buffers + 0x1FF
        self.bus.ram_write(header, struct.pack("<IIQ", kind, 0, sector))
        self.bus.ram_write(payload, data or b"\xaa" * room)
        self.bus.ram_write(status, b"\xff")
        chain = ((header, 16, 1, 1), (payload, len(data) or room, 1 if data else 3, 2), (status, 1, 2, 0))
        self.bus.ram_write(self.desc, b"".join(struct.pack("<QIHH", *item) for item in chain))
        self.bus.ram_write(self.avail + 4 + 2 * (self._submitted % SIZE), bytes(2))
        self._submitted += 1
        self.bus.ram_write(self.avail + 2, struct.pack("<H", self._submitted))

    def request(self, kind: int, sector: int, *, data: bytes = b"", room: int = 0) -> tuple[int, int, bytes]:
        """One request; its status, its used length and what lies in its buffer then."""
        self.expose(kind, sector, data=data, room=room)
        self.set(0x050, 0)
        while self.used_index() != self._submitted and self.wait():
            pass
        return self.answer(len(data) or room)

    def answer(self, length: int) -> tuple[int, int, bytes]:
        """Status, used length and buffer of the last request."""
        assert self.used_index() == self._submitted, "the request came back"
        element = self.used + 4 + 8 * ((self._submitted - 1) % SIZE)
        _, used_length = struct.unpack("<II", self.bus.ram_read(element, 8))
        data = self.bus.ram_read(self.buffers + 0x200, length)
        return self.bus.ram_read(self.buffers + 0x1FF, 1)[0], used_length, data

    def used_index(self) -> int:
        (index,) = struct.unpack("<H", self.bus.ram_read(self.used + 2, 2))
        return int(index)
