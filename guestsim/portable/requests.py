"""What a trace is lowered to: requests with their memory, and what comes between them, in order.

Numbers are those of the trace's events.  Bytes and statuses are those of VIRTIO 1.4 §5.2.6.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from guestsim.drivers.blk_operation import Operation
from guestsim.drivers.layouts import BLK_HEADER, BLK_RANGE, SECTOR, BlkType

RANGE_TYPES = frozenset({BlkType.DISCARD, BlkType.WRITE_ZEROES, BlkType.SECURE_ERASE})


class Header(NamedTuple):
    """The header of a request."""

    type: int
    ioprio: int
    sector: int


class Unknown(NamedTuple):
    """Bytes of an answer, from `start` to `end`, which nobody can foretell, and why."""

    start: int
    end: int
    why: str


@dataclass(slots=True, eq=False)
class Request:
    """One buffer as the guest made it available, and what it got for it.

    `number` is the event by which the device took it, `kick` that of the notification before (-1: none), `used` that
    by which it was given back.  `readable` are the bytes of each device-readable piece, `writable` the lengths of the
    others; pieces without a byte are left out.  `status` is None where none was written.  `failed`: the disk below the
    device failed it.  `skip` says why it cannot be fed, `unknown` which bytes of `answer` are not compared.
    """

    number: int
    queue: int
    head: int
    session: int
    kick: int
    readable: list[bytes]
    writable: list[int]
    used: int | None = None
    used_length: int = 0
    status: int | None = None
    answer: bytes = b""
    failed: bool = False
    violations: list[str] = field(default_factory=list)
    unknown: list[Unknown] = field(default_factory=list)
    skip: str = ""

    @property
    def header(self) -> Header | None:
        """The header; None where the guest gave no whole one."""
        sent = b""
        for piece in self.readable:
            sent += piece[: BLK_HEADER.size]
            if len(sent) >= BLK_HEADER.size:
                return Header._make(BLK_HEADER.struct.unpack_from(sent))
        return None

    @property
    def payload_length(self) -> int:
        """How many bytes the device may read after the header."""
        return sum(map(len, self.readable)) - BLK_HEADER.size

    @property
    def data_length(self) -> int:
        """How many bytes the device may write before the status."""
        return sum(self.writable) - 1

    @property
    def nbytes(self) -> int:
        """Guest memory that it takes."""
        return sum(map(len, self.readable)) + sum(self.writable)

    def operation(self) -> Operation:
        """The request as guestsim's driver makes it, piece by piece."""
        return Operation(
            b"".join(self.readable),
            sum(self.writable),
            readable_split=tuple(map(len, self.readable)),
            writable_split=tuple(self.writable),
            checked=False,
        )

    def __str__(self) -> str:
        """What it is, in a few words."""
        header = self.header
        if header is None:
            return f"{sum(map(len, self.readable))} readable and {sum(self.writable)} writable bytes"
        name = type_name(header.type)
        if header.type == BlkType.IN:
            return f"{name} {self.data_length} bytes at sector {header.sector}"
        if header.type == BlkType.OUT:
            return f"{name} {self.payload_length} bytes at sector {header.sector}"
        if header.type in RANGE_TYPES:
            ranges = ", ".join(
                f"{(e - s) // SECTOR} sectors at {s // SECTOR}" for s, e in ranges_of(self)[:4]
            )
            return f"{name} {ranges}"
        return name


def type_name(kind: int) -> str:
    """A request's type as the specification has it."""
    return BlkType(kind).name if kind in set(BlkType) else f"type {kind}"


def ranges_of(request: Request) -> list[tuple[int, int]]:
    """Start and end in bytes of what a discard, write-zeroes or secure-erase request names."""
    payload = b"".join(request.readable)[BLK_HEADER.size :]
    usable = len(payload) - len(payload) % BLK_RANGE.size
    return [
        (sector * SECTOR, (sector + count) * SECTOR)
        for sector, count, _ in BLK_RANGE.struct.iter_unpack(payload[:usable])
    ]


@dataclass(frozen=True, slots=True)
class Session:
    """A driver brings the device up: it goes on with these feature bits, and uses so many queues of this size."""

    number: int
    index: int
    features: int
    queues: int
    queue_size: int


@dataclass(frozen=True, slots=True)
class Reset:
    """The device is reset, or one of its queues (-1: all of it)."""

    number: int
    queue: int


@dataclass(frozen=True, slots=True)
class ConfigRead:
    """The driver reads `data` at `offset` of the configuration space."""

    number: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ConfigWrite:
    """The driver writes `data` at `offset` of the configuration space."""

    number: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Resize:
    """The host gives the disk a new size in bytes."""

    number: int
    size: int


Item = Request | Session | Reset | ConfigRead | ConfigWrite | Resize
