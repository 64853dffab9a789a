"""Scatter lists: what of a buffer is a header and what is data, and bytes from and to them."""

from __future__ import annotations

from collections.abc import Sequence

from devmodels.dma import Direction
from devmodels.memory import GuestMemory

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


def gather(memory: GuestMemory, vectors: Sequence[tuple[int, int]], count: int) -> bytes:
    """The first `count` bytes of a scatter list, or all of a shorter one; GuestMemoryError where they are not there."""
    out = bytearray()
    for address, length in vectors:
        if len(out) >= count:
            break
        out += memory.read(address, min(length, count - len(out)))
    return bytes(out)


def fill(
    memory: GuestMemory, vectors: Sequence[tuple[int, int]], payload: bytes, *, padded: bool = True
) -> None:
    """Write `payload` to a scatter list, as far as that goes, and zeroes over the rest where it is to be `padded`.

    GuestMemoryError, and nothing written, where some of it is no memory.
    """
    if not vectors:
        return
    dma = memory.map(vectors, Direction.FROM_DEVICE)
    at = 0
    for view in dma.views:
        piece = payload[at : at + len(view)]
        view[: len(piece)] = piece
        if len(piece) < len(view) and padded:
            view[len(piece) :] = bytes(len(view) - len(piece))
        at += len(view)
    dma.unmap(dma.nbytes if padded else min(len(payload), dma.nbytes))
