"""Random ATA commands and packets, as tasks that any host adapter can carry (ACS-3, MMC-6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

from guestsim.diff.grammar.replies import Reply

SECTORS = 2048
SECTOR = 512
HEADS, TRACK = 16, 63
"""Heads, and sectors of a track, of the disk."""
BLOCK = 2048
"""Bytes of a CD's block; a disc has a quarter as many blocks as a disk sectors."""

LBA28 = frozenset((0x20, 0x21, 0x30, 0x31, 0x40, 0x41, 0xC4, 0xC5, 0xC8, 0xC9, 0xCA, 0xCB))
LBA48 = frozenset((0x24, 0x25, 0x29, 0x34, 0x35, 0x39, 0x3D, 0x42, 0x60, 0x61, 0xCE))
"""Commands of sectors, with 28 and 48 bits of address."""
VERIFY = frozenset((0x40, 0x41, 0x42))
READ_NATIVE_MAX_EXT, DATA_SET_MANAGEMENT = 0x27, 0x06
LBA_MODE = 0x40
"""The bit of the device register by which an address is an LBA."""

Way = Literal["none", "pio-in", "pio-out", "dma-in", "dma-out", "ncq-in", "ncq-out", "packet"]


Ranges = tuple[tuple[int, int], ...]
Differs = tuple[str, int, bytes | None, bytes]
"""A mask, a place in a command's data, what ours has there (None: anything), and theirs."""


Alone = Literal["", "ours", "theirs"]
Result = Literal["", "native", "signature", "active", "idle", "standby"]


def by_cylinder(lba: int) -> int:
    """Bits 27:0 with head, cylinder and sector of an address (ATA/ATAPI-5 §6.2)."""
    track, sector = divmod(lba, TRACK)
    cylinder, head = divmod(track, HEADS)
    return head << 24 | cylinder << 8 | sector + 1


@dataclass(frozen=True, slots=True)
class Task:
    """A command with its registers and data; `room` bytes come in, `data` goes out.

    `packet` is the CDB of PACKET, `replies` are what ours and theirs answer, `differs` is what else is not the same.
    `fails`: it ends with an error; `unequal`: start and length of those of the
    data that are not the same for all.  `block` is of how many sectors a DRQ data block is; `alone` the side that has
    such a command where the other one aborts it; `result` what it outputs.  Others come `before` it, and `after`.
    """

    name: str
    command: int
    way: Way = "none"
    features: int = 0
    lba: int = 0
    count: int = 0
    device: int = 0x40
    room: int = 0
    data: bytes = b""
    packet: bytes = b""
    fails: bool = False
    unequal: Ranges = ()
    block: int = 1
    alone: Alone = ""
    result: Result = ""
    before: tuple[Task, ...] = ()
    after: tuple[Task, ...] = ()
    replies: tuple[Reply, Reply] | None = None
    differs: tuple[Differs, ...] = ()

    @property
    def wide(self) -> bool:
        """Whether its address has 48 bits."""
        return self.command in LBA48 or self.command == READ_NATIVE_MAX_EXT

    @property
    def sectors(self) -> bool:
        """Whether it is about sectors of a disk."""
        return self.command in LBA28 or self.command in LBA48

    @property
    def alike(self) -> bool:
        """Whether it comes by itself, and both have it."""
        return not (self.before or self.after or self.alone or self.result)

    @property
    def number(self) -> int:
        """Of how many (ACS-3 §7.21, §7.22)."""
        return self.count or (0x1_0000 if self.wide else 0x100)

    @property
    def registers(self) -> tuple[int, int]:
        """LBA and device as they are written."""
        if not self.sectors or self.wide:
            return self.lba, self.device
        lba = self.lba if self.device & LBA_MODE else by_cylinder(self.lba)
        return lba & 0xFF_FFFF, self.device | lba >> 24 & 0x0F


Maker = Callable[[Random], Task]
Table = tuple[tuple[Maker, float], ...]


def place(random: Random, most: int = 16) -> tuple[int, int]:
    """First sector and number of sectors."""
    count = random.randint(1, most)
    return random.randint(0, SECTORS - count), count


def content(random: Random, length: int) -> bytes:
    """Something to write."""
    return bytes([random.randrange(256), random.randrange(256)]) * (length // 2)


def queued(random: Random) -> Task:
    """READ and WRITE FPDMA QUEUED."""
    lba, count = place(random)
    if random.random() < 0.5:
        return Task("read-fpdma", 0x60, "ncq-in", lba=lba, count=count, room=count * SECTOR)
    data = content(random, count * SECTOR)
    return Task("write-fpdma", 0x61, "ncq-out", lba=lba, count=count, data=data)


def _words(*spans: int | tuple[int, int]) -> Ranges:
    """Start and length in bytes of words, and of those from a first one to a last one."""
    pairs = ((one, one) if isinstance(one, int) else one for one in spans)
    return tuple((2 * first, 2 * (last + 1 - first)) for first, last in pairs)


OWN = _words(2, 4, 5, (20, 24), (27, 46), (48, 50), 52, 59, 62, 63, 69, (76, 93), 105, 106, 108, 110, 111)
OWN += _words(119, 120, 128, 206, 209, 222, 255)
"""Words of IDENTIFY DEVICE that are a device's own: obsolete ones, its names, optional features, the check sum."""
OWN_PACKET = _words((20, 24), (27, 46), (48, 50), 53, 62, (65, 68), (75, 77), 80, (82, 85), 87, 88)
OWN_PACKET += _words(93, 222, 255)
"""Words of IDENTIFY PACKET DEVICE that are."""


def identify(_: Random) -> Task:
    """IDENTIFY DEVICE: who it is is its own, how large is not."""
    return Task("identify", 0xEC, "pio-in", room=SECTOR, unequal=OWN)


def task(random: Random, table: Table) -> Task:
    """One of a table."""
    makers, weights = zip(*table, strict=True)
    made: Task = random.choices(makers, weights)[0](random)
    return made
