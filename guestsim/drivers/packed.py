"""A packed virtqueue as a driver runs it (VIRTIO 1.4 §2.8): one ring of descriptors that both sides write.

The driver keeps its own account of what it has made available and holds the device to it: each used descriptor must lie
where the next one is due, with the flags of that lap, name a buffer in flight, once, with a length that its writable
part can hold.  A departure raises `GuestCheckError` with its clause.

A place in the ring is counted through two laps, 0 to 2 × size − 1: the first lap has wrap counter 1, the second 0.
Differences of places are then plain numbers modulo 2 × size, whatever the size is.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING

from guestsim.drivers.layouts import (
    DESC_INDIRECT,
    DESC_NEXT,
    DESC_WRITE,
    EVENT_DESC,
    EVENT_DISABLE,
    EVENT_ENABLE,
    EVENT_FLAGS_MASK,
    EVENT_WRAP,
    PACKED_AVAIL,
    PACKED_DESC,
    PACKED_EVENT,
    PACKED_USED,
)
from guestsim.drivers.ring import Chain, QueueOptions
from guestsim.errors import GuestCheckError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from guestsim.memory import Memory, Segment

_U16 = struct.Struct("<H")
_FLAGS = PACKED_DESC["flags"].offset
_LAP = PACKED_AVAIL | PACKED_USED


class PackedQueue:
    """One packed virtqueue of `size` entries in guest memory, of which it is the owner; a `Queue`.

    `notify(state)` tells the device, where `state` is the next place that will be made available, with its wrap
    counter in bit 15 (§2.9).

    `unmarked` counts used descriptors with a length and without the WRITE flag, by which a device says that it wrote
    anything (§2.8.3, §2.8.4): QEMU never sets it, so drivers believe the length alone.
    """

    __slots__ = (
        "_added",
        "_device_at",
        "_driver_at",
        "_free_ids",
        "_hidden",
        "_memory",
        "_next",
        "_notify",
        "_order",
        "_raw_lists",
        "_ring_at",
        "_shown",
        "_taken",
        "_unheard",
        "collected",
        "in_flight",
        "index",
        "kicks",
        "kicks_saved",
        "options",
        "raw",
        "room",
        "size",
        "unmarked",
    )

    def __init__(
        self,
        memory: Memory,
        index: int,
        size: int,
        notify: Callable[[int], None],
        options: QueueOptions | None = None,
    ) -> None:
        self._memory = memory
        self.index = index
        self.size = size
        self.options = options or QueueOptions()
        self._notify = notify
        self._ring_at = memory.allocate_zeroed(PACKED_DESC.size * size, 16)
        self._driver_at = memory.allocate_zeroed(PACKED_EVENT.size, 4)
        self._device_at = memory.allocate_zeroed(PACKED_EVENT.size, 4)
        self.room = size
        self._free_ids = deque(range(size))
        self._next = 0
        """The place of the next descriptor that will be written."""
        self._added: list[Chain] = []
        self._hidden: tuple[int, int] | None = None
        """Place and flags of the first descriptor of what was added and not yet published."""
        self._shown = 0
        """The place up to which descriptors have been published."""
        self._unheard = 0
        """How many descriptors were published since the device was last asked whether it wants to hear of them."""
        self._taken = 0
        """The place of the next used descriptor."""
        self._order: deque[int] = deque()
        self.in_flight: dict[int, Chain] = {}
        self.kicks = 0
        self.kicks_saved = 0
        self.unmarked = 0
        self.raw = False
        self.collected: list[tuple[int, int]] = []
        self._raw_lists: list[tuple[int, int]] = []
        """Id and number of descriptors of the lists that were exposed by hand and have not come back."""

    @property
    def addresses(self) -> tuple[int, int, int]:
        """Where descriptor ring, driver and device event suppression lie."""
        return self._ring_at, self._driver_at, self._device_at

    def free(self) -> None:
        """Give the ring's memory back; the queue must not be live any more (§3.3.1)."""
        for chain in (*self.in_flight.values(), *self._added):
            if chain.table is not None:
                self._memory.free(chain.table)
        self.in_flight.clear()
        self._added.clear()
        for address in self.addresses:
            self._memory.free(address)

    # --- places

    def _slot(self, place: int) -> int:
        return place % self.size

    def _lap_flags(self, place: int) -> int:
        """AVAIL and USED of a descriptor that is made available at `place` (§2.8.1)."""
        return PACKED_AVAIL if place < self.size else PACKED_USED

    def _after(self, place: int, count: int = 1) -> int:
        return (place + count) % (2 * self.size)

    def _between(self, start: int, end: int) -> int:
        """How many places lie from `start` up to `end`."""
        return (end - start) % (2 * self.size)

    def _with_wrap(self, place: int) -> int:
        """A place as event suppression and notifications have it: the offset, and the wrap counter in bit 15."""
        return self._slot(place) | (EVENT_WRAP if place < self.size else 0)

    # --- making buffers available

    def add(
        self,
        readable: Sequence[Segment],
        writable: Sequence[Segment],
        done: Callable[[int], None] | None = None,
        *,
        indirect: bool = False,
    ) -> Chain:
        """Write a chain into the ring, its first descriptor's flags left for `publish` (§2.8.21.1).

        `done(used_length)` is called when it comes back.  With `indirect` the chain takes one descriptor.  The caller
        has looked at `room`.
        """
        elements = [(one.address, one.length, 0) for one in readable]
        elements += [(one.address, one.length, DESC_WRITE) for one in writable]
        table = None
        if indirect:
            # Only WRITE means anything inside a table; ids are reserved there (§2.8.7).
            entries = b"".join(PACKED_DESC.pack(at, length, 0, flags) for at, length, flags in elements)
            table = self._memory.store(entries)
            elements = [(table, len(entries), DESC_INDIRECT)]
        buffer_id = self._free_ids.popleft()
        places = [self._after(self._next, number) for number in range(len(elements))]
        last = len(elements) - 1
        self._write(
            places[0],
            [
                (at, length, buffer_id, flags | (DESC_NEXT if number < last else 0) | self._lap_flags(place))
                for number, (place, (at, length, flags)) in enumerate(zip(places, elements, strict=True))
            ],
        )
        self._next = self._after(self._next, len(elements))
        self.room -= len(elements)
        writable_bytes = sum(segment.length for segment in writable)
        chain = Chain(buffer_id, [self._slot(place) for place in places], writable_bytes, done)
        chain.table = table
        self._added.append(chain)
        return chain

    def _write(self, place: int, descriptors: Sequence[tuple[int, int, int, int]]) -> None:
        """Store descriptors (address, length, id, flags) from `place` on; the first one that is new stays hidden.

        Later ones may be whole at once: a device stops at the first that isn't available.
        """
        packed = [PACKED_DESC.pack(*descriptor) for descriptor in descriptors]
        if self._hidden is None:
            address, length, number, flags = descriptors[0]
            self._hidden = place, flags
            # Until then the flags say what they say of a descriptor of the lap before.
            packed[0] = PACKED_DESC.pack(address, length, number, flags ^ _LAP)
        start = self._slot(place)
        here = self.size - start
        self._memory.write(self._ring_at + PACKED_DESC.size * start, b"".join(packed[:here]))
        if len(packed) > here:
            self._memory.write(self._ring_at, b"".join(packed[here:]))

    def publish(self) -> None:
        """Show everything added since the last call to the device: the first descriptor's flags (§2.8.21.1)."""
        if self._hidden is not None:
            place, flags = self._hidden
            self._hidden = None
            self._memory.write(self._flags_at(place), _U16.pack(flags & 0xFFFF))
        for chain in self._added:
            self.in_flight[chain.head] = chain
            if self.options.in_order:
                self._order.append(chain.head)
        self._added.clear()
        self._unheard = min(self.size, self._unheard + self._between(self._shown, self._next))
        self._shown = self._next

    def _flags_at(self, place: int) -> int:
        return self._ring_at + PACKED_DESC.size * self._slot(place) + _FLAGS

    def kick(self) -> bool:
        """Notify the device of what was published, unless it doesn't want to hear of it (§2.8.21.2)."""
        count, self._unheard = self._unheard, 0
        if not count:
            return False
        wanted = self._is_wanted(count)
        if wanted:
            self.notify()
        else:
            self.kicks_saved += 1
        return wanted

    def _is_wanted(self, count: int) -> bool:
        """Whether the device wants to hear that the last `count` descriptors are available (§2.8.10)."""
        place: int
        flags: int
        place, flags = PACKED_EVENT.struct.unpack(self._memory.read(self._device_at, PACKED_EVENT.size))
        mode = flags & EVENT_FLAGS_MASK
        if mode in (EVENT_ENABLE, EVENT_DISABLE):
            return mode == EVENT_ENABLE
        if mode != EVENT_DESC or not self.options.event_idx or place & ~EVENT_WRAP >= self.size:
            raise GuestCheckError(
                "VIRTIO 1.4 §2.8.10",
                f"queue {self.index}: device event suppression {place:#06x}, flags {flags:#06x}",
            )
        event = (place & ~EVENT_WRAP) + (0 if place & EVENT_WRAP else self.size)
        return self._between(self._after(self._shown, -count), event) < count

    def notify(self) -> None:
        """Notify the device, wanted or not."""
        self.kicks += 1
        self._notify(self._with_wrap(self._shown))

    # --- taking used buffers back

    def poll(self) -> list[Chain]:
        """Take back what the device has used since the last call and call each chain's `done` (§2.8.22)."""
        if self.raw:
            return self._poll_raw()
        finished: list[Chain] = []
        while (element := self._used_element()) is not None:
            finished += self._finish(*element)
        for chain in finished:
            if chain.done is not None and chain.used_length is not None:
                chain.done(chain.used_length)
        return finished

    def _used_element(self) -> tuple[int, int, int] | None:
        """Length, id and flags of the next used descriptor, or None where there is none yet."""
        lap = self._lap_flags(self._taken)
        flags = int.from_bytes(self._memory.read(self._flags_at(self._taken), 2), "little")
        used = PACKED_AVAIL | PACKED_USED if lap == PACKED_AVAIL else 0
        if flags & _LAP == used:
            if not self._between(self._taken, self._shown):
                raise GuestCheckError(
                    "VIRTIO 1.4 §2.8.15",
                    f"queue {self.index}: descriptor {self._slot(self._taken)} is used, nothing is in flight",
                )
            at = self._ring_at + PACKED_DESC.size * self._slot(self._taken)
            _, length, number, flags = PACKED_DESC.struct.unpack(self._memory.read(at, PACKED_DESC.size))
            return length, number, flags
        if flags & _LAP != lap and self._between(self._taken, self._shown):
            raise GuestCheckError(
                "VIRTIO 1.4 §2.8.1",
                f"queue {self.index}: descriptor {self._slot(self._taken)} has the flags {flags:#06x}, "
                f"{lap:#06x} while available, {used:#06x} when used",
            )
        return None

    def _finish(self, length: int, number: int, flags: int) -> list[Chain]:
        """Account for one used descriptor; with IN_ORDER it stands for its whole batch (§2.8.8)."""
        chain = self.in_flight.get(number)
        if chain is None:
            raise GuestCheckError(
                "VIRTIO 1.4 §2.8.22",
                f"queue {self.index}: a used descriptor names buffer {number}, which is not in flight",
            )
        self.unmarked += bool(length and not flags & DESC_WRITE)
        if chain.writable is not None and length > chain.writable and not self.options.any_length:
            raise GuestCheckError(
                "VIRTIO 1.4 §2.8.4",
                f"queue {self.index}: buffer {number}: used length {length}, {chain.writable} bytes are writable",
            )
        batch = []
        while self.options.in_order:
            skipped = self.in_flight[self._order.popleft()]
            if skipped is chain:
                break
            # Skipped buffers count as used completely.
            batch.append(self._retire(skipped, skipped.writable or 0))
        batch.append(self._retire(chain, length))
        return batch

    def _retire(self, chain: Chain, length: int) -> Chain:
        chain.used_length = length
        del self.in_flight[chain.head]
        if chain.table is not None:
            self._memory.free(chain.table)
            chain.table = None
        self._free_ids.append(chain.head)
        self.room += len(chain.descriptors)
        self._taken = self._after(self._taken, len(chain.descriptors))
        return chain

    # --- asking for interrupts

    def write_event(self, place: int, flags: int) -> None:
        """Write the driver's event suppression literally, the flags last."""
        self._memory.write(self._driver_at, _U16.pack(place & 0xFFFF))
        self._memory.write(self._driver_at + PACKED_EVENT["flags"].offset, _U16.pack(flags & 0xFFFF))

    def enable_interrupts(self, after: int = 1) -> None:
        """Ask to be interrupted when `after` more buffers were used, were they used in order (§2.8.10).

        Without EVENT_IDX, at each.
        """
        if not self.options.event_idx:
            self.write_event(0, EVENT_ENABLE)
            return
        oldest = list(self.in_flight.values())[: after - 1]
        place = self._after(self._taken, sum(len(chain.descriptors) for chain in oldest))
        self.write_event(self._with_wrap(place), EVENT_DESC)

    def disable_interrupts(self) -> None:
        """Ask not to be interrupted."""
        self.write_event(0, EVENT_DISABLE)

    # --- by hand

    def expose_raw(self, descriptors: Sequence[tuple[int, int, int, int]]) -> None:
        """Write any descriptors (address, length, id, flags) to the next places, and publish them with what was added.

        AVAIL and USED are what makes each available in its lap; a flag given there turns its bit round.  No account is
        kept of room or of ids.
        """
        self.raw = True
        places = [self._after(self._next, number) for number in range(len(descriptors))]
        self._write(
            places[0],
            [
                (address, length, number, flags ^ self._lap_flags(place))
                for place, (address, length, number, flags) in zip(places, descriptors, strict=True)
            ],
        )
        self._raw_lists.append((descriptors[-1][2], len(descriptors)))
        self._next = self._after(self._next, len(descriptors))
        self.publish()

    def write_raw(self, slot: int, descriptor: tuple[int, int, int, int]) -> None:
        """Write any descriptor (address, length, id, flags) to a slot of the ring, as it is."""
        self.raw = True
        self._memory.write(self._ring_at + PACKED_DESC.size * slot, PACKED_DESC.pack(*descriptor))

    def _take_raw(self, number: int) -> int:
        """How many descriptors the list with this id takes, or else the oldest one, which is done with."""
        lists = self._raw_lists
        found = next((one for one in lists if one[0] == number), lists[0] if lists else None)
        if found is None:
            return 1
        lists.remove(found)
        return found[1]

    def _poll_raw(self) -> list[Chain]:
        """Keep whatever was used, at most a ring of it at once."""
        finished = []
        for _ in range(self.size):
            place = self._taken
            at = self._ring_at + PACKED_DESC.size * self._slot(place)
            _, length, number, flags = PACKED_DESC.struct.unpack(self._memory.read(at, PACKED_DESC.size))
            if flags & _LAP != (_LAP if place < self.size else 0):
                break
            self.collected.append((number, length))
            chain = self.in_flight.get(number)
            if chain is not None:
                finished.append(self._retire(chain, length))
            else:
                self._taken = self._after(place, self._take_raw(number))
        for chain in finished:
            if chain.done is not None and chain.used_length is not None:
                chain.done(chain.used_length)
        return finished
