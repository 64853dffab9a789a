"""virtio-scsi, on PCI and on MMIO, and what is on its bus."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from devmodels.assembly.kind import DeviceKind, queue_threads
from devmodels.blockbackend import BlockBackend
from devmodels.options import OptionError
from devmodels.scsi import LogicalUnit
from devmodels.scsi.disk import Disk
from devmodels.scsi.mmc import CdDrive
from devmodels.translation import Translate
from devmodels.virtio.mmio import VirtioMmio
from devmodels.virtio.pci import VirtioPci
from devmodels.virtio_scsi import VirtioScsi
from devmodels.virtio_scsi.mmio import VirtioScsiMmioOptions, virtio_scsi_mmio
from devmodels.virtio_scsi.pci import VirtioScsiPciOptions, virtio_scsi_pci
from devmodels.virtio_scsi.units import PlaceOptions, ScsiCdOptions, ScsiHdOptions, ScsiPlace, find_place

if TYPE_CHECKING:
    from devmodels.assembly.assembly import Assembly

T = TypeVar("T", VirtioPci, VirtioMmio)


def _scsi_pci(assembly: Assembly, options: VirtioScsiPciOptions, translate: Translate | None) -> str:
    slot, number = assembly.pci_place(options)

    def plug(function: VirtioPci) -> None:
        assembly.pci_bus.plug(function, slot, number)

    return _host(
        assembly, options, translate, f"{slot:02x}.{number}", partial(virtio_scsi_pci, options), plug
    )


def _scsi_mmio(assembly: Assembly, options: VirtioScsiMmioOptions, translate: Translate | None) -> str:
    address, irq = assembly.mmio_place(options)

    def plug(device: VirtioMmio) -> None:
        assembly.machine.plug_mmio(device, address, irq)

    return _host(assembly, options, translate, f"{address:x}", partial(virtio_scsi_mmio, options), plug)


def _host(
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
    bus = f"{given}.0" if given is not None else f"scsi.{len(assembly.buses)}"
    assembly.buses[bus] = transport.device


def _scsi_hd(assembly: Assembly, options: ScsiHdOptions, _translate: Translate | None) -> str:
    def disk(backend: BlockBackend) -> LogicalUnit:
        return Disk(
            backend,
            options,
            name=backend.name,
            violations=assembly.violations,
            open_state=assembly.open_state,
        )

    return _scsi_unit(assembly, options, disk)


def _scsi_cd(assembly: Assembly, options: ScsiCdOptions, _translate: Translate | None) -> str:
    def drive(backend: BlockBackend) -> LogicalUnit:
        return CdDrive(backend, options, name=backend.name, violations=assembly.violations)

    return _scsi_unit(assembly, options, drive, read_only=True)


def _scsi_unit(
    assembly: Assembly,
    options: ScsiHdOptions | ScsiCdOptions,
    make: Callable[[BlockBackend], LogicalUnit],
    *,
    read_only: bool = False,
) -> str:
    """A unit gets its backend and its place on a bus."""
    driver = options.driver
    host = _bus(assembly, options)
    try:
        target, lun = find_place(host.bus, options.scsi_id, options.lun)
    except ValueError as error:
        raise OptionError(f"device {driver}: {error}") from None
    name = options.id or assembly.unit_name(driver, target, lun)
    backend = assembly.backend(options, name, read_only=read_only)
    backend.qom_path = assembly.qom_path(options.id)
    try:
        unit = make(backend)
    except ValueError as error:
        backend.close()
        raise OptionError(f"device {driver}: {error}") from None
    assembly.add_backend(backend, options.drive)
    assembly.units[backend.name] = ScsiPlace(driver, host, target, lun, unit)
    return backend.name


def _bus(assembly: Assembly, options: PlaceOptions) -> VirtioScsi:
    """The bus that is named, or the first one there is."""
    if options.bus is None:
        if not assembly.buses:
            raise OptionError(f"device {options.driver}: no 'SCSI' bus found")
        return next(iter(assembly.buses.values()))
    host = assembly.buses.get(options.bus)
    if host is None:
        known = ", ".join(assembly.buses) or "none"
        raise OptionError(f"device {options.driver}: no bus {options.bus!r}; the SCSI buses are: {known}")
    return host


DEVICES = {
    "virtio-scsi-pci": DeviceKind(VirtioScsiPciOptions, _scsi_pci),
    "virtio-scsi-device": DeviceKind(VirtioScsiMmioOptions, _scsi_mmio),
    "scsi-hd": DeviceKind(ScsiHdOptions, _scsi_hd),
    "scsi-cd": DeviceKind(ScsiCdOptions, _scsi_cd),
}
