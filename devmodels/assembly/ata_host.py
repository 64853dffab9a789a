"""Host adapters with ATA buses: their names, their place, their buses' names."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

from devmodels.options import OptionError

if TYPE_CHECKING:
    from devmodels.ahci import AhciOptions, AhciPci
    from devmodels.assembly.assembly import Assembly
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
    taken = {bus.partition(".")[0] for bus in assembly.ata_buses}
    prefix = options.id or next(each for n in count() if (each := "ide" if not n else f"ide{n}") not in taken)
    for at, bus in enumerate(function.buses):
        assembly.ata_buses[f"{prefix}.{at}"] = bus
    return name
