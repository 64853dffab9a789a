"""virtio-blk on PCI, and what it has in common with the one on MMIO."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from devmodels.assembly.kind import DeviceKind, queue_threads
from devmodels.blockbackend import BlockBackend
from devmodels.translation import Translate
from devmodels.virtio.pci import VirtioPci
from devmodels.virtio_blk.pci import VirtioBlkPciOptions, virtio_blk_pci

if TYPE_CHECKING:
    from devmodels.assembly.assembly import Assembly
    from devmodels.virtio.mmio import VirtioMmio
    from devmodels.virtio_blk.mmio import VirtioBlkMmioOptions

T = TypeVar("T", "VirtioPci", "VirtioMmio")


def _blk_pci(assembly: Assembly, options: VirtioBlkPciOptions, translate: Translate | None) -> str:
    slot, number = assembly.pci_place(options)
    backend = assembly.backend(options, options.id or f"{options.driver}@{slot:02x}.{number}")
    backend.qom_path = f"{assembly.qom_path(options.id)}/virtio-backend"

    def plug(function: VirtioPci) -> None:
        assembly.pci_bus.plug(function, slot, number)

    return add_disk(assembly, options, translate, backend, partial(virtio_blk_pci, options, backend), plug)


def add_disk(
    assembly: Assembly,
    options: VirtioBlkPciOptions | VirtioBlkMmioOptions,
    translate: Translate | None,
    backend: BlockBackend,
    make: Callable[..., T],
    plug: Callable[[T], None],
) -> str:
    """The device of `backend` is made, and gets its place."""
    name = backend.name
    with _drive(assembly, options, backend), queue_threads(assembly, options, name) as threads:
        transport = make(
            name=name,
            context=assembly.context,
            memory=assembly.memory_for(translate, name, iommu_platform=options.iommu_platform),
            violations=assembly.violations,
            threads=threads,
        )
        plug(transport)
    assembly.devices[name] = transport
    return name


@contextmanager
def _drive(
    assembly: Assembly, options: VirtioBlkPciOptions | VirtioBlkMmioOptions, backend: BlockBackend
) -> Iterator[None]:
    """The device of `backend` is made and gets its place; where that cannot be the drive is free again."""
    try:
        yield
    except ValueError:
        backend.close()
        raise
    assembly.add_backend(backend, options.drive)


DEVICES = {
    "virtio-blk-pci": DeviceKind(VirtioBlkPciOptions, _blk_pci),
}
