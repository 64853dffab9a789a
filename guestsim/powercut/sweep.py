"""Many cuts, over every device, stack and mode of the write cache that is asked for."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from guestsim.powercut.simulate import REQUESTS, Result, Run, sample, simulate
from guestsim.powercut.stacks import WriteCache

LEAST, MOST = 20, 100
"""How many cuts one run has at most; more are made with the next seed."""

_SOME = 0.7
"""So much of that is aimed at, so that the end of a long run has its share too."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """`cuts` cuts in all, the first runs with `seed`."""

    devices: Sequence[str]
    stacks: Sequence[str]
    write_caches: Sequence[WriteCache]
    cuts: int
    seed: int
    requests: int = REQUESTS

    def runs(self) -> Iterator[Run]:
        """Runs without an end: each combination in an order by chance, and again with the next seed."""
        combinations = list(itertools.product(self.devices, self.stacks, self.write_caches))
        for seed in itertools.count(self.seed):
            random.Random(seed).shuffle(combinations)
            for device, stack, write_cache in combinations:
                yield Run(device, stack, write_cache, seed, self.requests)

    @property
    def share(self) -> int:
        """How many cuts each run makes at most: each combination has its turn, if there are enough of them."""
        combinations = len(self.devices) * len(self.stacks) * len(self.write_caches)
        return max(LEAST, min(MOST, self.cuts // combinations))


def sweep(work: Sweep, on_run: Callable[[Result], None]) -> list[Result]:
    """Carry it out, until something is lost; `on_run` hears of each run."""
    results: list[Result] = []
    left = work.cuts
    for run in work.runs():
        if left <= 0:
            break
        result = simulate(run, sample(run, work.share * _SOME), most=min(left, work.share))
        results.append(result)
        left -= result.cuts
        on_run(result)
        if result.loss is not None:
            break
    return results
