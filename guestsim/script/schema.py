"""What a script may say: one structure for each step, checked by msgspec. docs/scripts.md explains them to users."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from guestsim.drivers.layouts import SECTOR
from guestsim.script import schema_ata, schema_scsi
from guestsim.script.parts import U16, Part, Positive, Weight, Whole
from guestsim.script.schema_expect import Difference, Expect
from guestsim.script.schema_raw import (
    Allocate,
    Chain,
    Notify,
    PackedChain,
    PackedTable,
    Peek,
    Place,
    Poke,
    Set,
    Table,
)
from guestsim.script.schema_virtio import Probe, Range, RawRequest, Read, ResetQueue, Write, WriteCache, Zero
from guestsim.script.values import Amount, Duration, Size

TargetName = Literal["devmodels", "qemu", "vhost-user", "qemu-storage-daemon", "vfio-user"]
TARGETS: tuple[TargetName, ...] = ("devmodels", "qemu", "vhost-user", "qemu-storage-daemon", "vfio-user")
RingName = Literal["split", "packed"]
TransportName = Literal["pci", "pci-legacy", "mmio", "mmio-legacy"]

PAGE = 4096
MIN_RAM = 16 << 20
MAX_RAM = 2816 << 20
"""Memory must hold more than its first region, and end below the address space of devices."""


# --- the machine


class MachinePart(Part):
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


class Resize(Part):
    """The host gives a drive a new size."""

    drive: str
    to: Size


class Unplug(Part):
    """The host takes a device out."""

    id: str


class Mix(Part):
    """How often each kind of request comes, as weights."""

    read: Weight = 4
    write: Weight = 4
    zero: Weight = 0
    discard: Weight = 0
    flush: Weight = 0

    def __post_init__(self) -> None:
        if not (self.read or self.write or self.zero or self.discard or self.flush):
            raise ValueError("every weight is 0, expected one above 0")


class Random(Part):
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


class Qmp(Part):
    """The host executes a command of QMP's; `refused` is what it is told where that does not work."""

    execute: str
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)
    refused: str | None = None


class Told(Part):
    """An event that the host is told: QMP's `name`, and those of its members that matter."""

    name: str
    data: dict[str, str | int | bool] = msgspec.field(default_factory=dict)


class Image(Part):
    """The host looks at a drive's file."""

    drive: str
    at: Size = Size(0)
    length: Amount = Amount(512)


class Repeat(Part):
    """Steps again and again."""

    times: Whole
    steps: list[Step]


# --- steps


class Nothing(Part):
    """A step without parameters."""


class Step(Part):
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


class Script(Part, kw_only=True):
    """A whole script."""

    name: str
    machine: MachinePart = msgspec.field(default_factory=MachinePart)
    drives: list[dict[str, object]] = msgspec.field(default_factory=list)
    devices: list[dict[str, object]] = msgspec.field(default_factory=list)
    targets: list[TargetName] = msgspec.field(default_factory=lambda: list(TARGETS))
    rings: list[RingName] | None = None
    transports: list[TransportName] | None = None
    steps: list[Step]

    def __post_init__(self) -> None:
        steps = list(all_steps(self.steps))
        expecting = any(item.expect is not None for step in steps for item in step.submit or ())
        if expecting and not any(step.wait_for == "answers" or step.together is not None for step in steps):
            raise ValueError("expect inside submit, expected a later wait-for: answers that looks at it")
