"""A packed virtqueue read from memory, VIRTIO 1.4 §2.8.

No index is in memory.  Where the driver is follows from the AVAIL bits: they have the driver's wrap counter before its
place, the opposite from there on.  Where the device is follows from the last used descriptor in that order; what
it leaves of a list it has used looks as if it were still available, and is told from new buffers by id and framing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from guestsim.drivers.layouts import (
    BLK_HEADER,
    DESC,
    DESC_INDIRECT,
    DESC_NEXT,
    DESC_WRITE,
    MAX_QUEUE_SIZE,
    Feature,
)
from guestsim.inspect.blk import understood
from guestsim.inspect.chains import Chains
from guestsim.inspect.state import Buffer, QueueState

if TYPE_CHECKING:
    from guestsim.inspect.chains import Descriptor
    from guestsim.inspect.image import MemoryImage
    from guestsim.inspect.state import Placement, Virtqueue

AVAIL = 1 << 7
USED = 1 << 15
_EVENT_SIZE = 4
_EVENT_DESC = 2
_EVENT_MODES = {0: "enabled", 1: "disabled", 2: "at a descriptor"}


def inspect_packed(image: MemoryImage, queue: Virtqueue) -> QueueState:
    """The state of the packed virtqueue at `queue`; whatever memory holds, this returns."""
    return _Packed(image, queue).state


class _Packed:
    def __init__(self, image: MemoryImage, queue: Virtqueue) -> None:
        self._image = image
        self._queue = queue
        self._looked_at: int | None = None
        self._chains = Chains(image, queue)
        self.state = QueueState(queue.desc, queue.driver, queue.device, queue.size, packed=True)
        self.state.problems = self._chains.problems
        self._read_events()
        if self._well_placed():
            table = image.read(queue.desc, DESC.size * queue.size)
            self._ring: list[Descriptor] = list(DESC.struct.iter_unpack(table))
            self._find_places()
            self._name_buffers()

    def _well_placed(self) -> bool:
        queue, problem = self._queue, self._chains.problem
        if not 0 < queue.size <= MAX_QUEUE_SIZE:
            problem("2.8.10.1", f"queue size {queue.size}, expected 1 to {MAX_QUEUE_SIZE}")
            return False
        if queue.desc % DESC.size:
            problem("2.8.11", f"descriptor ring at {queue.desc:#x}, expected a multiple of {DESC.size}")
        if not self._image.contains(queue.desc, DESC.size * queue.size):
            text = f"descriptor ring at {queue.desc:#x}+{DESC.size * queue.size:#x} is outside memory"
            problem("2.8.10.1", text)
            return False
        return True

    def _read_events(self) -> None:
        """The event suppression structures (§2.8.14): when the driver wants interrupts, and the device kicks."""
        problem = self._chains.problem
        for name, place in (("driver", self._queue.driver), ("device", self._queue.device)):
            if place is None:
                continue
            if place % _EVENT_SIZE:
                problem(
                    "2.8.11", f"{name} event suppression at {place:#x}, expected a multiple of {_EVENT_SIZE}"
                )
            if not self._image.contains(place, _EVENT_SIZE):
                problem("2.8.10.1", f"{name} event suppression at {place:#x} is outside memory")
                continue
            data = self._image.read(place, _EVENT_SIZE)
            where, flags = int.from_bytes(data[:2], "little"), int.from_bytes(data[2:], "little")
            mode, offset = flags & 3, where & 0x7FFF
            if flags not in _EVENT_MODES:
                problem("2.8.14", f"{name} event suppression flags {flags:#x}, expected 0, 1 or 2")
            elif mode == _EVENT_DESC:
                self.state.indices |= {f"{name} event": offset, f"{name} event wrap": where >> 15}
                if name == "device":
                    self._looked_at = offset
                if offset >= self._queue.size:
                    problem("2.8.14", f"{name} event at descriptor {offset} of {self._queue.size}")
            self.state.notes.append(f"{name} event suppression: {_EVENT_MODES.get(mode, 'reserved')}")

    # --- where driver and device are

    def _find_places(self) -> None:
        size = self._queue.size
        available = [bool(flags & AVAIL) for _, _, _, flags in self._ring]
        first = available[0]
        driver = next((slot for slot in range(size) if available[slot] != first), 0)
        wrap = first if driver else not first
        if driver and any(available[slot] == first for slot in range(driver, size)):
            self._chains.problem(
                "2.8.1",
                f"AVAIL bits change more than once, first at descriptor {driver}: no wrap counter does that",
            )
        self._driver = driver
        order = self._order()
        used = [slot for slot in order if self._is_used(slot)]
        # Slots are taken in the driver's order, beginning with the oldest.
        start = order.index(used[-1]) + 1 if used else 0
        if not used:
            start += self._left_behind(order)
        elif any(self._ring[used[-1]]):
            start += self._left_over(order[start:], self._ring[used[-1]])
        self._waiting = order[start:]
        device = self._waiting[0] if self._waiting else driver
        device_wrap = wrap if device < driver or not self._waiting else not wrap
        self._seen_used = {self._ring[slot][2] for slot in used if any(self._ring[slot])}
        self.state.indices = {
            "next available": driver,
            "driver wrap": int(wrap),
            "next used": device,
            "device wrap": int(device_wrap),
            **self.state.indices,
        }

    def _order(self) -> list[int]:
        """All slots in the order in which the driver wrote them, the oldest first."""
        return [*range(self._driver, self._queue.size), *range(self._driver)]

    def _is_used(self, slot: int) -> bool:
        flags = self._ring[slot][3]
        return bool(flags & AVAIL) == bool(flags & USED)

    def _begins(self, slot: int) -> bool:
        """Whether a slot looks like the first of a block device's request."""
        _, length, _, flags = self._ring[slot]
        return bool(flags & DESC_INDIRECT) or (not flags & DESC_WRITE and length == BLK_HEADER.size)

    def _left_over(self, after: list[int], used: Descriptor) -> int:
        """How many of the slots `after` a used element belong to the list that it stands for."""
        count = 0
        for slot in after:
            _, _, buffer_id, flags = self._ring[slot]
            if buffer_id != used[2] or self._begins(slot):
                break
            count += 1
            if not flags & DESC_NEXT:
                break
        return count

    def _left_behind(self, order: list[int]) -> int:
        """How many of the oldest slots belong to a used list whose beginning the driver has overwritten."""
        return next((count for count, slot in enumerate(order) if self._begins(slot)), 0)

    # --- which buffers the device has

    def _name_buffers(self) -> None:
        letters = ["."] * self._queue.size
        ahead = False
        for slot in self._waiting:
            ahead = ahead or slot == self._looked_at
            letters[slot] = "A" if ahead else "F"
        self.state.slots = "".join(letters)
        given: set[int] = set()
        run: list[int] = []
        for slot in self._waiting:
            run.append(slot)
            if self._ring[slot][3] & DESC_NEXT:
                continue
            buffer = self._buffer(run)
            run = []
            if buffer.id in given:
                self._twice(buffer.id)
            given.add(buffer.id)
            self.state.buffers.append(buffer)
        if run:
            text = f"the list that begins at descriptor {run[0]} goes on at {self._driver}, which is not available"
            self._chains.problem("2.8.17", text)
        self.state.outstanding = len(self.state.buffers)

    def _twice(self, buffer_id: int) -> None:
        """A buffer used out of order leaves its descriptors where they were, and its id is free for another."""
        first_lap = not all(map(any, self._ring))
        if buffer_id in self._seen_used or not (first_lap or self._queue.has(Feature.IN_ORDER)):
            self.state.notes.append(
                f"buffer {buffer_id} is seen twice: if it was used out of order, one of the two is what is left of it"
            )
        else:
            text = f"buffer {buffer_id} was made available again while the device has it"
            self._chains.problem("2.8.21.1", text)

    def _buffer(self, run: list[int]) -> Buffer:
        buffer_id = self._ring[run[-1]][2]
        parts, indirect = self._chains.follow_packed([self._ring[slot] for slot in run], buffer_id)
        request = understood(self._image, self._queue, parts, self._chains.problem, f"buffer {buffer_id}")
        placement: Placement = "available" if self.state.slots[run[0]] == "A" else "in flight"
        return Buffer(buffer_id, run[0], placement, indirect, parts, request)
