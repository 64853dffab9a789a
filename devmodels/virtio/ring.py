"""What every virtqueue shares: the buffer taken from a ring, and what a driver can break (VIRTIO 1.4 §2.6)."""

from __future__ import annotations

MAX_CHAIN_BYTES = 1 << 32
MAX_TABLE = 65536
"""Entries of an indirect table that a 16-bit `next` can name."""
COMMON_CHAIN_LIMIT = 1024
"""How many descriptors a chain may have on commonly used devices, whatever the queue's size."""


class RingError(Exception):
    """The driver broke the ring: `clause` and `summary` of the violation, `data` the bytes concerned."""

    def __init__(self, clause: str, summary: str, data: bytes = b"") -> None:
        super().__init__(f"{summary} ({clause})")
        self.clause = clause
        self.summary = summary
        self.data = data


class Chain:
    """One buffer: `readable` and `writable` are (guest address, length) in the driver's order.

    `readable_bytes` and `writable_bytes` are their sums; `head` names the buffer in the used ring.
    """

    __slots__ = ("head", "readable", "readable_bytes", "writable", "writable_bytes")

    def __init__(
        self,
        head: int,
        readable: list[tuple[int, int]] | None = None,
        writable: list[tuple[int, int]] | None = None,
    ) -> None:
        self.head = head
        self.readable = readable or []
        self.writable = writable or []
        self.readable_bytes = sum(length for _, length in self.readable)
        self.writable_bytes = sum(length for _, length in self.writable)
