"""A trace held against the specification."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from devmodels.trace import EventKind, TraceEvent
from devmodels.virtio.constants import RING_PACKED
from devmodels.virtio.layout import WRAP_COUNTER
from guestsim.forms import BLK
from guestsim.lint.duties import DutyChecks
from guestsim.lint.registers import RegisterChecks
from guestsim.lint.requests import RequestChecks
from guestsim.lint.rings import RingChecks
from guestsim.lint.scsi import ScsiChecks, asked
from guestsim.lint.sessions import Finding, Level, Ring, Session, Sessions, bytes_of
from guestsim.show.atacommands import AtaRow
from guestsim.show.describe import Describer
from guestsim.show.names import blk_type
from guestsim.show.places import Taken
from guestsim.show.words import Seen

_ACCESSES = frozenset({EventKind.ACCESS_VALUE, EventKind.ACCESS_WRITE})


class Linter:
    """Takes a trace event by event; `end` gives its sessions.  It keeps what is in flight, and what was found."""

    def __init__(self) -> None:
        self._describer = Describer()
        self._describer.commands.ended = self._ended
        self._sessions = Sessions()
        self._rings = RingChecks(self._describer.memories)
        self._requests = RequestChecks()
        self._registers = RegisterChecks(self._describer.forms)
        self._duties = DutyChecks()
        self._scsi = ScsiChecks()
        self._start_ns: int | None = None
        self._last = 0
        self._written = b""
        """By the access that was the event before: what a report without bytes of its own is about."""

    def see(self, event: TraceEvent) -> None:
        """Take the next event."""
        if self._start_ns is None:
            self._start_ns = event.time_ns
        self._last = event.number
        seen = self._describer.see(event)
        if not seen.possible:
            return
        kind = event.kind
        if kind is EventKind.RESET and seen.queue is None:
            self._sessions.end(event.source, event.number)
            self._requests.forget(event.source)
            self._scsi.forget(event.source)
        elif kind is EventKind.FEATURES:
            session = self._session(seen)
            session.features, session.scsi = int(event.detail[0]), seen.scsi
        elif kind is EventKind.QUEUE:
            self._queue(seen)
        elif kind is EventKind.USED and seen.taken is not None:
            self._session(seen).requests[_asked(seen.taken)] += 1
        elif kind is EventKind.VIOLATION:
            clause, place, summary, data = event.detail
            assert isinstance(data, bytes)
            self._say(seen, str(clause), str(summary), str(place), data or self._written, Level.MUST)
        elif kind in _ACCESSES and seen.device in self._describer.ata_hosts:
            self._session(seen).ata.accesses += 1
        if kind is not EventKind.VIOLATION:
            self._written = bytes_of(seen.fields) if kind is EventKind.ACCESS_WRITE else b""
        self._check(seen)

    def _ended(self, row: AtaRow) -> None:
        assert self._start_ns is not None
        counts = self._sessions.of(row.device, row.event, row.time_ns - self._start_ns).ata
        counts.commands += 1
        counts.packets += row.packet

    def _check(self, seen: Seen) -> None:
        say = partial(self._say, seen)
        self._rings.see(seen, say)
        self._registers.see(seen, say)
        self._duties.see(seen, say)
        self._scsi.see(seen, say)
        if seen.taken is not None and seen.device is not None:
            self._requests.see(seen, self._session(seen).features or 0, say)

    def _session(self, seen: Seen) -> Session:
        event = seen.event
        assert self._start_ns is not None
        device = seen.device or event.source
        # What is wrong with a unit is its host's driver's.
        host = self._describer.forms.hosts.get(device, device)
        return self._sessions.of(host, event.number, event.time_ns - self._start_ns)

    def _queue(self, seen: Seen) -> None:
        queue, size, _, _, _, last_avail, _ = map(int, seen.event.detail)
        session = self._session(seen)
        packed = bool((session.features or 0) & RING_PACKED)
        if last_avail != (WRAP_COUNTER if packed else 0) and not session.queues:
            self._sessions.goes_on(session.device)
            session = self._session(seen)
        session.queues[queue] = Ring(size, packed)

    def _say(self, seen: Seen, clause: str, summary: str, place: str, data: bytes, level: Level) -> None:
        event = seen.event
        assert self._start_ns is not None
        finding = Finding(clause, level, summary, place, data, event.number, event.time_ns - self._start_ns)
        self._session(seen).add(finding)

    def end(self) -> list[Session]:
        """The trace has ended: its sessions."""
        self._describer.commands.reset()
        return self._sessions.end_all(self._last)


def _asked(taken: Taken) -> str:
    if taken.form is not BLK:
        return asked(taken)
    return "no header" if taken.kind is None else blk_type(taken.kind)


def lint(events: Iterable[TraceEvent]) -> list[Session]:
    """The sessions of a trace's drivers, in the order in which they began."""
    linter = Linter()
    for event in events:
        linter.see(event)
    return linter.end()
