"""The task file: the registers of a command, and of its end (ACS-3 §6; ATA8-AAM §3, ATA/ATAPI-7 vol. 2 §5).

Each field is as wide as a command of the 48-bit feature set has it.  A channel with registers of 8 bits reaches it
through two-deep places: a write moves the current content to the previous one, and HOB shows that again.

              count    features  LBA                        device
    previous  15:8     15:8      47:40   39:32   31:24
    current    7:0      7:0      23:16   15:8     7:0        7:0
"""

from __future__ import annotations

from enum import IntEnum

from devmodels.ata.constants import HEAD


class Place(IntEnum):
    """The registers of a command block by their offsets (ATA/ATAPI-7 vol. 2 §5)."""

    DATA = 0
    FEATURES = 1
    """Read, it is the error."""
    COUNT = 2
    LBA_LOW = 3
    LBA_MID = 4
    LBA_HIGH = 5
    DEVICE = 6
    COMMAND = 7
    """Read, it is the status."""


class TaskFile:
    """Fields of a command: `features` and `count` have 16 bits, `lba` 48.

    `icc` and `auxiliary` are there where the transport has them (SATA).  Status and error say how the command ended,
    and so do count and LBA.
    """

    __slots__ = ("auxiliary", "command", "count", "device", "error", "features", "icc", "lba", "status")

    def __init__(
        self,
        command: int = 0,
        *,
        features: int = 0,
        count: int = 0,
        lba: int = 0,
        device: int = 0,
        icc: int = 0,
        auxiliary: int = 0,
    ) -> None:
        self.command = command
        self.features = features
        self.count = count
        self.lba = lba
        self.device = device
        self.icc = icc
        self.auxiliary = auxiliary
        self.status = 0
        self.error = 0

    def copy(self) -> TaskFile:
        """Another one with the same fields."""
        other = TaskFile()
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        return other

    @property
    def lba28(self) -> int:
        """The address of a 28-bit command: LBA, or cylinder and sector, with bits 27:24 or the head."""
        return self.lba & 0xFF_FFFF | (self.device & HEAD) << 24

    @lba28.setter
    def lba28(self, value: int) -> None:
        self.lba = self.lba & ~0xFF_FFFF | value & 0xFF_FFFF
        self.device = self.device & ~HEAD | value >> 24 & HEAD

    def show(self, lba: int, count: int) -> None:
        """Have 24 bits of LBA and 8 of count for the host; what it wrote before them stays."""
        self.lba = self.lba & ~0xFF_FFFF | lba
        self.count = self.count & ~0xFF | count

    # --- registers of 8 bits

    def write(self, place: Place, value: int) -> None:
        """A host writes a register of the command block (neither data nor command)."""
        if place is Place.FEATURES:
            self.features = (self.features & 0xFF) << 8 | value
        elif place is Place.COUNT:
            self.count = (self.count & 0xFF) << 8 | value
        elif place is Place.DEVICE:
            self.device = value
        else:
            shift = 8 * (place - Place.LBA_LOW)
            current = self.lba >> shift & 0xFF
            self.lba = self.lba & ~(0xFF_0000_FF << shift) | current << shift + 24 | value << shift

    def read(self, place: Place, *, hob: bool = False) -> int:
        """What a host reads of it: the current content, or with `hob` the previous one."""
        if place is Place.FEATURES:
            return self.error
        if place is Place.COUNT:
            return self.count >> 8 * hob & 0xFF
        if place is Place.DEVICE:
            return self.device
        if place is Place.COMMAND:
            return self.status
        return self.lba >> 8 * (place - Place.LBA_LOW) + 24 * hob & 0xFF

    def __repr__(self) -> str:
        return (
            f"<TaskFile {self.command:#04x} features {self.features:#x} count {self.count:#x} lba {self.lba:#x} "
            f"device {self.device:#x} status {self.status:#x} error {self.error:#x}>"
        )
