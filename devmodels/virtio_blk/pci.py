"""`virtio-blk-pci`: the virtio block device as a PCI function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from devmodels.blockbackend.backend import BlockBackend
from devmodels.conformance import ViolationLog
from devmodels.iocontext import IoContext, IoThread
from devmodels.memory import GuestMemory
from devmodels.virtio.pci import VirtioPci
from devmodels.virtio.places import check_pci_place
from devmodels.virtio_blk.config import VirtioBlkOptions
from devmodels.virtio_blk.making import virtio_blk

CLASS_CODE = 0x010000
"""Mass storage, SCSI: what virtio-blk functions have always said."""


class VirtioBlkPciOptions(
    VirtioBlkOptions, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True
):
    """Options of `-device virtio-blk-pci`: those of the block device, and its place on the bus (`PciPlace`)."""

    drive: str
    driver: str = "virtio-blk-pci"
    id: str | None = None
    addr: str | None = None
    vectors: int | None = None
    disable_modern: bool = False
    disable_legacy: Literal["on", "off", "auto"] = "auto"
    ioeventfd: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pci_place(self)


def virtio_blk_pci(
    options: VirtioBlkPciOptions,
    backend: BlockBackend,
    *,
    name: str,
    context: IoContext,
    memory: GuestMemory,
    violations: ViolationLog,
    threads: Sequence[IoThread] = (),
) -> VirtioPci:
    """Make the function, its queues on `threads` if any; it still has to be plugged.

    ValueError where `memory` is not for threads.
    """
    device = virtio_blk(
        backend, options, threads, name=name, context=context, memory=memory, violations=violations
    )
    device.ioeventfd = options.ioeventfd
    return VirtioPci(
        device,
        class_code=CLASS_CODE,
        name=name,
        vectors=options.vectors,
        modern=not options.disable_modern,
        legacy=options.disable_legacy != "on",
    )
