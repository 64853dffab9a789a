"""The in-flight area of packed rings: "Inflight I/O tracking" of the protocol's document, the packed layout.

A packed ring's descriptors are written over by used ones, so a region keeps copies of those that were taken: entries in
a list for each buffer, cut from a list of free ones.  Two places of the header say what is true:

* `old_free_head`: what is in the list from there on is free, whatever its marks say.  This store takes a buffer.
* the used position, beside its old value: they differ while buffers are being used.  Then the ring's own descriptor at
  the old position decides: where it does not say "available" any more, the driver could see them as used.

Indices and wrap counters of the used position lie in one word of 8 bytes and are stored in one go.
"""

from __future__ import annotations

from collections.abc import Sequence

from devmodels.exports.vhost_channel import RequestRefused
from devmodels.memory import GuestMemory
from devmodels.memorywords import Words
from devmodels.virtio.layout import (
    DESC_SIZE,
    PVIRTQ_DESC,
    VIRTQ_DESC_F_AVAIL,
    VIRTQ_DESC_F_INDIRECT,
    VIRTQ_DESC_F_USED,
    VIRTQ_DESC_F_WRITE,
    WRAP_COUNTER,
)
from devmodels.virtio.packed import PackedRing
from devmodels.virtio.packedchain import walk_table
from devmodels.virtio.ring import Chain, Report, RingError, no_report

VERSION = 1
HEADER_SIZE = 32
ENTRY_SIZE = 32

# Places in the region, in items of the view that reaches them.
_VERSION, _DESC_NUM, _FREE, _OLD_FREE, _USED_IDX, _OLD_USED_IDX = 4, 5, 6, 7, 8, 9  # of 2 bytes
_WRAP, _OLD_WRAP = 20, 21  # of 1 byte
_USED_WORD = 2  # of 8 bytes: both used indices and both wrap counters
_MARK = 32  # of 1 byte, and 32 for each entry
_NEXT, _LAST, _NUM, _ID, _FLAGS = 17, 18, 19, 24, 25  # of 2 bytes, and 16 for each entry
_COUNTER, _ADDRESS = 5, 7  # of 8 bytes, and 4 for each entry
_LENGTH = 13  # of 4 bytes, and 8 for each entry

_TURN = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED

Descriptor = tuple[int, int, int, int]
"""Address, length, id, flags."""


class PackedRegion:
    """One queue's region: a view of HEADER_SIZE and ENTRY_SIZE for each descriptor, zeroes or what was left there."""

    __slots__ = ("_bytes", "_entries", "_halves", "_quads", "_size", "_words", "counter")

    def __init__(self, view: memoryview, queue_size: int) -> None:
        self._size = queue_size
        self._bytes = view
        self._halves = view.cast("H")
        self._words = view.cast("I")
        self._quads = view.cast("Q")
        self._entries: dict[int, int] = {}
        """First entry of each buffer in flight, by buffer id."""
        self.counter = 0

    def release(self) -> None:
        """Give up the views."""
        for view in (self._halves, self._words, self._quads, self._bytes):
            view.release()

    def forget(self) -> None:
        """What was in flight will not be submitted again: the driver has reset the device."""
        self._halves[_VERSION] = 0

    def rest(self) -> None:
        """The ring has stopped: with nothing in flight, the next one may begin anywhere."""
        if not self._entries:
            self.forget()

    # --- a ring starts

    def resume(
        self, queue_size: int, base: tuple[int, int], ring: Words
    ) -> tuple[int, int, list[list[Descriptor]]]:
        """Bring the region up to date with a ring that starts.

        `base` are the front end's positions, available and used; `ring` are the words of 2 bytes of the ring's
        descriptors.  Returns both positions to go on from, and the descriptors of each of the buffers to submit again,
        in order.  RequestRefused where region and ring cannot belong together.
        """
        halves = self._halves
        version, size = halves[_VERSION], halves[_DESC_NUM]
        self._entries.clear()
        if queue_size > self._size or (version and size != self._size):
            raise RequestRefused(
                f"in-flight area for {size if version else self._size} descriptors, expected {self._size}"
                f" and at least {queue_size}"
            )
        if not version:
            self._begin(base[1])
            return *base, []
        if version != VERSION:
            raise RequestRefused(f"in-flight area of version {version}, expected {VERSION}")
        used = self._settle(queue_size, ring)
        self._unmark_free()
        marks = self._bytes[_MARK::ENTRY_SIZE].tolist()
        heads = [entry for entry in range(self._size) if marks[entry]]
        quads = self._quads
        heads.sort(key=lambda entry: quads[_COUNTER + 4 * entry])
        self.counter = next_counter(quads[_COUNTER + 4 * heads[-1]] if heads else -1)
        taken = [halves[_NUM + 16 * entry] for entry in heads]
        if 0 in taken or sum(taken) > queue_size:
            raise RequestRefused(f"in-flight area holds {sum(taken)} descriptors of a ring of {queue_size}")
        again = []
        for entry in heads:
            descriptors = self._descriptors(entry)
            self._entries[descriptors[-1][2]] = entry
            again.append(descriptors)
        return _ahead(used, sum(taken), queue_size), used, again

    def _begin(self, used: int) -> None:
        """The region has never been used: everything in it is free."""
        self._bytes[:] = bytes(len(self._bytes))
        halves = self._halves
        for entry in range(self._size):
            halves[_NEXT + 16 * entry] = entry + 1
        halves[_DESC_NUM] = self._size
        self._set_used(used, used)
        halves[_VERSION] = VERSION
        self.counter = 0

    def _settle(self, queue_size: int, ring: Words) -> int:
        """Bring what was being used to its end, or take it back; returns the used position."""
        halves = self._halves
        new = halves[_USED_IDX] | (WRAP_COUNTER if self._bytes[_WRAP] else 0)
        old = halves[_OLD_USED_IDX] | (WRAP_COUNTER if self._bytes[_OLD_WRAP] else 0)
        for position in (new, old):
            if position & ~WRAP_COUNTER >= queue_size:
                raise RequestRefused(f"in-flight area has the used position {position:#x} of {queue_size}")
        if new != old:
            if ring[_flags_of(old)] & _TURN != _available(old):
                halves[_OLD_FREE] = halves[_FREE]
                old = new
            else:
                _take_back(ring, old, new, queue_size)
            self._set_used(old, old)
        halves[_FREE] = halves[_OLD_FREE]
        return old

    def _unmark_free(self) -> None:
        entry = self._halves[_FREE]
        for _ in range(self._size):
            if entry >= self._size:
                return
            self._bytes[_MARK + ENTRY_SIZE * entry] = 0
            entry = self._halves[_NEXT + 16 * entry]

    def _set_used(self, new: int, old: int) -> None:
        """Both used positions, in one store."""
        self._quads[_USED_WORD] = (
            (new & ~WRAP_COUNTER) | (old & ~WRAP_COUNTER) << 16 | (new >> 15) << 32 | (old >> 15) << 40
        )

    def _descriptors(self, entry: int) -> list[Descriptor]:
        """The descriptors of a buffer in flight; RequestRefused where their list leads nowhere."""
        found = []
        for _ in range(self._halves[_NUM + 16 * entry]):
            if entry >= self._size:
                raise RequestRefused(f"in-flight area lists entry {entry} of {self._size}")
            at = 16 * entry
            halves = self._halves
            length = self._words[_LENGTH + 8 * entry]
            found.append((self._quads[_ADDRESS + 4 * entry], length, halves[_ID + at], halves[_FLAGS + at]))
            entry = halves[_NEXT + at]
        return found

    # --- while it runs

    def took(self, ident: int, descriptors: Sequence[Descriptor]) -> None:
        """A buffer was taken, and nothing has been done of it yet."""
        halves = self._halves
        head = entry = last = halves[_FREE]
        for address, length, descriptor_id, flags in descriptors:
            last = entry
            at = 16 * entry
            self._quads[_ADDRESS + 4 * entry] = address
            self._words[_LENGTH + 8 * entry] = length
            halves[_ID + at] = descriptor_id
            halves[_FLAGS + at] = flags
            entry = halves[_NEXT + at]
        halves[_LAST + 16 * head] = last
        halves[_NUM + 16 * head] = len(descriptors)
        self._quads[_COUNTER + 4 * head] = self.counter
        self._bytes[_MARK + ENTRY_SIZE * head] = 1
        halves[_FREE] = entry
        halves[_OLD_FREE] = entry
        self.counter += 1
        self._entries[ident] = head

    def using(self, idents: Sequence[int], old: int, new: int) -> None:
        """These buffers are about to be shown as used; that moves the used position from `old` to `new`."""
        halves = self._halves
        for ident in idents:
            entry = self._entries[ident]
            halves[_NEXT + 16 * halves[_LAST + 16 * entry]] = halves[_FREE]
            halves[_FREE] = entry
        self._set_used(new, old)

    def used(self, idents: Sequence[int], new: int) -> None:
        """The driver can see them."""
        for ident in idents:
            self._bytes[_MARK + ENTRY_SIZE * self._entries.pop(ident)] = 0
        self._halves[_OLD_FREE] = self._halves[_FREE]
        self._set_used(new, new)


def next_counter(last: int) -> int:
    """The counter after the highest one of an area; RequestRefused where no back end can have come so far."""
    if last >> 63 > 0:
        raise RequestRefused(f"in-flight area with the counter {last:#x}")
    return last + 1


def _damaged() -> RingError:
    """The front end can write to the area: what leads out of it breaks the ring."""
    return RingError("vhost-user, Inflight I/O tracking", "the in-flight area's lists are damaged")


def _flags_of(position: int) -> int:
    """Where the flags of the descriptor at `position` are among the ring's words."""
    return DESC_SIZE // 2 * (position & ~WRAP_COUNTER) + 7


def _available(position: int) -> int:
    """What makes the descriptor at `position` available and not used."""
    return VIRTQ_DESC_F_AVAIL if position & WRAP_COUNTER else VIRTQ_DESC_F_USED


def _take_back(ring: Words, old: int, new: int, size: int) -> None:
    """The used descriptors from `old` to `new` were not shown: those after the first may stand there already.

    The next ones may be used in another order and one by one, and then the driver would come upon these.
    """
    position = _ahead(old, 1, size)
    while position != new:
        if ring[_flags_of(position)] & _TURN in (0, _TURN):
            ring[_flags_of(position)] = _available(position)
        position = _ahead(position, 1, size)


def _ahead(position: int, count: int, size: int) -> int:
    """The position `count` descriptors (at most `size`) after another one."""
    offset = (position & ~WRAP_COUNTER) + count
    wrap = position & WRAP_COUNTER
    return offset - size | wrap ^ WRAP_COUNTER if offset >= size else offset | wrap


class TrackedPackedRing(PackedRing):
    """A packed ring that keeps its region of the in-flight area, and first takes again what was in flight."""

    __slots__ = ("_region", "_seen", "again")

    def __init__(
        self,
        region: PackedRegion,
        again: list[list[Descriptor]],
        memory: GuestMemory,
        size: int,
        parts: tuple[int, int, int],
        features: int,
        in_flight: dict[int, Chain],
        *,
        strict: bool = True,
        last_avail: int = PackedRing.START,
        used_idx: int = PackedRing.START,
        report: Report = no_report,
    ) -> None:
        """As a `PackedRing`; `again` is what `region.resume` gave."""
        super().__init__(
            memory,
            size,
            parts,
            features,
            in_flight,
            strict=strict,
            last_avail=last_avail,
            used_idx=used_idx,
            report=report,
        )
        self._region = region
        self.again = again

    def attach(self) -> None:
        """As the packed ring's."""
        super().attach()
        self._seen = self._fetch
        if self._memory.trace is not None:
            # The area's copies are no reads of the device.
            table, load = self.parts[0], self._memory.load
            self._seen = lambda offset: PVIRTQ_DESC.layout.unpack(load(table + offset, DESC_SIZE))

    def available(self) -> int:
        """At most how many buffers wait to be taken, or how many are to be taken again."""
        return len(self.again) or super().available()

    @property
    def owed(self) -> int:
        """How many buffers are to be taken again."""
        return len(self.again)

    def pending(self) -> bool:
        """A glance at whether a buffer waits."""
        return bool(self.again) or super().pending()

    def take(self, count: int, budget: int, chains: list[Chain]) -> int:
        """As the packed ring's, but first what was in flight when an earlier back end died."""
        if self.again:
            return self._take_again(count, budget, chains)
        before = len(chains)
        place = self._avail
        try:
            return super().take(count, budget, chains)
        finally:
            try:
                for chain in chains[before:]:
                    places = range(place, place + chain.count)
                    self._region.took(chain.head, [self._descriptor(at % self.size) for at in places])
                    place += chain.count
            except IndexError:
                raise _damaged() from None

    def _descriptor(self, offset: int) -> Descriptor:
        address, length, ident, flags = self._seen(offset * DESC_SIZE)
        return address, length, ident, flags

    def _take_again(self, count: int, budget: int, chains: list[Chain]) -> int:
        """Their entries stand already."""
        taken = 0
        while self.again and count and taken < budget:
            chain = self._rebuilt(self.again[0])
            if chain.head in self.in_flight:
                raise RingError("VIRTIO 1.4 §2.8.21.1", f"buffer id {chain.head} is in flight twice")
            del self.again[0]
            self.in_flight[chain.head] = chain
            if self._in_order:
                self._order.append(chain.head)
            chains.append(chain)
            taken += len(chain.readable) + len(chain.writable)
            count -= 1
        return taken

    def _rebuilt(self, descriptors: list[Descriptor]) -> Chain:
        """The buffer of these descriptors, judged as those of the ring are."""
        chain = Chain(descriptors[-1][2], count=len(descriptors))
        for address, length, _, flags in descriptors:
            if flags & VIRTQ_DESC_F_INDIRECT:
                if len(descriptors) > 1:
                    raise RingError("VIRTIO 1.4 §2.8.19", "indirect descriptor in a list linked by NEXT")
                walk_table(self, chain, address, length, flags)
            elif flags & VIRTQ_DESC_F_WRITE:
                chain.writable.append((address, length))
                chain.writable_bytes += length
            elif chain.writable:
                raise RingError(
                    "VIRTIO 1.4 §2.8.17", "device-readable descriptor after a device-writable one"
                )
            else:
                chain.readable.append((address, length))
                chain.readable_bytes += length
        return chain

    def publish(self) -> bool:
        """As the packed ring's, with the area told before and after."""
        pushed = [chain for chain, _ in self._pushed]
        if not pushed:
            return False
        idents = [chain.head for chain in pushed]
        old = self.used_idx
        new = _ahead(old, sum(chain.count for chain in pushed), self.size)
        try:
            self._region.using(idents, old, new)
        except (IndexError, KeyError):
            raise _damaged() from None
        notify = super().publish()
        self._region.used(idents, new)
        return notify
