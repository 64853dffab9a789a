"""A split virtqueue read from memory, VIRTIO 1.4 §2.7.

`idx` of both rings say how many buffers the device has; which they are follows from comparing what was made available
with what was used.  How far the device has looked is not in memory; with EVENT_IDX, `avail_event` is where it
last was seen to look.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import TYPE_CHECKING

from guestsim.drivers.layouts import (
    DESC,
    DESC_INDIRECT,
    MAX_QUEUE_SIZE,
    USED,
    USED_ELEM,
    Feature,
    avail_size,
    used_size,
)
from guestsim.inspect.blk import understood
from guestsim.inspect.chains import Chains
from guestsim.inspect.state import Buffer, QueueState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guestsim.inspect.image import MemoryImage
    from guestsim.inspect.state import Virtqueue

_MASK = 0xFFFF
_ALIGNMENT = {"descriptor table": DESC.size, "available ring": 2, "used ring": 4}


def inspect_split(image: MemoryImage, queue: Virtqueue) -> QueueState:
    """The state of the split virtqueue at `queue`; whatever memory holds, this returns."""
    return _Split(image, queue).state


class _Split:
    def __init__(self, image: MemoryImage, queue: Virtqueue) -> None:
        assert queue.driver is not None
        assert queue.device is not None
        self._image = image
        self._queue = queue
        self._chains = Chains(image, queue)
        self.state = QueueState(queue.desc, queue.driver, queue.device, queue.size, packed=False)
        self.state.problems = self._chains.problems
        if not self._well_placed(queue.desc, queue.driver, queue.device):
            return
        size = queue.size
        self._table = image.read(queue.desc, DESC.size * size)
        avail = image.read(queue.driver, avail_size(size))
        used = image.read(queue.device, used_size(size))
        self._avail_flags, self._avail, *self._heads = struct.unpack(f"<HH{size}H", avail[:-2])
        self._used_flags, self._used = struct.unpack_from("<HH", used)
        self._used_ids = [e for e, _ in USED_ELEM.struct.iter_unpack(used[USED.size : -2])]
        self._used_event = int.from_bytes(avail[-2:], "little")
        self._avail_event = int.from_bytes(used[-2:], "little")
        self._read_indices()
        self._judge_flags()
        self._judge_used()
        self._name_buffers()

    def _well_placed(self, desc: int, driver: int, device: int) -> bool:
        """Whether the three parts can be looked at; says what is wrong with their places."""
        size = self._queue.size
        problem = self._chains.problem
        if size & (size - 1) or not 0 < size <= MAX_QUEUE_SIZE:
            problem("2.7", f"queue size {size}, expected a power of 2 up to {MAX_QUEUE_SIZE}")
            if not 0 < size <= MAX_QUEUE_SIZE:
                return False
        lengths = DESC.size * size, avail_size(size), used_size(size)
        there = True
        for (name, align), place, length in zip(
            _ALIGNMENT.items(), (desc, driver, device), lengths, strict=True
        ):
            if place % align:
                problem("2.7.1", f"{name} at {place:#x}, expected a multiple of {align}")
            if not self._image.contains(place, length):
                problem("2.7", f"{name} at {place:#x}+{length:#x} is outside memory")
                there = False
        return there

    def _read_indices(self) -> None:
        state, size = self.state, self._queue.size
        state.indices = {"available idx": self._avail, "used idx": self._used}
        if not self._queue.lacks(Feature.EVENT_IDX):
            state.indices |= {"used_event": self._used_event, "avail_event": self._avail_event}
        state.outstanding = self._avail - self._used & _MASK
        if state.outstanding > size:
            behind = self._used - self._avail & _MASK
            if behind <= size:
                text = f"used idx {self._used} is {behind} ahead of available idx {self._avail}"
                self._chains.problem("2.7.8", f"{text}: buffers were used that nobody made available")
                state.outstanding = 0
            else:
                text = f"available idx {self._avail} is {state.outstanding} ahead of used idx {self._used}"
                self._chains.problem("2.7.6.1", f"{text}: more than the queue's {size} entries")

    def _judge_flags(self) -> None:
        event_idx = self._queue.has(Feature.EVENT_IDX)
        most, when = (0, " with EVENT_IDX") if event_idx else (1, "")
        for name, flags, clause in (
            ("available", self._avail_flags, "2.7.7.1"),
            ("used", self._used_flags, "2.7.10.2"),
        ):
            if flags > most:
                expected = "0" if event_idx else "0 or 1"
                self._chains.problem(
                    clause, f"flags of the {name} ring are {flags:#x}{when}, expected {expected}"
                )

    def _judge_used(self) -> None:
        """Used elements that name no descriptor."""
        size = self._queue.size
        for back in range(min(size, self._used), 0, -1):
            position = self._used - back & _MASK
            named = self._used_ids[position % size]
            if named >= size:
                text = f"used element {position % size} names descriptor {named} of {size}"
                self._chains.problem("2.7.8", text)

    # --- which buffers the device has

    def _name_buffers(self) -> None:
        size, state = self._queue.size, self.state
        letters = ["."] * size
        looked_at = self._looked_at()
        named = self._in_flight(min(state.outstanding, size))
        given: set[int] = set()
        for position in named:
            slot = position % size
            head = self._heads[slot]
            ahead = looked_at is not None and (position - looked_at & _MASK) < (
                self._avail - looked_at & _MASK
            )
            letters[slot] = "A" if ahead else "F"
            if head >= size:
                self._chains.problem(
                    "2.7.13", f"entry {slot} of the available ring names descriptor {head} of {size}"
                )
                continue
            if head in given:
                self._chains.problem(
                    "2.7.13", f"head {head} was made available again while the device has it"
                )
                continue
            given.add(head)
            state.buffers.append(self._buffer(head, slot, ahead=ahead))
        state.slots = "".join(letters)
        missing = min(state.outstanding, size) - len(named)
        if missing:
            state.notes.append(
                f"{missing} more {'buffer is' if missing == 1 else 'buffers are'} with the device, made available so"
                f" long ago that the available ring does not name {'it' if missing == 1 else 'them'} any more"
            )

    def _looked_at(self) -> int | None:
        """The position in the available ring that the device had come to for sure; None where nobody says."""
        if not self._queue.has(Feature.EVENT_IDX):
            return None
        if (self._avail_event - self._used & _MASK) <= self.state.outstanding <= self._queue.size:
            return self._avail_event
        return None

    def _in_flight(self, count: int) -> list[int]:
        """Positions in the available ring of the `count` buffers that the device has, as far as they can be told."""
        last = [self._avail - back & _MASK for back in range(count, 0, -1)]
        if self._queue.has(Feature.IN_ORDER) or not count:
            return last
        return last if self._used_in_order(last) else self._compare(count)

    def _lap(self) -> int:
        """How many entries back from `idx` the available ring holds: before its first lap less than its size."""
        return self._written(self._avail, self._heads)

    def _used_lately(self) -> dict[int, int]:
        """Head to how many entries before `idx` the used ring names it last."""
        size, lap = self._queue.size, self._written(self._used, self._used_ids)
        return {self._used_ids[(self._used - back) % size]: back for back in range(lap, 0, -1)}

    def _written(self, index: int, entries: Sequence[int]) -> int:
        """How many entries of a ring were written; `idx` may be small for it has begun again at 0."""
        size = self._queue.size
        first_lap = index < size and self._used <= self._avail and not any(entries[index:])
        return index if first_lap else size

    def _used_in_order(self, last: list[int]) -> bool:
        """Whether all that both rings still tell of was used in the order in which it was made available.

        `last` would then be what is in flight.  Where it names a head twice, which may have been used in between,
        there must be enough of an order to be sure.
        """
        size = self._queue.size
        slots = [(self._avail - back) % size for back in range(self._lap(), len(last), -1)]
        if any(self._heads[slot] != self._used_ids[slot] for slot in slots):
            return False
        heads = Counter(self._heads[position % size] for position in last)
        twice = {head for head, count in heads.items() if count > 1}
        used = set(self._used_lately())
        return len(slots) >= size // 2 or not twice & used

    def _compare(self, count: int) -> list[int]:
        """The `count` heads of which it is least likely that they were used since they were made available last.

        Positions count both rings' entries from the beginning.  A head that was used at a position not below that where
        it was made available last is not in flight, for it had to be free by then.  One that was used at a position
        below may have overtaken others, or that was an earlier use: the further below, the likelier.  Before all that
        comes what the chains tell: a driver gives a chain's memory to others only after it was used.
        """
        size = self._queue.size
        available = {self._heads[(self._avail - back) % size]: back for back in range(self._lap(), 0, -1)}
        given_away = self._given_away(available)
        used = self._used_lately()
        behind = self._avail - self._used & _MASK
        candidates = []
        for head, back in available.items():
            ago = used.get(head)
            # Position where it was made available less that where it was used.
            distance = size if ago is None else behind - back + ago
            if distance > 0:
                candidates.append((head in given_away, -distance, back, self._avail - back & _MASK))
        candidates.sort()
        self.state.notes.append(
            "buffers were used out of order: which are in flight is the likeliest reading"
        )
        chosen = sorted((back, position) for *_, back, position in candidates[:count])
        return [position for _, position in reversed(chosen)]

    def _given_away(self, available: dict[int, int]) -> set[int]:
        """Heads whose chain is none (any more), or lies where one that was made available later does.

        `available`: head to how many entries before `idx` it was made available.
        """
        chains = Chains(self._image, self._queue)
        tables: set[int] = set()
        given_away = set()
        for head in sorted(available, key=available.__getitem__):
            if head >= self._queue.size:
                continue
            problems = len(chains.problems)
            chains.follow(self._table, head)
            table, _, flags, _ = DESC.struct.unpack_from(self._table, DESC.size * head)
            indirect = bool(flags & DESC_INDIRECT)
            if len(chains.problems) > problems or (indirect and table in tables):
                given_away.add(head)
            elif indirect:
                tables.add(table)
        return given_away

    def _buffer(self, head: int, slot: int, *, ahead: bool) -> Buffer:
        parts, indirect = self._chains.follow(self._table, head)
        request = understood(self._image, self._queue, parts, self._chains.problem, f"head {head}")
        return Buffer(head, slot, "available" if ahead else "in flight", indirect, parts, request)
