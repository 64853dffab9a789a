"""Random ATA commands and packets, as tasks that any host adapter can carry (ACS-3, MMC-6)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

SECTORS = 2048
SECTOR = 512
BLOCK = 2048
"""Bytes of a CD's block; a disc has a quarter as many blocks as a disk sectors."""

Way = Literal["none", "pio-in", "pio-out", "dma-in", "dma-out", "ncq-in", "ncq-out", "packet"]


Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Task:
    """A command with its registers and data; `room` bytes come in, `data` goes out.

    `packet` is the CDB of PACKET; `fails`: it ends with an error; `certain`: only so many bytes are the same for all;
    `unequal`: start and length of others that are not.
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
    certain: int | None = None
    unequal: Ranges = ()


Maker = Callable[[Random], Task]
Table = tuple[tuple[Maker, float], ...]


def place(random: Random, most: int = 16) -> tuple[int, int]:
    """First sector and number of sectors."""
    count = random.randint(1, most)
    return random.randint(0, SECTORS - count), count


def content(random: Random, length: int) -> bytes:
    """Something to write."""
    return bytes([random.randrange(256), random.randrange(256)]) * (length // 2)


def transfer(random: Random) -> Task:
    """Reads and writes, by PIO and DMA, with 28 and 48 bits of address."""
    lba, count = place(random)
    ways: tuple[tuple[int, Way, str], ...] = (
        (0x20, "pio-in", "read-sectors"),
        (0x24, "pio-in", "read-sectors-ext"),
        (0x25, "dma-in", "read-dma-ext"),
        (0xC8, "dma-in", "read-dma"),
        (0x30, "pio-out", "write-sectors"),
        (0x34, "pio-out", "write-sectors-ext"),
        (0x35, "dma-out", "write-dma-ext"),
        (0xCA, "dma-out", "write-dma"),
    )
    code, way, name = random.choice(ways)
    if way in ("pio-out", "dma-out"):
        return Task(name, code, way, lba=lba, count=count, data=content(random, count * SECTOR))
    return Task(name, code, way, lba=lba, count=count, room=count * SECTOR)


def queued(random: Random) -> Task:
    """READ and WRITE FPDMA QUEUED."""
    lba, count = place(random)
    if random.random() < 0.5:
        return Task("read-fpdma", 0x60, "ncq-in", lba=lba, count=count, room=count * SECTOR)
    data = content(random, count * SECTOR)
    return Task("write-fpdma", 0x61, "ncq-out", lba=lba, count=count, data=data)


def plain(random: Random) -> Task:
    """Commands without data."""
    code, name = random.choice(
        ((0xE7, "flush-cache"), (0xEA, "flush-cache-ext"), (0x40, "read-verify"), (0x42, "read-verify-ext"))
    )
    lba, count = place(random) if name.startswith("read-verify") else (0, 0)
    return Task(name, code, lba=lba, count=count)


def identify(_: Random) -> Task:
    """IDENTIFY DEVICE: who it is is its own."""
    return Task("identify", 0xEC, "pio-in", room=SECTOR, certain=0)


def unknown(random: Random) -> Task:
    """Commands that nobody has."""
    return Task("unknown-command", random.choice((0x01, 0x0F, 0x86, 0xFE, 0xFF)), fails=True)


def beyond(random: Random) -> Task:
    """A transfer that ends behind the last sector."""
    name, code = random.choice((("beyond-dma", 0x25), ("beyond-pio", 0x24)))
    way: Way = "dma-in" if code == 0x25 else "pio-in"
    lba = random.choice((SECTORS, SECTORS + 1, 1 << 40))
    return Task(name, code, way, lba=lba, count=2, room=2 * SECTOR, fails=True)


DISK: Table = ((transfer, 12), (plain, 2), (identify, 0.5), (unknown, 0.5), (beyond, 0.3))

# --- packets


def packet(name: str, cdb: bytes, room: int = 0, *, fails: bool = False, unequal: Ranges = ()) -> Task:
    """PACKET, its data by DMA where there are some."""
    dma = 1 if room else 0
    cdb = cdb.ljust(12, b"\0")
    return Task(
        name,
        0xA0,
        "packet",
        features=dma,
        lba=(room & 0xFFFE or 0xFFFE) << 8,
        device=0,
        room=room,
        packet=cdb,
        fails=fails,
        unequal=unequal,
    )


def read_blocks(random: Random) -> Task:
    """READ (10) and READ (12)."""
    count = random.randint(1, 8)
    lba = random.randint(0, SECTORS * SECTOR // BLOCK - count)
    if random.random() < 0.5:
        return packet("read-10", struct.pack(">BxIxHx", 0x28, lba, count), count * BLOCK)
    return packet("read-12", struct.pack(">BxII2x", 0xA8, lba, count), count * BLOCK)


def tells(random: Random) -> Task:
    """What the drive and the disc say."""
    return random.choice(
        (
            packet("read-capacity", bytes([0x25]), 8),
            packet("request-sense", bytes([0x03, 0, 0, 0, 18]), 18, unequal=((0, 1), (3, 4), (15, 3))),
            packet("inquiry", bytes([0x12, 0, 0, 0, 36]), 36, unequal=((2, 34),)),
            packet("read-toc", struct.pack(">BBBxxxBH", 0x43, 2, 0, 0, 20), 20, unequal=((13, 1),)),
        )
    )


def ready(random: Random) -> Task:
    """Packets without data."""
    return random.choice(
        (
            packet("test-unit-ready", bytes(6)),
            packet("prevent", bytes([0x1E, 0, 0, 0, random.randrange(2)])),
            packet("start", bytes([0x1B, 0, 0, 0, 1])),
        )
    )


def wrong(random: Random) -> Task:
    """Packets that are refused."""
    return random.choice(
        (
            packet("unknown-code", bytes([random.choice((0x0D, 0x26, 0xE0))]), fails=True),
            packet("beyond-disc", struct.pack(">BxIxHx", 0x28, SECTORS, 1), BLOCK, fails=True),
        )
    )


def identify_packet(_: Random) -> Task:
    """IDENTIFY PACKET DEVICE: who it is is its own."""
    return Task("identify-packet", 0xA1, "pio-in", room=SECTOR, certain=0, device=0)


CD: Table = ((read_blocks, 10), (tells, 4), (ready, 3), (wrong, 1), (identify_packet, 0.5))


def task(random: Random, table: Table) -> Task:
    """One of a table."""
    makers, weights = zip(*table, strict=True)
    made: Task = random.choices(makers, weights)[0](random)
    return made
