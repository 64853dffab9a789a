"""virtio-scsi on PCI, and what it has in common with the one on MMIO."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from devmodels.assembly.kind import DeviceKind, queue_threads
from devmodels.translation import Translate
from devmodels.virtio.pci import VirtioPci
from devmodels.virtio_scsi import VirtioScsi
from devmodels.virtio_scsi.pci import VirtioScsiPciOptions, virtio_scsi_pci

if TYPE_CHECKING:
    from devmodels.assembly.assembly import Assembly
    from devmodels.virtio.mmio import VirtioMmio
    from devmodels.virtio_scsi.mmio import VirtioScsiMmioOptions

T = TypeVar("T", "VirtioPci", "VirtioMmio")


def _scsi_pci(assembly: Assembly, options: VirtioScsiPciOptions, translate: Translate | None) -> str:
    slot, number = assembly.pci_place(options)

    def plug(function: VirtioPci) -> None:
        assembly.pci_bus.plug(function, slot, number)

    return add_host(
        assembly, options, translate, f"{slot:02x}.{number}", partial(virtio_scsi_pci, options), plug
    )


def add_host(
    assembly: Assembly,
    options: VirtioScsiPciOptions | VirtioScsiMmioOptions,
    translate: Translate | None,
    place: str,
    make: Callable[..., T],
    plug: Callable[[T], None],
) -> str:
    """A host is made, with a name of its own, and gets its place."""
    name = options.id or f"{options.driver}@{place}"
    assembly.check_free(name)
    path = assembly.qom_path(options.id)
    with queue_threads(assembly, options, name) as threads:
        transport = make(
            name=name,
            context=assembly.context,
            memory=assembly.memory_for(translate, name, iommu_platform=options.iommu_platform),
            violations=assembly.violations,
            threads=threads,
        )
        plug(transport)
    assembly.paths[name] = path
    _scsi_added(assembly, options.id, name, transport)
    return name


def _scsi_added(assembly: Assembly, given: str | None, name: str, transport: VirtioPci | VirtioMmio) -> None:
    """The device is there, and its bus, called after it as QEMU does."""
    assembly.devices[name] = transport
    assert isinstance(transport.device, VirtioScsi)
    bus = f"{given}.0" if given is not None else assembly.bus_name("scsi")
    assembly.buses[bus] = transport.device


DEVICES = {"virtio-scsi-pci": DeviceKind(VirtioScsiPciOptions, _scsi_pci)}
