"""One replay: a schedule, its figures, and what reads find held against what the log says."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

from devmodels.blockbackend.request import Op
from guestsim.blocklog.events import Begin, End, Event, payload
from guestsim.blocklog.figures import Figures
from guestsim.blocklog.schedule import Schedule

PIECE = 16 << 20
"""A request that is longer moves its bytes in pieces of this, one after the other."""

_SHOWN = 10


class Running:
    """A request under way: where it is, and what it has read so far."""

    __slots__ = ("at", "begin", "crc", "error", "same", "started_ns")

    def __init__(self, begin: Begin, started_ns: int) -> None:
        self.begin = begin
        self.started_ns = started_ns
        self.at = 0
        self.crc = 0
        self.same = True
        self.error = 0

    def read(self, data: bytes | bytearray | memoryview) -> None:
        """The next bytes of a read are there."""
        self.crc = zlib.crc32(data, self.crc)
        if self.begin.data is not None and data != payload(self.begin, self.at, len(data)):
            self.same = False
        self.at += len(data)


class Replay:
    """The requests of `events` in their turn; `check` holds reads against what they read in the log.

    Whoever carries requests out calls `step`, `begin` for each that begins, and `end` when it has ended.
    """

    def __init__(
        self,
        events: Iterator[Event],
        *,
        speed: float | None = 1.0,
        depth: int | None = None,
        check: bool = False,
        errors: bool = False,
        on_ended: Callable[[], None] | None = None,
    ) -> None:
        self.schedule = Schedule(events, speed=speed, depth=depth, on_end=self._was)
        self.figures = Figures()
        self.step = self.schedule.step
        self._check = check
        self._errors = errors
        self._on_ended = on_ended
        self._recorded: dict[int, End] = {}
        self._found: dict[int, Running] = {}

    @property
    def over(self) -> bool:
        """Whether everything has ended."""
        return self.schedule.over

    def begin(self, begin: Begin, now_ns: int) -> Running:
        """It begins."""
        self.figures.begin(now_ns, self.schedule.late_ns)
        return Running(begin, now_ns)

    def end(self, running: Running, now_ns: int) -> None:
        """It has ended."""
        begin = running.begin
        self.schedule.ended(begin)
        self.figures.end(now_ns, begin.op, begin.length, now_ns - running.started_ns, running.error)
        if begin.op is Op.READ and begin.data is not None and not running.error:
            self._judge(begin, running.same)
        if self._check or self._errors:
            recorded = self._recorded.pop(begin.number, None)
            if recorded is None:
                self._found[begin.number] = running
            else:
                self._compare(recorded, running)
        if self._on_ended is not None:
            self._on_ended()

    def _was(self, end: End) -> None:
        """How a request ended in the log."""
        if self._check or self._errors:
            running = self._found.pop(end.number, None)
            if running is not None:
                self._compare(end, running)
            elif end.number in self.schedule.running:
                self._recorded[end.number] = end

    def _compare(self, end: End, running: Running) -> None:
        if self._errors and bool(end.error) != bool(running.error):
            self.figures.otherwise += 1
        if self._check and end.data is not None and not end.error and not running.error:
            self._judge(running.begin, zlib.crc32(end.data) == running.crc)

    def _judge(self, begin: Begin, same: bool) -> None:
        figures = self.figures
        figures.checked += 1
        if not same:
            figures.differences += 1
            if len(figures.different) < _SHOWN:
                text = f"request {begin.number}: read of {begin.length} bytes at {begin.offset}"
                figures.different.append(text)
