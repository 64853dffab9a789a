"""`virtio-scsi-device`: the virtio SCSI host device over MMIO."""

from __future__ import annotations

from collections.abc import Sequence

from devmodels.conformance import ViolationLog
from devmodels.iocontext import IoContext, IoThread
from devmodels.memory import GuestMemory
from devmodels.virtio.mmio import VirtioMmio
from devmodels.virtio.places import check_mmio_place
from devmodels.virtio_scsi.config import VirtioScsiOptions
from devmodels.virtio_scsi.making import virtio_scsi


class VirtioScsiMmioOptions(
    VirtioScsiOptions, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True
):
    """Options of `-device virtio-scsi-device`: those of the host device, and its place (`MmioPlace`)."""

    driver: str = "virtio-scsi-device"
    id: str | None = None
    bus: str | None = None
    address: int | None = None
    irq: int | None = None
    force_legacy: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_mmio_place(self)


def virtio_scsi_mmio(
    options: VirtioScsiMmioOptions,
    *,
    name: str,
    context: IoContext,
    memory: GuestMemory,
    violations: ViolationLog,
    threads: Sequence[IoThread] = (),
) -> VirtioMmio:
    """Make the device; it still has to be plugged."""
    device = virtio_scsi(options, threads, name=name, context=context, memory=memory, violations=violations)
    return VirtioMmio(device, name=name, legacy=options.force_legacy)
