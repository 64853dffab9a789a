"""Logs for tests: what a format reads and writes in one call, and any stream of requests at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec
from hypothesis import strategies as st

from devmodels.blockbackend.request import Flags, Op
from guestsim.blocklog.events import SECTOR, Begin, Data, End, Event, Lines, Losses

Reader = Callable[[Lines, Losses], Iterator[Event]]


def read(reader: Reader, text: str) -> list[Event]:
    """The events in a text, of which nothing may be left out."""
    losses = Losses()
    events = list(reader(Lines(text.splitlines(keepends=True), "log"), losses))
    assert not losses
    return events


def begins(events: Iterable[Event]) -> list[Begin]:
    """The requests alone."""
    return [event for event in events if isinstance(event, Begin)]


def ends(events: Iterable[Event]) -> list[End]:
    """How they ended."""
    return [event for event in events if isinstance(event, End)]


def order(events: Iterable[Event]) -> list[tuple[str, int]]:
    """What began and ended, in order."""
    return [("begin" if isinstance(event, Begin) else "end", event.number) for event in events]


def plain(event: Event) -> Event:
    """The same without what only some formats tell: time, disk, data, flags, queue."""
    if isinstance(event, End):
        return End(event.number, 0)
    return Begin(event.number, 0, event.op, event.offset, event.length)


def since_first(events: Iterable[Event]) -> list[Event]:
    """The same events, with times from the first on."""
    events = list(events)
    first = events[0].time_ns if events else 0
    return [msgspec.structs.replace(event, time_ns=event.time_ns - first) for event in events]


@st.composite
def streams(
    draw: st.DrawFn,
    *,
    ops: tuple[Op, ...] = tuple(op for op in Op if op <= Op.SECURE_ERASE),
    disks: tuple[str, ...] = ("",),
    step_ns: int = 1,
    flags: bool = True,
    data: st.SearchStrategy[Data] | None = None,
    errors: tuple[int, ...] = (0,),
    alike: bool = True,
    unit: int = SECTOR,
) -> list[Event]:
    """Requests that begin and end one after the other and beside one another, all of them; times never go back.

    Without `alike`, no two are under way that begin at one place.
    """
    events: list[Event] = []
    running: list[Begin] = []
    now = 0
    for number in range(draw(st.integers(0, 12))):
        now += draw(st.integers(0, 5)) * step_ns
        op = draw(st.sampled_from(ops))
        sized = op is not Op.FLUSH
        begin = Begin(
            number,
            now,
            op,
            draw(st.integers(0, 1 << 20)) * unit if sized else 0,
            draw(st.integers(1, 256)) * unit if sized else 0,
            draw(st.sampled_from(disks)),
            _flags(draw, op) if flags else Flags.NONE,
            draw(data) if data is not None and op in (Op.READ, Op.WRITE) else None,
        )
        if not alike and any((one.op, one.offset) == (op, begin.offset) for one in running):
            continue
        events.append(begin)
        running.append(begin)
        for _ in range(draw(st.integers(0, len(running)))):
            now += draw(st.integers(0, 5)) * step_ns
            events.append(_end(draw, running, now, errors))
    while running:
        events.append(_end(draw, running, now, errors))
    return _numbered(events)


def _end(draw: st.DrawFn, running: list[Begin], now: int, errors: tuple[int, ...]) -> End:
    begin = running.pop(draw(st.integers(0, len(running) - 1)))
    return End(begin.number, now, draw(st.sampled_from(errors)))


def _flags(draw: st.DrawFn, op: Op) -> Flags:
    if op is Op.WRITE:
        return draw(st.sampled_from((Flags.NONE, Flags.FUA)))
    if op is Op.WRITE_ZEROES:
        return draw(st.sampled_from((Flags.NONE, Flags.MAY_UNMAP, Flags.FUA, Flags.FUA | Flags.MAY_UNMAP)))
    return Flags.NONE


def _numbered(events: list[Event]) -> list[Event]:
    """The same with numbers from 0 on, as a reader gives them."""
    numbers = {begin.number: number for number, begin in enumerate(begins(events))}
    return [msgspec.structs.replace(event, number=numbers[event.number]) for event in events]
