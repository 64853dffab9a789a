"""From a trace to the page's tables: events, buffers, and what became of them below the devices (`below.py`).

Rows of other tables are referred to by number, and moments by the number of an event, counted from the first one shown;
`NONE` is no such event or row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

import msgspec

from devmodels.trace import EventKind, TraceEvent
from devmodels.tracefile import DeviceFacts
from guestsim.life import At, Life
from guestsim.show import names
from guestsim.show.describe import Describer
from guestsim.show.filters import QueryError, Range
from guestsim.show.page.below import Below
from guestsim.show.page.buffers import Buffer, buffer_of, operation, range_of, violations_of
from guestsim.show.page.columns import NONE, Names, Pack, Table, Texts
from guestsim.show.page.descriptors import Descriptors
from guestsim.show.words import Seen
from guestsim.story import lives

MOST_TEXT = 400
"""Characters of an event's text."""
_WITH_QUEUE = frozenset(
    {
        EventKind.AGAIN,
        EventKind.CHAIN,
        EventKind.ENABLE,
        EventKind.KICK,
        EventKind.LOOK,
        EventKind.MOVED,
        EventKind.NOTIFY,
        EventKind.QUEUE,
        EventKind.RESET,
        EventKind.STOP,
        EventKind.USED,
    }
)
_DMA = frozenset({EventKind.DMA_READ, EventKind.DMA_WRITE})
_KINDS = {kind: number for number, kind in enumerate(EventKind)}
_VIOLATED, _MERGED, _INDIRECT = 1, 2, 4
"""Bits of a buffer's `flags`."""


class _Ended(NamedTuple):
    """A buffer's life, and what its bytes said when they were at hand."""

    life: Life
    buffer: Buffer
    op: str
    status: int
    offset: int
    length: int


MOST_EVENTS = 1_000_000
"""More than a browser would show in good time."""


class Collector:
    """Reads a trace once, from its beginning: `collect`, then `pack`.

    `payload`: how many bytes of each request's data are kept.  `times`, in ns since the trace's beginning, and `events`
    are what is shown of it; what comes before is read for what follows from it.
    """

    def __init__(self, payload: int, times: Range, events: Range) -> None:
        self.first: int | None = None
        self.start_ns: int | None = None
        self.times = times
        self.range = events
        self.sources = Names(0xFFFF)
        self.devices: list[dict[str, object]] = []
        self.events = Table(low="I", high="I", kind="B", source="H", queue="i", nbytes="I")
        self.texts = Texts()
        self.below = Below(Names(0xFF))
        self._payload = payload
        self._describer = Describer()
        self._descriptors = Descriptors()
        self._tables: dict[int, tuple[int, int]] = {}
        self._lives: list[_Ended] = []
        self._time = 0
        self._count = 0

    def collect(self, events: Iterable[TraceEvent], progress: Callable[[int], None]) -> None:
        """Read it; `progress` hears how many events have been read, now and then.  QueryError where it is too much."""
        for life in lives(self._watched(events, progress), self._taken):
            self._ended(life)

    def _watched(self, events: Iterable[TraceEvent], progress: Callable[[int], None]) -> Iterator[TraceEvent]:
        for event in events:
            if self.start_ns is None:
                self.start_ns = event.time_ns
            since = event.time_ns - self.start_ns
            if self.times.after(since) or self.range.after(event.number):
                break
            seen = self._describer.see(event)
            if not (self.times.before(since) or self.range.before(event.number)):
                self._show(event, since, seen)
            if seen.possible:
                self._descriptors.see(event)
                if event.kind is EventKind.DEVICE:
                    self._device(event)
                yield event
            self._count += 1
            if not self._count % 1024:
                progress(self._count)
        progress(self._count)

    def _device(self, event: TraceEvent) -> None:
        # What the text of a forged one says is shown as an event.
        with suppress(msgspec.MsgspecError):
            facts = msgspec.json.decode(str(event.detail[0]), type=DeviceFacts)
            disk = facts.disk
            self.devices.append(
                {"name": facts.name}
                if disk is None
                else {"name": facts.name, "size": disk.size, "readOnly": disk.read_only}
            )

    def _show(self, event: TraceEvent, since: int, seen: Seen) -> None:
        if self.first is None:
            self.first = self.below.first = event.number
        if len(self.events) == MOST_EVENTS:
            raise QueryError(
                f"more than {MOST_EVENTS} events for one page; --events or --time takes a part of the trace"
            )
        step = max(since - self._time, 0)
        self._time += step
        kind = event.kind
        queue = int(event.detail[0]) if kind in _WITH_QUEUE else -1
        nbytes = len(event.detail[1]) if kind in _DMA else 0  # type: ignore[arg-type]
        source = self.sources.number(event.source)
        self.events.add(step & NONE, step >> 32, _KINDS[kind], source, queue, nbytes)
        text = seen.text
        self.texts.add(text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]} …")
        if seen.possible:
            self.below.see(event)

    def _taken(self, life: Life) -> None:
        table = self._descriptors.indirect(life.device, life.queue, life.head)
        if table is not None:
            self._tables[life.number] = table

    def _ended(self, life: Life) -> None:
        """Take down what it was, and let its bytes go; who is told of it, and when, comes later."""
        if self.first is None:
            return
        buffer = buffer_of(life, self._payload, self._tables.pop(life.number, None))
        status = -1 if life.status is None else life.status
        self._lives.append(_Ended(life, buffer, operation(life), status, *range_of(life)))
        life.readable, life.writable = [], []

    def _at(self, moment: At | None) -> int:
        if moment is None:
            return NONE
        at = moment.number - (self.first or 0)
        return at if at >= 0 else NONE

    def _buffers(self) -> tuple[Table, Texts]:
        """All buffers in the order in which they were taken, and what else there is to say of each, as JSON."""
        numbers = {
            "number": "I",
            "device": "H",
            "queue": "H",
            "head": "I",
            "session": "H",
            "op": "B",
            "status": "i",
        }
        amounts = {"offset": "d", "length": "d", "written": "d", "flags": "B"}
        moments = dict.fromkeys(("kicked", "taken", "used", "notified", "interrupt"), "I")
        table = Table(**numbers, **amounts, **moments)
        details = Texts()
        for ended in sorted(self._lives, key=lambda each: each.life.number):
            life, buffer = ended.life, ended.buffer
            for part in life.parts:
                self.below.belongs(part.submitted.number, len(table))
            buffer.violations = violations_of(life)
            first = self.first or 0
            buffer.events = [number - first for number in life.events if number >= first]
            details.add(msgspec.json.encode(buffer).decode())
            table.add(
                life.number,
                self.sources.number(life.device),
                life.queue,
                life.head,
                life.session,
                self.below.operations.number(ended.op),
                ended.status,
                ended.offset,
                ended.length,
                life.written,
                _flags(life, buffer),
                self._at(life.kicked),
                max(life.taken.number - first, 0),
                *map(self._at, (life.used, life.notified, life.interrupt)),
            )
        return table, details

    def pack(self) -> tuple[Pack, dict[str, object]]:
        """Everything: tables of numbers, and the names and facts that go with them."""
        buffers, details = self._buffers()
        pack = Pack()
        pack.table("events", self.events)
        pack.texts("eventTexts", self.texts)
        pack.table("requests", buffers)
        pack.texts("requestDetails", details)
        self.below.pack(pack)
        statuses = {int(number) for number in buffers["status"]}
        return pack, {
            "first": self.first or 0,
            "kinds": [kind.value for kind in EventKind],
            "sources": self.sources.names,
            "operations": self.below.operations.names,
            "nodes": [node.rsplit("\n", 1) for node in self.below.nodes.names],
            "devices": self.devices,
            "statuses": {str(number): names.status(number) for number in statuses if number >= 0},
            "failures": [number for number in statuses if number >= 0 and names.is_failure(number)],
            "errors": {str(number): names.error(number) for number in self.below.errors()},
            "payload": self._payload,
        }


def _flags(life: Life, buffer: Buffer) -> int:
    merged = any(len(part.served_with) > 1 for part in life.parts)
    return bool(life.violations) * _VIOLATED | merged * _MERGED | (buffer.table is not None) * _INDIRECT
