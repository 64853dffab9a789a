"""Which events of a trace are shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from devmodels.trace import EventKind, TraceEvent
from guestsim.show.describe import Describer
from guestsim.show.words import Seen

_NS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_TIME = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)(?P<unit>ns|us|µs|ms|s|)")


class QueryError(ValueError):
    """What a user asks of a trace makes no sense; the text is one line."""


class Range:
    """From a number up to another one, both included; None is no bound."""

    __slots__ = ("first", "last")

    def __init__(self, first: int | None = None, last: int | None = None) -> None:
        self.first = first
        self.last = last

    def __contains__(self, number: int) -> bool:
        return not self.before(number) and not self.after(number)

    def before(self, number: int) -> bool:
        """Whether `number` comes before it."""
        return self.first is not None and number < self.first

    def after(self, number: int) -> bool:
        """Whether `number` comes after it."""
        return self.last is not None and number > self.last


def event_range(text: str) -> Range:
    """`FROM..TO`, `FROM..`, `..TO` or `N`, in events; QueryError where it is none."""
    return _range(text, int, r"[0-9]+", "numbers of events, as 100..200")


def time_range(text: str) -> Range:
    """The same of times since the trace's beginning, in seconds or with ns, us, ms or s; in ns.  QueryError."""
    return _range(text, _nanoseconds, _TIME.pattern, "times since the beginning, as 1.5..2 or 300us..")


def _range(text: str, convert: Callable[[str], int], number: str, expected: str) -> Range:
    first, dots, last = text.partition("..")
    ends = (first, last if dots else first)
    if not (first or last) or not all(not end or re.fullmatch(number, end) for end in ends):
        raise QueryError(f"range {text!r} is given; expected {expected}")
    low, high = (convert(end) if end else None for end in ends)
    if low is not None and high is not None and high < low:
        raise QueryError(f"range {text!r} is given; expected a first one that is not after the last")
    return Range(low, high)


def _nanoseconds(text: str) -> int:
    found = _TIME.fullmatch(text)
    assert found is not None
    whole, _, part = found["number"].partition(".")
    scale = _NS[found["unit"] or "s"]
    nanoseconds: int = int(whole) * scale + int(part or "0") * scale // 10 ** len(part)
    return nanoseconds


def kinds(patterns: Sequence[str]) -> frozenset[EventKind]:
    """The kinds that a user names, as `kick` or `dma-*`; QueryError where there is none."""
    found: set[EventKind] = set()
    for pattern in patterns:
        named = {kind for kind in EventKind if fnmatchcase(kind.value, pattern)}
        if not named:
            known = ", ".join(kind.value for kind in EventKind)
            raise QueryError(f"kind {pattern!r} is given; expected one or more of {known}")
        found |= named
    return frozenset(found)


def pattern(text: str) -> re.Pattern[str]:
    """A regular expression; QueryError where it is none."""
    try:
        return re.compile(text)
    except re.error as error:
        raise QueryError(f"--grep {text!r} is given; expected a regular expression ({error})") from None


@dataclass(slots=True)
class Filter:
    """What a user wants to see; what is empty lets everything through.

    `registers` are globs (`*` and `?`) of a register's whole name or its last part.  Times are in ns from the trace's
    first event.
    """

    devices: Sequence[str] = ()
    queues: Sequence[int] = ()
    registers: Sequence[str] = ()
    kinds: frozenset[EventKind] = frozenset()
    times: Range = field(default_factory=Range)
    events: Range = field(default_factory=Range)
    grep: re.Pattern[str] | None = None
    request: int | None = None

    def __post_init__(self) -> None:
        # Brackets are part of names.
        self.registers = [glob.replace("[", "[[]") for glob in self.registers]

    @property
    def is_range(self) -> bool:
        """Whether nothing but times and numbers of events is asked for."""
        return Filter(times=self.times, events=self.events) == self

    def of_event(self, event: TraceEvent, time_ns: int) -> bool:
        """Whether number, time and kind are wanted."""
        return (
            (not self.kinds or event.kind in self.kinds)
            and event.number in self.events
            and time_ns in self.times
        )

    def over(self, event: TraceEvent, time_ns: int) -> bool:
        """Whether nothing more will come that is wanted."""
        return self.events.after(event.number) or self.times.after(time_ns)

    def of_words(self, seen: Seen) -> bool:
        """Whether what the event is about is wanted."""
        return (
            (not self.devices or seen.device in self.devices or seen.event.source in self.devices)
            and (not self.queues or seen.queue in self.queues)
            and (not self.registers or any(self._named(name) for name in seen.registers))
            and (self.grep is None or self.grep.search(seen.text) is not None)
        )

    def _named(self, name: str) -> bool:
        base = name.partition(":")[0]
        last = base.rpartition(".")[2]
        return any(fnmatchcase(each, glob) for glob in self.registers for each in (name, base, last))


def shown(events: Iterable[TraceEvent], wanted: Filter) -> Iterator[tuple[Seen, int]]:
    """The events that are wanted, each with its time in ns since the first of the trace.

    An event is to be read before the next one is asked for.  QueryError where `wanted.request` is not there.
    """
    describer = Describer()
    watch = None if wanted.request is None else RequestWatch(events, wanted.request)
    start: int | None = None
    for event in events:
        start = event.time_ns if start is None else start
        time_ns = event.time_ns - start
        if wanted.over(event, time_ns):
            return
        seen = describer.see(event)
        if watch is not None and not watch.concerns(seen):
            if watch.over:
                return
            continue
        if wanted.of_event(event, time_ns) and wanted.of_words(seen):
            yield seen, time_ns


class RequestWatch:
    """The events of one buffer: from the notification before it, and its ring entries, to its interrupt.

    `events` are read up to where the buffer is taken, and have to be read again: a trace's reader can.
    """

    def __init__(self, events: Iterable[TraceEvent], number: int) -> None:
        self.over = False
        self._number = number
        self._used = False
        self._told = False
        describer = Describer()
        kicks: dict[tuple[str, int | None], int] = {}
        count = 0
        for event in events:
            seen = describer.see(event)
            if event.kind is EventKind.KICK:
                kicks[event.source, seen.queue] = event.number
            elif event.kind is EventKind.CHAIN:
                count += 1
                if number in seen.requests:
                    self._device, self._queue, self._head = event.source, seen.queue, seen.head
                    self._taken = event.number
                    self._kicked = kicks.get((event.source, seen.queue), event.number)
                    return
        raise QueryError(f"request {number} is given; the trace has {count}, from 0 on")

    def concerns(self, seen: Seen) -> bool:
        """Whether the event belongs to the buffer."""
        event = seen.event
        number = event.number
        kind = event.kind
        if self._number in seen.requests:
            self._used = self._used or kind is EventKind.USED
            if kind in (EventKind.NOTIFY, EventKind.INTERRUPT):
                self._told = True
            return True
        if number < self._taken:
            return self._before(seen)
        same = (seen.device, seen.queue) == (self._device, self._queue)
        if same and kind is EventKind.CHAIN and seen.head == self._head:
            self.over = True
        if not self._used or self._told or not same:
            return False
        if kind is EventKind.DMA_WRITE:
            return seen.head == self._head or "idx" in _names(seen)
        # The driver's wish is read when what was given back has been shown.
        self._told = kind is EventKind.DMA_READ and _is_wish(seen)
        return self._told

    def _before(self, seen: Seen) -> bool:
        """Whether an event before the buffer was taken belongs to it."""
        event = seen.event
        if event.number == self._kicked:
            return True
        if event.number == self._kicked - 1:
            # The access that was the notification.
            return event.kind is EventKind.ACCESS_WRITE
        return (
            event.number > self._kicked
            and (seen.device, seen.queue, seen.head) == (self._device, self._queue, self._head)
            and event.kind is EventKind.DMA_READ
        )


def _names(seen: Seen) -> set[str]:
    return {each.name for each in seen.fields}


def _is_wish(seen: Seen) -> bool:
    """Whether it says what the driver wants to hear of (VIRTIO 1.4 §2.7.7, §2.8.10)."""
    if seen.place == "avail":
        return bool(_names(seen) & {"flags", "used_event"})
    return seen.place == "driver event"
