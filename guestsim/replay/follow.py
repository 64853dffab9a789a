"""Following a trace: what the device does is compared with what comes next in the file.

A `Follower` stands where a `Tracer` stands while recording.  Where the two part it raises `Parted`, which no device
catches: nothing is done any more after that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from devmodels.trace import UNCOMPARED, EventKind, TraceEvent, Tracer
from devmodels.tracefile import TraceFileError, TraceReader
from devmodels.tracefile.reader import RawFrame

_UNCOMPARED = tuple(UNCOMPARED)
"""Looked through by identity: an enumeration's hash is a call."""

Happening = tuple[str, EventKind, tuple[int | str | bytes, ...]]
"""What the device did: source, kind, details, as in a `TraceEvent`."""


def _not_gone(_source: str) -> bool:
    return False


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
    """The place in a trace, and the comparison.

    Events stay in columns, as the file has them: most of them are compared and never looked at again.
    """

    __slots__ = (
        "_at",
        "_details",
        "_first",
        "_frame",
        "_frames",
        "_kinds",
        "_reader",
        "_sources",
        "_starts",
        "_times",
        "dispatched",
        "gone",
        "parting",
        "paused",
    )

    def __init__(self, trace: TraceReader) -> None:
        super().__init__(lambda: 0)
        self._reader = trace
        self._frames = iter(trace.raw_frames())
        self._frame: RawFrame | None = None
        self._first = 0
        self._kinds: list[EventKind | None] = [None]
        """Those of the frame's events, and None behind them."""
        self._sources: list[str] = []
        self._details: list[tuple[int | str, ...]] = []
        self._starts: list[int] = [0]
        self._times: list[int] = [0]
        self._at = 0
        self.parting: tuple[TraceEvent, Happening | str] | None = None
        """Where the two have parted: what should have come, and what the device did."""
        self.paused = False
        """Whether nothing is compared: what devices do leads them to where the trace is to be followed."""
        self.dispatched = -1
        """The last dispatch meanwhile."""
        self.gone: Callable[[str], bool] = _not_gone
        """Whether a disk may be there no more; a replay does not see when one that is taken out has gone."""

    @property
    def number(self) -> int:
        """The next event's number."""
        return self._first + self._at

    def time_ns(self) -> int:
        """The next event's time; at the end, the last one's."""
        return self._times[min(self._at, len(self._times) - 1)]

    def _load(self) -> bool:
        """Go on to the next event that is compared, which may be in another frame; False at the end."""
        while True:
            kinds = self._kinds
            while (kind := kinds[self._at]) in _UNCOMPARED:
                self._at += 1
            if kind is not None:
                return True
            if not self._next_frame():
                return False

    def _next_frame(self) -> bool:
        """Stand at the beginning of the next frame; False, and nothing changed, where there is none."""
        try:
            frame = next(self._frames)
            self._starts = frame.starts
        except StopIteration:
            return False
        except TraceFileError as error:
            # Past whoever handles errors in between.
            raise Unreadable(error) from None
        known = self._reader.kinds
        self._frame, self._first = frame, frame.first
        self._kinds = [*[known[at] for at in frame.kinds], None]
        self._sources, self._details, self._times = frame.sources, frame.details, frame.times
        self._at = 0
        return True

    def pause(self) -> None:
        """Compare nothing until `go_on`."""
        self.paused = True
        self._frames = iter(())
        self._kinds, self._at = [None], 0

    def go_on(self, number: int) -> None:
        """Follow the trace from event `number` on."""
        self.paused = False
        self._frames = iter(self._reader.raw_frames(number))
        if self._next_frame():
            self._at = number - self._first
        else:
            self._first = number

    def peek(self) -> EventKind | None:
        """The kind of the next event that is compared, or None at the end."""
        kind = self._kinds[self._at]
        if kind is None or kind in _UNCOMPARED:
            return self._kinds[self._at] if self._load() else None
        return kind

    def event(self) -> TraceEvent | None:
        """The next event that is compared, or None at the end."""
        return self._event(self._at) if self.peek() is not None else None

    def _event(self, at: int) -> TraceEvent:
        assert self._frame is not None
        try:
            return self._frame.event(at)
        except TraceFileError as error:
            raise Unreadable(error) from None

    def dispatch(self, source: str) -> int | None:
        """The number of the DISPATCH of `source` that has just been; None where something else has."""
        if self.paused:
            return self.dispatched
        at = self._at - 1
        if at < 0 or self._kinds[at] is not EventKind.DISPATCH or self._sources[at] != source:
            return None
        number = self._details[at][0]
        assert isinstance(number, int)
        return number

    def done(self, source: str, dispatch: int) -> tuple[int, bytes] | None:
        """Errno and bytes where the next event is the DONE of that dispatch, before it was submitted; else it comes
        later."""
        if self.peek() is not EventKind.DONE or self._sources[self._at] != source:
            return None
        _, _, _, _, (number, error, later, data) = self._event(self._at)
        if number != dispatch or later:
            return None
        assert isinstance(error, int)
        assert isinstance(data, bytes)
        return error, data

    def update(self, source: str, dispatch: int) -> tuple[int, bytes] | None:
        """Place and bytes where the next event is an UPDATE of that dispatch."""
        if self.peek() is not EventKind.UPDATE or self._sources[self._at] != source:
            return None
        _, _, _, _, (number, at, _, found) = self._event(self._at)
        if number != dispatch:
            return None
        assert isinstance(at, int)
        assert isinstance(found, bytes)
        return at, found

    def saved(self, source: str) -> int | None:
        """Errno where the next event is a SAVED of that source; else it comes later."""
        if self.peek() is not EventKind.SAVED or self._sources[self._at] != source:
            return None
        error = self._event(self._at).detail[0]
        assert isinstance(error, int)
        return error

    def skip(self) -> None:
        """The next event has been dealt with."""
        self._at += 1

    # --- what the device does

    def emit(self, source: str, kind: EventKind, *detail: int | str | bytes) -> int:
        """The device has something to say: the trace has to say the same next; returns when it did."""
        at = self._at
        if self._kinds[at] is kind and self._details[at] == detail and self._sources[at] == source:
            self._at = at + 1
            return self._times[at]
        self._compare(source, kind, detail)
        return self._times[max(self._at - 1, 0)]

    def write(self, memory: str, address: int, data: bytes | bytearray | memoryview) -> bool:
        """Whether the trace has this for what the device writes to guest memory next; then it is dealt with."""
        at = self._at
        if self._kinds[at] is EventKind.DMA_WRITE or self.peek() is EventKind.DMA_WRITE:
            at = self._at
            start = self._starts[at]
            if (
                self._details[at] == (address, len(data))
                and self._frame.raw[start : self._starts[at + 1]] == data  # type: ignore[union-attr]
                and self._sources[at] == memory
            ):
                self._at = at + 1
                return True
        return False

    def read(self, memory: str, address: int, length: int) -> bytes | None:
        """What the device reads of guest memory, if the trace has that next; then it is dealt with."""
        at = self._at
        if self._kinds[at] is EventKind.DMA_READ or self.peek() is EventKind.DMA_READ:
            at = self._at
            if self._details[at] == (address, length) and self._sources[at] == memory:
                self._at = at + 1
                return self._frame.raw[self._starts[at] : self._starts[at + 1]]  # type: ignore[union-attr]
        return None

    def fault(self, memory: str, address: int, length: int, write: int) -> tuple[int, int, str] | None:
        """Where memory behind an IOMMU was missing, how many bytes, and why; None where it was there."""
        if self.peek() is not EventKind.FAULT or self._sources[self._at] != memory:
            return None
        detail = self._event(self._at).detail
        if detail[:3] != (address, length, write):
            return None
        return detail[3:]  # type: ignore[return-value]

    def _run(self, callback: Callable[[], None]) -> None:
        self.peek()
        at = self.number
        callback()
        if self.number == at:
            self.emit("context", EventKind.TURN)

    def _compare(self, source: str, kind: EventKind, detail: tuple[int | str | bytes, ...]) -> None:
        if kind in _UNCOMPARED:
            return
        if self.paused:
            if kind is EventKind.DISPATCH:
                self.dispatched = detail[0]  # type: ignore[assignment]
            return
        if detail and isinstance(detail[-1], bytes) and self._has(source, kind, detail, detail[-1]):
            self._at += 1
            return
        if self._expected()[2:] != (source, kind, detail):
            if kind is EventKind.RUN_STATE and self.gone(source):
                # The trace says that it has: nobody told it that the machine stops, or runs on.
                return
            self.part((source, kind, detail))
        self._at += 1

    def _has(self, source: str, kind: EventKind, detail: tuple[int | str | bytes, ...], data: bytes) -> bool:
        """Whether the trace has this next, which ends in `data`; as it is in the file, without an event made of it."""
        if self.peek() is not kind:
            return False
        at = self._at
        return (
            self._details[at] == (*detail[:-1], len(data))
            and self._sources[at] == source
            and self._frame.raw[self._starts[at] : self._starts[at + 1]] == data  # type: ignore[union-attr]
        )

    def _expected(self) -> TraceEvent:
        """The next event; where there is none, whatever the device does is beyond the trace."""
        if self.parting is not None:
            raise Parted
        event = self.event()
        if event is None:
            raise Ended
        return event

    def part(self, got: Happening | str) -> NoReturn:
        """The device does `got`, which is not what comes next; what it does on its way out is not looked at."""
        self.parting = self._expected(), got
        self._frames = iter(())
        self._kinds = [None]
        self._at = 0
        raise Parted

    def part_here(self, got: str) -> NoReturn:
        """The event that has just been compared is the trace's, and `got` says what about it is not."""
        self._at -= 1
        self.part(got)

    def unfit(self, text: str) -> NoReturn:
        """The next event cannot be one of this trace; `text` says what is wrong."""
        raise Unreadable(TraceFileError(f"{self._reader.path}: event {self.number}: {text}"))
