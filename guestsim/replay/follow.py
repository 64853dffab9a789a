"""Following a trace: what the device does is compared with what comes next in the file.

A `Follower` stands where a `Tracer` stands while recording.  Where the two part it raises `Parted`, which no device
catches: nothing is done any more after that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, Protocol

from devmodels.trace import UNCOMPARED, EventKind, TraceEvent, Tracer
from devmodels.tracefile import TraceFileError

_UNCOMPARED = tuple(UNCOMPARED)
"""Looked through by identity: an enumeration's hash is a call."""


class Frames(Protocol):
    """What is followed (`TraceReader`)."""

    @property
    def path(self) -> Path:
        """What messages call it."""
        ...

    def frames(self) -> Iterator[list[TraceEvent]]:
        """The events, many at a time."""
        ...


Happening = tuple[str, EventKind, tuple[int | str | bytes, ...]]
"""What the device did: source, kind, details, as in a `TraceEvent`."""


class Parted(BaseException):
    """The device does something else than the trace has; the follower knows what (`parting`)."""


class Unreadable(BaseException):
    """The trace cannot be followed any further; `error` says why."""

    def __init__(self, error: TraceFileError) -> None:
        super().__init__(str(error))
        self.error = error


class Ended(BaseException):
    """The trace is over, and the device still does something: a recording may end anywhere."""


class Follower(Tracer):
    """The place in a trace, and the comparison."""

    __slots__ = ("_at", "_events", "_frames", "_last", "_path", "parting")

    def __init__(self, trace: Frames) -> None:
        super().__init__(lambda: 0)
        self._path = trace.path
        self._frames = iter(trace.frames())
        self._events: list[TraceEvent] = []
        self._at = 0
        self._last: TraceEvent | None = None
        """The last event of the frame before."""
        self.parting: tuple[TraceEvent, Happening | str] | None = None
        """Where the two have parted: what should have come, and what the device did."""

    @property
    def number(self) -> int:
        """The next event's number."""
        if self._at < len(self._events):
            return self._events[self._at].number
        last = self.previous()
        return 0 if last is None else last.number + 1

    def time_ns(self) -> int:
        """The next event's time; at the end, the last one's."""
        event = self._events[self._at] if self._at < len(self._events) else self.previous()
        return 0 if event is None else event.time_ns

    def _next(self) -> TraceEvent | None:
        """The next event that is compared, or None at the end."""
        while True:
            while self._at < len(self._events):
                event = self._events[self._at]
                if event[3] not in _UNCOMPARED:
                    return event
                self._at += 1
            try:
                events = next(self._frames)
            except StopIteration:
                return None
            except TraceFileError as error:
                # Past whoever handles errors in between.
                raise Unreadable(error) from None
            self._last = self.previous()
            self._events = events
            self._at = 0

    def peek(self) -> TraceEvent | None:
        """The next event that is compared, or None at the end."""
        at = self._at
        events = self._events
        if at < len(events):
            event = events[at]
            if event[3] not in _UNCOMPARED:
                return event
        return self._next()

    def previous(self) -> TraceEvent | None:
        """The event that came last."""
        return self._events[self._at - 1] if self._at else self._last

    def skip(self) -> None:
        """The next event has been dealt with."""
        self._at += 1

    # --- what the device does

    def emit(self, source: str, kind: EventKind, *detail: int | str | bytes) -> None:
        """The device has something to say: the trace has to say the same next."""
        try:
            event = self._events[self._at]
        except IndexError:
            pass
        else:
            if event[3] is kind and event[2] == source and event[4] == detail:
                self._at += 1
                return
        self._compare(source, kind, detail)

    def _run(self, callback: Callable[[], None]) -> None:
        at = self.number
        callback()
        if self.number == at:
            self.emit("context", EventKind.TURN)

    def _compare(self, source: str, kind: EventKind, detail: tuple[int | str | bytes, ...]) -> None:
        if kind in _UNCOMPARED:
            return
        if self._expected()[2:] != (source, kind, detail):
            self.part((source, kind, detail))
        self._at += 1

    def _expected(self) -> TraceEvent:
        """The next event; where there is none, whatever the device does is beyond the trace."""
        if self.parting is not None:
            raise Parted
        event = self._next()
        if event is None:
            raise Ended
        return event

    def part(self, got: Happening | str) -> NoReturn:
        """The device does `got`, which is not what comes next; what it does on its way out is not looked at."""
        self.parting = self._expected(), got
        self._frames = iter(())
        self._events = []
        self._at = 0
        raise Parted

    def unfit(self, text: str) -> NoReturn:
        """The next event cannot be one of this trace; `text` says what is wrong."""
        raise Unreadable(TraceFileError(f"{self._path}: event {self.number}: {text}"))

    def read(self, memory: str, address: int, length: int) -> bytes:
        """The device reads guest memory: what did it find there?"""
        event = self.peek()
        if event is None:
            event = self._expected()
        at, data = event[4] if event[3] is EventKind.DMA_READ and event[2] == memory else (-1, b"")
        if at != address or len(data) != length:  # type: ignore[arg-type]
            self.part(f"{memory} {EventKind.DMA_READ.value}  {length} bytes at {address:#x}")
        self._at += 1
        return data  # type: ignore[return-value]

    def fault(self, memory: str, address: int, length: int, write: int) -> tuple[int, int, str] | None:
        """Where memory behind an IOMMU was missing, how many bytes, and why; None where it was there."""
        event = self.peek()
        if event is None or event[3] is not EventKind.FAULT or event[2] != memory:
            return None
        at, missing, reason = event[4][3:]
        if event[4][:3] != (address, length, write):
            return None
        return at, missing, reason  # type: ignore[return-value]
