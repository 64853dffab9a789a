"""Following a trace: what the device does is compared with what comes next in the file.

A `Follower` stands where a `Tracer` stands while recording.  Where the two part it raises `Parted`, which no device
catches: nothing is done any more after that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from devmodels.trace import UNCOMPARED, EventKind, TraceEvent, Tracer
from devmodels.tracefile import Row, TraceFileError


class Frames(Protocol):
    """What is followed (`TraceReader`)."""

    @property
    def kinds(self) -> list[EventKind]:
        """What the numbers in rows stand for."""
        ...

    def frames(self) -> Iterator[tuple[int, list[Row]]]:
        """Rows, with the first one's number."""
        ...


Happening = tuple[str, EventKind, tuple[int | str | bytes, ...]]
"""What the device did: source, kind, details, as in a `TraceEvent`."""


class Parted(BaseException):
    """The device does something else than the trace has; `got` is what, in place of the next event."""

    def __init__(self, got: Happening | str) -> None:
        super().__init__()
        self.got = got


class Unreadable(BaseException):
    """The trace cannot be followed any further; `error` says why."""

    def __init__(self, error: TraceFileError) -> None:
        super().__init__(str(error))
        self.error = error


class Ended(BaseException):
    """The trace is over, and the device still does something: a recording may end anywhere."""


class Follower(Tracer):
    """The place in a trace, and the comparison."""

    __slots__ = ("_at", "_frames", "_kinds", "_rows", "_skipped", "_start", "_time", "_timed", "parted")

    def __init__(self, trace: Frames) -> None:
        super().__init__(lambda: 0)
        self._kinds = trace.kinds
        self._skipped = [kind in UNCOMPARED for kind in self._kinds]
        self._frames = iter(trace.frames())
        self._rows: list[Row] = []
        self._at = 0
        self._start = 0
        self._time = self._timed = 0
        """The time of the event before number `_timed` of the frame."""
        self.parted = False

    @property
    def number(self) -> int:
        """The next event's number."""
        return self._start + self._at

    def time_ns(self) -> int:
        """The next event's time; at the end, the last one's."""
        rows = self._rows
        for at in range(self._timed, min(self._at + 1, len(rows))):
            self._time += rows[at][0]
        self._timed = max(self._timed, min(self._at + 1, len(rows)))
        return self._time

    def _next(self) -> Row | None:
        """The next event that is compared, or None at the end."""
        while True:
            while self._at < len(self._rows):
                row = self._rows[self._at]
                if not self._skipped[row[2]]:
                    return row
                self._at += 1
            try:
                self._start, self._rows = next(self._frames)
            except StopIteration:
                return None
            except TraceFileError as error:
                # Past whoever handles errors in between.
                raise Unreadable(error) from None
            self._at = self._time = self._timed = 0

    def peek(self) -> Row | None:
        """The next event that is compared, or None at the end."""
        at = self._at
        rows = self._rows
        if at < len(rows):
            row = rows[at]
            if not self._skipped[row[2]]:
                return row
        return self._next()

    def kind(self, row: Row) -> EventKind:
        """What kind of event `row` is."""
        return self._kinds[row[2]]

    def event(self) -> TraceEvent | None:
        """The next event that is compared, or None at the end."""
        row = self.peek()
        if row is None:
            return None
        return TraceEvent(self.number, self.time_ns(), row[1], self._kinds[row[2]], row[3:])

    def previous(self) -> Row:
        """The event that came last."""
        return self._rows[self._at - 1]

    def skip(self) -> None:
        """The next event has been dealt with."""
        self._at += 1

    # --- what the device does

    def emit(self, source: str, kind: EventKind, *detail: int | str | bytes) -> None:
        """The device has something to say: the trace has to say the same next."""
        try:
            row = self._rows[self._at]
        except IndexError:
            row = ()
        if row and self._kinds[row[2]] is kind and row[1] == source and row[3:] == detail:
            self._at += 1
        else:
            self._compare(source, kind, detail)

    def _run(self, callback: Callable[[], None]) -> None:
        at = self.number
        callback()
        if self.number == at:
            self.emit("context", EventKind.TURN)

    def _compare(self, source: str, kind: EventKind, detail: tuple[int | str | bytes, ...]) -> None:
        if kind in UNCOMPARED:
            return
        row = self._expect((source, kind, detail))
        if self._kinds[row[2]] is not kind or row[1] != source or row[3:] != detail:
            self.part((source, kind, detail))
        self._at += 1

    def _expect(self, happening: Happening) -> Row:
        if self.parted:
            self.part(happening)
        row = self._next()
        if row is None:
            raise Ended
        return row

    def part(self, got: Happening | str) -> None:
        """It is another thing."""
        self.parted = True
        raise Parted(got)

    def read(self, address: int, length: int) -> bytes:
        """The device reads guest memory: what did it find there?"""
        row = self.peek()
        if row is None or self.parted:
            self._expect(("memory", EventKind.DMA_READ, (address, b"")))
        assert row is not None
        if self._kinds[row[2]] is not EventKind.DMA_READ or row[3] != address or len(row[4]) != length:
            self.part(f"the device reads {length} bytes at {address:#x}")
        self._at += 1
        return row[4]  # type: ignore[no-any-return]
