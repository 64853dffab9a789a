"""What a script may say to a SCSI host device: commands, task management, notifications, events, and the scan."""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

import msgspec

from guestsim.drivers import cdb, mmc_cdb
from guestsim.drivers.cdb import Cdb
from guestsim.drivers.scsi import Status
from guestsim.drivers.scsi_layouts import EventType, ResetReason, ScsiResponse, TaskAttribute, Tmf, lun_bytes
from guestsim.script.parts import U8, U32, Positive, Whole
from guestsim.script.values import Amount, HexBytes, Pattern

COMMANDS = {**cdb.COMMANDS, **mmc_cdb.COMMANDS}

StatusName = Literal[
    "GOOD",
    "CHECK_CONDITION",
    "CONDITION_MET",
    "BUSY",
    "RESERVATION_CONFLICT",
    "TASK_SET_FULL",
    "ACA_ACTIVE",
    "TASK_ABORTED",
]
ResponseName = Literal[
    "OK",
    "OVERRUN",
    "ABORTED",
    "BAD_TARGET",
    "RESET",
    "BUSY",
    "TRANSPORT_FAILURE",
    "TARGET_FAILURE",
    "NEXUS_FAILURE",
    "FAILURE",
    "FUNCTION_SUCCEEDED",
    "FUNCTION_REJECTED",
    "INCORRECT_LUN",
]
assert set(Status.__members__) == set(get_args(StatusName))
assert set(ScsiResponse.__members__) == set(get_args(ResponseName))

Target = Annotated[int, msgspec.Meta(ge=0, le=255)]
Lun = Annotated[int, msgspec.Meta(ge=0, le=16383)]

_SENSE = re.compile(r"([0-9a-fA-F])/([0-9a-fA-F]{1,2})/([0-9a-fA-F]{1,2})")
_PLACE = re.compile(r"(\d{1,3}):(\d{1,5})")


def parse_cdb(text: str) -> Cdb:
    """A CDB as hexadecimal digits, or a command's name with its numbers (`read-10 lba=8 blocks=1`); ValueError."""
    name, *given = text.split()
    builder = COMMANDS.get(name)
    if builder is None:
        try:
            return Cdb(bytes.fromhex(text))
        except ValueError:
            known = ", ".join(COMMANDS)
            raise ValueError(f"cdb {text!r}, expected hexadecimal digits or one of {known}") from None
    numbers = {}
    for part in given:
        key, equals, value = part.partition("=")
        try:
            numbers[key.replace("-", "_")] = int(value, 0)
        except ValueError:
            equals = ""
        if not equals:
            raise ValueError(f"cdb {text!r}: {part!r}, expected a field with a number such as lba=8")
    try:
        return builder(**numbers)
    except TypeError as error:
        problem = str(error).split("() ", 1)[-1]
        raise ValueError(f"cdb {text!r}: {problem}") from None
    except Exception as error:
        raise ValueError(f"cdb {text!r}: {error}") from None


def parse_sense(text: str) -> tuple[int, int, int]:
    """`5/24/00`: sense key, additional code and qualifier in hexadecimal; ValueError."""
    match = _SENSE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"sense {text!r}, expected key/asc/ascq in hexadecimal digits such as 5/24/00, or none"
        )
    return int(match[1], 16), int(match[2], 16), int(match[3], 16)


class _Part(msgspec.Struct, forbid_unknown_fields=True, rename="kebab", kw_only=True):
    """What these structures have in common."""


class Place(_Part):
    """A logical unit: its target and LUN, or the eight bytes of a `lun` field as they are."""

    target: Target = 0
    lun: Lun = 0
    address: HexBytes | None = None

    def __post_init__(self) -> None:
        if self.address is not None and len(self.address) != 8:
            raise ValueError(f"address {self.address.hex(' ')!r}, expected 8 bytes")

    @property
    def field(self) -> bytes:
        """The `lun` field."""
        return lun_bytes(self.target, self.lun) if self.address is None else bytes(self.address)

    @property
    def text(self) -> str:
        """What people call it."""
        return f"{self.target}:{self.lun}" if self.address is None else self.address.hex(" ")


class CommandData(Pattern, kw_only=True):
    """Data that a command is given; `length` by default as the command asks for it."""

    length: Amount | None = None


class Scsi(Place, kw_only=True):
    """A command to a logical unit.

    `room` is for what it returns and `data` what it is given, by default what the command asks for.  `header` and
    `response` are other lengths than those agreed on for the device-readable header and for the response.
    """

    cdb: str
    data: CommandData | None = None
    room: Amount | None = None
    attribute: Literal["simple", "ordered", "head", "aca"] | U8 = "simple"
    tag: Whole | None = None
    scatter: Positive = 1
    header: Amount | None = None
    response: Amount | None = None
    readable_split: list[int] | None = None
    writable_split: list[int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_cdb(self.cdb)
        if self.tag is not None and self.tag >> 64:
            raise ValueError(f"tag {self.tag:#x}, expected at most 64 bits")

    @property
    def task_attribute(self) -> int:
        """The attribute's number."""
        return self.attribute if isinstance(self.attribute, int) else TaskAttribute[self.attribute.upper()]


class TaskManagement(Place, kw_only=True):
    """A task management function; `tag` is that of the command that it is about."""

    function: (
        Literal[
            "abort-task",
            "abort-task-set",
            "clear-aca",
            "clear-task-set",
            "i-t-nexus-reset",
            "logical-unit-reset",
            "query-task",
            "query-task-set",
        ]
        | U32
    )
    tag: Whole = 0

    @property
    def number(self) -> int:
        """The function's number."""
        return (
            self.function if isinstance(self.function, int) else Tmf[self.function.upper().replace("-", "_")]
        )


class Notifications(Place, kw_only=True):
    """Ask a unit which asynchronous events it can report, or, to `subscribe`, have it report them."""

    events: U32
    subscribe: bool = False


class Control(_Part):
    """A request of the control queue put together literally, with room for `writable` bytes of answer."""

    hex: HexBytes = HexBytes(b"")
    writable: Amount = Amount(1)


class EventBuffers(_Part):
    """Give the event queue so many buffers more."""

    count: Positive = 1


class ScsiEvent(Place, kw_only=True):
    """Wait for an event; the next one must be this.

    `reason` is that of a transport reset by name, or a number; `missed` says that others before it were lost.
    """

    event: Literal["no-event", "transport-reset", "async-notify", "param-change"]
    reason: Literal["hard", "rescan", "removed"] | U32 = 0
    missed: bool = False

    @property
    def event_number(self) -> int:
        """The event's number."""
        return EventType[self.event.upper().replace("-", "_")]

    @property
    def reason_number(self) -> int:
        """The reason's number."""
        return self.reason if isinstance(self.reason, int) else ResetReason[self.reason.upper()]


class Scan(_Part):
    """Find the logical units of targets 0 to `targets` - 1 as an operating system does."""

    targets: Annotated[int, msgspec.Meta(ge=1, le=256)] = 8


def parse_place(text: str) -> tuple[int, int]:
    """`0:5`: target and LUN; ValueError."""
    match = _PLACE.fullmatch(text)
    if match is None:
        raise ValueError(f"unit {text!r}, expected target:lun such as 0:5")
    return int(match[1]), int(match[2])


__all__ = [
    "Control",
    "EventBuffers",
    "Notifications",
    "Place",
    "ResponseName",
    "Scan",
    "Scsi",
    "ScsiEvent",
    "StatusName",
    "TaskManagement",
    "parse_cdb",
    "parse_place",
    "parse_sense",
]
