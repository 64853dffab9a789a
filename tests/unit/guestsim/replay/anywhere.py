"""Stop a replay, save, and go on from there: for any trace."""

from __future__ import annotations

import random
from pathlib import Path

from guestsim.replay import replay


def goes_on(trace: Path, number: int, snapshot: Path) -> int:
    """Stop at event `number`, save, go on from there; returns where it was."""
    first = replay(trace, stop_at=number, save=snapshot)
    assert first.difference is None
    assert first.stopped is not None
    assert first.stopped >= number
    second = replay(trace, start=snapshot)
    assert second.difference is None
    return first.stopped


def goes_on_anywhere(trace: Path, times: int, seed: int = 0) -> int:
    """Replay the whole, then the same at `times` events by chance; returns how many events there are."""
    whole = replay(trace)
    assert whole.difference is None
    numbers = random.Random(seed)
    for _ in range(times):
        goes_on(trace, numbers.randrange(whole.events), trace.with_name(f"{trace.name}.snapshot"))
    return whole.events
