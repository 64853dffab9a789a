"""How long something takes, drawn at random: the distributions of the `delay` driver, and of whoever wants delays.

An option of type `Latency` is an object; its member `distribution` says which one it is.  Times are in nanoseconds.
"""

from __future__ import annotations

import itertools
from random import Random
from typing import Annotated

import msgspec

MAX_NS = 10**15
Ns = Annotated[int, msgspec.Meta(ge=0, le=MAX_NS, description="nanoseconds from 0 to 10**15")]
Percent = Annotated[float, msgspec.Meta(ge=0, le=100, description="a number from 0 to 100")]


class _Latency(
    msgspec.Struct,
    rename="kebab",
    forbid_unknown_fields=True,
    kw_only=True,
    frozen=True,
    tag_field="distribution",
):
    """`percent` of the requests take the time, the others none."""

    percent: Percent = 100

    def draw(self, chance: Random) -> int:
        """How long the next one takes."""
        if self.percent < 100 and chance.random() * 100 >= self.percent:
            return 0
        return min(max(round(self._draw(chance)), 0), MAX_NS)

    def _draw(self, chance: Random) -> float:
        raise NotImplementedError


class Fixed(_Latency, frozen=True, kw_only=True, tag="fixed"):
    """Always `ns`."""

    ns: Ns

    def _draw(self, chance: Random) -> float:  # noqa: ARG002
        return self.ns


class Uniform(_Latency, frozen=True, kw_only=True, tag="uniform"):
    """Anything from `min-ns` to `max-ns`, each as likely."""

    min_ns: Ns = 0
    max_ns: Ns

    def __post_init__(self) -> None:
        if self.min_ns > self.max_ns:
            raise ValueError(f"min-ns is {self.min_ns}, expected at most max-ns ({self.max_ns})")

    def _draw(self, chance: Random) -> float:
        return chance.randint(self.min_ns, self.max_ns)


class Normal(_Latency, frozen=True, kw_only=True, tag="normal"):
    """About `mean-ns`, with the standard deviation `deviation-ns`; what would be less than nothing is nothing."""

    mean_ns: Ns
    deviation_ns: Ns

    def _draw(self, chance: Random) -> float:
        return chance.gauss(self.mean_ns, self.deviation_ns)


class Exponential(_Latency, frozen=True, kw_only=True, tag="exponential"):
    """As between events that know nothing of each other, `mean-ns` on average."""

    mean_ns: Ns

    def _draw(self, chance: Random) -> float:
        return chance.expovariate(1 / self.mean_ns) if self.mean_ns else 0


class Histogram(_Latency, frozen=True, kw_only=True, tag="histogram"):
    """As has been measured: `boundaries` in ns and `bins` as QMP's query-blockstats shows them.

    Within a bin each time is as likely; the last one, which has no end, is taken to reach to twice its beginning.
    """

    boundaries: list[Ns]
    bins: list[Annotated[int, msgspec.Meta(ge=0)]]

    def __post_init__(self) -> None:
        if not self.boundaries or any(low >= high for low, high in itertools.pairwise([0, *self.boundaries])):
            raise ValueError("boundaries are not positive and rising")
        if len(self.bins) != len(self.boundaries) + 1:
            raise ValueError(
                f"there are {len(self.bins)} bins, expected {len(self.boundaries) + 1}, one more than boundaries"
            )
        if not any(self.bins):
            raise ValueError("all bins are empty")

    def _draw(self, chance: Random) -> float:
        edges = [0, *self.boundaries, 2 * self.boundaries[-1]]
        (number,) = chance.choices(range(len(self.bins)), self.bins)
        return chance.randrange(edges[number], edges[number + 1])


Latency = Fixed | Uniform | Normal | Exponential | Histogram
