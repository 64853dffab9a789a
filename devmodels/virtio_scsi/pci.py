"""`virtio-scsi-pci`: the virtio SCSI host device as a PCI function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from devmodels.conformance import ViolationLog
from devmodels.iocontext import IoContext, IoThread
from devmodels.memory import GuestMemory
from devmodels.virtio.pci import VirtioPci
from devmodels.virtio.places import check_pci_place
from devmodels.virtio_scsi.config import VirtioScsiOptions
from devmodels.virtio_scsi.making import virtio_scsi

CLASS_CODE = 0x010000
"""Mass storage, SCSI."""


class VirtioScsiPciOptions(
    VirtioScsiOptions, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True
):
    """Options of `-device virtio-scsi-pci`: those of the host device, and its place on the bus (`PciPlace`)."""

    driver: str = "virtio-scsi-pci"
    id: str | None = None
    addr: str | None = None
    vectors: int | None = None
    disable_modern: bool = False
    disable_legacy: Literal["on", "off", "auto"] = "auto"
    ioeventfd: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pci_place(self)


def virtio_scsi_pci(
    options: VirtioScsiPciOptions,
    *,
    name: str,
    context: IoContext,
    memory: GuestMemory,
    violations: ViolationLog,
    threads: Sequence[IoThread] = (),
) -> VirtioPci:
    """Make the function; it still has to be plugged."""
    device = virtio_scsi(options, threads, name=name, context=context, memory=memory, violations=violations)
    device.ioeventfd = options.ioeventfd
    return VirtioPci(
        device,
        class_code=CLASS_CODE,
        name=name,
        vectors=options.vectors,
        modern=not options.disable_modern,
        legacy=options.disable_legacy != "on",
    )
