"""`virtio-blk-device`: the virtio block device over MMIO."""

from __future__ import annotations

import re
from collections.abc import Sequence

from devmodels.blockbackend.backend import BlockBackend
from devmodels.conformance import ViolationLog
from devmodels.iocontext import IoContext, IoThread
from devmodels.memory import GuestMemory
from devmodels.virtio.mmio import WINDOW_SIZE, VirtioMmio
from devmodels.virtio_blk.config import VirtioBlkOptions
from devmodels.virtio_blk.threaded import virtio_blk

SLOTS = 24
SLOT_BASE = 0xFEB0_0000
SLOT_IRQ = 24
"""Slot n lies at SLOT_BASE + n * WINDOW_SIZE and has line SLOT_IRQ + n: where QEMU's microvm has its MMIO devices."""

_BUS = re.compile(r"virtio-mmio-bus\.([0-9]{1,2})")


class VirtioBlkMmioOptions(
    VirtioBlkOptions, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True
):
    """Options of `-device virtio-blk-device`: those of the block device, and its place.

    `bus` is a slot ("virtio-mmio-bus.3"); without it the first free slot is taken.  Ours, not QEMU's: `address` and
    `irq` put the device elsewhere.  `force_legacy`, in QEMU an option of the slot, makes it version 1 (QEMU's default)
    or 2.
    """

    drive: str
    driver: str = "virtio-blk-device"
    id: str | None = None
    bus: str | None = None
    address: int | None = None
    irq: int | None = None
    force_legacy: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bus is not None:
            found = _BUS.fullmatch(self.bus)
            if found is None or int(found[1]) >= SLOTS:
                raise ValueError(
                    f"bus is {self.bus!r}, expected virtio-mmio-bus.0 to virtio-mmio-bus.{SLOTS - 1}"
                )
        if self.iommu_platform and self.force_legacy:
            raise ValueError("iommu_platform is on, expected force-legacy=off with it")
        if self.address is not None and not 0 <= self.address <= (1 << 64) - WINDOW_SIZE:
            raise ValueError(f"address is {self.address:#x}, expected one below 2**64")
        if self.irq is not None and not 0 <= self.irq <= 0xFFFF_FFFF:
            raise ValueError(f"irq is {self.irq}, expected 0 to 4294967295")
        if self.address is not None and (self.irq is None or self.bus is not None):
            raise ValueError(f"address is {self.address:#x}, expected with it an irq, and no bus")

    @property
    def slot(self) -> int | None:
        """The number of the slot asked for."""
        found = None if self.bus is None else _BUS.fullmatch(self.bus)
        return None if found is None else int(found[1])


def virtio_blk_mmio(
    options: VirtioBlkMmioOptions,
    backend: BlockBackend,
    *,
    name: str,
    context: IoContext,
    memory: GuestMemory,
    violations: ViolationLog,
    threads: Sequence[IoThread] = (),
) -> VirtioMmio:
    """Make the device, its queues on `threads` if any; it still has to be plugged.

    ValueError where `memory` is not for threads.
    """
    device = virtio_blk(
        backend, options, threads, name=name, context=context, memory=memory, violations=violations
    )
    return VirtioMmio(device, name=name, legacy=options.force_legacy)
