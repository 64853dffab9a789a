"""Cylinders, heads and sectors (ATA/ATAPI-5 §6.2): obsolete, and still what firmware and old drivers go by."""

from __future__ import annotations

import msgspec

from devmodels.ata.constants import HEAD
from devmodels.ata.disk.options import AtaDiskOptions
from devmodels.ata.taskfile import TaskFile

MAX_CYLINDERS = 16383
"""The most that a default translation tells of (ATA/ATAPI-5 §6.2.1)."""
MAX_SECTORS = 16_514_064
"""16383 × 16 × 63: a larger disk tells of so many by CHS."""


class Geometry(msgspec.Struct, frozen=True):
    """A translation."""

    cylinders: int
    heads: int
    sectors: int

    @property
    def capacity(self) -> int:
        """How many sectors it can address."""
        return self.cylinders * self.heads * self.sectors

    def lba(self, taskfile: TaskFile) -> int:
        """The address in a task file as an LBA; -1 where there is no such sector.  Sectors count from 1."""
        sector, cylinder, head = taskfile.lba & 0xFF, taskfile.lba >> 8 & 0xFFFF, taskfile.device & HEAD
        if not 1 <= sector <= self.sectors or head >= self.heads or cylinder >= self.cylinders:
            return -1
        return (cylinder * self.heads + head) * self.sectors + sector - 1

    def anywhere(self, taskfile: TaskFile) -> int:
        """As QEMU's disk has it: whatever cylinder, head and sector."""
        sector, cylinder, head = taskfile.lba & 0xFF, taskfile.lba >> 8 & 0xFFFF, taskfile.device & HEAD
        return (cylinder * self.heads + head) * self.sectors + sector - 1

    def place(self, lba: int, taskfile: TaskFile) -> None:
        """The opposite."""
        track, sector = divmod(lba, self.sectors)
        cylinder, head = divmod(track, self.heads)
        taskfile.lba = taskfile.lba & ~0xFF_FFFF | (cylinder & 0xFFFF) << 8 | sector + 1
        taskfile.device = taskfile.device & ~HEAD | head


def default_geometry(options: AtaDiskOptions, sectors: int) -> Geometry:
    """The default translation of a disk with so many sectors."""
    if options.cyls:
        return Geometry(options.cyls, options.heads, options.secs)
    return Geometry(max(1, min(sectors // (16 * 63), MAX_CYLINDERS)), 16, 63)


def translate(accessible: int, heads: int, sectors: int) -> Geometry:
    """The translation that a host has chosen, of a disk with so many sectors that can be addressed."""
    return Geometry(min(min(accessible, MAX_SECTORS) // (heads * sectors), 0xFFFF), heads, sectors)
