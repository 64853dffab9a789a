"""What a script may say to ATA and ATAPI devices, and to the controllers of either kind that they are on."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

from guestsim.drivers.ahci_layouts import PORT_STRIDE, PORTS_OFFSET, Hba, PortReg
from guestsim.drivers.ata_commands import FORMS, Form, WayName
from guestsim.drivers.ide_task import Way
from guestsim.script.parts import U8, U16, U32, Positive, Whole
from guestsim.script.schema_scsi import parse_cdb
from guestsim.script.values import Amount, HexBytes, Pattern, parse_address

MAX_LBA = 1 << 48
WAYS: dict[WayName, Way] = {
    "non-data": Way.NONE,
    "pio-in": Way.PIO_IN,
    "pio-out": Way.PIO_OUT,
    "dma-in": Way.DMA_IN,
    "dma-out": Way.DMA_OUT,
}

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
    "moved",
    "tag",
    "is",
    "ie",
    "cmd",
    "ccs",
    "sig",
    "ssts",
    "sctl",
    "serr",
    "sact",
    "ci",
    "ghc",
    "ports",
)
"""What a step may expect of registers; from `moved` on, of an HBA."""
_HBA_NAME = re.compile(r"P(\d{1,2})([A-Z]+)")
PortNumber = Annotated[int, msgspec.Meta(ge=0, le=31)]


def hba_register(name: str) -> int:
    """The offset in ABAR of a register that is called as the specification does (`GHC`, `P0CI`); ValueError."""
    match = _HBA_NAME.fullmatch(name)
    if match is not None and match[2] in PortReg.__members__ and int(match[1]) < 32:
        return PORTS_OFFSET + int(match[1]) * PORT_STRIDE + PortReg[match[2]]
    if name not in Hba.__members__:
        known = (*Hba.__members__, *(f"P0{one}" for one in PortReg.__members__))
        raise ValueError(f"hba {name!r}, expected one of {', '.join(known)}")
    return Hba[name]


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


class Placed(_Part):
    """A device: `unit` of `channel`, or its number among all as `port`; an HBA has one at each port."""

    channel: Literal[0, 1] = 0
    unit: Literal[0, 1] = 0
    port: PortNumber | None = None

    @property
    def number(self) -> int:
        """Its number among the controller's devices."""
        return 2 * self.channel + self.unit if self.port is None else self.port


class AtaProbe(_Part):
    """Reset a controller and find its devices.  `wide`: the data registers of IDE by 32-bit accesses."""

    interrupts: Literal["msi", "intx", "polling"] = "msi"
    wide: bool = False


class AtaReset(Placed, kw_only=True):
    """Reset devices: `software` all of a channel, or one of a port; `comreset` a port's link; `hba` the whole adapter.

    `stop` and `start` a port's command list; `recover` does what a driver does after an error, `recover-queue` after
    one of a queued command: log 10h is read, and the others of the queue are done again.
    """

    kind: Literal["software", "comreset", "hba", "stop", "start", "recover", "recover-queue"] = "software"


class Ata(Placed, kw_only=True):
    """A command to a device.

    `command` by name or as a number, which then says with `way` how its data goes.  `length` in bytes is that of
    `count` sectors of 512 bytes where it is not given.  `block` is how many bytes a DRQ data block has, `regions` the
    lengths of the pieces of memory.  `auxiliary` is a field of FISes.  `recover`: whether an HBA's port is made to go
    on after an error.
    """

    command: str | U8
    features: U16 | None = None
    count: U16 = 0
    lba: Whole = 0
    device: U8 = 0x40
    way: WayName | None = None
    length: Amount | None = None
    data: Given | None = None
    block: Positive = BLOCK
    regions: list[Positive] | None = None
    auxiliary: U32 = 0
    recover: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.command, str) and self.command not in FORMS:
            raise ValueError(f"command {self.command!r}, expected a number or one of {', '.join(FORMS)}")
        if self.lba >= MAX_LBA:
            raise ValueError(f"lba {self.lba}, expected at most 48 bits")

    @property
    def form(self) -> Form:
        """What the command is like."""
        return FORMS[self.command] if isinstance(self.command, str) else Form(self.command)

    @property
    def opcode(self) -> int:
        """The command's number."""
        return self.form.opcode

    @property
    def name(self) -> str:
        """What people call it."""
        return self.command if isinstance(self.command, str) else f"command {self.command:#04x}"

    @property
    def data_way(self) -> Way:
        """How its data goes."""
        return WAYS[self.way or self.form.way]

    @property
    def wide(self) -> bool:
        """Whether its registers are written twice."""
        return self.form.wide

    @property
    def all_features(self) -> int:
        """Its features, the command's own where none are given."""
        return self.form.features if self.features is None else self.features

    @property
    def address(self) -> int:
        """Its LBA, with the command's own part."""
        return self.lba | self.form.lba

    @property
    def bytes_in_all(self) -> int:
        """How much data it has."""
        if self.length is not None:
            return int(self.length)
        if not self.form.blocks:
            return BLOCK
        return (self.count or (0x1_0000 if self.wide else 0x100)) * BLOCK

    @property
    def given(self) -> bytes:
        """The data that the device is given; empty where it takes none."""
        if not self.data_way.out:
            return b""
        length = self.bytes_in_all
        if self.data is None:
            return bytes(length)
        return self.data.data(length if self.data.length is None else int(self.data.length))

    @property
    def room(self) -> int:
        """How many bytes there is room for."""
        return self.bytes_in_all if self.data_way in (Way.PIO_IN, Way.DMA_IN) else 0


class Ncq(_Part):
    """Commands that are issued at once at an HBA's `port`; the data read is that of all, in order."""

    commands: list[Ata]
    port: PortNumber = 0

    def __post_init__(self) -> None:
        if not 1 <= len(self.commands) <= 32:
            raise ValueError(f"{len(self.commands)} commands, expected 1 to 32")


class Packet(Placed, kw_only=True):
    """A command packet to a device; `cdb` as of the step `scsi`.

    `limit` is the byte count limit of a DRQ data block; with `dma` the controller moves the data, to `regions`.
    """

    cdb: str
    dma: bool = False
    limit: U16 = 0xFFFE
    features: U8 = 0
    data: Given | None = None
    room: Amount | None = None
    regions: list[Positive] | None = None
    recover: bool = True

    def __post_init__(self) -> None:
        parse_cdb(self.cdb)


class Prd(_Part):
    """One entry of a PRD table: `at` is an address, a name, or name+number; `length` in bytes, or `dbc` as it is."""

    at: str | int
    length: U32 | None = None
    dbc: U32 | None = None

    def __post_init__(self) -> None:
        parse_address(self.at)
        if (self.length is None) is (self.dbc is None):
            raise ValueError("expected length or dbc")

    @property
    def last_dword(self) -> int:
        """The byte count as it is written (AHCI 1.3.1 §4.2.3.3)."""
        return self.dbc if self.dbc is not None else ((self.length or 0) - 1) & 0xFFFF_FFFF


class Slot(_Part):
    """Write a command header, its table and its FIS literally, and issue it.

    `fis` and `packet` are bytes, `prds` the table.  `flags` is the header's first word, by default the FIS's length in
    dwords; `prdtl` the number of PRDs by default; `table` is where the command table is, else in memory of its own.
    `issue: false` leaves PxCI alone; `queued` sets PxSACT, too.
    """

    number: PortNumber = 0
    port: PortNumber = 0
    fis: HexBytes | None = None
    packet: HexBytes | None = None
    prds: list[Prd] = []
    flags: U16 | None = None
    prdtl: U16 | None = None
    table: str | int | None = None
    issue: bool = True
    queued: bool = False

    def __post_init__(self) -> None:
        if self.table is not None:
            parse_address(self.table)
        for name, value, most in (("fis", self.fis, 64), ("packet", self.packet, 16)):
            if value is not None and len(value) > most:
                raise ValueError(f"{name} of {len(value)} bytes, expected at most {most}")


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


class Registers(Placed):
    """Read the registers of the selected device, the status without acknowledging it; with `hob` previous content.

    Those of an HBA and its `port` otherwise.
    """

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
