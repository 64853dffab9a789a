"""Packed rings as a driver keeps them, and what it can do wrong there (VIRTIO 1.4 §2.8).

They lie where split ones do (`virtio_rings`): descriptors, the driver's event suppression, the device's.

A place is counted through two laps, 0 to 2 * size - 1: the first one has the wrap counter 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from guestsim.diff.access import Access, Loose, Store, Unordered
from guestsim.diff.grammar.virtio_chains import Part
from guestsim.diff.grammar.virtio_rings import AVAIL_AT, DESC_AT, USED_AT, Ring, Told
from guestsim.drivers.layouts import (
    DESC_INDIRECT,
    DESC_NEXT,
    DESC_WRITE,
    EVENT_DESC,
    EVENT_DISABLE,
    EVENT_ENABLE,
    EVENT_WRAP,
    PACKED_AVAIL,
    PACKED_DESC,
    PACKED_EVENT,
    PACKED_USED,
)

LENGTH = PACKED_DESC["len"].offset
FLAGS = PACKED_DESC["flags"].offset
USED_SIZE = FLAGS - LENGTH
"""What of a used descriptor is about the buffer: length and id; flags are about the place."""

MARK, HINT, LATE = "used-write", "first-event", "control-event"
"""Masks: the flag WRITE of used descriptors; the device's event suppression before it was notified, and where QEMU's
does not go on."""


@dataclass(slots=True)
class PackedRing(Ring):
    """A packed ring (§2.8)."""

    place: int = 0
    """Where the next descriptor will be made available."""
    late: bool = False
    """Whether QEMU's event suppression does not go on with what it takes."""
    heard: int = 0
    """The place where descriptors began that the device was told of last, or has not been told of."""
    last: bytes = b""
    """What the first descriptor of the last chain says, but for its address."""
    spans: list[tuple[int, int]] = field(default_factory=list)
    """First place and number of descriptors of each chain since the ring was empty."""

    def emptied(self, size: int) -> list[Access]:
        """It begins anew with so many descriptors, all zeroes."""
        self.size, self.avail, self.told, self.taken, self.place, self.heard, self.table = (
            size,
            0,
            0,
            0,
            0,
            0,
            0,
        )
        self.spans.clear()
        return [
            Store(self.base + DESC_AT, bytes(PACKED_DESC.size * size)),
            Store(self.base + AVAIL_AT, bytes(PACKED_EVENT.size)),
            Store(self.base + USED_AT, bytes(PACKED_EVENT.size)),
        ]

    def first_hint(self) -> tuple[Loose, ...]:
        """With EVENT_IDX ours asks for the first descriptor at once; QEMU for everything, as zeroes do."""
        first = self._event(0)
        return (Loose(HINT, self.base + USED_AT, len(first), values=(first, bytes(len(first)))),)

    def can(self, quirk: str, *, indirect: bool) -> bool:
        """Whether a chain can be wrong in this way: QEMU goes round for ever with one that it takes for broken."""
        return quirk in ("", "far") or (indirect and quirk == "indirect-next")

    def room(self, descriptors: int) -> bool:
        """Chains of one notification have as many descriptors each: else it shows which of them was used first."""
        untold = self.avail - self.told & 0xFFFF
        if untold and self.spans[-1][1] != descriptors:
            return False
        return Ring.room(self, descriptors)

    def add(self, parts: Sequence[Part], quirk: str, *, indirect: bool) -> Iterator[Access]:
        """Descriptors of a chain, the first one last.  Its id is one that no other chain has meanwhile (§2.8.21.1)."""
        if indirect:
            at = self._table(len(parts))
            yield Store(at, b"".join(PACKED_DESC.pack(*part[:2], 0, part[2]) for part in parts))
            flags = DESC_INDIRECT | (DESC_NEXT if quirk == "indirect-next" else 0)
            parts = [(at, PACKED_DESC.size * len(parts), flags)]
        first, count = self.place, len(parts)
        number = 257 * self.avail & 0xFFFF
        stores: list[Store] = []
        for at, (address, length, flags) in enumerate(parts):
            flags |= DESC_NEXT if at + 1 < count else 0
            flags |= PACKED_AVAIL if self._after(first, at) < self.size else PACKED_USED
            stores.append(Store(self._at(first + at), PACKED_DESC.pack(address, length, number, flags)))
        yield from reversed(stores)
        self.last = stores[0].data[LENGTH:]
        self.spans.append((first, count))
        self.place = self._after(first, count)
        self.avail = (self.avail + 1) & 0xFFFF

    def _after(self, place: int, count: int) -> int:
        return (place + count) % (2 * self.size)

    def _at(self, place: int) -> int:
        return self.base + DESC_AT + PACKED_DESC.size * (place % self.size)

    def published(self) -> tuple[Access, ...]:
        """The device may look at what was added, as it is."""
        return ()

    def jump(self, by: int) -> tuple[Access, ...]:  # noqa: ARG002
        """There is no index."""
        return ()

    def _last(self, count: int) -> Iterator[int]:
        """The places of the last chains, and so of their used descriptors, whatever the order is."""
        for first, length in self.spans[-count:] if count else ():
            yield from (self._after(first, number) for number in range(length))

    def lengths(self, count: int) -> Iterator[int]:
        """Where the used lengths of the last `count` chains may be."""
        yield from (self._at(place) + LENGTH for place in self._last(count))

    def dropped(self, reason: str) -> Iterator[Loose]:
        """The first descriptor, which is a used one there (§2.8.6)."""
        first, _ = self.spans[-1]
        yield Loose(reason, self._at(first) + LENGTH, len(self.last), values=(self.last, None))

    def hints(self) -> tuple[int, int]:
        """Where the device's event suppression is."""
        return self.base + USED_AT, self.base + USED_AT + 2

    def notified(self) -> Told:
        """The device is told of what was added; several used descriptors come in an order of its own."""
        count, before = self.told_of(), self.heard
        self.heard = self.place
        loose = [
            Loose(MARK, self._at(place) + FLAGS, 2, values=_MARKED[place < self.size])
            for place in self._last(count)
        ]
        if self.late and count:
            theirs = self._event(before)
            # Before DRIVER_OK QEMU has not asked for anything.
            events = self._event(self.place), theirs if before else (theirs, bytes(len(theirs)))
            loose.append(Loose(LATE, self.base + USED_AT, PACKED_EVENT.size, values=events))
        round_again = count and before // self.size != self.place // self.size
        starts = tuple(self._at(first) + LENGTH for first, _ in self.spans[-count:]) if count > 1 else ()
        return Told(
            tuple(loose),
            Unordered(USED_SIZE, starts) if starts else None,
            frozenset({"ring-goes-round"} if round_again else ()),
        )

    def suppress(self, ahead: int, *, flag: bool, events: bool) -> tuple[Access, ...]:
        """No interrupts, or one when a descriptor so far ahead is used, where there are `events` (§2.8.10)."""
        if not self.size:
            return ()
        # QEMU's first notification comes whatever was asked for.
        unused = self.held + (self.avail - self.told & 0xFFFF)
        used = len(self.spans) - unused
        before = self.held if used else unused
        held = sum(length for _, length in self.spans[-before:]) if before else 0
        place = self._after(self.place, (min(ahead, self.size - 1) if used else 0) - held)
        if events and not flag:
            return (Store(self.base + AVAIL_AT, self._event(place)),)
        return (Store(self.base + AVAIL_AT, PACKED_EVENT.pack(0, EVENT_DISABLE if flag else EVENT_ENABLE)),)

    def _event(self, place: int) -> bytes:
        """Event suppression that waits for this descriptor."""
        return PACKED_EVENT.pack(place % self.size | (EVENT_WRAP if place < self.size else 0), EVENT_DESC)


_USED = PACKED_AVAIL | PACKED_USED
_MARKED = {
    True: ((_USED | DESC_WRITE).to_bytes(2, "little"), _USED.to_bytes(2, "little")),
    False: (DESC_WRITE.to_bytes(2, "little"), bytes(2)),
}
"""A used descriptor's flags, ours and QEMU's, by its wrap counter."""
