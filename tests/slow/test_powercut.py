"""Ten thousand power cuts with the write cache on, and as many with it off, switched, or unknown to the guest."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from guestsim.powercut.simulate import Run, everything, simulate
from guestsim.powercut.stacks import DEVICES, STACKS, WriteCache
from guestsim.powercut.sweep import Sweep, sweep

pytestmark = pytest.mark.slow
CUTS = 10_000


@pytest.mark.parametrize("write_cache", WriteCache)
def test_nothing_is_lost(write_cache: WriteCache, record_property: Callable[[str, object], None]) -> None:
    results = sweep(Sweep(list(DEVICES), list(STACKS), [write_cache], CUTS, 1000), lambda _: None)
    assert results[-1].loss is None
    cuts = sum(result.cuts for result in results)
    assert cuts == CUTS
    assert {(result.run.device, result.run.stack) for result in results} == {
        (device, stack) for device in DEVICES for stack in STACKS
    }
    record_property("cuts", cuts)


@pytest.mark.parametrize("stack", STACKS)
def test_every_moment_and_every_outcome(stack: str, record_property: Callable[[str, object], None]) -> None:
    cuts = 0
    for seed, write_cache in enumerate(WriteCache):
        result = simulate(Run("mmio", stack, write_cache, seed, requests=4), everything(4))
        assert result.loss is None
        cuts += result.cuts
    record_property("cuts", cuts)
