"""Room for data on its way between sockets and disks: pieces that are used again, so that no page is made anew."""

from __future__ import annotations

from collections.abc import Iterable

PIECE = 1 << 18
"""Bytes of a piece; longer data lies in several."""

SMALL = 1 << 15
"""What is shorter is made anew each time: that costs less than to keep it."""

KEPT = 64
"""How many pieces are kept for the next one who needs one."""


class Pool:
    """Pieces that are not in use.  What is in them is old: whoever sends one sends only what he has filled."""

    __slots__ = ("_free",)

    def __init__(self) -> None:
        self._free: list[bytearray] = []

    def take(self, length: int) -> list[memoryview]:
        """Room for `length` bytes."""
        if length <= SMALL:
            return [memoryview(bytearray(length))] if length else []
        return [self._piece(min(PIECE, length - at)) for at in range(0, length, PIECE)]

    def _piece(self, length: int) -> memoryview:
        piece = self._free.pop() if self._free else bytearray(PIECE)
        return memoryview(piece)[:length]

    def give(self, views: Iterable[memoryview]) -> None:
        """Nobody uses these any more, nor other views of the same pieces."""
        for view in views:
            if len(view) > SMALL:
                piece = view.obj
                if isinstance(piece, bytearray) and len(piece) == PIECE and len(self._free) < KEPT:
                    self._free.append(piece)
