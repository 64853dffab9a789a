"""An access in pieces that are aligned, as QEMU's memory regions of at most 32 bits are given them."""

from __future__ import annotations

from collections.abc import Iterator

WIDEST = 4
"""Bytes of the longest piece."""


def aligned_pieces(offset: int, size: int) -> Iterator[tuple[int, int]]:
    """Offset and size, in bytes, of each piece."""
    at, end = offset, offset + size
    while at < end:
        piece = min(at & -at or WIDEST, WIDEST, 1 << (end - at).bit_length() - 1)
        yield at, piece
        at += piece
