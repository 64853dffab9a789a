"""Parts of scatter lists: what of a buffer is a header, and what is data."""

from __future__ import annotations

from collections.abc import Sequence

Scatter = list[tuple[int, int]]
"""Guest addresses and lengths in bytes."""


def skip(vectors: Sequence[tuple[int, int]], count: int) -> Scatter:
    """The scatter list without its first `count` bytes."""
    out = []
    for address, length in vectors:
        if count >= length:
            count -= length
        else:
            out.append((address + count, length - count))
            count = 0
    return out


def head(vectors: Sequence[tuple[int, int]], count: int) -> Scatter:
    """The first `count` bytes of the scatter list, or all where there are fewer."""
    out = []
    for address, length in vectors:
        if not count:
            break
        out.append((address, min(length, count)))
        count -= min(length, count)
    return out
