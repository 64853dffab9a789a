"""The shortest sequence that still shows a difference."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from guestsim.diff.grammar import Action

MOST_RUNS = 150
"""Sequences that are played for one difference."""
MOST_SECONDS = 30.0
"""How long that may take."""


def shrink(
    actions: Sequence[Action], shows: Callable[[Sequence[Action]], bool], most: int = MOST_RUNS
) -> list[Action]:
    """The actions without what is not needed, and simpler; `shows` is asked at most `most` times, for half a minute."""
    best = list(actions)
    end = time.monotonic() + MOST_SECONDS
    runs = 0
    progress = True
    while progress:
        progress = False
        for candidate in _candidates(best):
            if runs >= most or time.monotonic() >= end:
                return best
            runs += 1
            if shows(candidate):
                best, progress = candidate, True
                break
    return best


def _candidates(actions: Sequence[Action]) -> Iterator[list[Action]]:
    """Halves left out, then quarters, down to single actions; then each action simpler."""
    size = max(1, len(actions) // 2)
    while True:
        for start in range(len(actions) - size, -1, -size):
            if len(actions) > size:
                yield [*actions[:start], *actions[start + size :]]
        if size == 1:
            break
        size //= 2
    for at, action in enumerate(actions):
        for simpler in action.simpler():
            yield [*actions[:at], simpler, *actions[at + 1 :]]
