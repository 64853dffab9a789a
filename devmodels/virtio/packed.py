"""The device's side of a packed virtqueue, VIRTIO 1.4 §2.8.

A `PackedRing` turns what the driver made available into `Chain`s (`take`) and gives them back (`push`, `publish`).
It judges everything it reads: what breaks the ring raises `RingError`, after which the device needs a reset.

A descriptor's flags are loaded first, alone, and everything else after a fence; it is judged from one copy.  Used
descriptors are written with the flags of the first one last, after a fence.  A buffer id is whatever 16 bits the
driver likes: it is given back and indexes nothing.

Inside, a place in the ring is a number from 0 to 2 * size - 1: the offsets with wrap counter 1, then those with 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from devmodels.memory import GuestMemory
from devmodels.memoryregions import GuestMemoryError
from devmodels.memorywords import Words
from devmodels.virtio.constants import EVENT_IDX, IN_ORDER, INDIRECT_DESC
from devmodels.virtio.layout import (
    DESC_ALIGN,
    DESC_SIZE,
    EVENT_ALIGN,
    PVIRTQ_DESC,
    RING_EVENT_FLAGS_DESC,
    RING_EVENT_FLAGS_DISABLE,
    RING_EVENT_FLAGS_ENABLE,
    VIRTQ_DESC_F_AVAIL,
    VIRTQ_DESC_F_USED,
    VIRTQ_DESC_F_WRITE,
    WRAP_COUNTER,
)
from devmodels.virtio.packedchain import usual, walk
from devmodels.virtio.ring import COMMON_CHAIN_LIMIT, Chain, Report, RingError, no_report
from devmodels.virtio.state import KeptState, RingState

_new_chain = Chain.__new__
_Fetch = Callable[[int], tuple[int, ...]]

# Descriptor words of 32 bits: 2 is `len`, 3 is `id` and above it `flags`.
_LEN = 2
_FLAGS = 3
_AVAIL = VIRTQ_DESC_F_AVAIL << 16
_USED = VIRTQ_DESC_F_USED << 16
_TURN = _AVAIL | _USED
_WRITE = VIRTQ_DESC_F_WRITE << 16


class PackedRing:
    """A packed virtqueue of `size` entries, from 1 to 32768; addresses are guest-physical.

    Raises RingError where a part is misaligned or outside guest memory, or a position is none.
    """

    START = WRAP_COUNTER

    LOOSE = False
    """Whether tables are followed that were not negotiated, NEXT of a descriptor that has one says nothing, nor does
    INDIRECT of the others (VIRTIO 1.4 §2.8.19), and the buffer id is that of the first (§2.8.6)."""
    WRITTEN = _WRITE
    """What a used descriptor says where something was written (VIRTIO 1.4 §2.8.3)."""

    __slots__ = (
        "_avail",
        "_device_event",
        "_driver_event",
        "_event_idx",
        "_fetch",
        "_fetch_three",
        "_generation",
        "_in_order",
        "_indirect",
        "_max_chain",
        "_memory",
        "_notify_on",
        "_odd_event",
        "_order",
        "_pushed",
        "_report",
        "_ring",
        "_stride",
        "_three",
        "_twice",
        "_used",
        "_waiting",
        "in_flight",
        "parts",
        "size",
    )

    def __init__(
        self,
        memory: GuestMemory,
        size: int,
        parts: tuple[int, int, int],
        features: int,
        in_flight: dict[int, Chain],
        *,
        strict: bool = True,
        last_avail: int = START,
        used_idx: int = START,
        report: Report = no_report,
    ) -> None:
        """`parts` are the addresses of descriptor ring, driver and device event suppression.

        Buffers that are taken are entered into `in_flight`, by id; who gives them back removes them.
        """
        self._memory = memory
        self.size = size
        self._twice = 2 * size
        self.parts = parts
        self._max_chain = size if strict else max(size, COMMON_CHAIN_LIMIT)
        self._indirect = self.LOOSE or bool(features & INDIRECT_DESC)
        self._event_idx = bool(features & EVENT_IDX)
        self._in_order = bool(features & IN_ORDER)
        self._report = report
        self._avail = self._place(last_avail)
        self._used = self._place(used_idx)
        if (self._avail - self._used) % self._twice > size:
            raise RingError(
                "VIRTIO 1.4 §2.8.1", f"ring positions {last_avail:#x} and {used_idx:#x} do not fit"
            )
        self._stride = 1
        """How many descriptors the last buffer had: the next ones mostly have as many."""
        self._notify_on = True
        self._odd_event = 0
        self.in_flight = in_flight
        self._pushed: list[tuple[Chain, int]] = []
        self._order: list[int] = []
        self._waiting: dict[int, tuple[Chain, int]] = {}
        self._generation = -1
        for address, align in zip(parts, (DESC_ALIGN, EVENT_ALIGN, EVENT_ALIGN), strict=True):
            if address % align:
                raise RingError(
                    "VIRTIO 1.4 §2.8.11",
                    f"ring part at {address:#x} is not aligned to {align}",
                    address.to_bytes(8, "little"),
                )
        self.attach()

    @property
    def attached(self) -> bool:
        """Whether the memory has not changed since the parts were looked for."""
        return self._generation == self._memory.generation

    def attach(self) -> None:
        """Fetch the views of the three parts; done again when the memory has changed."""
        memory = self._memory
        desc, driver, device = self.parts
        try:
            self._fetch: _Fetch = memory.records(desc, self.size, PVIRTQ_DESC.layout)
            table = memory.view(desc, self.size * DESC_SIZE)
            self._three = PVIRTQ_DESC.times(3)
            self._fetch_three: _Fetch | None = (
                None if table is None else partial(self._three.unpack_from, table)
            )
            self._ring: Words = memory.words(desc, 4 * self.size, "I", write=True)
            self._driver_event: Words = memory.words(driver, 1, "I")
            self._device_event: Words = memory.words(device, 1, "I", write=True)
        except GuestMemoryError as error:
            raise RingError("VIRTIO 1.4 §2.8.10.1", f"ring part outside memory: {error}") from error
        self._generation = memory.generation

    # --- positions

    def _place(self, position: int) -> int:
        """The place of a 16-bit position."""
        offset = position & ~WRAP_COUNTER
        if not 0 <= position <= 0xFFFF or offset >= self.size:
            raise RingError("VIRTIO 1.4 §2.8.1", f"ring position {position:#x} in a ring of {self.size}")
        return offset if position & WRAP_COUNTER else offset + self.size

    def _position(self, place: int) -> int:
        """The 16-bit position of a place."""
        return place | WRAP_COUNTER if place < self.size else place - self.size

    @property
    def last_avail(self) -> int:
        """Offset and wrap counter (bit 15) of the descriptor that is taken next."""
        return self._position(self._avail)

    @property
    def used_idx(self) -> int:
        """Offset and wrap counter (bit 15) of the descriptor that is used next."""
        return self._position(self._used)

    # --- what the driver made available

    def available(self) -> int:
        """At most how many buffers wait to be taken, 0 where none does; RingError where there is no room for one."""
        if self._generation != self._memory.generation:
            self.attach()
        place = self._avail
        size = self.size
        if place < size:
            if self._ring[4 * place + _FLAGS] & _TURN != _AVAIL:
                return 0
        elif self._ring[4 * (place - size) + _FLAGS] & _TURN != _USED:
            return 0
        room = size - (place - self._used) % self._twice
        if not room:
            raise RingError(
                "VIRTIO 1.4 §2.8.16",
                f"descriptor {place % size} was made available while all {size} are with the device",
                self.bytes_at(place),
            )
        return room

    def bytes_at(self, place: int) -> bytes:
        """The descriptor at a place, as a report shows it."""
        return PVIRTQ_DESC.pack(*self._fetch(place % self.size * DESC_SIZE))

    def pending(self) -> bool:
        """A glance, without judging, at whether a buffer waits (or the memory has changed)."""
        return self._generation != self._memory.generation or self.is_available(self._avail)

    def is_available(self, place: int) -> bool:
        """Whether the descriptor at `place` has been made available on this turn (VIRTIO 1.4 §2.8.1)."""
        size = self.size
        if place < size:
            return self._ring[4 * place + _FLAGS] & _TURN == _AVAIL
        return self._ring[4 * (place - size) + _FLAGS] & _TURN == _USED

    def _run(self, place: int, most: int, stride: int) -> int:
        """How many descriptors, every `stride`-th from `place` on, are available, at most `most`; then a fence.

        It looks no further than the end of the ring.
        """
        size = self.size
        if place < size:
            at, want = 4 * place + _FLAGS, _AVAIL
        else:
            at, want = 4 * (place - size) + _FLAGS, _USED
        ring = self._ring
        run = 0
        for index in range(at, min(at + 4 * stride * most, 4 * size), 4 * stride):
            if ring[index] & _TURN != want:
                break
            run += 1
        # The flags were stored last (VIRTIO 1.4 §2.8.21.1): load the rest after them.
        self._memory.fence()
        return run

    def take(self, count: int, budget: int, chains: list[Chain]) -> int:
        """Append the next buffers that are available to `chains`: at most `count`, stopping after `budget` descriptors.

        Returns how many descriptors they had.  RingError where one is broken; those before it are in `chains`.
        """
        in_flight = self.in_flight
        size = self.size
        last_three = size - 2
        fetch_three = self._fetch_three
        place = self._avail
        room = size - (place - self._used) % self._twice
        stride = self._stride
        taken = 0
        while count and room and taken < budget:
            run = self._run(place, min(count, max(1, room // stride)), stride)
            if not run:
                if taken:
                    break
                raise RingError(
                    "VIRTIO 1.4 §2.8.16", f"descriptor {place % size} was taken back", self.bytes_at(place)
                )
            turn, lap = (VIRTQ_DESC_F_AVAIL, 0) if place < size else (VIRTQ_DESC_F_USED, size)
            for _ in range(run):
                # As `Chain(ident)`, at a third of its price.
                chain = _new_chain(Chain)
                offset = place - lap
                if (
                    fetch_three is not None
                    and offset < last_three
                    and room > 2
                    and usual(self, chain, turn, fetch_three(offset * DESC_SIZE))
                ):
                    taken += 3
                else:
                    taken += walk(self, chain, place, room)
                ident = chain.head
                if ident in in_flight or ident in self._waiting:
                    raise RingError(
                        "VIRTIO 1.4 §2.8.21.1",
                        f"buffer id {ident} was made available while in use",
                        ident.to_bytes(2, "little"),
                    )
                held = chain.count
                place += held
                room -= held
                count -= 1
                self._avail = place if place < self._twice else place - self._twice
                in_flight[ident] = chain
                if self._in_order:
                    self._order.append(ident)
                chains.append(chain)
                if held != stride:
                    # What was looked at beyond this one is not where buffers begin.
                    self._stride = stride = held
                    break
                if taken >= budget:
                    break
            place = self._avail
        return taken

    def check_notification(self, position: int) -> None:
        """Report a notification that says `position` comes next where the ring contradicts it (VIRTIO 1.4 §2.8.16).

        One that is late, or sent again, says less than the ring does: that is no mistake.
        """
        if self._generation != self._memory.generation:
            return
        data = position.to_bytes(2, "little")
        if position & ~WRAP_COUNTER >= self.size:
            self._report(
                "VIRTIO 1.4 §2.8.16", f"notification with next_off beyond the ring of {self.size}", data
            )
            return
        ahead = (self._place(position) - self._avail) % self._twice
        room = self.size - (self._avail - self._used) % self._twice
        if 0 < ahead <= room and not self.is_available((self._avail + ahead - 1) % self._twice):
            self._report("VIRTIO 1.4 §2.8.16", "notification of descriptors that are not available", data)

    # --- state

    def save(self) -> RingState:
        """The ring's positions."""
        waiting = [KeptState(chain.save(), written) for chain, written in self._waiting.values()]
        hints = {"notify_on": int(self._notify_on), "odd_event": self._odd_event, "stride": self._stride}
        pushed = [KeptState(chain.save(), written) for chain, written in self._pushed]
        return RingState(self.last_avail, self.used_idx, list(self._order), waiting, hints, pushed)

    def take_over(self, state: RingState) -> None:
        """Go on where `save` was called."""
        self._order = list(state.order)
        self._waiting = {
            kept.chain.head: (Chain.restored(kept.chain), kept.written) for kept in state.waiting
        }
        hints = state.hints
        self._notify_on = bool(hints.get("notify_on", True))
        self._odd_event = hints.get("odd_event", 0)
        self._stride = min(max(hints.get("stride", 1), 1), self.size)
        self._pushed = [(Chain.restored(kept.chain), kept.written) for kept in state.pushed]

    # --- giving buffers back

    def push(self, used: Sequence[tuple[Chain, int]]) -> None:
        """Use buffers, of each of which so many of its first writable bytes were written; `publish` shows it."""
        if not self._in_order:
            self._pushed += used
            return
        # VIRTIO 1.4 §2.8.8: buffers are used in the order in which they were made available.
        waiting = self._waiting
        for each in used:
            waiting[each[0].head] = each
        done = 0
        for ident in self._order:
            kept = waiting.pop(ident, None)
            if kept is None:
                break
            self._pushed.append(kept)
            done += 1
        del self._order[:done]

    @property
    def unshown(self) -> bool:
        """Whether something was pushed that the driver has not been shown."""
        return bool(self._pushed)

    def publish(self) -> bool:
        """Show the driver what was pushed; returns whether to notify it (VIRTIO 1.4 §2.8.10)."""
        pushed = self._pushed
        if not pushed:
            return False
        memory = self._memory
        if self._generation != memory.generation:
            self.attach()
        if self._in_order and len(pushed) > 1:
            pushed = _batches(pushed)
        size = self.size
        twice = self._twice
        ring = self._ring
        old = place = self._used
        first_at = first_word = -1
        for chain, written in pushed:
            if place < size:
                at = 4 * place
                word = chain.head | _TURN
            else:
                at = 4 * (place - size)
                word = chain.head
            if written:
                word |= self.WRITTEN
            ring[at + _LEN] = written
            if first_at < 0:
                first_at, first_word = at + _FLAGS, word
            else:
                ring[at + _FLAGS] = word
            place += chain.count
            if place >= twice:
                place -= twice
        # The driver looks at the first of them alone: it comes last, after all that it leads to (VIRTIO 1.4 §2.8.2).
        memory.fence()
        ring[first_at] = first_word
        self._used = place
        self._pushed = []
        # It must be visible before the driver's wish is read.
        memory.fence()
        event = self._driver_event[0]
        flags = event >> 16
        if flags == RING_EVENT_FLAGS_ENABLE:
            return True
        if flags == RING_EVENT_FLAGS_DISABLE:
            return False
        return self._crosses(event, old)

    def _crosses(self, event: int, old: int) -> bool:
        """Whether the driver's wish for one descriptor lies among those used since `old`; True for what is no wish."""
        offset = event & 0xFFFF & ~WRAP_COUNTER
        if event >> 16 == RING_EVENT_FLAGS_DESC and self._event_idx and offset < self.size:
            wish = self._place(event & 0xFFFF)
            return (wish - old) % self._twice < (self._used - old) % self._twice
        if event != self._odd_event:
            self._odd_event = event
            self._report(
                "VIRTIO 1.4 §2.8.14", f"driver event suppression {event:#010x}", event.to_bytes(4, "little")
            )
        return event >> 16 & 3 != RING_EVENT_FLAGS_DISABLE

    # --- available buffer notifications

    def disable_notifications(self) -> None:
        """Tell the driver that it need not notify; a hint only.

        RingError where the ring is no longer in memory.
        """
        if self._generation != self._memory.generation:
            self.attach()
        if self._notify_on:
            self._notify_on = False
            self._device_event[0] = RING_EVENT_FLAGS_DISABLE << 16

    def enable_notifications(self) -> int:
        """Ask for a notification of the next buffer; returns what `available` then does."""
        if self._generation != self._memory.generation:
            self.attach()
        self._notify_on = True
        if self._event_idx:
            self._device_event[0] = RING_EVENT_FLAGS_DESC << 16 | self._position(self._avail)
        else:
            self._device_event[0] = RING_EVENT_FLAGS_ENABLE << 16
        # The wish must be visible before the ring is looked at once more.
        self._memory.fence()
        return self.available()


def held_fits(
    size: int, last_avail: int, used_idx: int, counts: Sequence[int], *, broken: bool = False
) -> bool:
    """Whether buffers of `counts` descriptors lie between two positions of a ring of `size`.

    With a `broken` ring others may have been there too, which came back and were not given to the driver any more.
    """
    offsets = [position & ~WRAP_COUNTER for position in (last_avail, used_idx)]
    if max(offsets) >= size or not all(1 <= count <= size for count in counts):
        return False
    ahead = offsets[0] - offsets[1] + (0 if (last_avail ^ used_idx) & WRAP_COUNTER == 0 else size)
    return sum(counts) <= ahead <= size and (broken or sum(counts) == ahead)


def _batches(used: list[tuple[Chain, int]]) -> list[tuple[Chain, int]]:
    """Buffers in order, those that were written wholly joined with the one after them (VIRTIO 1.4 §2.8.8).

    One used descriptor, with the id and length of the last, stands for such a batch, and as many are skipped as all of
    it had.
    """
    joined: list[tuple[Chain, int]] = []
    count = 0
    for number, (chain, written) in enumerate(used, 1):
        count += chain.count
        if number == len(used) or written != chain.writable_bytes:
            joined.append((Chain(chain.head, count=count), written))
            count = 0
    return joined
