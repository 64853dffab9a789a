"""What every virtqueue shares (VIRTIO 1.4 §2.6): buffers, what a driver can break, and the face a device sees.

A device takes `Chain`s from a `Ring` and gives them back; whether the ring is split or packed it need not know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from devmodels.virtio.state import ChainState, RingState

MAX_CHAIN_BYTES = 1 << 32
MAX_TABLE = 65536
"""Entries of an indirect table that a 16-bit `next` can name."""
COMMON_CHAIN_LIMIT = 1024
"""How many descriptors a chain may have on commonly used devices, whatever the queue's size."""

Report = Callable[[str, str, bytes], None]
"""What a driver did wrong without breaking the ring: clause, summary, and the bytes concerned."""


class RingError(Exception):
    """The driver broke the ring: `clause` and `summary` of the violation, `data` the bytes concerned."""

    def __init__(self, clause: str, summary: str, data: bytes = b"") -> None:
        super().__init__(f"{summary} ({clause})")
        self.clause = clause
        self.summary = summary
        self.data = data


class Chain:
    """One buffer: `readable` and `writable` are (guest address, length) in the driver's order.

    `readable_bytes` and `writable_bytes` are their sums; `head` names the buffer where it is given back: a split ring's
    first descriptor, a packed ring's buffer id.  It takes `count` descriptors of the ring itself.
    """

    __slots__ = ("count", "head", "readable", "readable_bytes", "writable", "writable_bytes")

    def __init__(
        self,
        head: int,
        readable: list[tuple[int, int]] | None = None,
        writable: list[tuple[int, int]] | None = None,
        count: int = 1,
    ) -> None:
        self.head = head
        self.count = count
        self.readable = readable or []
        self.writable = writable or []
        self.readable_bytes = sum(length for _, length in self.readable)
        self.writable_bytes = sum(length for _, length in self.writable)

    def save(self) -> ChainState:
        """The buffer as plain data."""
        return ChainState(self.head, self.readable, self.writable, self.count)

    @classmethod
    def restored(cls, state: ChainState) -> Chain:
        """The buffer that `save` was called on."""
        return cls(state.head, list(state.readable), list(state.writable), state.count)


class Ring(Protocol):
    """The device's side of one virtqueue.

    What breaks the ring raises RingError, after which the device needs a reset.  A position in the ring is 16 bits: a
    split ring's free-running index; a packed ring's offset with the wrap counter in bit 15.
    """

    START: int
    """The position of a new ring."""
    size: int
    parts: tuple[int, int, int]
    """Addresses of descriptor, driver and device area; a change counts when the memory has changed."""
    in_flight: dict[int, Chain]
    """Buffers that were taken, by head; who gives them back removes them."""

    @property
    def last_avail(self) -> int:
        """The position up to which buffers were taken."""
        ...

    @property
    def used_idx(self) -> int:
        """The position up to which buffers were given back."""
        ...

    @property
    def attached(self) -> bool:
        """Whether the memory has not changed since the parts were looked for."""
        ...

    def attach(self) -> None:
        """Look for the parts in memory; RingError where they are not there."""
        ...

    def available(self) -> int:
        """At most how many buffers wait to be taken, 0 where none does; RingError where that is impossible."""
        ...

    def pending(self) -> bool:
        """A glance, without judging, at whether a buffer waits (or the memory has changed)."""
        ...

    def take(self, count: int, budget: int, chains: list[Chain]) -> int:
        """Append the next buffers that are available to `chains`: at most `count`, stopping after `budget` descriptors.

        Returns how many descriptors they had.  RingError where one is broken; those before it are in `chains`.
        """
        ...

    def push(self, used: Sequence[tuple[Chain, int]]) -> None:
        """Use buffers, of each of which so many of its first writable bytes were written; `publish` shows it."""
        ...

    @property
    def unshown(self) -> bool:
        """Whether something was pushed that the driver has not been shown."""
        ...

    def publish(self) -> bool:
        """Show the driver what was pushed; returns whether to notify it."""
        ...

    def disable_notifications(self) -> None:
        """Tell the driver that it need not notify; a hint only."""
        ...

    def enable_notifications(self) -> int:
        """Ask for a notification of the next buffer; returns what `available` then does."""
        ...

    def check_notification(self, position: int) -> None:
        """Report a notification that says `position` comes next where the ring contradicts it."""
        ...

    def save(self) -> RingState:
        """The ring's position, and what it knows."""
        ...

    def take_over(self, state: RingState) -> None:
        """Go on where `save` was called, on a ring that was made with its positions."""
        ...


def no_report(clause: str, summary: str, data: bytes) -> None:
    """Report to nobody."""
