"""What the details of each kind of event look like: an event that is otherwise is not taken apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from devmodels.trace import EventKind, TraceEvent

_LIMIT = 1 << 64
_SIZES = (1, 2, 4, 8)
_MAX_ENTRIES = 32768
_ACCESSES = (EventKind.ACCESS_READ, EventKind.ACCESS_VALUE, EventKind.ACCESS_WRITE)

SHAPES: dict[EventKind, tuple[str, str]] = {
    EventKind.DEVICE: ("s", ""),
    EventKind.ACCESS_READ: ("nn", ""),
    EventKind.ACCESS_VALUE: ("nnn", ""),
    EventKind.ACCESS_WRITE: ("nnn", ""),
    EventKind.MACHINE_RESET: ("", ""),
    EventKind.MEMORY: ("", "nnn"),
    EventKind.FEATURES: ("n", ""),
    EventKind.CONFIG_READ: ("nb", ""),
    EventKind.CONFIG_WRITE: ("nb", ""),
    EventKind.AGAIN: ("n", "n"),
    EventKind.QUEUE: ("nnnnnnn", ""),
    EventKind.ENABLE: ("nn", ""),
    EventKind.MOVED: ("nnnn", ""),
    EventKind.KICK: ("ni", ""),
    EventKind.LOOK: ("n", ""),
    EventKind.STOP: ("n", ""),
    EventKind.RESET: ("i", ""),
    EventKind.DRIVER_LEFT: ("", ""),
    EventKind.CHAIN: ("nnn", "nn"),
    EventKind.USED: ("nnn", ""),
    EventKind.NOTIFY: ("i", ""),
    EventKind.DMA_READ: ("nb", ""),
    EventKind.DMA_WRITE: ("nb", ""),
    EventKind.REQUEST: ("nsnnnn", ""),
    EventKind.DISPATCH: ("nsnnn", "n"),
    EventKind.DONE: ("nnb", ""),
    EventKind.COMPLETION: ("nn", ""),
    EventKind.SIZE: ("nn", ""),
    EventKind.QUIESCE: ("n", ""),
    EventKind.RUN_STATE: ("n", ""),
    EventKind.INTERRUPT: ("nn", ""),
    EventKind.VIOLATION: ("sssb", ""),
    EventKind.TURN: ("", ""),
    EventKind.NODE_BEGIN: ("nnisssnnn", ""),
    EventKind.NODE_END: ("nn", ""),
}
"""What comes once, and what is repeated: a number from 0 below 2**64 (`n`), one that may be -1 (`i`), text, bytes."""


def fits(event: TraceEvent) -> bool:
    """Whether the event's details are those of its kind."""
    once, repeated = SHAPES[event.kind]
    detail = event.detail
    rest = len(detail) - len(once)
    if rest < 0 or (rest % len(repeated) if repeated else rest):
        return False
    codes = once + repeated * (rest // len(repeated)) if rest else once
    for code, value in zip(codes, detail, strict=True):
        kind = type(value)
        if code == "n":
            if (kind is not bool and kind is not int) or not 0 <= value < _LIMIT:  # type: ignore[operator]
                return False
        elif code == "b":
            if kind is not bytes:
                return False
        elif code == "s":
            if kind is not str:
                return False
        elif kind is not int or not -1 <= value < _LIMIT:  # type: ignore[operator]
            return False
    return _is_possible(event)


def _is_possible(event: TraceEvent) -> bool:
    """Whether numbers that others are computed with are what they can be."""
    kind, detail = event.kind, event.detail
    if kind in _ACCESSES:
        return detail[1] in _SIZES
    if kind is EventKind.QUEUE:
        return int(detail[1]) <= _MAX_ENTRIES
    if kind is EventKind.CHAIN:
        return int(detail[2]) <= (len(detail) - 3) // 2
    return True


def sound(events: Iterable[TraceEvent]) -> Iterator[TraceEvent]:
    """The events that fit."""
    return (event for event in events if fits(event))
