"""What a script may say to ATA and ATAPI devices on IDE channels: commands, packets, tables of the bus master."""

from __future__ import annotations

from typing import Literal

import msgspec

from guestsim.drivers.ide import Way
from guestsim.drivers.ide_layouts import AtaCommand
from guestsim.script.parts import U8, U16, U32, Positive, Whole
from guestsim.script.schema_scsi import parse_cdb
from guestsim.script.values import Amount, Pattern, parse_address

MAX_LBA = 1 << 48
WayName = Literal["non-data", "pio-in", "pio-out", "dma-in", "dma-out"]
WAYS: dict[WayName, Way] = {
    "non-data": Way.NONE,
    "pio-in": Way.PIO_IN,
    "pio-out": Way.PIO_OUT,
    "dma-in": Way.DMA_IN,
    "dma-out": Way.DMA_OUT,
}

COMMANDS: dict[str, tuple[int, WayName]] = {
    "identify-device": (AtaCommand.IDENTIFY_DEVICE, "pio-in"),
    "identify-packet-device": (AtaCommand.IDENTIFY_PACKET_DEVICE, "pio-in"),
    "read-sectors": (AtaCommand.READ_SECTORS, "pio-in"),
    "read-sectors-ext": (AtaCommand.READ_SECTORS_EXT, "pio-in"),
    "read-multiple": (AtaCommand.READ_MULTIPLE, "pio-in"),
    "read-multiple-ext": (AtaCommand.READ_MULTIPLE_EXT, "pio-in"),
    "read-dma": (AtaCommand.READ_DMA, "dma-in"),
    "read-dma-ext": (AtaCommand.READ_DMA_EXT, "dma-in"),
    "write-sectors": (AtaCommand.WRITE_SECTORS, "pio-out"),
    "write-sectors-ext": (AtaCommand.WRITE_SECTORS_EXT, "pio-out"),
    "write-multiple": (AtaCommand.WRITE_MULTIPLE, "pio-out"),
    "write-multiple-ext": (AtaCommand.WRITE_MULTIPLE_EXT, "pio-out"),
    "write-dma": (AtaCommand.WRITE_DMA, "dma-out"),
    "write-dma-ext": (AtaCommand.WRITE_DMA_EXT, "dma-out"),
    "flush-cache": (AtaCommand.FLUSH_CACHE, "non-data"),
    "flush-cache-ext": (AtaCommand.FLUSH_CACHE_EXT, "non-data"),
    "set-multiple-mode": (AtaCommand.SET_MULTIPLE_MODE, "non-data"),
    "set-features": (AtaCommand.SET_FEATURES, "non-data"),
    "device-reset": (AtaCommand.DEVICE_RESET, "non-data"),
    "execute-device-diagnostic": (AtaCommand.EXECUTE_DEVICE_DIAGNOSTIC, "non-data"),
}
"""Commands that a script can name, and how their data goes."""
IDENTIFY = ("identify-device", "identify-packet-device")
BLOCK = 512
REGISTERS = (
    "status",
    "error",
    "count",
    "lba",
    "lba-low",
    "lba-mid",
    "lba-high",
    "device",
    "bus-master",
    "sense-key",
)


class _Part(msgspec.Struct, forbid_unknown_fields=True, rename="kebab", kw_only=True):
    """What these structures have in common."""


class Given(Pattern, kw_only=True):
    """Data for the device; `length` by default as the command asks for it."""

    length: Amount | None = None


class IdeProbe(_Part):
    """Reset a channel and find its devices.  `polling`: without interrupts; `wide`: data by 32-bit accesses."""

    channel: Literal[0, 1] = 0
    polling: bool = False
    wide: bool = False


class Ata(_Part):
    """A command to device `unit` of `channel`.

    `command` by name or as a number, which then says with `way` how its data goes.  `length` in bytes is that of
    `count` sectors of 512 bytes where it is not given.  `block` is how many bytes a DRQ data block has.
    """

    command: str | U8
    channel: Literal[0, 1] = 0
    unit: Literal[0, 1] = 0
    features: U16 = 0
    count: U16 = 0
    lba: Whole = 0
    device: U8 = 0x40
    way: WayName | None = None
    length: Amount | None = None
    data: Given | None = None
    block: Positive = BLOCK
    regions: list[Positive] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.command, str) and self.command not in COMMANDS:
            raise ValueError(f"command {self.command!r}, expected a number or one of {', '.join(COMMANDS)}")
        if self.lba >= MAX_LBA:
            raise ValueError(f"lba {self.lba}, expected at most 48 bits")

    @property
    def opcode(self) -> int:
        """The command's number."""
        return COMMANDS[self.command][0] if isinstance(self.command, str) else self.command

    @property
    def data_way(self) -> Way:
        """How its data goes."""
        name = self.way
        if name is None:
            name = COMMANDS[self.command][1] if isinstance(self.command, str) else "non-data"
        return WAYS[name]

    @property
    def wide(self) -> bool:
        """Whether its registers are written twice."""
        return isinstance(self.command, str) and self.command.endswith("-ext")

    @property
    def bytes_in_all(self) -> int:
        """How much data it has."""
        if self.length is not None:
            return int(self.length)
        if self.command in IDENTIFY:
            return BLOCK
        return (self.count or (0x1_0000 if self.wide else 0x100)) * BLOCK


class Packet(_Part):
    """A command packet to device `unit` of `channel`; `cdb` as of the step `scsi`.

    `limit` is the byte count limit of a DRQ data block; with `dma` the bus master moves the data, to `regions`.
    """

    cdb: str
    channel: Literal[0, 1] = 0
    unit: Literal[0, 1] = 0
    dma: bool = False
    limit: U16 = 0xFFFE
    features: U8 = 0
    data: Given | None = None
    room: Amount | None = None
    regions: list[Positive] | None = None

    def __post_init__(self) -> None:
        parse_cdb(self.cdb)


class Region(_Part):
    """One entry of a table: `at` is an address, a name, or name+number; `length` is written as it is."""

    at: str | int
    length: U16 = 0
    last: bool = False

    def __post_init__(self) -> None:
        parse_address(self.at)


class Regions(_Part):
    """Write a table of regions to memory, and with `channel` its address to that one's bus master."""

    at: str | int
    regions: list[Region]
    channel: Literal[0, 1] | None = None

    def __post_init__(self) -> None:
        parse_address(self.at)


class TaskFile(_Part):
    """Write registers of the command block, in this order, each given as many times as it has values."""

    channel: Literal[0, 1] = 0
    device: U8 | None = None
    features: list[U8] = []
    count: list[U8] = []
    lba_low: list[U8] = []
    lba_mid: list[U8] = []
    lba_high: list[U8] = []
    command: U8 | None = None


class Registers(_Part):
    """Read the registers of the selected device, the status without acknowledging it; with `hob` previous content."""

    channel: Literal[0, 1] = 0
    hob: bool = False


class IdeData(_Part):
    """Read `read` bytes at the data register, or write `data`, `width` bytes at a time, whatever the device thinks."""

    channel: Literal[0, 1] = 0
    width: Literal[1, 2, 4] = 2
    read: U32 | None = None
    write: Given | None = None

    def __post_init__(self) -> None:
        if (self.read is None) is (self.write is None):
            raise ValueError("expected read or write")
        if self.write is not None and self.write.length is None:
            raise ValueError("write without length, expected one")


class IdeReset(_Part):
    """SRST of a channel; with `hold` it stays set."""

    channel: Literal[0, 1] = 0
    hold: bool = False
