"""Split rings as a driver keeps them, and what it can do wrong there (VIRTIO 1.4 §2.7); what all rings have.

Queue q has its structures at `RINGS + q * RING_ROOM`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from guestsim.diff.access import Access, Loose, Store, Unordered
from guestsim.diff.arena import ARENA
from guestsim.diff.grammar.virtio_chains import Part
from guestsim.drivers.layouts import AVAIL_NO_INTERRUPT, DESC, DESC_INDIRECT, DESC_NEXT

RINGS = ARENA + 0x1000
RING_ROOM = 0x5000
DESC_AT, AVAIL_AT, USED_AT, TABLE_AT = 0, 0x1000, 0x2000, 0x3000
"""Where the parts of a queue lie; room for indirect tables is last."""
USED_SIZE = 8
"""Bytes of an element of the used ring (§2.7.8)."""


@dataclass(frozen=True, slots=True)
class Told:
    """What follows from a notification: memory that need not be the same, records in any order, what is special."""

    loose: tuple[Loose, ...] = ()
    unordered: Unordered | None = None
    tags: frozenset[str] = frozenset()


@dataclass(slots=True)
class Ring(ABC):
    """What the driver knows of a queue, however its ring looks."""

    number: int
    size: int = 0
    avail: int = 0
    """How many chains were made available, of 16 bits: the available index of a split ring."""
    told: int = 0
    """The same when the device was last told of it."""
    taken: int = 0
    """Descriptors of what it has not been told of."""
    held: int = 0
    """How many of those are held at the drive."""
    table: int = 0

    @property
    def base(self) -> int:
        """Where its structures are."""
        return RINGS + self.number * RING_ROOM

    def room(self, descriptors: int) -> bool:
        """Whether there is room for so many descriptors; they are taken then."""
        if self.told == self.avail and not self.held:
            self.taken = 0
        fits = self.taken + descriptors <= self.size
        self.taken += descriptors if fits else 0
        return fits

    def _table(self, length: int) -> int:
        """Room for an indirect table of so many descriptors."""
        room = DESC.size * length
        if TABLE_AT + self.table + room > RING_ROOM:
            self.table = 0
        at = self.base + TABLE_AT + self.table
        self.table += room
        return at

    @abstractmethod
    def emptied(self, size: int) -> list[Access]:
        """It begins anew with rings of so many entries, all zeroes."""

    def allowed(self, size: int) -> int:
        """The size that such a ring can have, if not this one."""
        return size

    def first_hint(self) -> tuple[Loose, ...]:
        """What is not compared of what the device wants to be notified of, when it has not been yet."""
        return ()

    @abstractmethod
    def can(self, quirk: str, *, indirect: bool) -> bool:
        """Whether a chain can be wrong in this way."""

    @abstractmethod
    def add(self, parts: Sequence[Part], quirk: str, *, indirect: bool) -> Iterator[Access]:
        """A chain is put into the ring."""

    @abstractmethod
    def published(self) -> tuple[Access, ...]:
        """The device may look at what was added."""

    @abstractmethod
    def jump(self, by: int) -> tuple[Access, ...]:
        """The available index goes on without new chains, in a table that is empty; nothing where there is no index."""

    @abstractmethod
    def lengths(self, count: int) -> Iterator[int]:
        """Where the used lengths of the last `count` chains may be."""

    @abstractmethod
    def dropped(self, reason: str) -> Iterator[Loose]:
        """What is not compared where QEMU has used the last chain, and ours has not."""

    @abstractmethod
    def hints(self) -> tuple[int, int]:
        """Where the device says what it wants to be notified of: 2 bytes each."""

    @abstractmethod
    def notified(self) -> Told:
        """The device is told of what was added."""

    @abstractmethod
    def suppress(self, ahead: int, *, flag: bool, events: bool) -> tuple[Access, ...]:
        """No interrupts, or one when the device has gone on so far, where there are `events`."""

    def told_of(self) -> int:
        """The device is told of what was added: how many chains that are."""
        count, self.told = self.avail - self.told & 0xFFFF, self.avail
        return count


@dataclass(slots=True)
class Queue(Ring):
    """A split ring (§2.7)."""

    descriptor: int = 0

    def allowed(self, size: int) -> int:
        """A power of two (§2.7)."""
        return 1 << size.bit_length() - 1

    def emptied(self, size: int) -> list[Access]:
        """It begins anew with rings of so many entries, all zeroes."""
        self.size, self.avail, self.told, self.taken, self.descriptor, self.table = size, 0, 0, 0, 0, 0
        return [
            Store(self.base + AVAIL_AT, bytes(6 + 2 * size)),
            Store(self.base + USED_AT, bytes(6 + USED_SIZE * size)),
        ]

    def can(self, quirk: str, *, indirect: bool) -> bool:
        """Whether a chain can be wrong in this way."""
        return indirect or not quirk.startswith("indirect")

    def add(self, parts: Sequence[Part], quirk: str, *, indirect: bool) -> Iterator[Access]:
        """Descriptors of a chain, and its place in the available ring.

        Quirks: `loop`, the last descriptor goes on to the first; `beyond`, to one that the table does not have;
        `indirect-next`, `indirect-odd`, what §2.7.5.3.1 and §2.7.5.3.2 forbid; `head`, the ring names a descriptor
        that there is not.
        """
        if indirect:
            at = self._table(len(parts))
            last = {"loop": 0, "beyond": len(parts) + 3}.get(quirk)
            yield Store(at, descriptors(parts, list(range(len(parts))), last))
            flags = DESC_INDIRECT | (DESC_NEXT if quirk == "indirect-next" else 0)
            parts = [(at, DESC.size * len(parts) + (5 if quirk == "indirect-odd" else 0), flags)]
        places = [(self.descriptor + number) % self.size for number in range(len(parts))]
        self.descriptor = (self.descriptor + len(parts)) % self.size
        last = None if indirect else {"loop": places[0], "beyond": self.size}.get(quirk)
        table = descriptors(parts, places, last)
        for number, place in enumerate(places):
            one = table[number * DESC.size : (number + 1) * DESC.size]
            yield Store(self.base + DESC_AT + DESC.size * place, one)
        slot = self.base + AVAIL_AT + 4 + 2 * (self.avail % self.size)
        head = self.size if quirk == "head" else places[0]
        yield Store(slot, head.to_bytes(2, "little"))
        self.avail = (self.avail + 1) & 0xFFFF

    def published(self) -> tuple[Access, ...]:
        """The device may look at what was added."""
        return (Store(self.base + AVAIL_AT + 2, self.avail.to_bytes(2, "little")),)

    def jump(self, by: int) -> tuple[Access, ...]:
        """The available index goes on without new chains, in a table that is empty."""
        self.avail = (self.avail + by) & 0xFFFF
        return (Store(self.base + DESC_AT, bytes(DESC.size * self.size)), *self.published())

    def lengths(self, count: int) -> Iterator[int]:
        """Where `used.len` of the last `count` chains will be."""
        for number in range(count):
            place = (self.avail - number - 1) % self.size
            yield self.base + USED_AT + 4 + USED_SIZE * place + 4

    def dropped(self, reason: str) -> Iterator[Loose]:
        """The used index, which is one more there, and the element (§2.7.8)."""
        used, before = self.base + USED_AT, self.told - 1 & 0xFFFF
        yield Loose(
            reason, used + 2, 2, values=(before.to_bytes(2, "little"), self.told.to_bytes(2, "little"))
        )
        # Where the ring has not gone round yet nothing was there.
        empty = bytes(USED_SIZE) if before < self.size else None
        yield Loose(reason, used + 4 + USED_SIZE * (before % self.size), USED_SIZE, values=(empty, None))

    def hints(self) -> tuple[int, int]:
        """Where `used.flags` and `avail_event` are."""
        used = self.base + USED_AT
        return used, used + 4 + USED_SIZE * self.size

    def notified(self) -> Told:
        """The device is told of what was added: the used elements whose order is its choice (§2.7.14)."""
        first = self.told
        count = self.told_of()
        if not 1 < count <= self.size:
            return Told()
        at = self.base + USED_AT + 4
        places = ((first + number) % self.size for number in range(count))
        return Told(unordered=Unordered(USED_SIZE, tuple(at + USED_SIZE * place for place in places)))

    def suppress(self, ahead: int, *, flag: bool, events: bool) -> tuple[Access, ...]:  # noqa: ARG002
        """No interrupts, or one when the index has gone so far, where there are `events` (§2.7.7, §2.7.10)."""
        flags = (AVAIL_NO_INTERRUPT if flag else 0).to_bytes(2, "little")
        # QEMU's first notification comes whatever was asked for.
        used = self.told - self.held
        event = (used + (ahead if used else 0) & 0xFFFF).to_bytes(2, "little")
        at = self.base + AVAIL_AT
        return Store(at, flags), Store(at + 4 + 2 * self.size, event)


def descriptors(parts: Sequence[Part], places: Sequence[int], last: int | None) -> bytes:
    """A chain's descriptors; `last` is where the last one goes on to, if it does."""
    table = b""
    for number, (address, length, flags) in enumerate(parts):
        then = places[number + 1] if number + 1 < len(parts) else last
        flags |= 0 if then is None else DESC_NEXT
        table += DESC.pack(address, length, flags, then or 0)
    return table
