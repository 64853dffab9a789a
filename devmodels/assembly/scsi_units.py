"""What is on the bus of a virtio-scsi."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from devmodels.blockbackend import BlockBackend
from devmodels.options import OptionError
from devmodels.virtio_scsi import VirtioScsi
from devmodels.virtio_scsi.units import PlaceOptions, ScsiPlace, find_place

if TYPE_CHECKING:
    from devmodels.assembly.assembly import Assembly
    from devmodels.scsi import LogicalUnit
    from devmodels.virtio_scsi.cdoptions import ScsiCdOptions
    from devmodels.virtio_scsi.hdoptions import ScsiHdOptions


def add_scsi_unit(
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
