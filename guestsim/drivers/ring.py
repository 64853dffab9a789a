"""What a driver sees of a virtqueue, whichever layout its ring has (VIRTIO 1.4 §2.6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from guestsim.memory import Segment


class Chain:
    """A chain that was made available.

    `head` is the number by which the device gives it back: the first descriptor's in a split ring, the buffer ID in a
    packed one.  `descriptors` are the entries of the ring that it takes; `writable` is how many bytes the device may
    write (None: a chain put together by hand, which isn't checked); `used_length` is what the device reported, None
    while the chain is in flight.
    """

    __slots__ = ("descriptors", "done", "head", "table", "used_length", "writable")

    def __init__(
        self, head: int, descriptors: Sequence[int], writable: int | None, done: Callable[[int], None] | None
    ) -> None:
        self.head = head
        self.descriptors = descriptors
        self.writable = writable
        self.done = done
        self.table: int | None = None
        self.used_length: int | None = None


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """What was negotiated for the rings of a device; with `any_length` used lengths are not judged."""

    event_idx: bool = False
    indirect: bool = False
    in_order: bool = False
    any_length: bool = False


class Queue(Protocol):
    """One virtqueue of `size` entries in guest memory.

    `kicks` counts the notifications sent, `kicks_saved` those the device didn't want.  After something was put
    into the ring by hand the queue is `raw`: what the device uses is kept in `collected` as (id, length), and what
    belongs to no chain of the driver's is not refused.
    """

    index: int
    size: int
    options: QueueOptions
    in_flight: dict[int, Chain]
    kicks: int
    kicks_saved: int
    raw: bool
    collected: list[tuple[int, int]]

    @property
    def addresses(self) -> tuple[int, int, int]:
        """Where descriptor, driver and device area lie."""
        ...

    @property
    def room(self) -> int:
        """How many descriptors are free."""
        ...

    def add(
        self,
        readable: Sequence[Segment],
        writable: Sequence[Segment],
        done: Callable[[int], None] | None = None,
        *,
        indirect: bool = False,
    ) -> Chain:
        """Put a chain into the ring, through an indirect table or not; `done(used_length)` when it comes back."""
        ...

    def publish(self) -> None:
        """Show everything added since the last call to the device."""
        ...

    def kick(self) -> bool:
        """Notify the device of what was published, unless it doesn't want to hear of it."""
        ...

    def notify(self) -> None:
        """Notify the device, wanted or not."""
        ...

    def poll(self) -> list[Chain]:
        """Take back what the device has used since the last call and call each chain's `done`."""
        ...

    def enable_interrupts(self, after: int = 1) -> None:
        """Ask to be interrupted when `after` more buffers were used; without EVENT_IDX, at each."""
        ...

    def disable_interrupts(self) -> None:
        """Ask not to be interrupted."""
        ...

    def free(self) -> None:
        """Give the ring's memory back; the queue must not be live any more (§3.3.1)."""
        ...
