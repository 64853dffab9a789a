"""ATA commands as a host makes them, whatever carries them (ACS-3 §7)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum, IntFlag

LBA_MODE = 0x40
"""Device: the address is an LBA."""
FUA_BIT = 0x80
"""Device, of NCQ commands."""
SECTOR = 512
PACKET_BYTES = 12
BLOCK_LIMIT = 0xFFFE
"""The longest DRQ data block of a packet command."""


class AtaStatus(IntFlag):
    """Status (ACS-3 §6.3)."""

    ERR = 0x01
    DRQ = 0x08
    DSC = 0x10
    DF = 0x20
    DRDY = 0x40
    BSY = 0x80


class AtaErrorBits(IntFlag):
    """Error (ACS-3 §6.2)."""

    ABRT = 0x04
    IDNF = 0x10
    UNC = 0x40
    ICRC = 0x80


class Opcode(IntEnum):
    """Commands that the functions below make, and others by their names."""

    DATA_SET_MANAGEMENT = 0x06
    READ_SECTORS = 0x20
    READ_SECTORS_EXT = 0x24
    READ_DMA_EXT = 0x25
    READ_LOG_EXT = 0x2F
    WRITE_SECTORS = 0x30
    WRITE_SECTORS_EXT = 0x34
    WRITE_DMA_EXT = 0x35
    WRITE_DMA_FUA_EXT = 0x3D
    READ_LOG_DMA_EXT = 0x47
    READ_FPDMA_QUEUED = 0x60
    WRITE_FPDMA_QUEUED = 0x61
    PACKET = 0xA0
    IDENTIFY_PACKET_DEVICE = 0xA1
    READ_DMA = 0xC8
    WRITE_DMA = 0xCA
    FLUSH_CACHE = 0xE7
    FLUSH_CACHE_EXT = 0xEA
    IDENTIFY_DEVICE = 0xEC
    SET_FEATURES = 0xEF


@dataclass(frozen=True, slots=True)
class AtaCommand:
    """The registers of a command, what it sends (`out`) and how much it has room for (`room`, in bytes).

    With `queued` its count is in `features`, and whoever sends it puts its tag into `count`.  `packet` is a CDB.
    """

    opcode: int
    features: int = 0
    count: int = 0
    lba: int = 0
    device: int = 0
    icc: int = 0
    auxiliary: int = 0
    out: bytes = b""
    room: int = 0
    queued: bool = False
    packet: bytes = b""

    @property
    def name(self) -> str:
        """What it is called, for messages."""
        known = {each.value: each.name.replace("_", " ") for each in Opcode}
        return known.get(self.opcode, f"command {self.opcode:02X}h")

    def tagged(self, tag: int) -> AtaCommand:
        """The same with its tag, where it is queued (ACS-3 §7.23.3.3)."""
        return replace(self, count=self.count & ~0xF8 | tag << 3) if self.queued else self


def identify(*, packet: bool = False) -> AtaCommand:
    """IDENTIFY DEVICE, or IDENTIFY PACKET DEVICE."""
    return AtaCommand(Opcode.IDENTIFY_PACKET_DEVICE if packet else Opcode.IDENTIFY_DEVICE, room=512)


def packet(
    cdb: bytes, *, room: int = 0, out: bytes = b"", dma: bool = True, limit: int = BLOCK_LIMIT
) -> AtaCommand:
    """PACKET: a CDB with its data by DMA, or in DRQ data blocks of at most `limit` bytes (ACS-3 §7.18)."""
    return AtaCommand(
        Opcode.PACKET,
        features=1 if dma and (room or out) else 0,
        lba=limit << 8,
        out=out,
        room=room,
        packet=cdb.ljust(PACKET_BYTES, b"\0"),
    )


def read_dma(lba: int, sectors: int, *, size: int = SECTOR) -> AtaCommand:
    """READ DMA: 28 bits of address, up to 256 sectors."""
    device = LBA_MODE | lba >> 24 & 0xF
    return AtaCommand(
        Opcode.READ_DMA, count=sectors & 0xFF, lba=lba & 0xFF_FFFF, device=device, room=sectors * size
    )


def write_dma(lba: int, data: bytes, *, size: int = SECTOR) -> AtaCommand:
    """WRITE DMA."""
    device = LBA_MODE | lba >> 24 & 0xF
    count = len(data) // size & 0xFF
    return AtaCommand(Opcode.WRITE_DMA, count=count, lba=lba & 0xFF_FFFF, device=device, out=data)


def read_dma_ext(lba: int, sectors: int, *, size: int = SECTOR, pio: bool = False) -> AtaCommand:
    """READ DMA EXT, or READ SECTORS EXT."""
    opcode = Opcode.READ_SECTORS_EXT if pio else Opcode.READ_DMA_EXT
    return AtaCommand(opcode, count=sectors & 0xFFFF, lba=lba, device=LBA_MODE, room=sectors * size)


def write_dma_ext(
    lba: int, data: bytes, *, size: int = SECTOR, pio: bool = False, fua: bool = False
) -> AtaCommand:
    """WRITE DMA EXT, or WRITE SECTORS EXT, or WRITE DMA FUA EXT."""
    opcode = Opcode.WRITE_SECTORS_EXT if pio else Opcode.WRITE_DMA_FUA_EXT if fua else Opcode.WRITE_DMA_EXT
    return AtaCommand(opcode, count=len(data) // size & 0xFFFF, lba=lba, device=LBA_MODE, out=data)


def read_queued(lba: int, sectors: int, *, size: int = SECTOR) -> AtaCommand:
    """READ FPDMA QUEUED."""
    return AtaCommand(
        Opcode.READ_FPDMA_QUEUED,
        features=sectors & 0xFFFF,
        lba=lba,
        device=LBA_MODE,
        room=sectors * size,
        queued=True,
    )


def write_queued(lba: int, data: bytes, *, size: int = SECTOR, fua: bool = False) -> AtaCommand:
    """WRITE FPDMA QUEUED."""
    return AtaCommand(
        Opcode.WRITE_FPDMA_QUEUED,
        features=len(data) // size & 0xFFFF,
        lba=lba,
        device=LBA_MODE | (FUA_BIT if fua else 0),
        out=data,
        queued=True,
    )


def flush() -> AtaCommand:
    """FLUSH CACHE EXT."""
    return AtaCommand(Opcode.FLUSH_CACHE_EXT, device=LBA_MODE)


def set_features(features: int, count: int = 0) -> AtaCommand:
    """SET FEATURES."""
    return AtaCommand(Opcode.SET_FEATURES, features=features, count=count)


def read_log(address: int, page: int = 0, pages: int = 1, *, dma: bool = False) -> AtaCommand:
    """READ LOG EXT: `pages` of 512 bytes of the log at `address` (ACS-3 §7.24)."""
    lba = address | (page & 0xFF) << 8 | (page >> 8) << 32
    opcode = Opcode.READ_LOG_DMA_EXT if dma else Opcode.READ_LOG_EXT
    return AtaCommand(opcode, count=pages, lba=lba, device=LBA_MODE, room=512 * pages)


NCQ_ERROR_LOG = 0x10


def parse_queue_error(log: bytes) -> tuple[int, int, int, int, int]:
    """Tag, status, error, LBA and count of log 10h; tag -1 where it was no queued command (ACS-3 §A.14)."""
    tag = -1 if log[0] & 0x80 else log[0] & 0x1F
    lba = int.from_bytes(bytes((*log[4:7], *log[8:11])), "little")
    return tag, log[2], log[3], lba, int.from_bytes(log[12:14], "little")


class Identity:
    """What IDENTIFY DEVICE has said, by what a host needs (ACS-3 §7.12)."""

    __slots__ = ("data", "words")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.words = tuple(int.from_bytes(data[at : at + 2], "little") for at in range(0, 512, 2))

    def text(self, word: int, count: int) -> str:
        """A string of `count` words."""
        return (
            b"".join(each.to_bytes(2, "big") for each in self.words[word : word + count])
            .decode("ascii")
            .strip()
        )

    @property
    def serial(self) -> str:
        """Serial number."""
        return self.text(10, 10)

    @property
    def model(self) -> str:
        """Model number."""
        return self.text(27, 20)

    @property
    def sectors(self) -> int:
        """User addressable sectors."""
        if self.words[83] & 0x0400:
            return sum(self.words[100 + at] << 16 * at for at in range(4))
        return self.words[60] | self.words[61] << 16

    @property
    def sector_size(self) -> int:
        """Bytes in a logical sector."""
        if self.words[106] & 0xD000 == 0x5000:
            return 2 * (self.words[117] | self.words[118] << 16)
        return SECTOR

    @property
    def queue_depth(self) -> int:
        """How many NCQ commands it takes at a time; 0 where it takes none."""
        return (self.words[75] & 0x1F) + 1 if self.words[76] & 0x0100 else 0

    @property
    def checksum(self) -> int:
        """0 where all is well and there is one."""
        return sum(self.data) & 0xFF if self.words[255] & 0xFF == 0xA5 else 0
