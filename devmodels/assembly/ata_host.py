"""ATA: host adapters with their buses, and what is on these."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from devmodels.ata.units import AtaPlace, find_place
from devmodels.blockbackend import BlockBackend
from devmodels.options import OptionError

if TYPE_CHECKING:
    from devmodels.ahci import AhciOptions, AhciPci
    from devmodels.assembly.assembly import Assembly
    from devmodels.ata.cdoptions import IdeCdOptions
    from devmodels.ata.device import AtaDevice
    from devmodels.ata.hdoptions import IdeHdOptions
    from devmodels.ide_cdrom import IdePciOptions, PiixIde


def add_ata_host(
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
    for at, bus in enumerate(function.buses):
        assembly.ata_buses[f"{options.id}.{at}" if options.id else assembly.bus_name("ide")] = bus
    return name


def add_ata_unit(
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
