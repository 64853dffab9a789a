"""Statistics of the last while: least, most and mean over a window that is never younger than half its length.

Two windows of one length begin half a length apart.  Every value goes into both; who asks is told of the older one, so
an answer covers between half a length and a whole one, and nothing has to be kept of single values.
"""

from __future__ import annotations

import msgspec

SECOND = 10**9


class _Half(msgspec.Struct):
    """One window: what came since it began."""

    begin: int
    end: int
    least: int = 0
    most: int = 0
    total: int = 0
    count: int = 0


class Window:
    """Values, in ns, of about the last `length` ns, from `now` on."""

    __slots__ = ("_first", "_second", "length")

    def __init__(self, length: int, now: int) -> None:
        self.length = length
        self._first = _Half(now, now + length // 2)
        self._second = _Half(now, now + length)

    def _turn(self, now: int) -> _Half:
        """The older of both windows at `now`, after those that are over have begun anew."""
        first, second = self._first, self._second
        while first.end <= now:
            begin = first.end + (now - first.end) // self.length * self.length
            first, second = second, _Half(begin, begin + self.length)
            if second.end < first.end:
                first, second = second, first
        self._first, self._second = first, second
        return first

    def add(self, value: int, now: int, count: int = 1) -> None:
        """`count` values at `now`."""
        if self._first.end <= now:
            self._turn(now)
        for half in (self._first, self._second):
            if not half.count or value < half.least:
                half.least = value
            if value > half.most:
                half.most = value
            half.total += value * count
            half.count += count

    def least(self, now: int) -> int:
        """The least value; 0 where there was none."""
        return self._turn(now).least

    def most(self, now: int) -> int:
        """The largest value; 0 where there was none."""
        return self._turn(now).most

    def mean(self, now: int) -> int:
        """The mean value, rounded down; 0 where there was none."""
        half = self._turn(now)
        return half.total // half.count if half.count else 0

    def depth(self, now: int) -> float:
        """The sum of the values over the time that the answer covers: where they are latencies, the queue's depth."""
        half = self._turn(now)
        return half.total / (now - half.begin) if now > half.begin else 0.0


class IntervalStats:
    """Latencies of reads, writes and flushes in windows of `seconds`."""

    __slots__ = ("flush", "rd", "seconds", "windows", "wr")

    def __init__(self, seconds: int, now: int) -> None:
        self.seconds = seconds
        self.rd, self.wr, self.flush = self.windows = tuple(Window(seconds * SECOND, now) for _ in range(3))

    def as_dict(self, now: int) -> dict[str, int | float]:
        """Under the names of QEMU's `BlockDeviceTimedStats`."""
        out: dict[str, int | float] = {"interval_length": self.seconds}
        for name in ("rd", "wr", "flush"):
            window: Window = getattr(self, name)
            out[f"min_{name}_latency_ns"] = window.least(now)
            out[f"max_{name}_latency_ns"] = window.most(now)
            out[f"avg_{name}_latency_ns"] = window.mean(now)
        out["avg_rd_queue_depth"] = self.rd.depth(now)
        out["avg_wr_queue_depth"] = self.wr.depth(now)
        return out
