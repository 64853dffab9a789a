"""Options of a CD drive, by the names of QEMU's `scsi-cd`; what QEMU does not have says so."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Literal

import msgspec

MAX_LOAD_TIME = 60_000


class Interface(IntEnum):
    """PHYSICAL INTERFACE STANDARD (MMC-6 Table 95)."""

    SCSI = 1
    ATAPI = 2
    SERIAL_ATAPI = 7


class CdOptions(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What a drive says of itself, and what it takes its media for.

    `serial`, `device_id`, `wwn`: as of `DiskOptions`.  Ours: `profile`, what a medium is (`auto`: what its size says);
    `load_time`, how many milliseconds a medium takes to become ready once the tray has closed; `queue_depth`, tasks at
    a time.
    """

    vendor: str = "DEVMODEL"
    product: str = "BD-ROM"
    ver: str = "1.0"
    serial: str = ""
    device_id: str = msgspec.field(default="", name="device_id")
    wwn: int = 0
    profile: Literal["auto", "cd", "dvd", "bd"] = "auto"
    load_time: Annotated[
        int, msgspec.Meta(ge=0, le=MAX_LOAD_TIME, description=f"milliseconds from 0 to {MAX_LOAD_TIME}")
    ] = 0
    queue_depth: int = 256

    def __post_init__(self) -> None:
        from devmodels.scsi.identity import check_identity  # slow to import

        check_identity(self)
        if not 1 <= self.queue_depth <= 1 << 16:
            raise ValueError(f"queue-depth is {self.queue_depth}, expected 1 to 65536")
