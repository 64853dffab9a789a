"""A split virtqueue as a driver runs it (VIRTIO 1.4 §2.7): descriptors, available ring, used ring.

The driver keeps its own account of what it has made available and holds the device to it: every used element must
name a chain in flight, once, with a length that the chain's writable part can hold.  A departure raises
`GuestCheckError` with its clause.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING

from guestsim.drivers.layouts import (
    AVAIL,
    AVAIL_NO_INTERRUPT,
    DESC,
    DESC_INDIRECT,
    DESC_NEXT,
    DESC_WRITE,
    USED,
    USED_ELEM,
    USED_NO_NOTIFY,
    avail_size,
    used_size,
)
from guestsim.drivers.ring import Chain, QueueOptions
from guestsim.errors import GuestCheckError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from guestsim.memory import Memory, Segment

_U16 = struct.Struct("<H")
_MASK = 0xFFFF


def _up(length: int, page: int) -> int:
    return -(-length // page) * page


class SplitQueue:
    """One split virtqueue of `size` entries in guest memory, of which it is the owner; a `Queue`.

    `notify(available_index)` tells the device; it is called when the device wants to hear of it.  `kicks` counts the
    notifications sent, `kicks_saved` those the device didn't want.

    With `page` all of it lies in one piece, the used ring at the next multiple of `page`: the legacy layout (§2.7.2).

    After a chain was put together by hand (`expose_raw`) the queue is `raw`: used elements are kept in `collected` as
    (id, length), and those that belong to no chain of the driver's are not refused.
    """

    __slots__ = (
        "_added",
        "_allocated",
        "_avail_at",
        "_available",
        "_desc_at",
        "_free",
        "_kicked",
        "_memory",
        "_notify",
        "_order",
        "_seen",
        "_used_at",
        "collected",
        "in_flight",
        "index",
        "kicks",
        "kicks_saved",
        "options",
        "raw",
        "size",
    )

    def __init__(
        self,
        memory: Memory,
        index: int,
        size: int,
        notify: Callable[[int], None],
        options: QueueOptions | None = None,
        *,
        page: int | None = None,
    ) -> None:
        self._memory = memory
        self.index = index
        self.size = size
        self.options = options or QueueOptions()
        self._notify = notify
        if page is None:
            self._desc_at = memory.allocate_zeroed(DESC.size * size, 16)
            self._avail_at = memory.allocate_zeroed(avail_size(size), 2)
            self._used_at = memory.allocate_zeroed(used_size(size), 4)
            self._allocated = [self._desc_at, self._avail_at, self._used_at]
        else:
            avail, used = DESC.size * size, _up(DESC.size * size + avail_size(size), page)
            self._desc_at = memory.allocate_zeroed(used + _up(used_size(size), page), page)
            self._avail_at, self._used_at = self._desc_at + avail, self._desc_at + used
            self._allocated = [self._desc_at]
        self._free = deque(range(size))
        self._available = 0
        self._added: list[int] = []
        self._kicked = 0
        self._seen = 0
        self._order: deque[int] = deque()
        self.in_flight: dict[int, Chain] = {}
        self.kicks = 0
        self.kicks_saved = 0
        self.raw = False
        self.collected: list[tuple[int, int]] = []

    @property
    def addresses(self) -> tuple[int, int, int]:
        """Where descriptor table, available ring and used ring lie."""
        return self._desc_at, self._avail_at, self._used_at

    @property
    def room(self) -> int:
        """How many descriptors are free."""
        return len(self._free)

    def free(self) -> None:
        """Give the rings' memory back; the queue must not be live any more (§3.3.1)."""
        for chain in self.in_flight.values():
            if chain.table is not None:
                self._memory.free(chain.table)
        self.in_flight.clear()
        for address in self._allocated:
            self._memory.free(address)

    # --- making buffers available

    def add(
        self,
        readable: Sequence[Segment],
        writable: Sequence[Segment],
        done: Callable[[int], None] | None = None,
        *,
        indirect: bool = False,
    ) -> Chain:
        """Put a chain into the descriptor table and its head into the available ring (§2.7.13.1, §2.7.13.2).

        `done(used_length)` is called when it comes back.  With `indirect` the chain takes one descriptor.
        `publish` shows it to the device.  The caller has looked at `room`.
        """
        count = len(readable) + len(writable)
        table = None
        if indirect:
            table = self._memory.allocate(DESC.size * count, 16)
            self._memory.write(table, b"".join(_descriptors(readable, writable, range(count))))
            indices = [self._free.popleft()]
            self.write_descriptors(indices[0], DESC.pack(table, DESC.size * count, DESC_INDIRECT, 0))
        else:
            indices = [self._free.popleft() for _ in range(count)]
            self._write_chain(indices, _descriptors(readable, writable, indices))
        chain = Chain(indices[0], indices, sum(segment.length for segment in writable), done)
        chain.table = table
        self.expose(chain)
        return chain

    def _write_chain(self, indices: Sequence[int], descriptors: Iterable[bytes]) -> None:
        """Store descriptors, those that lie side by side at once."""
        start = indices[0]
        run = bytearray()
        for index, descriptor in zip(indices, descriptors, strict=True):
            if index != start + len(run) // DESC.size:
                self.write_descriptors(start, run)
                start, run = index, bytearray()
            run += descriptor
        self.write_descriptors(start, run)

    def write_descriptors(self, index: int, data: bytes | bytearray) -> None:
        """Store descriptors into the table from `index` on."""
        self._memory.write(self._desc_at + DESC.size * index, data)

    def expose(self, chain: Chain) -> None:
        """Put a chain's head into the next entry of the available ring."""
        self.in_flight[chain.head] = chain
        if self.options.in_order:
            self._order.append(chain.head)
        self._add_head(chain.head)

    def expose_raw(self, head: int) -> None:
        """Put any number into the next entry of the available ring, whatever it names."""
        self.raw = True
        self._add_head(head)

    def _add_head(self, head: int) -> None:
        slot = (self._available + len(self._added)) % self.size
        self._added.append(head)
        self._memory.write(self._avail_at + AVAIL.size + 2 * slot, _U16.pack(head & _MASK))

    def publish(self, advance: int | None = None) -> None:
        """Show everything added since the last call to the device: move `idx` on (§2.7.13.3).

        `advance` moves it by another number than that, as no correct driver does.
        """
        self._available = self._available + (len(self._added) if advance is None else advance) & _MASK
        self._added.clear()
        self._memory.write(self._avail_at + AVAIL["idx"].offset, _U16.pack(self._available))

    def kick(self) -> bool:
        """Notify the device of what was published, unless it doesn't want to hear of it (§2.7.10.1)."""
        new, old = self._available, self._kicked
        self._kicked = new
        if new == old:
            return False
        if self.options.event_idx:
            event = self._read16(self._used_at + USED.size + USED_ELEM.size * self.size)
            wanted = (new - event - 1) & _MASK < (new - old) & _MASK
        else:
            wanted = not self._read16(self._used_at) & USED_NO_NOTIFY
        if wanted:
            self.notify()
        else:
            self.kicks_saved += 1
        return wanted

    def notify(self) -> None:
        """Notify the device, wanted or not."""
        self.kicks += 1
        self._notify(self._available)

    # --- taking used buffers back

    def poll(self) -> list[Chain]:
        """Take back what the device has used since the last call and call each chain's `done` (§2.7.14)."""
        index = self._read16(self._used_at + USED["idx"].offset)
        count = index - self._seen & _MASK
        if not count:
            return []
        if self.raw:
            return self._poll_raw(index, count)
        if count > len(self.in_flight):
            raise GuestCheckError(
                "VIRTIO 1.4 §2.7.8",
                f"queue {self.index}: {count} buffers used (idx {self._seen} to {index}), "
                f"{len(self.in_flight)} in flight",
            )
        if self.options.event_idx and self._read16(self._used_at) != 0:
            raise GuestCheckError(
                "VIRTIO 1.4 §2.7.10.2", f"queue {self.index}: used flags are not 0 with EVENT_IDX"
            )
        finished: list[Chain] = []
        for position, (head, length) in enumerate(self._used_elements(count)):
            if position == len(finished):
                finished += self._finish(head, length)
        if len(finished) != count:
            raise GuestCheckError(
                "VIRTIO 1.4 §2.7.9",
                f"queue {self.index}: idx moved by {count}, a batch holds {len(finished)} buffers",
            )
        self._seen = index
        for chain in finished:
            if chain.done is not None and chain.used_length is not None:
                chain.done(chain.used_length)
        return finished

    def _poll_raw(self, index: int, count: int) -> list[Chain]:
        if count > self.size:
            raise GuestCheckError(
                "VIRTIO 1.4 §2.7.8", f"queue {self.index}: used idx moved by {count} at once"
            )
        finished = []
        for head, length in self._used_elements(count):
            self.collected.append((head, length))
            chain = self.in_flight.get(head)
            if chain is not None:
                self._retire(chain, length)
                finished.append(chain)
        self._seen = index
        for chain in finished:
            if chain.done is not None and chain.used_length is not None:
                chain.done(chain.used_length)
        return finished

    def _used_elements(self, count: int) -> list[tuple[int, int]]:
        first = self._seen % self.size
        here = min(count, self.size - first)
        ring = self._used_at + USED.size
        data = self._memory.read(ring + USED_ELEM.size * first, USED_ELEM.size * here)
        if here < count:
            data += self._memory.read(ring, USED_ELEM.size * (count - here))
        return list(USED_ELEM.struct.iter_unpack(data))

    def _finish(self, head: int, length: int) -> list[Chain]:
        """Account for one used element; with IN_ORDER it stands for its whole batch (§2.7.9)."""
        chain = self.in_flight.get(head)
        if chain is None:
            raise GuestCheckError(
                "VIRTIO 1.4 §2.7.8",
                f"queue {self.index}: used element names head {head}, which is not in flight",
            )
        if chain.writable is not None and length > chain.writable and not self.options.any_length:
            raise GuestCheckError(
                "VIRTIO 1.4 §2.7.8.2",
                f"queue {self.index}: head {head}: used length {length}, {chain.writable} bytes are writable",
            )
        if not self.options.in_order:
            self._retire(chain, length)
            return [chain]
        batch = []
        while True:
            skipped = self.in_flight[self._order.popleft()]
            # Skipped buffers count as used completely.
            self._retire(skipped, length if skipped is chain else skipped.writable or 0)
            batch.append(skipped)
            if skipped is chain:
                return batch

    def _retire(self, chain: Chain, length: int) -> None:
        chain.used_length = length
        del self.in_flight[chain.head]
        if chain.table is not None:
            self._memory.free(chain.table)
            chain.table = None
        # First freed, first taken: with IN_ORDER that is ring order, as §2.7.5 wants it.
        self._free.extend(chain.descriptors)

    # --- asking for interrupts

    def write_avail_flags(self, value: int) -> None:
        """Write the available ring's flags literally."""
        self._memory.write(self._avail_at, _U16.pack(value))

    def write_used_event(self, value: int) -> None:
        """Write `used_event` literally (modulo 65536)."""
        self._memory.write(self._avail_at + AVAIL.size + 2 * self.size, _U16.pack(value & _MASK))

    def enable_interrupts(self, after: int = 1) -> None:
        """Ask to be interrupted when `after` more buffers were used (§2.7.7.1); without EVENT_IDX, at each."""
        if self.options.event_idx:
            self.write_used_event(self._seen + after - 1)
        else:
            self.write_avail_flags(0)

    def disable_interrupts(self) -> None:
        """Ask not to be interrupted."""
        if self.options.event_idx:
            self.write_used_event(self._seen - 1)
        else:
            self.write_avail_flags(AVAIL_NO_INTERRUPT)

    def _read16(self, address: int) -> int:
        return int.from_bytes(self._memory.read(address, 2), "little")


def _descriptors(
    readable: Sequence[Segment], writable: Sequence[Segment], indices: Sequence[int]
) -> Iterable[bytes]:
    """The descriptors of a chain, readable segments first (§2.7.4.2), each linked to the next of `indices`."""
    last = len(indices) - 1
    for position, segment in enumerate((*readable, *writable)):
        flags = DESC_WRITE if position >= len(readable) else 0
        if position == last:
            yield DESC.pack(segment.address, segment.length, flags, 0)
        else:
            yield DESC.pack(segment.address, segment.length, flags | DESC_NEXT, indices[position + 1])
