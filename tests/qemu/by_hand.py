"""PCI and virtio-blk programmed by hand, register by register: a driver too small to hide anything.

It follows PCI 3.0 §6 (configuration space), VIRTIO 1.4 §4.1 (PCI transport), §2.7 (split ring) and §5.2 (block
device), with one descriptor chain in flight and numbers written out where a driver would have tables.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guestsim.targets import Target

QUEUE_SIZE = 8
PATIENCE_NS = 10 * 10**9


@dataclass(slots=True)
class Pci:
    """Configuration space of one function through the ports 0xCF8 and 0xCFC."""

    target: Target
    slot: int
    bus: int = 0
    function: int = 0

    def read(self, offset: int, size: int) -> int:
        self._select(offset)
        return self.target.io_read(0xCFC + offset % 4, size)

    def write(self, offset: int, size: int, value: int) -> None:
        self._select(offset)
        self.target.io_write(0xCFC + offset % 4, size, value)

    def _select(self, offset: int) -> None:
        function = self.bus << 16 | self.slot << 11 | self.function << 8
        self.target.io_write(0xCF8, 4, 1 << 31 | function | offset & ~3)

    def bar_size(self, bar: int) -> int:
        """The size that a 32-bit memory BAR decodes, by the bits that stay 0."""
        self.write(0x10 + 4 * bar, 4, 0xFFFFFFFF)
        return -(self.read(0x10 + 4 * bar, 4) & ~0xF) & 0xFFFFFFFF

    def place_bar(self, bar: int, address: int) -> None:
        self.write(0x10 + 4 * bar, 4, address & 0xFFFFFFFF)
        if self.read(0x10 + 4 * bar, 4) & 0x6 == 0x4:
            self.write(0x14 + 4 * bar, 4, address >> 32)

    def capabilities(self) -> list[tuple[int, int]]:
        """(id, offset) of each capability."""
        found = []
        offset = self.read(0x34, 1)
        while offset:
            found.append((self.read(offset, 1), offset))
            offset = self.read(offset + 1, 1)
        return found


class VirtioBlk:
    """A virtio-blk function with its BARs placed from `base`, decoding and bus mastering on, structures found."""

    def __init__(self, pci: Pci, base: int | None = None) -> None:
        self.pci = pci
        self.target = target = pci.target
        self._msix_table = target.layout.mmio.base if base is None else base
        modern = self._msix_table + 0x10000
        pci.place_bar(1, self._msix_table)
        pci.place_bar(4, modern)
        pci.write(0x04, 2, 0x0006)
        found = {
            pci.read(offset + 3, 1): modern + pci.read(offset + 8, 4)
            for kind, offset in pci.capabilities()
            if kind == 0x09 and pci.read(offset + 4, 1) == 4
        }
        self.common, self.notify, self.isr, self.config = (found[kind] for kind in (1, 2, 3, 4))
        self._ring = target.layout.ram[0].base
        self._buffers = self._ring + 0x4000
        self._submitted = 0

    def start(self, *, vector: int | None = None, config_vector: int | None = None) -> None:
        """Reset, negotiate VIRTIO_F_VERSION_1 alone, set queue 0 up, and set DRIVER_OK (VIRTIO 1.4 §3.1.1)."""
        self.status = 0
        while self.status:
            self.target.advance()
        self.status = 1
        self.status = 3
        self._write(0x08, 4, 1)
        self._write(0x0C, 4, 1)
        self.status = 11
        assert self.status == 11, "FEATURES_OK was refused"
        if vector is not None or config_vector is not None:
            self._enable_msix(vector, config_vector)
        self._write(0x16, 2, 0)
        self._write(0x18, 2, QUEUE_SIZE)
        for register, area in ((0x20, self._ring), (0x28, self._ring + 0x1000), (0x30, self._ring + 0x2000)):
            self._write(register, 4, area & 0xFFFFFFFF)
            self._write(register + 4, 4, area >> 32)
        self._write(0x1C, 2, 1)
        self.status = 15

    @property
    def status(self) -> int:
        return self.target.read(self.common + 0x14, 1)

    @status.setter
    def status(self, value: int) -> None:
        self.target.write(self.common + 0x14, 1, value)

    def submit_read(self, sector: int) -> None:
        """Make one sector's read available in descriptors 0 to 2 and notify queue 0."""
        header, data, status = self._buffers, self._buffers + 0x200, self._buffers + 0x400
        self.target.ram_write(header, struct.pack("<IIQ", 0, 0, sector))
        self.target.ram_write(data, b"\xaa" * 512)
        self.target.ram_write(status, b"\xff")
        chain = ((header, 16, 1, 1), (data, 512, 3, 2), (status, 1, 2, 0))
        self.target.ram_write(self._ring, b"".join(struct.pack("<QIHH", *item) for item in chain))
        slot = self._ring + 0x1000 + 4 + 2 * (self._submitted % QUEUE_SIZE)
        self.target.ram_write(slot, struct.pack("<H", 0))
        self._submitted += 1
        self.target.ram_write(self._ring + 0x1002, struct.pack("<H", self._submitted))
        self.target.write(self.notify, 2, 0)

    def used(self) -> tuple[int, int, int]:
        """(used index, id, length) with the last element used."""
        (index,) = struct.unpack("<H", self.target.ram_read(self._ring + 0x2002, 2))
        element = self._ring + 0x2004 + 8 * ((index - 1) % QUEUE_SIZE)
        return index, *struct.unpack("<II", self.target.ram_read(element, 8))

    def result(self) -> tuple[int, bytes]:
        """(status byte, data) of the read."""
        (status,) = self.target.ram_read(self._buffers + 0x400, 1)
        return status, self.target.ram_read(self._buffers + 0x200, 512)

    def capacity(self) -> int:
        """The capacity in sectors."""
        return self.target.read(self.config, 4) | self.target.read(self.config + 4, 4) << 32

    def _write(self, register: int, size: int, value: int) -> None:
        self.target.write(self.common + register, size, value)

    def _enable_msix(self, vector: int | None, config_vector: int | None) -> None:
        """Entry 0 for the configuration's changes, entry 1 for queue 0 (VIRTIO 1.4 §4.1.5.1.2)."""
        offset = dict(self.pci.capabilities())[0x11]
        self.pci.write(offset + 2, 2, 0x8000)
        for entry, wanted in enumerate((config_vector, vector)):
            if wanted is None:
                continue
            address, data = self.target.message(wanted)
            for position, value in enumerate((address & 0xFFFFFFFF, address >> 32, data, 0)):
                self.target.write(self._msix_table + 16 * entry + 4 * position, 4, value)
            if entry == 1:
                self._write(0x16, 2, 0)
            self._write(0x1A if entry else 0x10, 2, entry)


def wait_for_messages(target: Target) -> dict[int, int]:
    """The first messages that arrive, or none after a long time."""
    deadline = target.now_ns() + PATIENCE_NS
    while not (messages := target.take_messages()) and target.now_ns() < deadline:
        target.advance()
    return messages


def wait_for_intx(target: Target, slot: int, pin: int) -> bool:
    """Whether the line goes high within a long time."""
    deadline = target.now_ns() + PATIENCE_NS
    while not (level := target.intx_level(slot, pin)) and target.now_ns() < deadline:
        target.advance()
    return level
