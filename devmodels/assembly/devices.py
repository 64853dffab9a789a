"""The devices there are, by QEMU's names: the options of each, and how it is made and plugged into an assembly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from devmodels.ahci import AhciOptions, AhciPci
from devmodels.ata.device import AtaDevice
from devmodels.ata.disk import AtaDisk
from devmodels.ata.packet import AtapiDevice
from devmodels.ata.units import AtaPlace, IdeCdOptions, IdeHdOptions
from devmodels.ata.units import find_place as find_ata_place
from devmodels.blockbackend import BlockBackend
from devmodels.ide_cdrom import IdePciOptions, PiixIde
from devmodels.ide_cdrom.function import IRQS
from devmodels.iocontext import IoThread
from devmodels.options import OptionError, shown
from devmodels.scsi import LogicalUnit
from devmodels.scsi.disk import Disk
from devmodels.scsi.mmc import CdDrive
from devmodels.scsi.mmc.features import Interface
from devmodels.translation import Translate
from devmodels.virtio.mmio import VirtioMmio
from devmodels.virtio.pci import VirtioPci
from devmodels.virtio_blk.mmio import VirtioBlkMmioOptions, virtio_blk_mmio
from devmodels.virtio_blk.pci import VirtioBlkPciOptions, virtio_blk_pci
from devmodels.virtio_scsi import VirtioScsi
from devmodels.virtio_scsi.mmio import VirtioScsiMmioOptions, virtio_scsi_mmio
from devmodels.virtio_scsi.pci import VirtioScsiPciOptions, virtio_scsi_pci
from devmodels.virtio_scsi.units import PlaceOptions, ScsiCdOptions, ScsiHdOptions, ScsiPlace, find_place

if TYPE_CHECKING:
    from devmodels.assembly.assembly import Assembly


# --- virtio-blk


def _blk_pci(assembly: Assembly, options: VirtioBlkPciOptions, translate: Translate | None) -> str:
    slot, number = assembly.pci_place(options)
    backend = assembly.backend(options, options.id or f"{options.driver}@{slot:02x}.{number}")
    backend.qom_path = f"{assembly.qom_path(options.id)}/virtio-backend"
    with _drive(assembly, options, backend), _threads(assembly, options, backend.name) as threads:
        function = virtio_blk_pci(
            options,
            backend,
            name=backend.name,
            context=assembly.context,
            memory=assembly.memory_for(translate, backend.name, iommu_platform=options.iommu_platform),
            violations=assembly.violations,
            threads=threads,
        )
        assembly.machine.plug(function, slot, number)
    assembly.devices[backend.name] = function
    return backend.name


def _blk_mmio(assembly: Assembly, options: VirtioBlkMmioOptions, translate: Translate | None) -> str:
    address, irq = assembly.mmio_place(options)
    backend = assembly.backend(options, options.id or f"{options.driver}@{address:x}")
    backend.qom_path = assembly.qom_path(options.id)
    with _drive(assembly, options, backend), _threads(assembly, options, backend.name) as threads:
        device = virtio_blk_mmio(
            options,
            backend,
            name=backend.name,
            context=assembly.context,
            memory=assembly.memory_for(translate, backend.name, iommu_platform=options.iommu_platform),
            violations=assembly.violations,
            threads=threads,
        )
        assembly.machine.plug_mmio(device, address, irq)
    assembly.devices[backend.name] = device
    return backend.name


@contextmanager
def _threads(
    assembly: Assembly,
    options: VirtioBlkPciOptions | VirtioBlkMmioOptions | VirtioScsiPciOptions | VirtioScsiMmioOptions,
    name: str,
) -> Iterator[list[IoThread]]:
    """The device is made and gets its place; its queues' threads, if it is to have such.

    OptionError, and the threads free again, where that cannot be.
    """
    threads = assembly.graph.iothreads
    user = f"device {shown(name)}"
    try:
        if options.iothread is not None and options.iothread not in threads.by_id:
            raise OptionError(f"Device '{options.iothread}' not found")
        wanted = (None, None) if assembly.one_context else (options.iothread, options.iothread_vq_mapping)
        yield threads.take(user, options.num_queues, *wanted)
    except ValueError as error:
        threads.release(user)
        raise OptionError(f"device {options.driver}: {error}") from error


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


# --- virtio-scsi, and what is on its bus


def _scsi_pci(assembly: Assembly, options: VirtioScsiPciOptions, translate: Translate | None) -> str:
    slot, number = assembly.pci_place(options)
    name = options.id or f"{options.driver}@{slot:02x}.{number}"
    assembly.check_free(name)
    path = assembly.qom_path(options.id)
    with _threads(assembly, options, name) as threads:
        function = virtio_scsi_pci(
            options,
            name=name,
            context=assembly.context,
            memory=assembly.memory_for(translate, name, iommu_platform=options.iommu_platform),
            violations=assembly.violations,
            threads=threads,
        )
        assembly.machine.plug(function, slot, number)
    assembly.paths[name] = path
    _scsi_added(assembly, options.id, name, function)
    return name


def _scsi_mmio(assembly: Assembly, options: VirtioScsiMmioOptions, translate: Translate | None) -> str:
    address, irq = assembly.mmio_place(options)
    name = options.id or f"{options.driver}@{address:x}"
    assembly.check_free(name)
    path = assembly.qom_path(options.id)
    with _threads(assembly, options, name) as threads:
        device = virtio_scsi_mmio(
            options,
            name=name,
            context=assembly.context,
            memory=assembly.memory_for(translate, name, iommu_platform=options.iommu_platform),
            violations=assembly.violations,
            threads=threads,
        )
        assembly.machine.plug_mmio(device, address, irq)
    assembly.paths[name] = path
    _scsi_added(assembly, options.id, name, device)
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


# --- AHCI, and what is on ATA buses


def _ahci(assembly: Assembly, options: AhciOptions, _translate: Translate | None) -> str:
    slot, number = assembly.pci_place(options)
    name = options.id or f"{options.driver}@{slot:02x}.{number}"
    assembly.check_free(name)
    path = assembly.qom_path(options.id)
    function = AhciPci(
        options,
        name=name,
        context=assembly.context,
        memory=assembly.memory,
        violations=assembly.violations,
    )
    return _ata_host(assembly, options, function, (slot, number), path)


def _piix(assembly: Assembly, options: IdePciOptions, _translate: Translate | None) -> str:
    slot, number = assembly.pci_place(options)
    name = options.id or f"{options.driver}@{slot:02x}.{number}"
    assembly.check_free(name)
    path = assembly.qom_path(options.id)
    taken = any(isinstance(host, PiixIde) and not host.native for host in assembly.ata_hosts.values())
    if taken and not options.native:
        raise OptionError(f"device {options.driver}: the ports of compatibility mode are taken")
    function = PiixIde(
        options.driver,
        name=name,
        context=assembly.context,
        memory=assembly.memory,
        violations=assembly.violations,
        irqs=None if options.native else (assembly.machine.irq(IRQS[0]), assembly.machine.irq(IRQS[1])),
        native=options.native,
    )
    return _ata_host(assembly, options, function, (slot, number), path)


def _ata_host(
    assembly: Assembly,
    options: AhciOptions | IdePciOptions,
    function: AhciPci | PiixIde,
    place: tuple[int, int],
    path: str,
) -> str:
    """Plug it, and give its buses their names."""
    try:
        assembly.machine.plug(function, *place)
    except ValueError as error:
        raise OptionError(f"device {options.driver}: {error}") from error
    name = function.name
    assembly.paths[name] = path
    assembly.ata_hosts[name] = function
    taken = {bus.partition(".")[0] for bus in assembly.ata_buses}
    prefix = options.id or next(each for n in count() if (each := "ide" if not n else f"ide{n}") not in taken)
    for at, bus in enumerate(function.buses):
        assembly.ata_buses[f"{prefix}.{at}"] = bus
    return name


def _ide_hd(assembly: Assembly, options: IdeHdOptions, _translate: Translate | None) -> str:
    def disk(backend: BlockBackend) -> AtaDevice:
        if backend.read_only:
            raise ValueError(f"drive {options.drive!r} is read-only")
        return AtaDisk(backend, options, name=backend.name, violations=assembly.violations)

    return _ata_unit(assembly, options, disk)


def _ide_cd(assembly: Assembly, options: IdeCdOptions, _translate: Translate | None) -> str:
    def drive(backend: BlockBackend) -> AtaDevice:
        unit = CdDrive(
            backend,
            options.unit_options,
            name=backend.name,
            interface=Interface.ATAPI,
            violations=assembly.violations,
        )
        return AtapiDevice(unit, options, name=backend.name, violations=assembly.violations)

    return _ata_unit(assembly, options, drive, read_only=True)


def _ata_unit(
    assembly: Assembly,
    options: IdeHdOptions | IdeCdOptions,
    make: Callable[[BlockBackend], AtaDevice],
    *,
    read_only: bool = False,
) -> str:
    """A device gets its backend and its place on a bus."""
    driver = options.driver
    try:
        bus_name, unit = find_ata_place(assembly.ata_buses, options.bus, options.unit)
    except ValueError as error:
        raise OptionError(f"device {driver}: {error}") from None
    name = options.id or f"{driver}@{bus_name}.{unit}"
    backend = assembly.backend(options, name, read_only=read_only)
    try:
        device = make(backend)
    except ValueError as error:
        backend.close()
        raise OptionError(f"device {driver}: {error}") from None
    backend.qom_path = assembly.qom_path(options.id)
    assembly.add_backend(backend, options.drive)
    assembly.ata_units[name] = AtaPlace(driver, bus_name, assembly.ata_buses[bus_name], unit, device)
    return name


Place = Literal["pci", "mmio", "bus", "ata"]


class DeviceType(NamedTuple):
    """`add(assembly, options, translate)` makes a device and returns its id; OptionError.

    It plugs the device, too, unless that is on the bus of another one.  `place` is where it goes: PCI, an address of
    its own, or the bus of another device.
    """

    options: type[msgspec.Struct]
    add: Callable[[Assembly, Any, Translate | None], str]
    place: Place


DEVICES = {
    "virtio-blk-pci": DeviceType(VirtioBlkPciOptions, _blk_pci, "pci"),
    "virtio-blk-device": DeviceType(VirtioBlkMmioOptions, _blk_mmio, "mmio"),
    "virtio-scsi-pci": DeviceType(VirtioScsiPciOptions, _scsi_pci, "pci"),
    "virtio-scsi-device": DeviceType(VirtioScsiMmioOptions, _scsi_mmio, "mmio"),
    "scsi-hd": DeviceType(ScsiHdOptions, _scsi_hd, "bus"),
    "scsi-cd": DeviceType(ScsiCdOptions, _scsi_cd, "bus"),
    "ich9-ahci": DeviceType(AhciOptions, _ahci, "pci"),
    "ahci": DeviceType(AhciOptions, _ahci, "pci"),
    "piix3-ide": DeviceType(IdePciOptions, _piix, "pci"),
    "piix4-ide": DeviceType(IdePciOptions, _piix, "pci"),
    "ide-hd": DeviceType(IdeHdOptions, _ide_hd, "ata"),
    "ide-cd": DeviceType(IdeCdOptions, _ide_cd, "ata"),
}
