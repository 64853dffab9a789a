"""Which events can be taken apart.  A reader has judged their types; numbers may still be such as no device writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from devmodels.trace import EventKind, TraceEvent

_LIMIT = 1 << 64
_SIZES = (1, 2, 4, 8)
_MAX_ENTRIES = 32768
_ACCESSES = (EventKind.ACCESS_READ, EventKind.ACCESS_VALUE, EventKind.ACCESS_WRITE)
_WITH_MINUS_ONE = (
    EventKind.KICK,
    EventKind.RESET,
    EventKind.NOTIFY,
    EventKind.NODE_BEGIN,
    EventKind.REQUEST,
    EventKind.UPDATE,
)


def is_possible(event: TraceEvent) -> bool:
    """Whether the event's numbers are those that an event of its kind can have."""
    kind, detail = event.kind, event.detail
    least = -1 if kind in _WITH_MINUS_ONE else 0
    for value in detail:
        if isinstance(value, int) and not least <= value < _LIMIT:
            return False
    if kind in _ACCESSES:
        return detail[1] in _SIZES
    if kind is EventKind.QUEUE:
        return int(detail[1]) <= _MAX_ENTRIES
    if kind is EventKind.CHAIN:
        return int(detail[2]) <= (len(detail) - 3) // 2
    return True


def possible(events: Iterable[TraceEvent]) -> Iterator[TraceEvent]:
    """The events that can be taken apart."""
    return (event for event in events if is_possible(event))
