"""The driver's side of a packed virtqueue, written from VIRTIO 1.4 §2.8 alone.

Layouts, flags and rules are this file's own: a mistake that it shared with the device would go unseen.  Nothing of
`devmodels` is used here.

Places in the ring are counted without end: place p is descriptor p % size, in turn p // size; the wrap counter of a
turn is 1 for even turns (§2.8.1).
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from tests.unit.virtio.model import EVENT_IDX, IN_ORDER, INDIRECT, NEXT, WRITE, Buffer, Form, Used
from tests.unit.virtio.plain import PlainMemory

RING_PACKED = 1 << 34
AVAIL = 1 << 7
USED = 1 << 15
WRAP = 1 << 15

ENABLE, DISABLE, ONE = 0, 1, 2
"""Descriptor ring change event flags, §2.8.10."""

DESC = struct.Struct("<QIHH")
"""struct pvirtq_desc, §2.8.13: addr, len, id, flags."""


@dataclass
class Offered:
    """A buffer that is in the ring but for its first descriptor's flags."""

    buffer: Buffer
    at: int
    flags: int


class PackedDriverRing:
    """What a driver knows of its queue: where it writes next, what is out, how far the device has got."""

    def __init__(
        self, plain: PlainMemory, size: int, parts: tuple[int, int, int], features: int, *, start: int = 0
    ) -> None:
        """`start` is the place at which ring and device go on; everything before it is taken for used."""
        self.plain = plain
        self.size = size
        self.parts = parts
        self.desc, self.driver, self.device = parts
        self.features = features
        self.idx = start
        """The place of the next descriptor, of those that are exposed."""
        self.last_used = start
        self.offered: list[Offered] = []
        self.out: deque[Buffer] = deque()
        self._write = start
        """The place of the next descriptor to be written."""
        # Ids are for the driver to choose: all 16 bits, in no order (§2.8.21.1).
        self.ids = deque((n * 40503 + 60000) & 0xFFFF for n in range(size))
        for address, length in zip(parts, self.sizes(size), strict=True):
            plain.store(address, bytes(length))
        for place in range(start - size, start):
            if place >= 0:
                flags = (AVAIL | USED) * self.wrap(place)
                plain.store(self.at(place), DESC.pack(0, 0, 0, flags))

    @staticmethod
    def sizes(size: int) -> tuple[int, int, int]:
        """Bytes of descriptor ring, driver and device event suppression (§2.8.10.1)."""
        return 16 * size, 4, 4

    @staticmethod
    def position(size: int, place: int) -> int:
        """Offset in 15 bits, wrap counter above (§2.8.14, §2.9)."""
        return place % size | (WRAP if place // size % 2 == 0 else 0)

    def wrap(self, place: int) -> int:
        return 1 - place // self.size % 2

    def at(self, place: int) -> int:
        return self.desc + 16 * (place % self.size)

    def has(self, feature: int) -> bool:
        return bool(self.features & feature)

    @property
    def free(self) -> int:
        """Descriptors that no buffer holds."""
        return self.size - (self._write - self.last_used)

    # --- supplying buffers (§2.8.21)

    def descriptors_for(self, elements: int, form: Form) -> int:
        """How many descriptors of the ring a buffer takes."""
        return elements if form is Form.DIRECT else 1

    def available_flags(self, place: int) -> int:
        """AVAIL as the wrap counter, USED its inverse (§2.8.1)."""
        return AVAIL if self.wrap(place) else USED

    def place(self, buffer: Buffer, form: Form, table: int) -> None:
        """Write the buffer's descriptors, but not yet the first one's flags; an indirect table goes to `table`.

        A list is wholly direct or one indirect descriptor (§2.8.5).
        """
        elements = buffer.elements()
        ident = self.ids.popleft()
        if form is Form.DIRECT:
            last = len(elements) - 1
            # NEXT chains them; the id counts in the last one alone (§2.8.6).
            entries = [
                (a, n, ident if k == last else ident ^ 0x5555, flags | NEXT * (k < last))
                for k, (a, n, flags) in enumerate(elements)
            ]
        else:
            self.write_table(table, elements)
            # WRITE means nothing on a descriptor that refers to a table (§2.8.7).
            entries = [(table, 16 * len(elements), ident, INDIRECT | WRITE * (ident % 2))]
        self.offer(buffer, ident, entries)

    def offer(self, buffer: Buffer, ident: int, entries: Sequence[tuple[int, int, int, int]]) -> None:
        """Write descriptors (addr, len, id, flags without AVAIL and USED) at the next places."""
        buffer.descriptors = [ident, *range(len(entries) - 1)]
        first = self._write
        for number, (address, length, name, flags) in enumerate(entries):
            place = first + number
            flags |= self.available_flags(place)
            if number:
                self.plain.store(self.at(place), DESC.pack(address, length, name, flags))
            else:
                self.plain.store(self.at(place), DESC.pack(address, length, name, 0)[:14])
                self.offered.append(Offered(buffer, self.at(place) + 14, flags))
        self._write += len(entries)

    def write_table(self, table: int, elements: Sequence[tuple[int, int, int]]) -> None:
        """Of an entry only address, length and WRITE count (§2.8.7)."""
        for number, (address, length, flags) in enumerate(elements):
            self.plain.store(table + 16 * number, DESC.pack(address, length, 0xBEEF, flags))

    def expose(self) -> bool:
        """Write the first descriptors' flags; returns whether the device must be notified (§2.8.10)."""
        # The device may look after any of these: what it sees is a whole buffer, or none.
        for each in self.offered:
            self.plain.pack("<H", each.at, each.flags)
            self.out.append(each.buffer)
        self.offered = []
        old, self.idx = self.idx, self._write
        event, flags = self.plain.unpack("<HH", self.device)
        if flags == ONE:
            return event in {self.position(self.size, place) for place in range(old, self.idx)}
        return self.idx != old and flags == ENABLE

    @property
    def notification(self) -> int:
        """next_off and next_wrap (§2.9)."""
        return self.position(self.size, self.idx)

    def device_wish_is_sound(self) -> bool:
        """Whether the device event suppression structure holds what it may (§2.8.14)."""
        event, flags = self.plain.unpack("<HH", self.device)
        return flags in (ENABLE, DISABLE) or (
            flags == ONE and self.has(EVENT_IDX) and event & ~WRAP < self.size
        )

    # --- used buffers (§2.8.22)

    def peek(self) -> list[tuple[int, Used]]:
        """The place of each used descriptor that is there, and the buffers that it gives back.

        AssertionError where the device returns what is not out, or writes flags that it must not.
        """
        found: list[tuple[int, Used]] = []
        left = {buffer.head: buffer for buffer in self.out}
        place = self.last_used
        while left:
            length, ident, flags = self.plain.unpack("<IHH", self.at(place) + 8)
            both = bool(flags & AVAIL), bool(flags & USED)
            if both != (bool(self.wrap(place)),) * 2:
                break
            assert bool(flags & WRITE) == (length != 0), "§2.8.3: WRITE says whether anything was written"
            assert ident in left, f"id {ident} came back and was not out"
            names = self._up_to(ident, left) if self.has(IN_ORDER) else [ident]
            batch = [left.pop(name) for name in names]
            found += [(place, Used(buffer, length if buffer.head == ident else None)) for buffer in batch]
            place = self.after(place, batch)
        return found

    def _up_to(self, ident: int, left: dict[int, Buffer]) -> list[int]:
        """Everything up to `ident` in the order of exposure (§2.8.8)."""
        names = []
        for name in left:
            names.append(name)
            if name == ident:
                break
        return names

    @property
    def used_idx(self) -> int:
        """The place of the descriptor that the device uses next, as far as it shows."""
        return self.after(self.last_used, [used.buffer for _, used in self.peek()])

    def after(self, place: int, buffers: Sequence[Buffer]) -> int:
        """The place behind `buffers`, which begin at `place`."""
        return place + sum(len(buffer.descriptors) for buffer in buffers)

    def collect(self) -> list[Used]:
        """Take back what the device has used."""
        found = [used for _, used in self.peek()]
        for used in found:
            self.out.remove(used.buffer)
            self.ids.append(used.buffer.head)
        self.last_used = self.after(self.last_used, [used.buffer for used in found])
        return found

    def device_may_write(self, old: int) -> list[tuple[int, int]]:
        """Where the device may have written since the used place was `old`: (address, length)."""
        own = [(self.at(place) + 8, 8) for place, _ in self.peek() if place >= old]
        return [*own, (self.device, 4)]

    # --- suppressing notifications (§2.8.10)

    def set_event(self, flags: int, position: int) -> None:
        """The driver event suppression structure as it is."""
        self.plain.pack("<HH", self.driver, position, flags)

    def wish(self, off: bool, event: int) -> None:
        """No notifications, or one for the descriptor `event` places on, or all of them."""
        position = self.position(self.size, max(0, self.last_used + event))
        if off:
            self.set_event(DISABLE, position)
        elif self.has(EVENT_IDX) and event >= 0:
            self.set_event(ONE, position)
        else:
            # The position means nothing now.
            self.set_event(ENABLE, position | 0x7FFF)

    def wants_notification(self, old: int, new: int) -> bool:
        """Whether the device must notify after it used the places from `old` to `new`; otherwise it should not."""
        event, flags = self.plain.unpack("<HH", self.driver)
        if flags == ONE:
            return event in {self.position(self.size, place) for place in range(old, new)}
        return new != old and flags == ENABLE
