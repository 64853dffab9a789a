"""Drivers at work: from one reset of a device to the next, with what they negotiated, asked for, and did wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from guestsim.show.decode import Field

_NUMBER = re.compile(r"0x[0-9a-f]+|[0-9]+")
MAX_FINDINGS = 500
"""Different findings of a session that are kept; what else comes is counted."""
MANY = 64
"""With so many sessions, those just like the one before are no longer kept apart."""


class Level(StrEnum):
    """How strong the specification's word is.

    A remark is something that it describes otherwise, but forbids nowhere.
    """

    MUST = "must"
    SHOULD = "should"
    REMARK = "remark"


Say = Callable[[str, str, str, bytes, Level], None]
"""Something is wrong: clause, what, the place, the bytes concerned, and how strong the clause is."""


def bytes_of(fields: Iterable[Field]) -> bytes:
    """The bytes of fields that a driver has written or read."""
    parts = ((each.value, each.size) for each in fields)
    return b"".join(
        value if isinstance(value, bytes) else value.to_bytes(size, "little") for value, size in parts
    )


@dataclass(slots=True)
class Finding:
    """One kind of mistake: what, where and when it was made first, and how often.

    `event` and `time_ns` (since the beginning of the trace) are of the first time, as are place, summary and bytes.
    """

    clause: str
    level: Level
    summary: str
    place: str
    data: bytes
    event: int
    time_ns: int
    count: int = 1


@dataclass(slots=True)
class Ring:
    """A queue that a driver has set up."""

    size: int
    packed: bool


@dataclass(slots=True)
class AtaCounts:
    """What a driver of ATA devices did: commands, those of them that were packets, accesses to registers."""

    commands: int = 0
    packets: int = 0
    accesses: int = 0

    def __iadd__(self, other: AtaCounts) -> Self:
        self.commands += other.commands
        self.packets += other.packets
        self.accesses += other.accesses
        return self


@dataclass(slots=True)
class Session:
    """A driver of `device`: `number` counts those that did something, from 1; events `first` to `last` are its own.

    `times` is how many sessions in a row were just alike, of which this is all that is kept.
    """

    device: str
    first: int
    start_ns: int
    number: int = 0
    last: int = 0
    times: int = 1
    features: int | None = None
    scsi: bool = False
    """Whether the device is a SCSI host."""
    queues: dict[int, Ring] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    ata: AtaCounts = field(default_factory=AtaCounts)
    """Of a host of ATA devices."""
    findings: dict[tuple[str, str], Finding] = field(default_factory=dict)
    more: int = 0
    """Findings beyond those that are kept."""

    @property
    def is_any(self) -> bool:
        """Whether a driver was there at all."""
        return bool(self.queues or self.findings or self.ata.accesses)

    @property
    def mistakes(self) -> list[Finding]:
        """The findings that are not only remarks."""
        return [finding for finding in self.findings.values() if finding.level is not Level.REMARK]

    def add(self, finding: Finding) -> None:
        """Something is wrong; what differs in numbers only is the same mistake."""
        key = finding.clause, _NUMBER.sub("N", finding.summary)
        known = self.findings.get(key)
        if known is not None:
            known.count += finding.count
        elif len(self.findings) < MAX_FINDINGS:
            self.findings[key] = finding
        else:
            self.more += finding.count

    def take_in(self, later: Session) -> None:
        """`later` is the same driver's going on, or one just like it."""
        self.last = later.last
        self.requests += later.requests
        self.ata += later.ata
        self.queues.update(later.queues)
        for finding in later.findings.values():
            self.add(finding)

    def is_like(self, other: Session) -> bool:
        """Whether a driver did the same: features, queues, kinds of mistakes."""
        return (self.device, self.features, self.queues, self.findings.keys()) == (
            other.device,
            other.features,
            other.queues,
            other.findings.keys(),
        )


class Sessions:
    """The sessions of all devices of a trace."""

    def __init__(self) -> None:
        self.ended: list[Session] = []
        self._running: dict[str, Session] = {}
        self._counts: Counter[str] = Counter()

    def of(self, device: str, event: int, time_ns: int) -> Session:
        """The session that runs."""
        session = self._running.get(device)
        if session is None:
            session = self._running[device] = Session(device, event, time_ns)
        return session

    def goes_on(self, device: str) -> None:
        """The driver that runs is the one before: its rings are at where they were left."""
        session = self._running.get(device)
        before = next((each for each in reversed(self.ended) if each.device == device), None)
        if session is None or before is None or before.features != session.features:
            return
        self.ended.remove(before)
        before.take_in(session)
        self._running[device] = before

    def end(self, device: str, last: int) -> None:
        """The device is reset, or the trace ends."""
        session = self._running.pop(device, None)
        if session is None or not session.is_any:
            return
        session.last = last
        before = next((each for each in reversed(self.ended) if each.device == device), None)
        many = len(self.ended) >= MANY and not session.number
        if many and before is not None and before.is_like(session):
            before.take_in(session)
            before.times += 1
            return
        if not session.number:
            self._counts[device] += 1
            session.number = self._counts[device]
        self.ended.append(session)

    def end_all(self, last: int) -> list[Session]:
        """The trace has ended: all sessions, in the order in which they began."""
        for device in list(self._running):
            self.end(device, last)
        return sorted(self.ended, key=lambda session: session.first)
