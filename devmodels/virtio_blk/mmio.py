"""`virtio-blk-device`: the virtio block device over MMIO."""

from __future__ import annotations

from collections.abc import Sequence

from devmodels.blockbackend.backend import BlockBackend
from devmodels.conformance import ViolationLog
from devmodels.iocontext import IoContext, IoThread
from devmodels.memory import GuestMemory
from devmodels.virtio.mmio import VirtioMmio
from devmodels.virtio.places import check_mmio_place
from devmodels.virtio_blk.config import VirtioBlkOptions
from devmodels.virtio_blk.making import virtio_blk


class VirtioBlkMmioOptions(
    VirtioBlkOptions, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True
):
    """Options of `-device virtio-blk-device`: those of the block device, and its place (`MmioPlace`)."""

    drive: str
    driver: str = "virtio-blk-device"
    id: str | None = None
    bus: str | None = None
    address: int | None = None
    irq: int | None = None
    force_legacy: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_mmio_place(self)


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
