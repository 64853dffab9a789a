"""What a replay was like: latencies, bytes and errors of each operation, and the depth of the queue over time."""

from __future__ import annotations

import errno
import os
from collections import Counter

from devmodels.blockbackend.request import Op

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)

_FINE = 7
"""Bits: 128 bins for each power of two, none wider than 1/128 of what is in it."""

SLOTS = 240
"""Into so many parts, at most, time is divided."""
_FIRST_WIDTH_NS = 1000


class Latencies:
    """Times in ns: how many there were, their mean and extremes exactly, any percentile within 0.4 %."""

    __slots__ = ("_bins", "count", "greatest", "least", "total")

    def __init__(self) -> None:
        self._bins: dict[int, int] = {}
        self.count = self.total = self.least = self.greatest = 0

    def add(self, ns: int) -> None:
        """One more."""
        if not self.count or ns < self.least:
            self.least = ns
        self.greatest = max(self.greatest, ns)
        self.count += 1
        self.total += ns
        shift = max(0, ns.bit_length() - _FINE - 1)
        place = (shift << _FINE) + (ns >> shift)
        self._bins[place] = self._bins.get(place, 0) + 1

    @property
    def mean(self) -> float:
        """Their mean; 0 where there are none."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> int:
        """The least value that `percent` of them don't exceed; 0 where there are none."""
        left = self.count * percent / 100
        for place in sorted(self._bins):
            left -= self._bins[place]
            if left <= 0:
                return min(max(_middle(place), self.least), self.greatest)
        return self.greatest

    def as_dict(self) -> dict[str, float]:
        """Everything in ns, by name."""
        found: dict[str, float] = {"min": self.least, "mean": round(self.mean, 1)}
        found |= {f"p{percent:g}": self.percentile(percent) for percent in PERCENTILES}
        return {**found, "max": self.greatest}


def _middle(place: int) -> int:
    """What stands for all that is in a bin."""
    shift = max(0, (place >> _FINE) - 1)
    low = (place - (shift << _FINE)) << shift
    return low + (((1 << shift) - 1) >> 1)


class Slot:
    """A part of the time: depth × ns, the greatest depth, and what ended in it."""

    __slots__ = ("area", "ended", "greatest", "nbytes")

    def __init__(self) -> None:
        self.area = self.greatest = self.ended = self.nbytes = 0

    def add(self, other: Slot) -> None:
        """Let `other`, which comes after this, be a part of this."""
        self.area += other.area
        self.greatest = max(self.greatest, other.greatest)
        self.ended += other.ended
        self.nbytes += other.nbytes


class Timeline:
    """How many requests were under way, over time, in at most `SLOTS` parts of `width_ns`, which grows."""

    def __init__(self) -> None:
        self.width_ns = _FIRST_WIDTH_NS
        self.slots: list[Slot] = []
        self._depth = 0
        self._at_ns = 0

    def change(self, ns: int, depth: int, nbytes: int | None = None) -> None:
        """From `ns` on, from the beginning, `depth` are under way; a request of `nbytes` has ended, if any."""
        self._slot(ns)
        while self._at_ns < ns:
            number = self._at_ns // self.width_ns
            until = min(ns, (number + 1) * self.width_ns)
            slot = self.slots[number]
            slot.area += self._depth * (until - self._at_ns)
            slot.greatest = max(slot.greatest, self._depth)
            self._at_ns = until
        slot = self._slot(ns)
        self._depth = depth
        slot.greatest = max(slot.greatest, depth)
        if nbytes is not None:
            slot.ended += 1
            slot.nbytes += nbytes

    def _slot(self, ns: int) -> Slot:
        while ns // self.width_ns >= SLOTS:
            for number in range(0, len(self.slots) - 1, 2):
                self.slots[number].add(self.slots[number + 1])
            del self.slots[1::2]
            self.width_ns *= 2
        while len(self.slots) <= ns // self.width_ns:
            self.slots.append(Slot())
        return self.slots[ns // self.width_ns]

    def widths(self) -> list[int]:
        """How long each slot is: all alike, but for the last."""
        last = self._at_ns - (len(self.slots) - 1) * self.width_ns
        return [self.width_ns] * (len(self.slots) - 1) + [last] if self.slots else []

    def depths(self) -> list[float]:
        """The mean depth in each slot."""
        return [
            slot.area / width if width else float(slot.greatest)
            for slot, width in zip(self.slots, self.widths(), strict=True)
        ]


class OpFigures:
    """One operation's: how often, how many bytes, how long, which errors."""

    __slots__ = ("count", "errors", "latencies", "nbytes")

    def __init__(self) -> None:
        self.count = self.nbytes = 0
        self.latencies = Latencies()
        self.errors: Counter[int] = Counter()


class Figures:
    """Of a whole replay; times are of the clock that it ran on, from its beginning."""

    def __init__(self) -> None:
        self.ops: dict[Op, OpFigures] = {}
        self.timeline = Timeline()
        self.late = Latencies()
        """How long after their time requests began."""
        self.duration_ns = 0
        self.depth = 0
        self.otherwise = 0
        """How many ended with an error and had not in the log, or the other way round."""
        self.checked = 0
        self.different: list[str] = []
        """Reads that found something else than expected, the first of them."""
        self.differences = 0
        self._start_ns: int | None = None

    def begin(self, now_ns: int, late_ns: int) -> None:
        """A request has begun."""
        if self._start_ns is None:
            self._start_ns = now_ns
        self.depth += 1
        self.late.add(late_ns)
        self.timeline.change(now_ns - self._start_ns, self.depth)

    def end(self, now_ns: int, op: Op, nbytes: int, latency_ns: int, error: int) -> None:
        """A request has ended; what failed moved no bytes."""
        assert self._start_ns is not None
        self.depth -= 1
        self.duration_ns = now_ns - self._start_ns
        of_op = self.ops.get(op)
        if of_op is None:
            of_op = self.ops[op] = OpFigures()
        of_op.count += 1
        of_op.latencies.add(latency_ns)
        if error:
            of_op.errors[error] += 1
            nbytes = 0
        of_op.nbytes += nbytes
        self.timeline.change(self.duration_ns, self.depth, nbytes)

    @property
    def count(self) -> int:
        """All requests."""
        return sum(of_op.count for of_op in self.ops.values())

    @property
    def errors(self) -> int:
        """All requests that failed."""
        return sum(of_op.errors.total() for of_op in self.ops.values())

    def per_second(self, amount: float) -> float:
        """`amount` over the whole time; 0 where none has passed."""
        return amount * 1e9 / self.duration_ns if self.duration_ns else 0.0

    def as_dict(self) -> dict[str, object]:
        """Everything as plain values; times in ns."""
        timeline = self.timeline
        return {
            "seconds": self.duration_ns / 1e9,
            "requests": self.count,
            "errors": self.errors,
            "ended-otherwise": self.otherwise,
            "reads-checked": self.checked,
            "differences": self.differences,
            "late-ns": self.late.as_dict(),
            "operations": {
                op.name.lower().replace("_", "-"): {
                    "requests": of_op.count,
                    "bytes": of_op.nbytes,
                    "iops": round(self.per_second(of_op.count), 3),
                    "bytes-per-second": round(self.per_second(of_op.nbytes), 1),
                    "errors": {error_name(error): count for error, count in sorted(of_op.errors.items())},
                    "latency-ns": of_op.latencies.as_dict(),
                }
                for op, of_op in sorted(self.ops.items())
            },
            "over-time": {
                "slot-ns": timeline.width_ns,
                "depth": [round(depth, 3) for depth in timeline.depths()],
                "max-depth": [slot.greatest for slot in timeline.slots],
                "ended": [slot.ended for slot in timeline.slots],
                "bytes": [slot.nbytes for slot in timeline.slots],
            },
        }


def error_name(error: int) -> str:
    """`EIO`, or what the system calls it."""
    return errno.errorcode.get(error, os.strerror(error))
