"""The in-flight area: what a back end has taken and not given back, kept where its own death does not reach.

Follows "Inflight I/O tracking" of the protocol's document, the split layout (`vhost_inflight_packed` has the other).
The area is a memfd that the front end
holds too.  Each queue has a region in it: a header, and for every head whether it is in flight and when it was taken.
It is brought up to date at three places, in an order that leaves it true after each single store:

* a buffer was taken: its counter, then its mark; nothing has been done of it before;
* buffers were pushed: they head the list of the batch that is being used;
* the used index was published: the marks of the batch go, then the region's index follows the ring's.

A process that starts again believes the ring's used index: where it is ahead of the region's, so many from the list's
head were used.  What is still marked is submitted again, in the order in which it was taken, before anything new; it
was never shown to the driver as used.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence

from construct import Int16ul, Int64ul, Struct

from devmodels.exports.vhost_channel import RequestRefused
from devmodels.exports.vhost_inflight_packed import ENTRY_SIZE, HEADER_SIZE, PackedRegion, next_counter
from devmodels.exports.vhost_shared import SharedArea
from devmodels.memory import GuestMemory
from devmodels.virtio.ring import Chain, Report, no_report
from devmodels.virtio.split import SplitRing
from devmodels.wire import Codec

VERSION = 1
ALIGNMENT = 64
"""Regions begin on cache lines, as in other implementations; the document leaves it open."""

_HEADER = Codec.ints(
    Struct(
        "features" / Int64ul,
        "version" / Int16ul,
        "desc_num" / Int16ul,
        "last_batch_head" / Int16ul,
        "used_idx" / Int16ul,
    )
)
_ENTRY_SIZE = 16
# Places in the region, in items of the view that reaches them.
_VERSION, _DESC_NUM, _LAST_BATCH, _USED_IDX = 4, 5, 6, 7  # of 2 bytes
_MARK = 16  # of 1 byte, and 16 for each entry
_NEXT = 11  # of 2 bytes, and 8 for each entry
_COUNTER = 3  # of 8 bytes, and 2 for each entry


def region_size(queue_size: int, *, packed: bool = False) -> int:
    """Bytes of one queue's region."""
    header, entry = (HEADER_SIZE, ENTRY_SIZE) if packed else (_HEADER.size, _ENTRY_SIZE)
    return -(-(header + entry * queue_size) // ALIGNMENT) * ALIGNMENT


class SplitRegion:
    """One queue's region: a view of `region_size(queue_size)` bytes, zeroes or what an earlier back end left there."""

    __slots__ = ("_bytes", "_counters", "_halves", "_pushed", "_size", "counter")

    def __init__(self, view: memoryview, queue_size: int) -> None:
        self._size = queue_size
        self._bytes = view
        self._halves: memoryview[int] = view.cast("H")
        self._counters: memoryview[int] = view.cast("Q")
        self._pushed: list[int] = []
        self.counter = 0

    def release(self) -> None:
        """Give up the views."""
        for view in (self._halves, self._counters, self._bytes):
            view.release()

    def forget(self) -> None:
        """What was in flight will not be submitted again: the driver has reset the device."""
        self._halves[_VERSION] = 0

    def rest(self) -> None:
        """The ring has stopped: with nothing in flight, the next one may begin anywhere."""
        if not self._marked():
            self.forget()

    # --- a ring starts

    def resume(self, queue_size: int, base: int, used_idx: int) -> tuple[int, list[int]]:
        """Bring the region up to date with a ring that starts: `base` is the front end's, `used_idx` from the ring.

        Returns where the available ring goes on, and the heads to submit again, in order.  RequestRefused where region
        and ring cannot belong together.
        """
        halves = self._halves
        version, size = halves[_VERSION], halves[_DESC_NUM]
        self._pushed.clear()
        if queue_size > self._size or (version and size != self._size):
            raise RequestRefused(
                f"in-flight area for {size if version else self._size} descriptors, expected {self._size}"
                f" and at least {queue_size}"
            )
        if not version:
            self._begin(used_idx)
            return base, []
        if version != VERSION:
            raise RequestRefused(f"in-flight area of version {version}, expected {VERSION}")
        self._commit(used_idx)
        heads = self._marked()
        if heads and heads[-1] >= queue_size:
            raise RequestRefused(f"in-flight area marks head {heads[-1]} of a ring of {queue_size}")
        counters = self._counters
        heads.sort(key=lambda head: counters[_COUNTER + 2 * head])
        self.counter = next_counter(counters[_COUNTER + 2 * heads[-1]] if heads else -1)
        return (used_idx + len(heads)) & 0xFFFF, heads

    def _begin(self, used_idx: int) -> None:
        """The region has never been used: make it one of nothing in flight."""
        self._bytes[:] = bytes(len(self._bytes))
        self._halves[_DESC_NUM] = self._size
        self._halves[_USED_IDX] = used_idx
        self._halves[_VERSION] = VERSION
        self.counter = 0

    def _commit(self, used_idx: int) -> None:
        """Clear the marks of a batch whose used index was published, and perhaps no more than that."""
        halves = self._halves
        count = (used_idx - halves[_USED_IDX]) & 0xFFFF
        if count > self._size:
            raise RequestRefused(
                f"in-flight area knows the used index {halves[_USED_IDX]}, the ring has {used_idx}: too far apart"
            )
        head = halves[_LAST_BATCH]
        for _ in range(count):
            if head >= self._size:
                raise RequestRefused(f"in-flight area lists descriptor {head} of {self._size} as used")
            self._bytes[_MARK + _ENTRY_SIZE * head] = 0
            head = halves[_NEXT + 8 * head]
        halves[_USED_IDX] = used_idx

    def _marked(self) -> list[int]:
        """The heads in flight, in order of their numbers."""
        marks = self._bytes[_MARK::_ENTRY_SIZE].tolist()
        return [head for head in range(self._size) if marks[head]]

    # --- while it runs

    def took(self, chains: Sequence[Chain]) -> None:
        """Buffers were taken, in this order, and nothing has been done of them yet."""
        counter = self.counter
        counters = self._counters
        marks = self._bytes
        for chain in chains:
            head = chain.head
            counters[_COUNTER + 2 * head] = counter
            marks[_MARK + _ENTRY_SIZE * head] = 1
            counter += 1
        self.counter = counter

    def pushed(self, used: Sequence[tuple[Chain, int]]) -> None:
        """Buffers are being used; the driver will see them with the next `published`."""
        halves = self._halves
        pushed = self._pushed
        last = halves[_LAST_BATCH]
        for chain, _ in used:
            head = chain.head
            halves[_NEXT + 8 * head] = last
            halves[_LAST_BATCH] = last = head
            pushed.append(head)

    def published(self, used_idx: int) -> None:
        """The driver can see what was pushed."""
        marks = self._bytes
        pushed = self._pushed
        for head in pushed:
            marks[_MARK + _ENTRY_SIZE * head] = 0
        pushed.clear()
        self._halves[_USED_IDX] = used_idx


# As `super()`, at a third of its price.
_available = SplitRing.available
_pending = SplitRing.pending
_take = SplitRing.take
_push = SplitRing.push
_publish = SplitRing.publish


class TrackedSplitRing(SplitRing):
    """A split ring that keeps its region of the in-flight area, and first takes again what was in flight."""

    __slots__ = ("_region", "again")

    def __init__(
        self,
        region: SplitRegion,
        again: list[int],
        memory: GuestMemory,
        size: int,
        parts: tuple[int, int, int],
        features: int,
        in_flight: dict[int, Chain],
        *,
        strict: bool = True,
        last_avail: int = 0,
        used_idx: int = 0,
        report: Report = no_report,
    ) -> None:
        """As a `SplitRing`; `again` are the heads that `region.resume` gave."""
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

    def available(self) -> int:
        """How many buffers wait to be taken, those to take again included."""
        return _available(self) + len(self.again)

    @property
    def owed(self) -> int:
        """How many buffers are to be taken again."""
        return len(self.again)

    def pending(self) -> bool:
        """A glance at whether a buffer waits."""
        return bool(self.again) or _pending(self)

    def take(self, count: int, budget: int, chains: list[Chain]) -> int:
        """As the split ring's, but first what was in flight when an earlier back end died."""
        if self.again:
            return self._take_again(count, budget, chains)
        before = len(chains)
        try:
            return _take(self, count, budget, chains)
        finally:
            self._region.took(chains[before:] if before else chains)

    def _take_again(self, count: int, budget: int, chains: list[Chain]) -> int:
        """Their counters and marks stand already."""
        taken = 0
        while self.again and count and taken < budget:
            chain = Chain(self.again[0])
            taken += self._walk(chain, self._fetch, chain.head, self.size, self._steps)
            del self.again[0]
            self.in_flight[chain.head] = chain
            if self._in_order:
                self._order.append(chain.head)
            chains.append(chain)
            count -= 1
        return taken

    def push(self, used: Sequence[tuple[Chain, int]]) -> None:
        """As the split ring's, with the area's list of the batch."""
        if not self._in_order:
            self._region.pushed(used)
        _push(self, used)

    def _in_turn(self, used: Sequence[tuple[Chain, int]]) -> list[tuple[Chain, int]]:
        done = super()._in_turn(used)
        self._region.pushed(done)
        return done

    def publish(self) -> bool:
        """As the split ring's; then the batch is in flight no more."""
        before = self._published
        notify = _publish(self)
        if self._published != before:
            self._region.published(self._published)
        return notify


class InflightArea:
    """The whole area, mapped; `regions` by queue."""

    def __init__(
        self, fd: int, size: int, offset: int, num_queues: int, queue_size: int, *, packed: bool
    ) -> None:
        """Map `size` bytes from `offset` of `fd`, which stays the caller's; RequestRefused where that cannot be."""
        each = region_size(queue_size, packed=packed)
        if size < each * num_queues:
            raise RequestRefused(
                f"in-flight area of {size} bytes, expected at least {each * num_queues}"
                f" for {num_queues} queues of {queue_size}"
            )
        self._area = SharedArea("in-flight area", fd, size, offset, ALIGNMENT)
        kind = PackedRegion if packed else SplitRegion
        self.regions: list[SplitRegion | PackedRegion] = [
            kind(self._area.view[n * each : (n + 1) * each], queue_size) for n in range(num_queues)
        ]

    @classmethod
    def create(cls, num_queues: int, queue_size: int, *, packed: bool) -> tuple[InflightArea, int, int]:
        """A fresh area with its descriptor, which is the caller's, and its size in bytes."""
        size = region_size(queue_size, packed=packed) * num_queues
        fd = os.memfd_create("vhost-user-inflight", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size)
            # Whoever holds it cannot cut it off under the others.
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            return cls(fd, size, 0, num_queues, queue_size, packed=packed), fd, size
        except BaseException:
            os.close(fd)
            raise

    def close(self) -> None:
        """Unmap it; no ring may use it any more."""
        for region in self.regions:
            region.release()
        self.regions = []
        self._area.close()
