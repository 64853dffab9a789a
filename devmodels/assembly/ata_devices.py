"""AHCI and PIIX IDE, and what is on ATA buses."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

from devmodels.ahci import AhciOptions, AhciPci
from devmodels.assembly.kind import DeviceKind
from devmodels.ata.device import AtaDevice
from devmodels.ata.disk import AtaDisk
from devmodels.ata.units import AtaPlace, IdeCdOptions, IdeHdOptions, find_place
from devmodels.blockbackend import BlockBackend
from devmodels.ide_cdrom import IdePciOptions, PiixIde
from devmodels.ide_cdrom.function import IRQS
from devmodels.options import OptionError
from devmodels.translation import Translate

if TYPE_CHECKING:
    from devmodels.assembly.assembly import Assembly


def _ahci(assembly: Assembly, options: AhciOptions, _translate: Translate | None) -> str:
    def make(name: str) -> AhciPci:
        return AhciPci(
            options,
            name=name,
            context=assembly.context,
            memory=assembly.memory,
            violations=assembly.violations,
        )

    return _ata_host(assembly, options, make)


def _piix(assembly: Assembly, options: IdePciOptions, _translate: Translate | None) -> str:
    def make(name: str) -> PiixIde:
        taken = any(isinstance(host, PiixIde) and not host.native for host in assembly.ata_hosts.values())
        if taken and not options.native:
            raise OptionError(f"device {options.driver}: the ports of compatibility mode are taken")
        irqs = None if options.native else (assembly.machine.irq(IRQS[0]), assembly.machine.irq(IRQS[1]))
        return PiixIde(
            options.driver,
            name=name,
            context=assembly.context,
            memory=assembly.memory,
            violations=assembly.violations,
            irqs=irqs,
            native=options.native,
        )

    return _ata_host(assembly, options, make)


def _ata_host(
    assembly: Assembly, options: AhciOptions | IdePciOptions, make: Callable[[str], AhciPci | PiixIde]
) -> str:
    """Make it, with a name of its own, plug it, and give its buses their names."""
    slot, number = assembly.pci_place(options)
    name = options.id or f"{options.driver}@{slot:02x}.{number}"
    assembly.check_free(name)
    path = assembly.qom_path(options.id)
    function = make(name)
    try:
        assembly.pci_bus.plug(function, slot, number)
    except ValueError as error:
        raise OptionError(f"device {options.driver}: {error}") from error
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
        if backend.size < options.logical_block_size:
            raise ValueError(
                f"drive {options.drive!r} has {backend.size} bytes, expected a sector of "
                f"{options.logical_block_size} at least"
            )
        return AtaDisk(
            backend,
            options,
            name=backend.name,
            violations=assembly.violations,
            open_state=assembly.open_kept,
        )

    return _ata_unit(assembly, options, disk)


def _ide_cd(assembly: Assembly, options: IdeCdOptions, _translate: Translate | None) -> str:
    # What is of SCSI is slow to import, and for drives only.
    from devmodels.ata.packet.device import AtapiDevice
    from devmodels.scsi.mmc.drive import CdDrive
    from devmodels.scsi.mmc.features import Interface

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
        bus_name, unit = find_place(assembly.ata_buses, options.bus, options.unit)
    except ValueError as error:
        raise OptionError(f"device {driver}: {error}") from None
    name = options.id or f"{driver}@{bus_name}.{unit}"
    backend = assembly.backend(options, name, read_only=read_only)
    try:
        device = make(backend)
    except (ValueError, OSError) as error:
        backend.close()
        raise OptionError(f"device {driver}: {error}") from None
    backend.qom_path = assembly.qom_path(options.id)
    assembly.add_backend(backend, options.drive)
    assembly.ata_units[name] = AtaPlace(driver, bus_name, assembly.ata_buses[bus_name], unit, device)
    return name


def _hosted_piix_fault(options: IdePciOptions) -> str | None:
    return None if options.native else "native is off; expected native=on, without a PC's fixed ports"


DEVICES = {
    "ich9-ahci": DeviceKind(AhciOptions, _ahci),
    "ahci": DeviceKind(AhciOptions, _ahci),
    "piix3-ide": DeviceKind(IdePciOptions, _piix, _hosted_piix_fault),
    "piix4-ide": DeviceKind(IdePciOptions, _piix, _hosted_piix_fault),
    "ide-hd": DeviceKind(IdeHdOptions, _ide_hd),
    "ide-cd": DeviceKind(IdeCdOptions, _ide_cd),
}
