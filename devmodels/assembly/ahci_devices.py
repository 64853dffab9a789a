"""AHCI host bus adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.ahci import AhciOptions, AhciPci
from devmodels.assembly.ata_host import add_ata_host
from devmodels.assembly.kind import DeviceKind
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

    return add_ata_host(assembly, options, make)


DEVICES = {
    "ich9-ahci": DeviceKind(AhciOptions, _ahci),
    "ahci": DeviceKind(AhciOptions, _ahci),
}
