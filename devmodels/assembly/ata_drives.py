"""CD drives on ATA buses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.assembly.ata_host import add_ata_unit
from devmodels.assembly.kind import DeviceKind
from devmodels.ata.cdoptions import IdeCdOptions
from devmodels.ata.device import AtaDevice
from devmodels.ata.packet.device import AtapiDevice
from devmodels.blockbackend import BlockBackend
from devmodels.scsi.mmc.drive import CdDrive
from devmodels.scsi.mmc.options import Interface
from devmodels.translation import Translate

if TYPE_CHECKING:
    from devmodels.assembly.assembly import Assembly


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

    return add_ata_unit(assembly, options, drive, read_only=True)


DEVICES = {"ide-cd": DeviceKind(IdeCdOptions, _ide_cd)}
