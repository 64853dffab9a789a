"""ATA's numbers: the bits of status and error, signatures, resets."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class Status:
    """Bits of the status field (ACS-3 §6.2)."""

    ERR: Final = 0x01
    DRQ: Final = 0x08
    DSC: Final = 0x10
    """Seek complete: obsolete, and set by every drive."""
    DF: Final = 0x20
    DRDY: Final = 0x40
    BSY: Final = 0x80


class Error:
    """Bits of the error field (ACS-3 §6.3)."""

    ABRT: Final = 0x04
    IDNF: Final = 0x10
    UNC: Final = 0x40
    ICRC: Final = 0x80


READY: Final = Status.DRDY | Status.DSC
"""The status of a device that waits for a command."""

DIAGNOSTIC_PASSED: Final = 0x01
"""Error after a reset: device 0 passed, device 1 passed or is not there (ACS-3 §7.9)."""

LBA: Final = 0x40
"""The bit of the device field by which an address is an LBA."""
HEAD: Final = 0x0F
"""Its bits with a head, or with bits 27:24 of an LBA."""

DISK_SIGNATURE: Final = (0x000001, 0x01)
"""LBA and count that an ATA device shows after a reset (ACS-3 §7.9)."""
PACKET_SIGNATURE: Final = (0xEB1401, 0x01)
"""Those of an ATAPI device."""

MAX_LBA28: Final = 0x0FFF_FFFF
MAX_LBA48: Final = 0xFFFF_FFFF_FFFF

BLOCK: Final = 512
"""Bytes in a data block of commands that do not transfer logical sectors."""


class Reset(Enum):
    """Ways in which a device is reset (ATA8-AAM; SATA 3.x §13.5 for what a hardware reset keeps)."""

    POWER_ON = auto()
    HARDWARE = auto()
    """RESET-, or COMRESET."""
    SOFTWARE = auto()
    """SRST."""
    DEVICE = auto()
    """The command DEVICE RESET."""


class Transport(Enum):
    """How a device is attached."""

    PARALLEL = auto()
    SERIAL = auto()
