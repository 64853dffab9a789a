"""Options of a disk on a SCSI bus."""

from __future__ import annotations

from devmodels.blockbackend.errorpolicy import OnReadError, OnWriteError
from devmodels.scsi.disk import DiskOptions
from devmodels.virtio_scsi.units import check_place


class ScsiHdOptions(DiskOptions, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Options of `-device scsi-hd`: those of the disk, and its place."""

    drive: str
    driver: str = "scsi-hd"
    id: str | None = None
    bus: str | None = None
    channel: int = 0
    scsi_id: int | None = None
    lun: int | None = None
    rerror: OnReadError = "auto"
    werror: OnWriteError = "auto"
    account_invalid: bool = True
    account_failed: bool = True
    stats_intervals: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_place(self)
