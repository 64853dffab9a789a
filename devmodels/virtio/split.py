"""The device's side of a split virtqueue, VIRTIO 1.4 §2.7.

A `SplitRing` turns what the driver made available into `Chain`s (`take`) and gives them back (`push`, `publish`).
It judges everything it reads: what breaks the ring raises `RingError`, after which the device needs a reset.
Descriptors are copied out once; indices are single loads and stores; nothing a driver writes makes it loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from devmodels.memory import GuestMemory
from devmodels.memoryregions import GuestMemoryError
from devmodels.virtio.constants import EVENT_IDX, IN_ORDER, INDIRECT_DESC
from devmodels.virtio.layout import (
    AVAIL_ALIGN,
    DESC_ALIGN,
    DESC_SIZE,
    USED_ALIGN,
    VIRTQ_AVAIL_F_NO_INTERRUPT,
    VIRTQ_DESC,
    VIRTQ_DESC_F_INDIRECT,
    VIRTQ_DESC_F_NEXT,
    VIRTQ_DESC_F_WRITE,
    VIRTQ_USED_F_NO_NOTIFY,
    avail_size,
    used_size,
)
from devmodels.virtio.ring import (
    COMMON_CHAIN_LIMIT,
    MAX_CHAIN_BYTES,
    MAX_TABLE,
    Chain,
    Report,
    RingError,
    no_report,
)
from devmodels.virtio.state import KeptState, RingState

_new_chain = Chain.__new__
_NEXT_AND_WRITE = VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_WRITE
_WRITE_OR_INDIRECT = VIRTQ_DESC_F_WRITE | VIRTQ_DESC_F_INDIRECT
Fetch = Callable[[int], tuple[int, ...]]


class SplitRing:
    """A split virtqueue of `size` entries, a power of two; addresses are guest-physical.

    Raises RingError where a part is misaligned or outside guest memory.
    """

    START = 0
    ALWAYS_INDIRECT = False  # Whether tables are followed that were not negotiated (VIRTIO 1.4 §2.7.5.3.1).

    __slots__ = (
        "_avail",
        "_avail_event",
        "_desc",
        "_event_idx",
        "_fetch",
        "_fetch_three",
        "_generation",
        "_in_order",
        "_indirect",
        "_last_avail",
        "_mask",
        "_max_chain",
        "_memory",
        "_next_head",
        "_notify_on",
        "_odd_flags",
        "_order",
        "_out_of_place",
        "_published",
        "_report",
        "_steps",
        "_three",
        "_used",
        "_used_idx",
        "_used_ring",
        "_waiting",
        "features",
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
        """`parts` are the addresses of descriptor, driver and device area.

        Buffers that are taken are entered into `in_flight`, by head; who gives them back removes them.
        """
        self._memory = memory
        self.size = size
        self.parts = parts
        self.features = features
        self._mask = size - 1
        self._max_chain = size if strict else max(size, COMMON_CHAIN_LIMIT)
        self._steps = range(1, self._max_chain + 1)
        self._indirect = self.ALWAYS_INDIRECT or bool(features & INDIRECT_DESC)
        self._event_idx = bool(features & EVENT_IDX)
        self._in_order = bool(features & IN_ORDER)
        self._last_avail = last_avail
        self._used_idx = used_idx
        self._published = used_idx
        self._notify_on = True
        self._odd_flags = 0
        self._next_head: int | None = None
        self._out_of_place = False
        self._report = report
        self.in_flight = in_flight
        self._order: list[int] = []
        self._waiting: dict[int, tuple[Chain, int]] = {}
        self._generation = -1
        for address, align in zip(parts, (DESC_ALIGN, AVAIL_ALIGN, USED_ALIGN), strict=True):
            if address % align:
                raise RingError(
                    "VIRTIO 1.4 §2.7.1",
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
        size = self.size
        try:
            self._fetch: Fetch = memory.records(desc, size, VIRTQ_DESC.layout)
            table = memory.view(desc, size * DESC_SIZE)
            self._three = three = VIRTQ_DESC.times(3)
            self._fetch_three: Fetch | None = None if table is None else partial(three.unpack_from, table)
            self._avail = memory.words(driver, avail_size(size) // 2, "H")
            self._used = memory.words(device, 2, "H", write=True)
            self._used_ring = memory.words(device + 4, 2 * size, "I", write=True)
            self._avail_event = memory.words(device + used_size(size) - 2, 1, "H", write=True)
        except GuestMemoryError as error:
            raise RingError("VIRTIO 1.4 §2.7", f"ring part outside memory: {error}") from error
        self._generation = memory.generation

    # --- what the driver made available

    @property
    def last_avail(self) -> int:
        """The available index up to which buffers were taken (0 to 65535)."""
        return self._last_avail

    @property
    def used_idx(self) -> int:
        """The used index, published or about to be (0 to 65535)."""
        return self._used_idx

    def available(self) -> int:
        """How many buffers wait to be taken; RingError where the index is impossible."""
        index = self._avail[1]
        count = (index - self._last_avail) & 0xFFFF
        # Buffers that were not given back and shown yet hold descriptors too.
        kept = (self._last_avail - self._published) & 0xFFFF
        if count + kept > self.size:
            raise RingError(
                "VIRTIO 1.4 §2.7.6.1",
                f"available idx {index} is {count} ahead of {self._last_avail}, with {kept} buffers"
                f" not given back: more than the queue holds",
                index.to_bytes(2, "little"),
            )
        if count:
            # The entries were stored before the index; load them after it (VIRTIO 1.4 §2.7.13.3).
            self._memory.fence()
        return count

    def pending(self) -> bool:
        """A glance, without judging, at whether a buffer waits (or the memory has changed)."""
        return self._generation != self._memory.generation or self._avail[1] != self._last_avail

    def take(self, count: int, budget: int, chains: list[Chain]) -> int:
        """Append the next `count` of the buffers that are `available` to `chains`, but stop after `budget` descriptors.

        Returns how many descriptors they had.  RingError where one is broken; those before it are in `chains`.
        """
        avail = self._avail
        in_flight = self.in_flight
        fetch_three = self._fetch_three
        last_three = self.size - 2
        usual = self._usual
        last = self._last_avail
        taken = 0
        for _ in range(count):
            head = avail[2 + (last & self._mask)]
            if head >= self.size:
                raise RingError(
                    "VIRTIO 1.4 §2.7.13",
                    f"available entry names descriptor {head} of {self.size}",
                    head.to_bytes(2, "little"),
                )
            if head in in_flight or head in self._waiting:
                raise RingError(
                    "VIRTIO 1.4 §2.7.13",
                    f"head {head} was made available while in use",
                    head.to_bytes(2, "little"),
                )
            # As `Chain(head)`, at a third of its price.
            chain = _new_chain(Chain)
            chain.head = head
            if fetch_three is not None and head < last_three and usual(chain, head, fetch_three):
                taken += 3
            else:
                chain.readable = []
                chain.writable = []
                chain.readable_bytes = chain.writable_bytes = 0
                taken += self._walk(chain, self._fetch, head, self.size, self._steps)
            self._last_avail = last = (last + 1) & 0xFFFF
            in_flight[head] = chain
            if self._in_order:
                self._order.append(head)
                self._judge_place(chain)
            chains.append(chain)
            if taken >= budget:
                break
        return taken

    def _usual(self, chain: Chain, head: int, fetch: Fetch) -> bool:
        """Whether the chain is three descriptors in a row: something to read, something, something to write.

        That is how most requests come, and one access gets them; whatever else there is, is for `_walk` to judge.
        """
        base = head
        chain.count = 3
        address, length, flags, following, data, size, data_flags, last, status, room, end_flags, _ = fetch(
            head * DESC_SIZE
        )
        if flags == VIRTQ_DESC_F_INDIRECT:
            if length != 3 * DESC_SIZE or not self._indirect:
                return False
            try:
                entries = self._memory.unpack(address, self._three)
            except GuestMemoryError:
                return False
            base = 0
            chain.count = 1
            address, length, flags, following, data, size, data_flags, last, status, room, end_flags, _ = (
                entries
            )
        if (
            flags != VIRTQ_DESC_F_NEXT
            or following != base + 1
            or last != base + 2
            or end_flags != VIRTQ_DESC_F_WRITE
            or length + size + room > MAX_CHAIN_BYTES
        ):
            return False
        if data_flags == _NEXT_AND_WRITE:
            chain.readable = [(address, length)]
            chain.writable = [(data, size), (status, room)]
            chain.readable_bytes = length
            chain.writable_bytes = size + room
        elif data_flags == VIRTQ_DESC_F_NEXT:
            chain.readable = [(address, length), (data, size)]
            chain.writable = [(status, room)]
            chain.readable_bytes = length + size
            chain.writable_bytes = room
        else:
            return False
        return True

    def _walk(self, chain: Chain, fetch: Fetch, index: int, limit: int, steps: range) -> int:
        """Follow `chain` from descriptor `index` of the `limit` that `fetch` gives; `steps` count its descriptors."""
        readable = chain.readable
        writable = chain.writable
        readable_bytes = chain.readable_bytes
        writable_bytes = chain.writable_bytes
        for count in steps:  # noqa: B007 (how many it were is the result)
            address, length, flags, following = fetch(index * DESC_SIZE)
            if flags & _WRITE_OR_INDIRECT:
                if flags & VIRTQ_DESC_F_INDIRECT:
                    chain.readable_bytes = readable_bytes
                    chain.writable_bytes = writable_bytes
                    return self._walk_table(chain, address, length, flags, fetch)
                writable.append((address, length))
                writable_bytes += length
            elif writable:
                raise RingError(
                    "VIRTIO 1.4 §2.7.4.2",
                    f"chain of head {chain.head} has a device-readable descriptor after a device-writable one",
                    VIRTQ_DESC.pack(address, length, flags, following),
                )
            else:
                readable.append((address, length))
                readable_bytes += length
            if not flags & VIRTQ_DESC_F_NEXT:
                break
            if following >= limit:
                raise RingError(
                    "VIRTIO 1.4 §2.7.5" if fetch is self._fetch else "VIRTIO 1.4 §2.7.5.3",
                    f"chain of head {chain.head} goes on at descriptor {following} of {limit}",
                    VIRTQ_DESC.pack(address, length, flags, following),
                )
            index = following
        else:
            raise RingError(
                "VIRTIO 1.4 §2.7.5.3.1",
                f"chain of head {chain.head} is longer than the queue size or loops",
                VIRTQ_DESC.pack(address, length, flags, following),
            )
        chain.count = count
        chain.readable_bytes = readable_bytes
        chain.writable_bytes = writable_bytes
        if readable_bytes + writable_bytes > MAX_CHAIN_BYTES:
            raise RingError(
                "VIRTIO 1.4 §2.7.5.2",
                f"chain of head {chain.head} is longer than 2**32 bytes",
                (readable_bytes + writable_bytes).to_bytes(8, "little"),
            )
        return count

    def _walk_table(self, chain: Chain, address: int, length: int, flags: int, fetch: Fetch) -> int:
        """Go on with `chain` in the indirect table of the descriptor that `fetch` gave."""
        table, entries = self._enter(address, length, flags, fetch is not self._fetch)
        taken = len(chain.readable) + len(chain.writable)
        elements = self._walk(chain, table, 0, entries, self._steps[taken:])
        chain.count = taken + 1
        return elements

    def _judge_place(self, chain: Chain) -> None:
        """With IN_ORDER a driver takes descriptors in the order of the table (VIRTIO 1.4 §2.7.5); said once."""
        expected = self._next_head
        self._next_head = (chain.head + chain.count) & self._mask
        if expected not in (None, chain.head) and not self._out_of_place:
            self._out_of_place = True
            self._report(
                "VIRTIO 1.4 §2.7.5",
                f"head {chain.head} with VIRTIO_F_IN_ORDER, expected {expected}",
                chain.head.to_bytes(2, "little"),
            )

    def _enter(self, address: int, length: int, flags: int, in_table: bool) -> tuple[Fetch, int]:
        """The indirect table that a descriptor refers to (its WRITE flag is ignored: VIRTIO 1.4 §2.7.5.3.2)."""
        clause = "VIRTIO 1.4 §2.7.5.3.1"
        data = VIRTQ_DESC.pack(address, length, flags, 0)
        if not self._indirect:
            raise RingError(clause, "indirect descriptor without VIRTIO_F_INDIRECT_DESC", data)
        if in_table:
            raise RingError(clause, "indirect descriptor inside an indirect table", data)
        if flags & VIRTQ_DESC_F_NEXT:
            raise RingError(clause, "descriptor with both INDIRECT and NEXT", data)
        if not length or length % DESC_SIZE:
            raise RingError("VIRTIO 1.4 §2.7.5.3", f"indirect table of {length} bytes", data)
        entries = min(length // DESC_SIZE, MAX_TABLE)
        try:
            if entries > self._max_chain:
                return self._memory.records(address, entries, VIRTQ_DESC.layout), entries
            table = self._memory.read(address, entries * DESC_SIZE)
            return partial(VIRTQ_DESC.unpack_from, table), entries
        except GuestMemoryError as error:
            raise RingError("VIRTIO 1.4 §2.7.5.3", f"indirect table outside memory: {error}", data) from error

    def check_notification(self, position: int) -> None:
        """Report a notification that says `position` comes next where the available index is behind it.

        One that is late, or sent again, says less than the index does: that is no mistake (VIRTIO 1.4 §2.9).
        """
        if self._generation != self._memory.generation:
            return
        index = self._avail[1]
        if 0 < (position - index) & 0xFFFF < 0x8000:
            self._report(
                "VIRTIO 1.4 §2.9",
                f"notification of available idx {position}, which is {index}",
                position.to_bytes(2, "little"),
            )

    # --- state

    def save(self) -> RingState:
        """The ring's position."""
        waiting = [KeptState(chain.save(), written) for chain, written in self._waiting.values()]
        hints = {
            "notify_on": int(self._notify_on),
            "odd_flags": self._odd_flags,
            "next_head": -1 if self._next_head is None else self._next_head,
            "out_of_place": int(self._out_of_place),
            "published": self._published,
        }
        return RingState(self._last_avail, self._used_idx, list(self._order), waiting, hints)

    def take_over(self, state: RingState) -> None:
        """Go on where `save` was called."""
        self._order = list(state.order)
        self._waiting = {
            kept.chain.head: (Chain.restored(kept.chain), kept.written) for kept in state.waiting
        }
        hints = state.hints
        self._notify_on = bool(hints.get("notify_on", True))
        self._odd_flags = hints.get("odd_flags", 0)
        self._out_of_place = bool(hints.get("out_of_place", False))
        head = hints.get("next_head", -1)
        self._next_head = None if head < 0 else head & self._mask
        self._published = hints.get("published", self._used_idx) & 0xFFFF

    # --- giving buffers back

    def push(self, used: Sequence[tuple[Chain, int]]) -> None:
        """Use buffers, of each of which so many of its first writable bytes were written; `publish` shows it."""
        if self._generation != self._memory.generation:
            self.attach()
        if self._in_order:
            used = self._in_turn(used)
        index = self._used_idx
        mask = self._mask
        ring = self._used_ring
        for chain, written in used:
            slot = (index & mask) * 2
            ring[slot] = chain.head
            ring[slot + 1] = written
            index += 1
        self._used_idx = index & 0xFFFF

    def _in_turn(self, used: Sequence[tuple[Chain, int]]) -> list[tuple[Chain, int]]:
        """VIRTIO 1.4 §2.7.9: buffers are used in the order in which they were made available."""
        for each in used:
            self._waiting[each[0].head] = each
        done = []
        for first in self._order:
            kept = self._waiting.pop(first, None)
            if kept is None:
                break
            done.append(kept)
        del self._order[: len(done)]
        return done

    @property
    def unshown(self) -> bool:
        """Whether something was pushed that the driver has not been shown."""
        return self._published != self._used_idx

    def publish(self) -> bool:
        """Show the driver what was pushed; returns whether to notify it (VIRTIO 1.4 §2.7.7.2)."""
        old = self._published
        new = self._used_idx
        if new == old:
            return False
        memory = self._memory
        if self._generation != memory.generation:
            self.attach()
        memory.fence()
        self._used[1] = new
        self._published = new
        # The index must be visible before the driver's wish is read.
        memory.fence()
        if self._event_idx:
            used_event = self._avail[2 + self.size]
            return (new - used_event - 1) & 0xFFFF < (new - old) & 0xFFFF
        flags = self._avail[0]
        if flags > VIRTQ_AVAIL_F_NO_INTERRUPT and flags != self._odd_flags:
            self._odd_flags = flags
            self._report("VIRTIO 1.4 §2.7.7.1", f"available flags {flags:#x}", flags.to_bytes(2, "little"))
        return not flags & VIRTQ_AVAIL_F_NO_INTERRUPT

    # --- available buffer notifications

    def disable_notifications(self) -> None:
        """Tell the driver that it need not notify (VIRTIO 1.4 §2.7.10.2); a hint only.

        RingError where the ring is no longer in memory.
        """
        if self._generation != self._memory.generation:
            self.attach()
        if self._notify_on:
            self._notify_on = False
            if not self._event_idx:
                self._used[0] = VIRTQ_USED_F_NO_NOTIFY

    def enable_notifications(self) -> int:
        """Ask for a notification of the next buffer; returns how many have come already."""
        if self._generation != self._memory.generation:
            self.attach()
        if self._event_idx:
            self._avail_event[0] = self._last_avail
        elif not self._notify_on:
            self._used[0] = 0
        self._notify_on = True
        # The wish must be visible before the index is read once more.
        self._memory.fence()
        return self.available()
