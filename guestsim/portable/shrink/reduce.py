"""Taking parts away, and making them simpler, as long as it fails: the same list gives the same result every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

Fails = Callable[[Sequence[T]], bool]
"""Whether a list of parts still fails."""


def fewer(parts: Sequence[T], fails: Fails[T], *, coarsest: int = 2, finest: int = 1) -> list[T]:
    """The fewest of `parts`, in their order, that fail: none of what is left can go alone.

    Pieces are taken out that are 1/`coarsest` of the whole first, and of `finest` parts last.  `parts` fail.
    """
    left = list(parts)
    chunk = max(finest, -(-len(left) // coarsest))
    while left:
        before = len(left)
        at = 0
        while at < len(left):
            rest = left[:at] + left[at + chunk :]
            if fails(rest):
                left = rest
            else:
                at += chunk
        if chunk > finest:
            chunk = max(finest, -(-chunk // 2))
        elif len(left) == before:
            break
    return left


def simpler(parts: Sequence[T], change: Callable[[T], T], fails: Fails[T]) -> list[T]:
    """`parts` with as many of them changed as may be: all at once where that fails still, else half by half."""
    left = list(parts)

    def attempt(start: int, end: int) -> None:
        changed = [change(part) for part in left[start:end]]
        if changed == left[start:end]:
            return
        candidate = [*left[:start], *changed, *left[end:]]
        if fails(candidate):
            left[:] = candidate
        elif end - start > 1:
            middle = (start + end) // 2
            attempt(start, middle)
            attempt(middle, end)

    attempt(0, len(left))
    return left
