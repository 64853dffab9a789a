"""What a script may say: one structure for each step, checked by msgspec. docs/scripts.md explains them to users."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec

from guestsim.drivers.layouts import (
    BLK_CONFIG,
    MAX_QUEUE_SIZE,
    REGISTERS,
    SECTOR,
    BlkFeature,
    BlkType,
    Feature,
)
from guestsim.drivers.scsi_layouts import SCSI_CONFIG, ScsiFeature
from guestsim.script import schema_ata, schema_scsi
from guestsim.script.parts import U16, U32, Bit, Positive, Weight, Whole
from guestsim.script.values import Amount, Duration, HexBytes, Pattern, Size, parse_address

TargetName = Literal["devmodels", "qemu", "vhost-user", "qemu-storage-daemon", "vfio-user"]
TARGETS: tuple[TargetName, ...] = ("devmodels", "qemu", "vhost-user", "qemu-storage-daemon", "vfio-user")
RingName = Literal["split", "packed"]
TransportName = Literal["pci", "pci-legacy", "mmio", "mmio-legacy"]
StatusName = Literal["OK", "IOERR", "UNSUPP"] | schema_scsi.StatusName
ErrorName = Literal["needs-reset", "dropped", "refused", "timeout", "check", "disconnected"]

FEATURES: dict[str, int] = {bit.name: bit.value for bit in (*Feature, *BlkFeature, *ScsiFeature)}
"""Feature names as the specification has them, without VIRTIO_F_, VIRTIO_BLK_F_ and VIRTIO_SCSI_F_."""

CONFIG_FIELDS = (*BLK_CONFIG.fields, *(name for name in SCSI_CONFIG.fields if name not in BLK_CONFIG.fields))
"""Names of the fields of configuration spaces."""

PAGE = 4096
MIN_RAM = 16 << 20
MAX_RAM = 2816 << 20
"""Memory must hold more than its first region, and end below the address space of devices."""
CONFIG_SPACE = 4096


class _Part(msgspec.Struct, forbid_unknown_fields=True, rename="kebab"):
    """What all structures of a script have in common."""


def _check_bits(name: str, value: int, size: int) -> None:
    """ValueError unless `value` fits into `size` bytes."""
    if value >> 8 * size:
        raise ValueError(f"{name} {value:#x}, expected at most {8 * size} bits")


def _check_queue_size(name: str, size: int | None) -> None:
    """ValueError unless `size` may be a queue's (VIRTIO 1.4 §2.7, §2.8; a split one's must be a power of two)."""
    if size is not None and size > MAX_QUEUE_SIZE:
        raise ValueError(f"{name} {size}, expected 1 to {MAX_QUEUE_SIZE}")


# --- the machine


class MachinePart(_Part):
    """The machine: its clock, how devices reach memory (given by the user where not said), and how much there is."""

    clock: Literal["virtual", "stepped", "wall"] = "virtual"
    memory: Literal["shared", "bounced"] | None = None
    ram: Size = Size(64 << 20)

    def __post_init__(self) -> None:
        if not MIN_RAM < self.ram <= MAX_RAM or self.ram % PAGE:
            raise ValueError(
                f"ram {int(self.ram)}, expected a multiple of {PAGE} above {MIN_RAM} and up to {MAX_RAM}"
            )


# --- parts of steps


class Range(_Part):
    """A range of the disk, in bytes."""

    at: Size = Size(0)
    length: Size = Size(512)

    def __post_init__(self) -> None:
        if self.length // SECTOR >> 32:
            raise ValueError(f"length {int(self.length)}, expected at most 32 bits of sectors")


class Probe(_Part):
    """Reset the device and bring it up as an operating system would."""

    features: list[str | Bit] | None = None
    without: list[str | Bit] = []
    force: list[str | Bit] = []
    queues: Positive | None = None
    queue_size: Positive | None = None
    interrupts: Literal["msix", "intx", "polling"] = "msix"
    indirect: bool = True
    legacy: bool | None = None
    sense_size: U32 | None = None
    cdb_size: U32 | None = None
    event_buffers: Whole | None = None

    def __post_init__(self) -> None:
        for name in (*(self.features or ()), *self.without, *self.force):
            if isinstance(name, str) and name not in FEATURES:
                raise ValueError(
                    f"feature {name!r}, expected a number or one of {', '.join(sorted(FEATURES))}"
                )
        _check_queue_size("queue-size", self.queue_size)


class Read(_Part):
    """Read, into `scatter` buffers."""

    at: Size = Size(0)
    length: Amount = Amount(512)
    scatter: Positive = 1


class Write(Pattern, rename="kebab", kw_only=True):
    """Write a pattern, from `scatter` buffers."""

    at: Size = Size(0)
    length: Amount = Amount(512)
    scatter: Positive = 1


class Zero(Range):
    """Write zeroes; with `unmap` the device may deallocate."""

    unmap: bool = False


class WriteCache(_Part):
    """Switch the write cache."""

    on: bool


class RawRequest(_Part):
    """A request put together literally.

    The device reads a header of `type`, `reserved` and `sector`, cut or extended to `header` bytes, then `data`;
    it may write `writable` bytes (the status byte last).  `readable-split` and `writable-split` are the lengths of the
    chain's segments.
    """

    type: str | U32
    reserved: U32 = 0
    sector: Whole = 0
    header: U16 = 16
    data: RawData | None = None
    ranges: list[RawRange] = []
    writable: Amount = Amount(1)
    readable_split: list[int] | None = None
    writable_split: list[int] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.type, str) and self.type not in BlkType.__members__:
            raise ValueError(
                f"type {self.type!r}, expected a number or one of {', '.join(BlkType.__members__)}"
            )
        _check_bits("sector", self.sector, 8)


class RawData(Pattern, kw_only=True):
    """`length` bytes of a pattern."""

    length: Amount


class RawRange(_Part):
    """One segment of a discard, write-zeroes or secure-erase request, in sectors."""

    sector: Whole = 0
    sectors: U32 = 1
    flags: U32 = 0

    def __post_init__(self) -> None:
        _check_bits("sector", self.sector, 8)


class ResetQueue(_Part):
    """Reset one queue and set it up again, with `size` entries."""

    queue: U16 = 0
    size: Positive | None = None

    def __post_init__(self) -> None:
        _check_queue_size("size", self.size)


class Resize(_Part):
    """The host gives a drive a new size."""

    drive: str
    to: Size


class Unplug(_Part):
    """The host takes a device out."""

    id: str


class Place(_Part):
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
        _check_bits("value", self.value, self.width)


class Notify(_Part):
    """Write a queue's notification register, by default with what names the queue."""

    queue: U16 = 0
    value: Whole | None = None
    size: Literal[1, 2, 4] = 2

    def __post_init__(self) -> None:
        _check_bits("value", self.queue if self.value is None else self.value, self.size)


class Allocate(_Part):
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


class Peek(_Part):
    """Read guest memory at `at`: an address, a name, or name+number."""

    at: str | int
    length: Amount

    def __post_init__(self) -> None:
        parse_address(self.at)


class Descriptor(_Part):
    """One descriptor, literally. `flags` by name or as a number."""

    index: U16 = 0
    at: str | int = 0
    length: U32 = 0
    flags: list[Literal["next", "write", "indirect"]] | U16 = []
    next: U16 = 0

    def __post_init__(self) -> None:
        parse_address(self.at)


class Table(_Part):
    """Descriptors written to a piece of memory: an indirect table."""

    at: str | int
    descriptors: list[Descriptor]

    def __post_init__(self) -> None:
        parse_address(self.at)


class Chain(_Part):
    """Write descriptors and the available ring literally, and notify.

    `heads` go into the next entries of the available ring; `advance` moves `idx` by another number than there are
    heads; `avail-flags` and `used-event` are written where given.
    """

    queue: U16 = 0
    descriptors: list[Descriptor] = []
    heads: list[U16] = []
    advance: U16 | None = None
    avail_flags: U16 | None = None
    used_event: U16 | None = None
    notify: bool = True


class PackedDescriptor(_Part):
    """One descriptor of a packed ring, literally; of an indirect table too, where `flags` are as they are.

    In the ring, AVAIL and USED are set as the lap wants them; one that is named is turned round.
    """

    at: str | int = 0
    length: U32 = 0
    id: U16 = 0
    flags: list[Literal["next", "write", "indirect", "avail", "used"]] | U16 = []

    def __post_init__(self) -> None:
        parse_address(self.at)


class PackedSlot(PackedDescriptor, kw_only=True):
    """A descriptor with the slot that it is written to, all its flags as they are."""

    slot: U16


class PackedChain(_Part):
    """Write a packed ring literally, and notify.

    `slots` are written as they are; `descriptors` then go to the next places of the ring and become available, the
    first one last.  `event` writes the driver's event suppression.
    """

    queue: U16 = 0
    slots: list[PackedSlot] = []
    descriptors: list[PackedDescriptor] = []
    event: Event | None = None
    notify: bool = True


class Event(_Part):
    """Event suppression of a packed ring, as it is: the place with its wrap counter in bit 15, and the flags."""

    place: U16 = 0
    flags: U16 = 0


class PackedTable(_Part):
    """Descriptors of a packed ring's format written to a piece of memory: an indirect table."""

    at: str | int
    descriptors: list[PackedDescriptor]

    def __post_init__(self) -> None:
        parse_address(self.at)


class Mix(_Part):
    """How often each kind of request comes, as weights."""

    read: Weight = 4
    write: Weight = 4
    zero: Weight = 0
    discard: Weight = 0
    flush: Weight = 0

    def __post_init__(self) -> None:
        if not (self.read or self.write or self.zero or self.discard or self.flush):
            raise ValueError("every weight is 0, expected one above 0")


class Random(_Part):
    """Requests at random, the same for the same seed, checked against a model and read back at the end."""

    seed: int = 0
    requests: Whole = 100
    depth: Positive = 1
    at: Size = Size(0)
    length: Amount | None = None
    max_length: Amount = Amount(64 << 10)
    scatter: Positive = 1
    mix: Mix = msgspec.field(default_factory=Mix)

    def __post_init__(self) -> None:
        for name, value in (("at", self.at), ("length", self.length), ("max-length", self.max_length)):
            if value is not None and (value % SECTOR or (not value and name != "at")):
                raise ValueError(f"{name} {int(value)}, expected a multiple of {SECTOR}")


class Qmp(_Part):
    """The host executes a command of QMP's; `refused` is what it is told where that does not work."""

    execute: str
    arguments: dict[str, Any] = {}
    refused: str | None = None


class Told(_Part):
    """An event that the host is told: QMP's `name`, and those of its members that matter."""

    name: str
    data: dict[str, str | int | bool] = {}


class Image(_Part):
    """The host looks at a drive's file."""

    drive: str
    at: Size = Size(0)
    length: Amount = Amount(512)


class Repeat(_Part):
    """Steps again and again."""

    times: Whole
    steps: list[Step]


# --- expectations


class Bounds(_Part):
    """A number from `least` to `most`."""

    least: int = 0
    most: int | None = None

    def __str__(self) -> str:
        return f"at least {self.least}" if self.most is None else f"{self.least} to {self.most}"


class Used(_Part):
    """One used element."""

    id: int
    length: int


class PartOfData(Pattern, kw_only=True):
    """A pattern in a part of what was read: `length` bytes from `at` on, by default to its end."""

    at: Size = Size(0)
    length: Amount | None = None


class Expect(_Part):
    """What must hold after a step.

    Where nothing is said, requests must end with OK and no violation may be reported.
    """

    status: StatusName | int | None = None
    response: schema_scsi.ResponseName | int | None = None
    sense: str | None = None
    residual: int | None = None
    units: list[str] | None = None
    registers: dict[str, int] | None = None
    blocks: list[int] | None = None
    found: list[str] | None = None
    used_length: int | None = None
    data: Pattern | list[PartOfData] | None = None
    prefix: HexBytes | None = None
    length: int | None = None
    id: str | None = None
    value: int | None = None
    mask: int | None = None
    interrupts: int | Bounds | None = None
    config_changes: int | Bounds | None = None
    features: list[str | int] | None = None
    config: dict[str, int] | None = None
    lifetime: dict[str, int] | None = None
    statistics: dict[str, int | Bounds] | None = None
    used: list[Used] | None = None
    needs_reset: bool | None = None
    dropped: int | None = None
    violation: str | list[str] | None = None
    error: ErrorName | None = None

    def __post_init__(self) -> None:
        if self.sense not in (None, "none"):
            schema_scsi.parse_sense(self.sense)
        for unit in self.units or ():
            schema_scsi.parse_place(unit)
        for name in self.registers or ():
            if name not in schema_ata.REGISTERS:
                raise ValueError(f"register {name!r}, expected one of {', '.join(schema_ata.REGISTERS)}")

    def of_the_whole(self) -> bool:
        """Whether it holds something that is not known of one request among others."""
        return not (self.violation is None and self.interrupts is None and self.config_changes is None)


class Difference(Expect, kw_only=True):
    """What a target answers otherwise than the script expects, and the reason, with its clause.

    `right`: who does as the clause says, the script, the target, or both, where it leaves that open.
    """

    because: str
    right: Literal["script", "target", "both"] = "script"


# --- steps


class Nothing(_Part):
    """A step without parameters."""


class Step(_Part):
    """One step: exactly one action, and what is said about it."""

    probe: Probe | None = None
    read: Read | None = None
    write: Write | None = None
    flush: Nothing | None = None
    discard: Range | None = None
    zero: Zero | None = None
    secure_erase: Range | None = None
    get_id: Nothing | None = None
    get_lifetime: Nothing | None = None
    write_cache: WriteCache | None = None
    request: RawRequest | None = None
    scsi: schema_scsi.Scsi | None = None
    task_management: schema_scsi.TaskManagement | None = None
    notifications: schema_scsi.Notifications | None = None
    control: schema_scsi.Control | None = None
    event_buffers: schema_scsi.EventBuffers | None = None
    scsi_event: schema_scsi.ScsiEvent | None = None
    scan: schema_scsi.Scan | None = None
    together: list[Step] | None = None
    submit: list[Step] | None = None
    reset: Nothing | None = None
    reset_queue: ResetQueue | None = None
    resize: Resize | None = None
    ata_probe: schema_ata.AtaProbe | None = None
    ata_reset: schema_ata.AtaReset | None = None
    ncq: schema_ata.Ncq | None = None
    slot: schema_ata.Slot | None = None
    ide_probe: schema_ata.IdeProbe | None = None
    ide_reset: schema_ata.IdeReset | None = None
    ata: schema_ata.Ata | None = None
    packet: schema_ata.Packet | None = None
    regions: schema_ata.Regions | None = None
    task_file: schema_ata.TaskFile | None = None
    registers: schema_ata.Registers | None = None
    ide_data: schema_ata.IdeData | None = None
    plug: dict[str, Any] | None = None
    unplug: Unplug | None = None
    qmp: Qmp | None = None
    stop: Nothing | None = None
    cont: Nothing | None = None
    event: Told | None = None
    get: Place | None = None
    set: Set | None = None
    notify: Notify | None = None
    allocate: Allocate | None = None
    poke: Poke | None = None
    peek: Peek | None = None
    table: Table | None = None
    chain: Chain | None = None
    packed_table: PackedTable | None = None
    packed_chain: PackedChain | None = None
    random: Random | None = None
    image: Image | None = None
    repeat: Repeat | None = None
    parallel: list[list[Step]] | None = None
    wait_for: Literal["config-change", "needs-reset", "answers", "idle"] | None = None
    sleep: Duration | None = None
    config: Nothing | None = None
    statistics: Nothing | None = None

    device: str | None = None
    queue: U16 | None = None
    note: str | None = None
    expect: Expect | None = None
    on_qemu: Difference | None = msgspec.field(default=None, name="on qemu")
    on_devmodels: Difference | None = msgspec.field(default=None, name="on devmodels")
    on_vhost_user: Difference | None = msgspec.field(default=None, name="on vhost-user")
    on_qemu_storage_daemon: Difference | None = msgspec.field(default=None, name="on qemu-storage-daemon")
    on_vfio_user: Difference | None = msgspec.field(default=None, name="on vfio-user")

    def __post_init__(self) -> None:
        given = [name.replace("_", "-") for name in ACTIONS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"{' and '.join(given) or 'no action'}, expected one action")
        for item in (*(self.together or ()), *(self.submit or ())):
            if item.expect is not None and item.expect.of_the_whole():
                raise ValueError("violation and interrupts, expected beside the whole step, not inside it")

        for inner in (one for steps in self.parallel or () for one in all_steps(steps)):
            if any(
                one is not None and one.violation is not None
                for one in (inner.expect, *inner.all_differences())
            ):
                raise ValueError("violation, expected beside the whole of parallel, not inside it")
        for expect in (self.expect, *self.all_differences()):
            if expect is not None:
                self._check_can_fail(expect)

    def _check_can_fail(self, expect: Expect) -> None:
        """ValueError where something is expected that nobody would look at."""
        given = {name for name in Expect.__struct_fields__ if getattr(expect, name) is not None}
        if expect.error is not None and (beside := given - {"error", "violation"}):
            names = " and ".join(sorted(name.replace("_", "-") for name in beside))
            raise ValueError(f"{names} beside error, expected violation alone: there is no answer")
        if expect.status is not None and self.action not in REQUESTS:
            raise ValueError(f"status of {self.action.replace('_', '-')}, expected it beside a request")
        if expect.mask is not None and expect.value is None:
            raise ValueError("mask without value, expected both")
        chain = self.chain or self.packed_chain
        if expect.used is not None and chain is not None and not chain.notify:
            raise ValueError("used of a chain that nobody is notified of, expected a notification")

    @property
    def action(self) -> str:
        """The name of the step's action, as a field of this structure."""
        return next(name for name in ACTIONS if getattr(self, name) is not None)

    def expected_on(self, target: str) -> Expect:
        """What must hold on `target`: the expectation, with what is different there."""
        base = self.expect or Expect()
        for other in self.differences(target):
            changes = {
                name: value
                for name in Expect.__struct_fields__
                if (value := getattr(other, name)) is not None
            }
            base = msgspec.structs.replace(base, **changes)
        return base

    def differences(self, target: str) -> list[Difference]:
        """What is different on `target`, the more particular last."""
        found = (getattr(self, name) for name in DIFFERENCES[target])
        return [one for one in found if one is not None]

    def all_differences(self) -> list[Difference]:
        """What is different on any target."""
        return [one for target in DIFFERENCES for one in self.differences(target)]


DIFFERENCES: dict[str, tuple[str, ...]] = {
    "devmodels": ("on_devmodels",),
    "qemu": ("on_qemu",),
    "vhost-user": ("on_vhost_user",),
    "qemu-storage-daemon": ("on_vhost_user", "on_qemu_storage_daemon"),
    "vfio-user": ("on_devmodels", "on_vfio_user"),
}
"""The modifiers that hold on a target."""

MODIFIERS = frozenset(
    {"device", "queue", "note", "expect", *(name for names in DIFFERENCES.values() for name in names)}
)
ACTIONS = tuple(name for name in Step.__struct_fields__ if name not in MODIFIERS)
"""Fields of `Step` that are actions, in the order of its declaration."""


REQUESTS = frozenset(
    {
        "read",
        "write",
        "flush",
        "discard",
        "zero",
        "secure_erase",
        "get_id",
        "get_lifetime",
        "request",
        "scsi",
    }
)
"""Actions that are one request, answered with a status."""


def all_steps(steps: list[Step]) -> Iterator[Step]:
    """Steps with those inside repetitions and on other vCPUs."""
    for step in steps:
        yield step
        for inner in (step.repeat.steps if step.repeat is not None else [], *(step.parallel or ())):
            yield from all_steps(inner)


class Script(_Part, kw_only=True):
    """A whole script."""

    name: str
    machine: MachinePart = msgspec.field(default_factory=MachinePart)
    drives: list[dict[str, object]] = []
    devices: list[dict[str, object]] = []
    targets: list[TargetName] = msgspec.field(default_factory=lambda: list(TARGETS))
    rings: list[RingName] | None = None
    transports: list[TransportName] | None = None
    steps: list[Step]

    def __post_init__(self) -> None:
        steps = list(all_steps(self.steps))
        expecting = any(item.expect is not None for step in steps for item in step.submit or ())
        if expecting and not any(step.wait_for == "answers" or step.together is not None for step in steps):
            raise ValueError("expect inside submit, expected a later wait-for: answers that looks at it")
