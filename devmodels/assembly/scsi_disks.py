"""`scsi-hd`: disks on the bus of a virtio-scsi."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.assembly.kind import DeviceKind
from devmodels.assembly.scsi_units import add_scsi_unit
from devmodels.blockbackend import BlockBackend
from devmodels.scsi.disk import Disk
from devmodels.translation import Translate
from devmodels.virtio_scsi.hdoptions import ScsiHdOptions

if TYPE_CHECKING:
    from devmodels.assembly.assembly import Assembly
    from devmodels.scsi import LogicalUnit


def _scsi_hd(assembly: Assembly, options: ScsiHdOptions, _translate: Translate | None) -> str:
    def disk(backend: BlockBackend) -> LogicalUnit:
        return Disk(
            backend,
            options,
            name=backend.name,
            violations=assembly.violations,
            open_state=assembly.open_state,
        )

    return add_scsi_unit(assembly, options, disk)


DEVICES = {"scsi-hd": DeviceKind(ScsiHdOptions, _scsi_hd)}
