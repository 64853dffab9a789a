"""The legacy interface of virtio-blk on PCI programmed by hand, port by port (VIRTIO 1.4 §4.1.4.10, §2.7.2, §3.1.2)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guestsim.targets import Target

    from .by_hand import Pci

PAGE = 4096


class LegacyBlk:
    """A virtio-blk function whose BAR 0 lies at the beginning of the I/O window, with I/O and bus mastering on."""

    def __init__(self, pci: Pci) -> None:
        self.pci = pci
        self.target: Target = pci.target
        self.base = self.target.layout.io.base
        pci.write(0x10, 4, self.base)
        pci.write(0x04, 2, 0x0005)
        self.queue = self.target.layout.ram[0].base
        self._submitted = 0

    def read(self, offset: int, size: int) -> int:
        return self.target.io_read(self.base + offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        self.target.io_write(self.base + offset, size, value)

    def bar_size(self) -> int:
        """The number of ports that BAR 0 decodes."""
        self.pci.write(0x10, 4, 0xFFFF_FFFF)
        size = -(self.pci.read(0x10, 4) & ~3) & 0xFFFF_FFFF
        self.pci.write(0x10, 4, self.base)
        return size

    def reset(self) -> None:
        self.write(0x12, 1, 0)
        while self.read(0x12, 1):
            self.target.advance()

    def place_queue(self, index: int = 0) -> int:
        """Put queue `index` at the beginning of memory, in the size that the device gives; returns that size."""
        self.write(0x0E, 2, index)
        self.size = self.read(0x0C, 2)
        self.avail = self.queue + 16 * self.size
        self.used = (self.avail + 6 + 2 * self.size + PAGE - 1) // PAGE * PAGE
        self.buffers = self.used + PAGE * (2 + self.size // 512)
        self.target.ram_write(self.queue, bytes(self.buffers - self.queue))
        self.write(0x08, 4, self.queue // PAGE)
        self._submitted = 0
        return self.size

    def start(self, features: int = 0) -> None:
        """Reset, features, queue 0, DRIVER_OK (VIRTIO 1.4 §3.1.2)."""
        self.reset()
        self.write(0x12, 1, 1)
        self.write(0x12, 1, 3)
        self.write(0x04, 4, features)
        self.place_queue()
        self.write(0x12, 1, 7)

    def expose(self, kind: int, sector: int, *, data: bytes = b"", room: int = 0) -> None:
        """Make one request available without notifying."""
        header, payload, status = self.buffers, self.buffers + 0x200, self.buffers + 0x1FF
        length = len(data) or room
        self.target.ram_write(header, struct.pack("<IIQ", kind, 0, sector))
        self.target.ram_write(payload, data or b"\xaa" * room)
        self.target.ram_write(status, b"\xff")
        chain = [(header, 16, 1, 1), (payload, length, 1 if data else 3, 2), (status, 1, 2, 0)]
        if not length:
            chain = [(header, 16, 1, 2), (0, 0, 0, 0), chain[2]]
        self.target.ram_write(self.queue, b"".join(struct.pack("<QIHH", *item) for item in chain))
        self.target.ram_write(self.avail + 4 + 2 * (self._submitted % self.size), bytes(2))
        self._submitted += 1
        self.target.ram_write(self.avail + 2, struct.pack("<H", self._submitted))

    def go_on_from(self, other: LegacyBlk) -> None:
        """Know of the queue what the driver of another machine, of which this is a copy, knows."""
        self.size, self._submitted = other.size, other._submitted
        self.avail, self.used, self.buffers = other.avail, other.used, other.buffers

    def request(self, kind: int, sector: int, *, data: bytes = b"", room: int = 0) -> tuple[int, int, bytes]:
        """One request; its status, its used length and what the device has written."""
        self.expose(kind, sector, data=data, room=room)
        payload, status, length = self.buffers + 0x200, self.buffers + 0x1FF, len(data) or room
        self.write(0x10, 2, 0)
        deadline = self.target.now_ns() + 10 * 10**9
        while self.used_index() != self._submitted and self.target.now_ns() < deadline:
            self.target.advance()
        assert self.used_index() == self._submitted, "the request came back"
        element = self.used + 4 + 8 * ((self._submitted - 1) % self.size)
        _, used_length = struct.unpack("<II", self.target.ram_read(element, 8))
        return self.target.ram_read(status, 1)[0], used_length, self.target.ram_read(payload, length)

    def used_index(self) -> int:
        (index,) = struct.unpack("<H", self.target.ram_read(self.used + 2, 2))
        return int(index)
