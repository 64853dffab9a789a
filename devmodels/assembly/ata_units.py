"""What is on ATA buses: disks and CD drives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from devmodels.assembly.kind import DeviceKind
from devmodels.ata.device import AtaDevice
from devmodels.ata.units import AtaPlace, IdeCdOptions, IdeHdOptions, find_place
from devmodels.blockbackend import BlockBackend
from devmodels.options import OptionError
from devmodels.translation import Translate

if TYPE_CHECKING:
    from devmodels.assembly.assembly import Assembly


def _ide_hd(assembly: Assembly, options: IdeHdOptions, _translate: Translate | None) -> str:
    # Disk and drive are slow to import: where there is only the one, the other is not.
    from devmodels.ata.disk import AtaDisk

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


DEVICES = {
    "ide-hd": DeviceKind(IdeHdOptions, _ide_hd),
    "ide-cd": DeviceKind(IdeCdOptions, _ide_cd),
}
