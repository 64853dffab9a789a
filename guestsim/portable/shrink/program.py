"""A program: requests in groups, each with one notification, as a script can say them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from guestsim.drivers.layouts import BLK_HEADER, BLK_RANGE, SECTOR, BlkStatus, BlkType
from guestsim.portable.requests import RANGE_TYPES, Request
from guestsim.script.values import HexBytes, Pattern

Plain = dict[str, object]
"""Part of a script as YAML has it."""

HEADER = BLK_HEADER.size


@dataclass(frozen=True, slots=True)
class Ask:
    """One request and its answer.

    The device reads the header, then `sent` bytes of `payload` or the segments `ranges` (sector, sectors, flags); it
    may write `room` bytes and the status.  The splits are the lengths of the pieces; None has header, payload and
    status apart.  `status`, `used_length` and `violations` are what was recorded.
    """

    type: int
    sector: int = 0
    ioprio: int = 0
    sent: int = 0
    payload: Pattern | None = None
    ranges: tuple[tuple[int, int, int], ...] = ()
    room: int = 0
    readable_split: tuple[int, ...] | None = None
    writable_split: tuple[int, ...] | None = None
    status: int = BlkStatus.OK
    used_length: int = 1
    violations: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.status == BlkStatus.OK

    @property
    def reads(self) -> tuple[int, int] | None:
        """Start and end in bytes of what it reads of the disk."""
        if self.type != BlkType.IN or not self.ok:
            return None
        return self.sector * SECTOR, self.sector * SECTOR + self.room

    @property
    def writes(self) -> tuple[tuple[int, int], ...]:
        """Starts and ends in bytes of what it changes on the disk."""
        if not self.ok:
            return ()
        if self.type == BlkType.OUT:
            return ((self.sector * SECTOR, self.sector * SECTOR + self.sent),)
        return tuple(
            (sector * SECTOR, (sector + count) * SECTOR) for sector, count, _ in self.ranges if count
        )


def ask_of(request: Request) -> Ask:
    """A recorded request, literally."""
    header = request.header
    assert header is not None
    assert request.status is not None
    sent = b"".join(request.readable)[HEADER:]
    ranges: tuple[tuple[int, int, int], ...] = ()
    if header.type in RANGE_TYPES and sent and not len(sent) % BLK_RANGE.size:
        ranges = tuple((s, n, flags) for s, n, flags in BLK_RANGE.struct.iter_unpack(sent))
    readable = tuple(map(len, request.readable))
    writable = tuple(request.writable)
    room = request.data_length
    return Ask(
        type=header.type,
        sector=header.sector,
        ioprio=header.ioprio,
        sent=len(sent),
        payload=Pattern(hex=HexBytes(sent)) if sent and not ranges else None,
        ranges=ranges,
        room=room,
        readable_split=None if readable == ((HEADER, len(sent)) if sent else (HEADER,)) else readable,
        writable_split=None if writable == ((room, 1) if room else (1,)) else writable,
        status=request.status,
        used_length=request.used_length,
        violations=tuple(request.violations),
    )


@dataclass(frozen=True, slots=True)
class Group:
    """Requests that are made available with one notification; `wait` for their answers before the next.

    `features` are those with which their answers are right; None: any.
    """

    queue: int
    asks: tuple[Ask, ...]
    wait: bool = True
    features: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Fixed:
    """A step that is no request."""

    step: Plain


Entry = Group | Fixed


def with_features(entries: Iterable[Entry]) -> list[Entry]:
    """Entries of which each group knows what was negotiated when it was recorded."""
    return [
        replace(entry, features=features) if isinstance(entry, Group) else entry
        for entry, features in _negotiated(entries)
    ]


def _negotiated(entries: Iterable[Entry]) -> Iterator[tuple[Entry, tuple[str, ...]]]:
    """Each entry, with the features that the driver asks for at that time."""
    features: tuple[str, ...] = ()
    for entry in entries:
        if isinstance(entry, Fixed):
            probe = entry.step.get("probe")
            if isinstance(probe, dict):
                features = tuple(probe.get("features", ()))
        yield entry, features


@dataclass(frozen=True, slots=True)
class Held:
    """What the disk holds first, from byte `at` on: `length` bytes of a pattern."""

    at: int
    length: int
    data: Pattern


@dataclass(frozen=True, slots=True)
class Program:
    """A machine (`head`, as a script has it, its one drive of `size` bytes without content) and what its guest does.

    `content` is what the disk holds first, in order; the rest is zero.
    """

    head: Plain
    size: int
    entries: tuple[Entry, ...]
    content: tuple[Held, ...] = ()

    @property
    def asks(self) -> Iterator[Ask]:
        """All requests, in order."""
        for entry in self.entries:
            if isinstance(entry, Group):
                yield from entry.asks

    @property
    def requests(self) -> int:
        """How many there are."""
        return sum(1 for _ in self.asks)

    @property
    def holds(self) -> bool:
        """Whether each request is made with the features with which its answer is right."""
        return all(
            entry.features in (None, features)
            for entry, features in _negotiated(self.entries)
            if isinstance(entry, Group)
        )

    def using(self, entries: tuple[Entry, ...]) -> Program:
        """The same with other entries."""
        return replace(self, entries=entries)
