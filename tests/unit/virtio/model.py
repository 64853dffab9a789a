"""The driver's side of a virtqueue, and of a split one, written from VIRTIO 1.4 §2.7 alone; see also `packed_model`.

Layouts, flags and rules are this file's own: a mistake that it shared with the device would go unseen.  Nothing of
`devmodels` is used here; guest memory is plain bytearrays.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from tests.unit.virtio.plain import PlainMemory

INDIRECT_DESC = 1 << 28
EVENT_IDX = 1 << 29
VERSION_1 = 1 << 32
IN_ORDER = 1 << 35
NOTIFICATION_DATA = 1 << 38
RING_RESET = 1 << 40

NEXT = 1
WRITE = 2
INDIRECT = 4

DESC = struct.Struct("<QIHH")
"""struct virtq_desc, §2.7.5."""

Vector = tuple[int, int]


class Form(Enum):
    """How a buffer's elements are described (§2.7.5.3)."""

    DIRECT = "direct"
    INDIRECT = "indirect"
    MIXED = "mixed"


@dataclass
class Buffer:
    """Elements in the driver's order, and where they were put.

    `descriptors` are the entries of the queue's own table that it takes.
    """

    readable: Sequence[Vector]
    writable: Sequence[Vector]
    descriptors: list[int] = field(default_factory=list)

    @property
    def head(self) -> int:
        return self.descriptors[0]

    @property
    def writable_bytes(self) -> int:
        return sum(length for _, length in self.writable)

    def elements(self) -> list[tuple[int, int, int]]:
        """(address, length, flags) of each."""
        return [(a, n, 0) for a, n in self.readable] + [(a, n, WRITE) for a, n in self.writable]


@dataclass(frozen=True)
class Used:
    """A buffer that has come back; `length` is None where the device did not write an entry for it (§2.7.9)."""

    buffer: Buffer
    length: int | None


class Driver(Protocol):
    """What tests ask of the driver of either ring."""

    plain: PlainMemory
    size: int
    features: int
    idx: int
    last_used: int
    parts: tuple[int, int, int]
    out: deque[Buffer]

    def __init__(
        self, plain: PlainMemory, size: int, parts: tuple[int, int, int], features: int, *, start: int = 0
    ) -> None: ...

    @staticmethod
    def sizes(size: int) -> tuple[int, int, int]: ...

    @staticmethod
    def position(size: int, place: int) -> int: ...

    @property
    def free(self) -> int: ...

    @property
    def used_idx(self) -> int: ...

    @property
    def notification(self) -> int: ...

    def has(self, feature: int) -> bool: ...

    def descriptors_for(self, elements: int, form: Form) -> int: ...

    def place(self, buffer: Buffer, form: Form, table: int) -> None: ...

    def expose(self) -> bool: ...

    def collect(self) -> list[Used]: ...

    def after(self, place: int, buffers: Sequence[Buffer]) -> int: ...

    def device_may_write(self, old: int) -> list[tuple[int, int]]: ...

    def device_wish_is_sound(self) -> bool: ...

    def wish(self, off: bool, event: int) -> None: ...

    def wants_notification(self, old: int, new: int) -> bool: ...


def positions(old: int, new: int) -> set[int]:
    """The ring positions that were filled while an index went from `old` to `new`."""
    return {(old + step) & 0xFFFF for step in range((new - old) & 0xFFFF)}


def area_sizes(size: int) -> tuple[int, int, int]:
    """Bytes of descriptor table, available ring and used ring (§2.7)."""
    return 16 * size, 6 + 2 * size, 6 + 8 * size


class DriverRing:
    """What a driver knows of its queue: what is free, what is out, how far it has got."""

    def __init__(
        self, plain: PlainMemory, size: int, parts: tuple[int, int, int], features: int, *, start: int = 0
    ) -> None:
        self.plain = plain
        self.size = size
        self.parts = parts
        self.desc, self.avail, self.used = parts
        self.features = features
        self.idx = start
        """The available index as exposed."""
        self.last_used = start
        self.offered: list[Buffer] = []
        """Placed in the ring, not exposed yet."""
        self.out: deque[Buffer] = deque()
        """Exposed and not come back, oldest first."""
        self._free = deque(range(size))
        for address, length in zip(parts, area_sizes(size), strict=True):
            plain.store(address, bytes(length))
        plain.pack("<HH", self.avail, 0, start)
        plain.pack("<HH", self.used, 0, start)

    @staticmethod
    def sizes(size: int) -> tuple[int, int, int]:
        return area_sizes(size)

    @staticmethod
    def position(size: int, place: int) -> int:
        """The index as a back end that takes over has to be told."""
        return place & 0xFFFF

    def has(self, feature: int) -> bool:
        return bool(self.features & feature)

    @property
    def free(self) -> int:
        """Descriptors that no buffer holds."""
        return len(self._free)

    def free_descriptor(self, number: int) -> int:
        """The index of the `number`-th descriptor that no buffer holds."""
        return self._free[number]

    # --- supplying buffers (§2.7.13)

    def descriptors_for(self, elements: int, form: Form) -> int:
        """How many entries of the queue's table a buffer takes."""
        return {Form.DIRECT: elements, Form.INDIRECT: 1, Form.MIXED: elements // 2 + 1}[form]

    def place(self, buffer: Buffer, form: Form, table: int) -> None:
        """Write the descriptors and the next available entry; an indirect table goes to address `table`."""
        elements = buffer.elements()
        count = self.descriptors_for(len(elements), form)
        taken = [self._free.popleft() for _ in range(count)]
        buffer.descriptors = taken
        direct = elements if form is Form.DIRECT else elements[: count - 1]
        for at, (address, length, flags) in enumerate(direct):
            more = at + 1 < count
            # Without NEXT the field means nothing: leave something there that must not be followed.
            self.write_desc(taken[at], address, length, flags | more, taken[at + 1] if more else 0xFFFF)
        if form is not Form.DIRECT:
            self.write_table(table, elements[count - 1 :])
            # WRITE means nothing on a descriptor that refers to a table (§2.7.5.3.2).
            flags = INDIRECT | WRITE * (taken[-1] % 2)
            self.write_desc(taken[-1], table, 16 * (len(elements) - count + 1), flags, 0xFFFF)
        self.offer(buffer)

    def write_desc(self, index: int, address: int, length: int, flags: int, following: int) -> None:
        self.plain.store(self.desc + 16 * index, DESC.pack(address, length, flags, following))

    def write_table(self, table: int, elements: Sequence[tuple[int, int, int]]) -> None:
        for at, (address, length, flags) in enumerate(elements):
            more = at + 1 < len(elements)
            entry = DESC.pack(address, length, flags | more, at + 1 if more else 0xFFFF)
            self.plain.store(table + 16 * at, entry)

    def offer(self, buffer: Buffer) -> None:
        """Name the buffer in the next free entry of the available ring."""
        self.write_entry(len(self.offered), buffer.head)
        self.offered.append(buffer)

    def write_entry(self, ahead: int, head: int) -> None:
        """Write the available entry that is `ahead` places beyond the exposed ones."""
        self.plain.pack("<H", self.avail + 4 + 2 * ((self.idx + ahead) % self.size), head)

    def expose(self) -> bool:
        """Advance the available index; returns whether the device must be notified (§2.7.10.1)."""
        count = len(self.offered)
        self.out += self.offered
        self.offered = []
        return self.move_idx(count)

    def move_idx(self, count: int) -> bool:
        """Advance the index by `count`, whatever the entries hold."""
        old, self.idx = self.idx, (self.idx + count) & 0xFFFF
        self.plain.pack("<H", self.avail + 2, self.idx)
        if self.has(EVENT_IDX):
            (event,) = self.plain.unpack("<H", self.used + 4 + 8 * self.size)
            return event in positions(old, self.idx)
        return bool(count) and self.used_flags == 0

    @property
    def notification(self) -> int:
        """next_off and next_wrap (§2.9)."""
        return self.idx

    # --- used buffers (§2.7.14)

    @property
    def used_flags(self) -> int:
        return self.plain.unpack("<H", self.used)[0]

    @property
    def used_idx(self) -> int:
        """The used index as the device shows it."""
        return self.plain.unpack("<H", self.used + 2)[0]

    def after(self, place: int, buffers: Sequence[Buffer]) -> int:
        """The used index once `buffers` have been used after `place`."""
        return (place + len(buffers)) & 0xFFFF

    def device_may_write(self, old: int) -> list[tuple[int, int]]:
        """Where the device may have written since the used index was `old`: (address, length)."""
        return [(self.used, area_sizes(self.size)[2])]

    def device_wish_is_sound(self) -> bool:
        """Whether `flags` of the used ring hold what they may (§2.7.10.2)."""
        return self.used_flags in ((0,) if self.has(EVENT_IDX) else (0, 1))

    def collect(self) -> list[Used]:
        """Take back what the device has used; AssertionError where it returns what is not out."""
        found: list[Used] = []
        new = self.used_idx
        assert (new - self.last_used) & 0xFFFF <= len(self.out), "more came back than is out"
        while self.last_used != new:
            at = self.used + 4 + 8 * (self.last_used % self.size)
            head, length = self.plain.unpack("<II", at)
            if self.has(IN_ORDER):
                batch = self._take_batch(head, length)
            else:
                batch = [Used(self._take(head), length)]
            self.last_used = (self.last_used + len(batch)) & 0xFFFF
            found += batch
        for each in found:
            self._free += each.buffer.descriptors
        return found

    def _take(self, head: int) -> Buffer:
        for buffer in self.out:
            if buffer.head == head:
                self.out.remove(buffer)
                return buffer
        raise AssertionError(f"head {head} came back and was not out")

    def _take_batch(self, head: int, length: int) -> list[Used]:
        """Everything up to `head`, in the order of exposure (§2.7.9)."""
        batch: list[Used] = []
        while not batch or batch[-1].buffer.head != head:
            assert self.out, f"head {head} came back and was not out"
            buffer = self.out.popleft()
            batch.append(Used(buffer, length if buffer.head == head else None))
        return batch

    # --- suppressing notifications (§2.7.7)

    def set_no_interrupt(self, off: bool) -> None:
        """`flags` of the available ring; counts without VIRTIO_F_EVENT_IDX alone."""
        self.plain.pack("<H", self.avail, int(off))

    def set_used_event(self, index: int) -> None:
        """`used_event`; counts with VIRTIO_F_EVENT_IDX alone."""
        self.plain.pack("<H", self.avail + 4 + 2 * self.size, index & 0xFFFF)

    def wish(self, off: bool, event: int) -> None:
        """Both ways to suppress; the one that was not negotiated must not count."""
        self.set_no_interrupt(off)
        self.set_used_event(self.last_used + event)

    def wants_notification(self, old: int, new: int) -> bool:
        """Whether the device must notify after its used index went from `old` to `new`; otherwise it should not
        (§2.7.7.2)."""
        if self.has(EVENT_IDX):
            return self.used_event in positions(old, new)
        return new != old and not self.plain.unpack("<H", self.avail)[0] & 1

    @property
    def used_event(self) -> int:
        return self.plain.unpack("<H", self.avail + 4 + 2 * self.size)[0]
