"""`scsi-cd`: CD drives on the bus of a virtio-scsi."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.assembly.kind import DeviceKind
from devmodels.assembly.scsi_units import add_scsi_unit
from devmodels.blockbackend import BlockBackend
from devmodels.scsi.mmc import CdDrive
from devmodels.translation import Translate
from devmodels.virtio_scsi.cdoptions import ScsiCdOptions

if TYPE_CHECKING:
    from devmodels.assembly.assembly import Assembly
    from devmodels.scsi import LogicalUnit


def _scsi_cd(assembly: Assembly, options: ScsiCdOptions, _translate: Translate | None) -> str:
    def drive(backend: BlockBackend) -> LogicalUnit:
        return CdDrive(backend, options, name=backend.name, violations=assembly.violations)

    return add_scsi_unit(assembly, options, drive, read_only=True)


DEVICES = {"scsi-cd": DeviceKind(ScsiCdOptions, _scsi_cd)}
