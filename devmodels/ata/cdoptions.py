"""`ide-cd`: an ATAPI drive as options name it."""

from __future__ import annotations

from devmodels.ata.packet.options import AtapiOptions
from devmodels.blockbackend.errorpolicy import OnReadError, OnWriteError


class IdeCdOptions(AtapiOptions, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Options of `-device ide-cd`: those of the drive, and its place.  Without `drive` its tray is empty."""

    drive: str | None = None
    driver: str = "ide-cd"
    id: str | None = None
    bus: str | None = None
    unit: int | None = None
    rerror: OnReadError = "auto"
    werror: OnWriteError = "auto"
    account_invalid: bool = True
    account_failed: bool = True
    stats_intervals: tuple[int, ...] = ()
