"""What registers of the command block hold in ours and in QEMU's, two deep (ATA/ATAPI-7 vol. 2 §5, vol. 1 §6.17)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from guestsim.diff.access import Read
from guestsim.diff.grammar.ata import DATA_SET_MANAGEMENT, LBA_MODE, SECTORS, VERIFY, Task, by_cylinder
from guestsim.drivers.ide_layouts import OBSOLETE, Reg

OUTPUTS, BEYOND = "outputs", "beyond"
"""Masks of what they hold after a command that ended well, and after one that did not."""
POWER, ABSENT = "power", "absent"
"""Masks of power modes, and of a device that is not there."""
MODES = {"active": 0xFF, "idle": 0x80, "standby": 0x00}
"""What CHECK POWER MODE has in its count (ACS-3 §7.3)."""

_LBA = {Reg.LBA_LOW: 0, Reg.LBA_MID: 8, Reg.LBA_HIGH: 16}
_DEEP = (Reg.COUNT, *_LBA)


@dataclass(slots=True)
class Block:
    """One side's: 16 bits of count and 48 of address, of which the upper halves are what was written before.

    At first it is the signature of a disk (ATA/ATAPI-7 vol. 2 §11.3).
    """

    count: int = 1
    lba: int = 1
    device: int = 0

    def put(self, register: Reg, value: int) -> None:
        """The driver writes one of them."""
        value &= 0xFF
        if register is Reg.COUNT:
            self.count = (self.count & 0xFF) << 8 | value
        elif register is Reg.DEVICE:
            self.device = value
        elif register in _LBA:
            shift = _LBA[register]
            before = self.lba >> shift & 0xFF
            self.lba = self.lba & ~(0xFF00_00FF << shift) | (before << 24 | value) << shift

    @property
    def fields(self) -> bytes:
        """Bytes 4 to 13 of a FIS to the host (Serial ATA 3.2 §10.5.6, §10.5.11)."""
        low, high = self.lba & 0xFF_FFFF, self.lba >> 24
        return struct.pack(
            "<3sB3sxH", low.to_bytes(3, "little"), self.device, high.to_bytes(3, "little"), self.count
        )

    def get(self, register: Reg, *, previous: bool) -> int:
        """What the driver reads of one."""
        if register is Reg.DEVICE:
            return self.device | OBSOLETE
        if register is Reg.COUNT:
            return self.count >> 8 * previous & 0xFF
        return self.lba >> _LBA[register] + 24 * previous & 0xFF

    def address(self, one: Task, lba: int) -> None:
        """Hold an address, as the command has them: LBA of 48 or 28 bits, or cylinder, head and sector."""
        if one.wide:
            self.lba = lba
            return
        if not self.device & LBA_MODE:
            lba = by_cylinder(lba)
        self.lba = self.lba & ~0xFF_FFFF | lba & 0xFF_FFFF
        self.device = self.device & ~0x0F | lba >> 24 & 0x0F


@dataclass(slots=True)
class Blocks:
    """Both sides'."""

    ours: Block = field(default_factory=Block)
    theirs: Block = field(default_factory=Block)
    why: str = OUTPUTS
    error: tuple[str, int, int] | None = None
    """What is known of the error register of the last command, where it is not the same."""
    narrow: bool = True
    """Whether only 8 bits of a count are counted down, as in registers."""

    def put(self, register: Reg, value: int) -> None:
        """The driver writes one of them."""
        self.ours.put(register, value)
        self.theirs.put(register, value)

    def ended(self, one: Task) -> None:
        """It has ended well."""
        self.error = None
        if one.sectors:
            self.moved(one, 0 if one.command in VERIFY else one.number)
        sides = self.ours, self.theirs
        if one.command == DATA_SET_MANAGEMENT:
            self.why = OUTPUTS
            self.theirs.lba += one.count
            self.theirs.count &= ~0xFF
        elif one.result == "native":
            self.why = OUTPUTS
            self.theirs.count = self._counted(one, 0)
            for side in sides:
                side.address(one, SECTORS - 1)
        elif one.result == "signature":
            for side in sides:
                side.count, side.lba = side.count & ~0xFF | 1, side.lba & ~0xFF_FFFF | 1
                side.device = 0
        elif one.result:
            self.why = POWER
            for side, mode in zip(sides, (MODES[one.result], MODES["active"]), strict=True):
                side.count = side.count & ~0xFF | mode

    def moved(self, one: Task, done: int) -> None:
        """Of its sectors, `done` have gone: QEMU's count and address go with them."""
        if one.sectors:
            self.why = OUTPUTS
            self.theirs.count = self._counted(one, done)
            self.theirs.address(one, one.lba + done)

    def _counted(self, one: Task, done: int) -> int:
        bits = 0xFF if self.narrow else 0xFFFF
        return self.theirs.count & ~bits | (one.number - done) & bits

    def failed(self, one: Task) -> None:
        """It was refused: of an address that the disk has not, ours tells which is the first such."""
        self.error = None
        if one.sectors:
            self.error = BEYOND, 0x10, 0x04
            self.why = BEYOND
            self.ours.address(one, max(one.lba, SECTORS))

    @classmethod
    def of_fis(cls, one: Task) -> Blocks:
        """What a FIS has brought."""
        lba, device = one.registers
        return cls(Block(one.count, lba, device), Block(one.count, lba, device), narrow=False)

    def look(self, *, previous: bool = False) -> Iterator[Read]:
        """Read them all."""
        for register in (*_DEEP, Reg.DEVICE):
            ours, theirs = (side.get(register, previous=previous) for side in (self.ours, self.theirs))
            yield Read("ide", register, 1, None if ours == theirs else (self.why, ours, theirs))
