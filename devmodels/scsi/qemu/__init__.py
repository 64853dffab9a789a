"""Units that a guest finds as QEMU 7.2's: which commands these have, what they say, and how they are refused.

Facts about QEMU are those of its SCSI bus and of its disk; where they depart from SPC-4, SBC-3 and MMC-6, the masks of
`guestsim diff` say by which clause.
"""

from __future__ import annotations

from devmodels.scsi import LogicalUnit
from devmodels.scsi.disk import Disk
from devmodels.scsi.mmc import CdDrive
from devmodels.scsi.qemu.attention import BusAttention
from devmodels.scsi.qemu.disk import DiskFront
from devmodels.scsi.qemu.drive import DriveFront
from devmodels.scsi.qemu.front import Front

__all__ = ["BusAttention", "Front", "put_before"]


def put_before(unit: LogicalUnit, bus: BusAttention) -> None:
    """What comes to `unit` is answered as by QEMU's from now on."""
    if isinstance(unit, Disk):
        unit.front = DiskFront(unit, bus)
    elif isinstance(unit, CdDrive):
        unit.front = DriveFront(unit, bus)
