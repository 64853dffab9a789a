"""`ide-hd`: an ATA disk as options name it."""

from __future__ import annotations

import msgspec

from devmodels.ata.disk.options import AtaDiskOptions
from devmodels.blockbackend.errorpolicy import OnReadError, OnWriteError


class IdeHdOptions(AtaDiskOptions, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Options of `-device ide-hd`: those of the disk, and its place.

    `bus` is a host's id with the number of its port or channel ("sata0.0"); without it the first free place is taken.
    """

    drive: str
    driver: str = "ide-hd"
    id: str | None = None
    bus: str | None = None
    unit: int | None = None
    share_rw: bool = False
    rerror: OnReadError = "auto"
    werror: OnWriteError = "auto"
    account_invalid: bool = True
    account_failed: bool = True
    stats_intervals: tuple[int, ...] = ()
    min_io_size: int = msgspec.field(default=0, name="min_io_size")
    opt_io_size: int = msgspec.field(default=0, name="opt_io_size")
