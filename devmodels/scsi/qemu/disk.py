"""QEMU's disk: `scsi-hd`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import DeviceType
from devmodels.scsi.qemu import pages
from devmodels.scsi.qemu.attention import BusAttention
from devmodels.scsi.qemu.own import HANDLERS, LOCKED, OwnFront, Page
from devmodels.scsi.sense import CheckCondition
from devmodels.scsi.table import Reply
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.disk import Disk

MOST_CYLINDERS = 16383
HEADS, SECTORS = 16, 63
DEFAULT_GRANULARITY = 4096


class DiskFront(OwnFront):
    """A disk's; its medium can be taken out with `removable`, unless the initiator keeps it there (`held`)."""

    TOLD = (Asc.CAPACITY_DATA_CHANGED,)
    KEPT = (*OwnFront.KEPT, "held")
    kind = DeviceType.DISK
    PAGES: ClassVar[Mapping[int, Page]] = {
        0x01: pages.recovery,
        0x04: pages.geometry,
        0x05: pages.flexible,
        0x08: pages.caching,
    }

    def __init__(self, unit: Disk, bus: BusAttention) -> None:
        super().__init__(unit, bus, unit.block_size)
        unit.backend.flush_in_turn()
        self._disk = unit
        self.options = unit.options
        self.removable = unit.options.removable
        self.rotation = unit.options.rotation_rate
        self.held = False

    @property
    def available(self) -> bool:
        """As long as it is in place."""
        return self._disk.medium.loaded

    @property
    def locked(self) -> bool:
        """As the initiator says."""
        return self.held

    @property
    def granularity(self) -> int:
        """As the options say."""
        options = self._disk.options
        if not options.thin:
            return 0
        return options.discard_granularity or max(options.logical_block_size, DEFAULT_GRANULARITY)

    @property
    def frees(self) -> bool:
        """Where the disk does."""
        return self._disk.zeroes

    @property
    def device_specific(self) -> int:
        """WP and DPOFUA (SBC-4 §6.5.1)."""
        return 0x80 * self.backend.read_only | 0x10 * self._disk.options.dpofua

    @property
    def exponent(self) -> int:
        """Logical blocks in a physical one."""
        options = self._disk.options
        return min((options.physical_block_size // options.logical_block_size).bit_length() - 1, 15)

    def geometry(self) -> tuple[int, int, int]:
        """As guessed from the size."""
        cylinders = self.backend.size // 512 // (HEADS * SECTORS)
        return max(2, min(cylinders, MOST_CYLINDERS)), HEADS, SECTORS

    def limits(self) -> bytes:
        """Block limits (SBC-4 §6.6.4)."""
        options, size = self._disk.options, self.block_size
        most = options.max_io_size // size
        fields = (
            (1 << 24 | min(options.min_io_size // size, most), 4),
            (most, 4),
            (min(options.opt_io_size // size, most), 4),
            (0, 4),
            (options.max_unmap_size // size, 4),
            (pages.DESCRIPTORS, 4),
            (self.granularity // size, 4),
            (0, 8),
            (most, 4),
        )
        return b"".join(value.to_bytes(width, "big") for value, width in fields).ljust(0x3C, b"\0")

    def was_reset(self) -> None:
        """The medium is in place, and can be taken out."""
        self.held = False
        self._disk.load()
        super().was_reset()

    def start_stop(self, task: Task, cdb: bytes) -> None:
        """START STOP UNIT moves what can be moved, and nothing stops."""
        if cdb[4] & 0xF0 or not (self.removable and cdb[4] & 2):
            return
        if cdb[4] & 1:
            self._disk.load(by=task.nexus)
        elif self.available:
            if self.locked:
                raise CheckCondition(LOCKED)
            self._disk.eject(by=task.nexus)

    def prevent_allow(self, _task: Task, cdb: bytes) -> None:
        """PREVENT ALLOW MEDIUM REMOVAL."""
        self.held = bool(cdb[4] & 1)

    handlers: ClassVar[Mapping[int, Callable[..., Reply]]] = {
        **HANDLERS,
        0x1B: start_stop,
        0x1E: prevent_allow,
    }
