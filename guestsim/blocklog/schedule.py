"""When each request of a log begins again.

Whatever the pace: a request waits for those under way that touch the same bytes, where one of them changes them, so
that what is left on the disk does not hang on who is faster.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator

from devmodels.blockbackend.request import Op
from guestsim.blocklog.events import Begin, End, Event

MOST = 4096
"""So many are under way at most."""

_CHANGING = frozenset({Op.WRITE, Op.DISCARD, Op.WRITE_ZEROES, Op.SECURE_ERASE})


class Schedule:
    """The requests of `events` as they may begin.

    `speed` says how many times as fast as recorded; None: as fast as it goes.  Without `depth` a request waits for all
    that had ended before it began in the log; with it, that many are under way, in whatever order they end.
    `on_end` is told how each request ended in the log.
    """

    def __init__(
        self,
        events: Iterator[Event],
        *,
        speed: float | None = 1.0,
        depth: int | None = None,
        on_end: Callable[[End], None] | None = None,
    ) -> None:
        self._events = events
        self._speed = speed
        self._ordered = depth is None
        self._most = MOST if depth is None else depth
        self._on_end = on_end
        self._event = next(events, None)
        self._told = False
        self._first_ns = 0 if self._event is None else self._event.time_ns
        self._start_ns: int | None = None
        self.running: dict[int, Begin] = {}
        self._reading = _Extents()
        self._changing = _Extents()
        self.late_ns = 0
        """How long after its time the last request began."""

    @property
    def over(self) -> bool:
        """Whether everything has ended."""
        return self._event is None and not self.running

    def step(self, now_ns: int) -> Begin | int | None:
        """A request that begins now; or else when the next one may, at the earliest; or None: when another has ended.

        Not to be called when all is over.
        """
        if self._start_ns is None:
            self._start_ns = now_ns
        while (event := self._event) is not None:
            if isinstance(event, End):
                if self._on_end is not None and not self._told:
                    self._told = True
                    self._on_end(event)
                if self._ordered and event.number in self.running:
                    return None
                self._next()
                continue
            if len(self.running) >= self._most or self._in_the_way(event):
                return None
            if self._speed is not None:
                due = self._start_ns + round((event.time_ns - self._first_ns) / self._speed)
                if due > now_ns:
                    return due
                self.late_ns = now_ns - due
            self._next()
            self.running[event.number] = event
            if event.length:
                self._touched(event).add(event)
            return event
        return None

    def _next(self) -> None:
        self._event = next(self._events, None)
        self._told = False

    def _in_the_way(self, begin: Begin) -> bool:
        if not begin.length:
            return False
        return self._changing.touch(begin) or (begin.op in _CHANGING and self._reading.touch(begin))

    def _touched(self, begin: Begin) -> _Extents:
        return self._changing if begin.op in _CHANGING else self._reading

    def ended(self, begin: Begin) -> None:
        """A request has ended."""
        del self.running[begin.number]
        if begin.length:
            self._touched(begin).remove(begin)


class _Extents:
    """Which bytes some requests touch, in order, so that a request is held against its neighbours only."""

    __slots__ = ("_found", "_longest")

    def __init__(self) -> None:
        self._found: list[tuple[int, int]] = []
        """Where each begins and ends."""
        self._longest = 0

    def add(self, begin: Begin) -> None:
        """One more."""
        insort(self._found, (begin.offset, begin.offset + begin.length))
        self._longest = max(self._longest, begin.length)

    def remove(self, begin: Begin) -> None:
        """One that was added is over."""
        del self._found[bisect_left(self._found, (begin.offset, begin.offset + begin.length))]

    def touch(self, begin: Begin) -> bool:
        """Whether any of them touches a byte of this one."""
        at = bisect_left(self._found, (begin.offset + begin.length, 0))
        while at:
            at -= 1
            start, end = self._found[at]
            if end > begin.offset:
                return True
            if start + self._longest <= begin.offset:
                return False
        return False
