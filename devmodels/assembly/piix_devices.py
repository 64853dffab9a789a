"""PIIX IDE controllers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.assembly.ata_host import add_ata_host
from devmodels.assembly.kind import DeviceKind
from devmodels.ide_cdrom import IdePciOptions, PiixIde
from devmodels.ide_cdrom.function import IRQS
from devmodels.options import OptionError
from devmodels.translation import Translate

if TYPE_CHECKING:
    from devmodels.assembly.assembly import Assembly


def _piix(assembly: Assembly, options: IdePciOptions, _translate: Translate | None) -> str:
    def make(name: str) -> PiixIde:
        taken = any(isinstance(host, PiixIde) and not host.native for host in assembly.ata_hosts.values())
        if taken and not options.native and not assembly.ide_ports_decoded:
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

    return add_ata_host(assembly, options, make)


def _hosted_piix_fault(options: IdePciOptions) -> str | None:
    return None if options.native else "native is off; expected native=on, without a PC's fixed ports"


DEVICES = {
    "piix3-ide": DeviceKind(IdePciOptions, _piix, _hosted_piix_fault),
    "piix4-ide": DeviceKind(IdePciOptions, _piix, _hosted_piix_fault),
}
