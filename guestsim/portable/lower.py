"""Lowering: from the events of a trace to requests with their memory, in the order in which the device took them.

A request comes out when those taken before it are over, with all that is known of it; what is held meanwhile is
bounded.  Whoever feeds it makes it available after everything that was used before the device took it (`after`), and
may do so while the others are in flight: recorded order and concurrency are kept, and nothing that the recorded guest
could rely on is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from devmodels.trace import EventKind, TraceEvent
from guestsim.drivers.layouts import BLK_HEADER, Feature
from guestsim.portable.content import WHILE_WRITTEN, Clash, Content, Touch, touch_of
from guestsim.portable.ranges import RangeMap
from guestsim.portable.requests import (
    ConfigRead,
    ConfigWrite,
    Item,
    Request,
    Reset,
    Resize,
    Session,
    Unknown,
)
from guestsim.story import lives

if TYPE_CHECKING:
    from guestsim.life import Life

MAX_BYTES = 16 << 20
"""The longest request that is fed."""
HELD_BYTES = 64 << 20
HELD_ITEMS = 1 << 16
"""What is held of requests that are over while an earlier one is in flight."""

NOT_ANSWERED = "never answered in the trace"
NO_FORM = "without a whole header or without room for a status: what comes of it is the device's choice"
NO_STATUS = "given back without a status"
OUTSIDE = "with a piece outside the guest's memory"
TOO_LONG = f"longer than {MAX_BYTES >> 20} MiB"
TOO_LATE = "answered too long after it was made available"
DISK_FAILED = "the recorded disk failed it"

Lacks = Callable[[Request], str]
"""Why a request cannot be fed to a target; empty where it can."""


def feed_all(_request: Request) -> str:
    """A target that takes everything."""
    return ""


@dataclass(slots=True)
class SessionFacts:
    """What is seen of a driver's session: queues that were set up, and their largest size."""

    features: int = 0
    queues: int = 0
    queue_size: int = 0


@dataclass(slots=True, eq=False)
class _Slot:
    """A place in the order; `item` is filled in when it is known, and goes out when nothing about it is open."""

    item: Item | None = None
    open: int = 0


@dataclass(slots=True, eq=False)
class _Flight:
    """A buffer in flight: its place, where it clashed with others, and those that were over before it was known."""

    life: Life
    slot: _Slot
    outside: bool = False
    gone: bool = False
    clashes: list[Clash] = field(default_factory=list)
    asked: list[tuple[Request, Touch, _Slot]] = field(default_factory=list)
    _touch: Touch | None = None

    def touch(self) -> Touch | None:
        """What of the disk it is about, as soon as that is known."""
        if self._touch is None:
            self._touch = touch_of(self.life)
        return self._touch


class Lowering:
    """Lowers the buffers of `device`, which reaches `memory`.

    `sessions` grows to what is seen of its drivers, by number; `known` are those of an earlier pass over all of it.
    `lacks` says what cannot be fed.
    """

    def __init__(
        self,
        device: str,
        content: Content,
        *,
        memory: str = "memory",
        known: dict[int, SessionFacts] | None = None,
        lacks: Lacks = feed_all,
    ) -> None:
        self.sessions: dict[int, SessionFacts] = {}
        self._device = device
        self._memory = memory
        self._regions: RangeMap[bool] | None = None
        """Where there is memory, and whether it can only be read; None until that is known."""
        self._content = content
        self._known = known
        self._lacks = lacks
        self._session = 0
        self._live = 0
        self._slots: deque[_Slot] = deque()
        self._flights: dict[int, _Flight] = {}
        self._held = 0
        self._kinds: dict[EventKind, Callable[[TraceEvent], None]] = {
            EventKind.FEATURES: self._features,
            EventKind.QUEUE: self._queue,
            EventKind.RESET: self._reset,
            EventKind.DRIVER_LEFT: self._left,
            EventKind.CONFIG_READ: self._config_read,
            EventKind.CONFIG_WRITE: self._config_write,
            EventKind.SIZE: self._size,
        }

    def items(self, events: Iterable[TraceEvent]) -> Iterator[Item]:
        """The trace, lowered."""
        for life in lives(self._watched(events), self._taken):
            if life.device == self._device:
                self._ended(life)
                yield from self._ready()
        yield from self._ready(last=True)

    def _watched(self, events: Iterable[TraceEvent]) -> Iterator[TraceEvent]:
        for event in events:
            yield event
            if event.source == self._device:
                note = self._kinds.get(event.kind)
                if note is not None:
                    note(event)
            elif event.kind is EventKind.MEMORY and event.source == self._memory:
                self._map(event)

    def _map(self, event: TraceEvent) -> None:
        regions: RangeMap[bool] = RangeMap()
        numbers = [int(number) for number in event.detail]
        for base, size, read_only in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
            regions.set(base, base + size, bool(read_only))
        self._regions = regions

    # --- what comes between requests

    def _features(self, event: TraceEvent) -> None:
        self._session += 1
        (features,) = event.detail
        self.sessions[self._session] = SessionFacts(int(features))

    def _queue(self, event: TraceEvent) -> None:
        queue, size = int(event.detail[0]), int(event.detail[1])
        facts = self.sessions.setdefault(self._session, SessionFacts())
        facts.queues = max(facts.queues, queue + 1)
        facts.queue_size = max(facts.queue_size, size)

    def _reset(self, event: TraceEvent) -> None:
        queue = int(event.detail[0])
        if self._live:
            self._slots.append(_Slot(Reset(event.number, queue)))
            if queue == -1:
                self._live = 0

    def _left(self, event: TraceEvent) -> None:
        if self._live:
            self._slots.append(_Slot(Reset(event.number, -1)))
            self._live = 0

    def _config_read(self, event: TraceEvent) -> None:
        offset, data = event.detail
        self._slots.append(_Slot(ConfigRead(event.number, int(offset), bytes(data))))  # type: ignore[arg-type]

    def _config_write(self, event: TraceEvent) -> None:
        offset, data = event.detail
        if self._session:
            self._go_live(event.number)
            self._slots.append(_Slot(ConfigWrite(event.number, int(offset), bytes(data))))  # type: ignore[arg-type]

    def _size(self, event: TraceEvent) -> None:
        self._slots.append(_Slot(Resize(event.number, int(event.detail[0]))))

    def _go_live(self, number: int) -> None:
        """A session begins with the first thing that comes of it."""
        if self._live != self._session or not self._live:
            self._live = self._session
            facts = (self._known or self.sessions).get(self._session, SessionFacts())
            session = Session(number, self._session, facts.features, facts.queues, facts.queue_size)
            self._slots.append(_Slot(session))

    # --- buffers

    def _taken(self, life: Life) -> None:
        if life.device != self._device:
            return
        self._go_live(life.taken.number)
        slot = _Slot()
        self._slots.append(slot)
        self._flights[life.number] = _Flight(life, slot, outside=self._is_outside(life))

    def _is_outside(self, life: Life) -> bool:
        """Whether a piece lies where the device cannot reach it; not known where addresses are translated."""
        regions = self._regions
        if regions is None or life.features >> Feature.ACCESS_PLATFORM & 1:
            return False
        for pieces, writing in ((life.readable, False), (life.writable, True)):
            for piece in pieces:
                start, end = piece.address, piece.address + piece.length
                if regions.gaps(start, end) or (writing and any(one[2] for one in regions.find(start, end))):
                    return True
        return False

    def _ended(self, life: Life) -> None:
        flight = self._flights.pop(life.number)
        touch = flight.touch() or Touch()
        request = self._request(flight)
        if flight.gone:
            request.skip = TOO_LATE
        else:
            flight.slot.item = request
            self._held += request.nbytes
        for earlier, theirs, slot in flight.asked:
            clashes = theirs.clash(touch)
            _mask(earlier, theirs, clashes)
            flight.clashes += clashes
            slot.open -= 1
        self._meet(flight, touch, request)
        self._content.ended(request, touch, flight.clashes)
        _mask(request, touch, flight.clashes)

    def _meet(self, flight: _Flight, touch: Touch, request: Request) -> None:
        """What else is in flight clashes with it where one of both writes what the other touches."""
        for other in self._flights.values():
            theirs = other.touch()
            if theirs is None:
                other.asked.append((request, touch, flight.slot))
                flight.slot.open += 1
                continue
            for clash in touch.clash(theirs):
                flight.clashes.append(clash)
                other.clashes.append(clash)

    def _request(self, flight: _Flight) -> Request:
        life = flight.life
        readable = [piece for piece in life.readable if piece.length]
        writable = [piece.length for piece in life.writable if piece.length]
        length = sum(piece.length for piece in readable) + sum(writable)
        request = Request(
            number=life.taken.number,
            queue=life.queue,
            head=life.head,
            session=life.session,
            kick=life.kicked.number if life.kicked is not None else -1,
            readable=[piece.data for piece in readable] if length <= MAX_BYTES else [],
            writable=writable,
            used=life.used.number if life.used is not None else None,
            used_length=life.written,
            violations=[clause for clause, *_ in life.violations],
            failed=any(part.errno or part.done_errno for part in life.parts),
        )
        if length <= MAX_BYTES and writable:
            request.status = life.status
            request.answer = life.answer[:-1] if life.used is not None else b""
        request.skip = self._why_not(request, flight, length) or self._lacks(request)
        return request

    def _why_not(self, request: Request, flight: _Flight, length: int) -> str:
        if flight.life.used is None:
            return NOT_ANSWERED
        if length > MAX_BYTES:
            return TOO_LONG
        if sum(map(len, request.readable)) < BLK_HEADER.size or not request.writable:
            return NO_FORM
        if flight.outside:
            return OUTSIDE
        if request.status is None:
            return NO_STATUS
        return DISK_FAILED if request.failed else ""

    # --- out

    def _ready(self, *, last: bool = False) -> Iterator[Item]:
        slots = self._slots
        while slots:
            slot = slots[0]
            if slot.item is None or slot.open:
                if not last and self._held <= HELD_BYTES and len(slots) <= HELD_ITEMS:
                    return
                self._give_up(slot)
            slots.popleft()
            if slot.item is not None:
                if isinstance(slot.item, Request):
                    self._held -= slot.item.nbytes
                yield slot.item

    def _give_up(self, slot: _Slot) -> None:
        """Too much is held for one that is not over, or not certain: it goes out as it is."""
        slot.open = 0
        if isinstance(slot.item, Request):
            slot.item.unknown.append(Unknown(0, slot.item.data_length, WHILE_WRITTEN))
            return
        flight = next(one for one in self._flights.values() if one.slot is slot)
        flight.gone = True
        request = self._request(flight)
        request.skip = TOO_LATE
        self._held += request.nbytes
        slot.item = request
        touch = flight.touch()
        if touch is None:
            self._content.lost()
        else:
            for start, end in touch.writes:
                self._content.undefined.set(start, end, TOO_LATE)


def _mask(request: Request, touch: Touch, clashes: Iterable[Clash]) -> None:
    """What a read got where something wrote at the same time is not compared."""
    if touch.reads is not None:
        start, end = touch.reads
        for first, last, _ in clashes:
            if start < last and first < end:
                request.unknown.append(
                    Unknown(max(first, start) - start, min(last, end) - start, WHILE_WRITTEN)
                )
