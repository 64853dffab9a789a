"""Room for data on its way between sockets and disks: pieces that are used again, so that no page is made anew."""

from __future__ import annotations

PIECE = 1 << 18
"""Bytes of a piece; longer data lies in several."""

SMALL = 1 << 15
"""What is shorter is made anew each time: that costs less than to keep it."""

KEPT = 64
"""How many pieces are kept for the next one who needs one."""


class Buffer:
    """`view` is the room; `release` gives it back to the pool, whatever it holds."""

    __slots__ = ("_pool", "_whole", "view")

    def __init__(self, whole: memoryview, length: int, pool: list[memoryview] | None) -> None:
        self._whole = whole
        self._pool = pool
        self.view = whole[:length]

    def release(self) -> None:
        """Nobody uses it any more.  To be called once."""
        if self._pool is not None and len(self._pool) < KEPT:
            self._pool.append(self._whole)


class Pool:
    """Pieces that are not in use.  What is in them is old: whoever sends one sends only what he has filled."""

    __slots__ = ("_free",)

    def __init__(self) -> None:
        self._free: list[memoryview] = []

    def take(self, length: int) -> list[Buffer]:
        """Room for `length` bytes."""
        if length <= SMALL:
            return [Buffer(memoryview(bytearray(length)), length, None)] if length else []
        return [self._piece(min(PIECE, length - at)) for at in range(0, length, PIECE)]

    def _piece(self, length: int) -> Buffer:
        whole = self._free.pop() if self._free else memoryview(bytearray(PIECE))
        return Buffer(whole, length, self._free)
