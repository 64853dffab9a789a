"""How many requests took how long."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence


class Histogram:
    """Counts of values by `boundaries`, which rise: below the first, from each to the next, from the last on."""

    __slots__ = ("bins", "boundaries", "total")

    def __init__(self, boundaries: Sequence[int]) -> None:
        """ValueError where `boundaries`, in ns, are not positive and rising, or where there are none."""
        if not boundaries or list(boundaries) != sorted(set(boundaries)) or boundaries[0] <= 0:
            raise ValueError(
                f"boundaries {list(boundaries)}; expected positive numbers, each above the one before"
            )
        self.boundaries = tuple(boundaries)
        self.bins = [0] * (len(boundaries) + 1)
        self.total = 0
        """The sum of the values."""

    def add(self, value: int, count: int = 1) -> None:
        """`count` requests took `value` ns each."""
        self.bins[bisect_right(self.boundaries, value)] += count
        self.total += value * count

    def as_dict(self) -> dict[str, list[int]]:
        """Under the names of QEMU's `BlockLatencyHistogramInfo`."""
        return {"boundaries": list(self.boundaries), "bins": list(self.bins)}

    def percentile(self, percent: float) -> int | None:
        """The boundary below which `percent` of the values lie; None where there are none, or it is in the last bin."""
        left = sum(self.bins) * percent / 100
        if not left:
            return None
        for boundary, count in zip(self.boundaries, self.bins, strict=False):
            left -= count
            if left <= 0:
                return boundary
        return None
