"""Disks on ATA buses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.assembly.ata_host import add_ata_unit
from devmodels.assembly.kind import DeviceKind
from devmodels.ata.device import AtaDevice
from devmodels.ata.disk import AtaDisk
from devmodels.ata.hdoptions import IdeHdOptions
from devmodels.blockbackend import BlockBackend
from devmodels.translation import Translate

if TYPE_CHECKING:
    from devmodels.assembly.assembly import Assembly


def _ide_hd(assembly: Assembly, options: IdeHdOptions, _translate: Translate | None) -> str:
    def disk(backend: BlockBackend) -> AtaDevice:
        if backend.read_only:
            raise ValueError(f"drive {options.drive!r} is read-only")
        if 0 < backend.size < options.logical_block_size:
            raise ValueError(
                f"drive {options.drive!r} has {backend.size} bytes, expected none, or a sector of "
                f"{options.logical_block_size} at least"
            )
        return AtaDisk(
            backend,
            options,
            name=backend.name,
            violations=assembly.violations,
            open_state=assembly.open_kept,
        )

    return add_ata_unit(assembly, options, disk)


DEVICES = {"ide-hd": DeviceKind(IdeHdOptions, _ide_hd)}
