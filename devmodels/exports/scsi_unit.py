"""What exports share that offer a node as a SCSI logical unit: its options, its way to the node, the unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from devmodels.blockbackend import BlockBackend
from devmodels.blockbackend.errorpolicy import OnReadError, OnWriteError
from devmodels.conformance import ViolationLog
from devmodels.iocontext import IoContext
from devmodels.scsi.backed import BackedUnit
from devmodels.scsi.disk import Disk, DiskOptions
from devmodels.scsi.mmc import CdDrive, CdOptions
from devmodels.scsi.statefile import StateFile


class ScsiUnitExportOptions(
    msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True
):
    """Options of an export that is a SCSI unit: those of every export, and what the unit says of itself.

    `device_type`: a disk, or a drive with the node as its first medium, for CDs, DVDs and BDs.  `profile` is a drive's,
    block sizes, `removable` and `state` are a disk's.
    """

    id: str
    node_name: str
    writable: bool = False
    writethrough: bool = False
    device_type: Literal["disk", "cd"] = "disk"
    profile: Literal["auto", "cd", "dvd", "bd"] = "auto"
    logical_block_size: int = 512
    physical_block_size: int | None = None
    vendor: str = "DEVMODEL"
    product: str | None = None
    ver: str = "1.0"
    serial: str = ""
    device_id: str = ""
    wwn: int = 0
    removable: bool = False
    state: str = ""
    rerror: OnReadError = "report"
    werror: OnWriteError = "report"

    def __post_init__(self) -> None:
        if self.device_type == "cd":
            self._check_cd()
            self.cd()
        else:
            if self.profile != "auto":
                raise ValueError(f'profile is "{self.profile}", expected it with device-type "cd"')
            self.disk()

    def _check_cd(self) -> None:
        """What is a disk's was not given."""
        if self.writable:
            raise ValueError('writable is on, expected off with device-type "cd"')
        for field in msgspec.structs.fields(type(self)):
            if field.name in _OF_A_DISK and getattr(self, field.name) != field.default:
                value = getattr(self, field.name)
                raise ValueError(f'{field.encode_name} is {value!r}, expected it with device-type "disk"')

    def disk(self) -> DiskOptions:
        """The disk's own options; ValueError."""
        return DiskOptions(
            vendor=self.vendor,
            product="DISK" if self.product is None else self.product,
            ver=self.ver,
            serial=self.serial,
            device_id=self.device_id,
            wwn=self.wwn,
            removable=self.removable,
            state=self.state,
            logical_block_size=self.logical_block_size,
            physical_block_size=self.physical_block_size or max(512, self.logical_block_size),
        )

    def cd(self) -> CdOptions:
        """The drive's own options; ValueError."""
        return CdOptions(
            vendor=self.vendor,
            product="BD-ROM" if self.product is None else self.product,
            ver=self.ver,
            serial=self.serial,
            device_id=self.device_id,
            wwn=self.wwn,
            profile=self.profile,
        )


_OF_A_DISK = frozenset({"logical_block_size", "physical_block_size", "removable", "state", "reservations"})


def make_unit(
    options: ScsiUnitExportOptions,
    backend: BlockBackend,
    name: str,
    violations: ViolationLog,
    open_state: Callable[[IoContext, str], StateFile] = StateFile,
) -> BackedUnit:
    """The unit; OSError or ValueError where what it keeps cannot be had."""
    if options.device_type == "cd":
        return CdDrive(backend, options.cd(), name=name, violations=violations)
    return Disk(backend, options.disk(), name=name, violations=violations, open_state=open_state)
