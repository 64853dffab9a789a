"""What a script may do literally: registers, guest memory, and rings descriptor by descriptor."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from guestsim.drivers.layouts import BLK_CONFIG, REGISTERS
from guestsim.drivers.scsi_layouts import SCSI_CONFIG
from guestsim.script import schema_ata
from guestsim.script.parts import U16, U32, Part, Positive, Whole, check_bits
from guestsim.script.values import Amount, Pattern, parse_address

CONFIG_FIELDS = (*BLK_CONFIG.fields, *(name for name in SCSI_CONFIG.fields if name not in BLK_CONFIG.fields))
"""Names of the fields of configuration spaces."""

CONFIG_SPACE = 4096


class Place(Part):
    """Where a register is; exactly one kind of place.

    `register`: of the virtio common configuration or what stands for it, by name.  `config`: of the device
    configuration, by name.  `isr`.  `bar` with `offset`, also through the PCI configuration access capability
    (`window`).  `hba`: of an AHCI adapter, by name (`P0CI`).  `pci`: an offset in configuration space.  `address`:
    memory space.  `port`: I/O space.  `size` is for those without a name.
    """

    register: str | None = None
    config: str | None = None
    isr: bool | None = None
    bar: Annotated[int, msgspec.Meta(ge=0, le=5)] | None = None
    pci: Annotated[int, msgspec.Meta(ge=0, le=CONFIG_SPACE - 1)] | None = None
    address: Whole | None = None
    port: U16 | None = None
    hba: str | None = None
    offset: U32 = 0
    size: Literal[1, 2, 4, 8] = 4
    window: bool = False

    def __post_init__(self) -> None:
        kinds = ("register", "config", "isr", "bar", "pci", "address", "port", "hba")
        given = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"{' and '.join(given) or 'no place'}, expected one of {', '.join(kinds)}")
        if self.register is not None and self.register not in REGISTERS:
            raise ValueError(f"register {self.register!r}, expected one of {', '.join(REGISTERS)}")
        if self.config is not None and self.config not in CONFIG_FIELDS:
            raise ValueError(f"config {self.config!r}, expected one of {', '.join(CONFIG_FIELDS)}")
        if self.hba is not None:
            schema_ata.hba_register(self.hba)
        if self.size == 8 and (self.pci is not None or self.port is not None or self.window):
            raise ValueError(
                f"size 8 for a {'port' if self.port is not None else 'configuration space'}, expected 1, 2 or 4"
            )
        for name, limit in (("pci", CONFIG_SPACE), ("address", 1 << 64), ("port", 1 << 16)):
            at = getattr(self, name)
            if at is not None and at + self.size > limit:
                raise ValueError(
                    f"{name} {at:#x} with {self.size} bytes, expected an end at {limit:#x} or before"
                )

    @property
    def width(self) -> int:
        """How many bytes are accessed; of a register with a name, its own width."""
        if self.register is not None:
            return REGISTERS[self.register]
        if self.config is not None:
            layouts = (each.fields for each in (BLK_CONFIG, SCSI_CONFIG))
            return max(fields[self.config].size for fields in layouts if self.config in fields)
        return 1 if self.isr is not None else self.size


class Set(Place, kw_only=True):
    """Write a register."""

    value: Whole

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bits("value", self.value, self.width)


class Notify(Part):
    """Write a queue's notification register, by default with what names the queue, as wide as the register is."""

    queue: U16 = 0
    value: Whole | None = None
    size: Literal[1, 2, 4] | None = None

    def __post_init__(self) -> None:
        check_bits("value", self.queue if self.value is None else self.value, self.size or 2)


class Allocate(Part):
    """Take a piece of guest memory and give it a name."""

    name: str
    size: Amount
    align: Positive = 16
    data: Pattern | None = None

    def __post_init__(self) -> None:
        if not self.size:
            raise ValueError("size 0, expected at least 1")
        if self.align & self.align - 1:
            raise ValueError(f"align {self.align}, expected a power of two")
        if "+" in self.name or not self.name.strip():
            raise ValueError(f"name {self.name!r}, expected a word without '+'")


class Poke(Pattern, kw_only=True):
    """Write guest memory at `at`: an address, a name, or name+number."""

    at: str | int
    length: Amount | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_address(self.at)


class Peek(Part):
    """Read guest memory at `at`: an address, a name, or name+number."""

    at: str | int
    length: Amount

    def __post_init__(self) -> None:
        parse_address(self.at)


class Descriptor(Part):
    """One descriptor, literally. `flags` by name or as a number."""

    index: U16 = 0
    at: str | int = 0
    length: U32 = 0
    flags: list[Literal["next", "write", "indirect"]] | U16 = msgspec.field(default_factory=list)
    next: U16 = 0

    def __post_init__(self) -> None:
        parse_address(self.at)


class Table(Part):
    """Descriptors written to a piece of memory: an indirect table."""

    at: str | int
    descriptors: list[Descriptor]

    def __post_init__(self) -> None:
        parse_address(self.at)


class Chain(Part):
    """Write descriptors and the available ring literally, and notify.

    `heads` go into the next entries of the available ring; `advance` moves `idx` by another number than there are
    heads; `avail-flags` and `used-event` are written where given.
    """

    queue: U16 = 0
    descriptors: list[Descriptor] = msgspec.field(default_factory=list)
    heads: list[U16] = msgspec.field(default_factory=list)
    advance: U16 | None = None
    avail_flags: U16 | None = None
    used_event: U16 | None = None
    notify: bool = True


class PackedDescriptor(Part):
    """One descriptor of a packed ring, literally; of an indirect table too, where `flags` are as they are.

    In the ring, AVAIL and USED are set as the lap wants them; one that is named is turned round.
    """

    at: str | int = 0
    length: U32 = 0
    id: U16 = 0
    flags: list[Literal["next", "write", "indirect", "avail", "used"]] | U16 = msgspec.field(
        default_factory=list
    )

    def __post_init__(self) -> None:
        parse_address(self.at)


class PackedSlot(PackedDescriptor, kw_only=True):
    """A descriptor with the slot that it is written to, all its flags as they are."""

    slot: U16


class PackedChain(Part):
    """Write a packed ring literally, and notify.

    `slots` are written as they are; `descriptors` then go to the next places of the ring and become available, the
    first one last.  `event` writes the driver's event suppression.
    """

    queue: U16 = 0
    slots: list[PackedSlot] = msgspec.field(default_factory=list)
    descriptors: list[PackedDescriptor] = msgspec.field(default_factory=list)
    event: Event | None = None
    notify: bool = True


class Event(Part):
    """Event suppression of a packed ring, as it is: the place with its wrap counter in bit 15, and the flags."""

    place: U16 = 0
    flags: U16 = 0


class PackedTable(Part):
    """Descriptors of a packed ring's format written to a piece of memory: an indirect table."""

    at: str | int
    descriptors: list[PackedDescriptor]

    def __post_init__(self) -> None:
        parse_address(self.at)
