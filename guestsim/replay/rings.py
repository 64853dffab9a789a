"""Rings that go on with what an earlier back end left in flight; the area that told of it is not there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from devmodels.exports.vhost_inflight import SplitRegion, TrackedSplitRing
from devmodels.exports.vhost_inflight_packed import Descriptor, PackedRegion, TrackedPackedRing
from devmodels.exports.vhost_vring import again_numbers
from devmodels.virtio.packed import PackedRing
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain
from devmodels.virtio.split import SplitRing


def start_again(queue: VirtQueue, numbers: Sequence[int], *, packed: bool) -> None:
    """When `queue` starts, it is to take again what `numbers` say, as an AGAIN event has them.

    ValueError where they cannot be such.
    """
    queue.make_split, queue.make_packed = SplitRing, PackedRing
    if numbers and packed:
        queue.make_packed = partial(TrackedPackedRing, _NoPackedRegion(), _buffers(numbers))
    elif numbers:
        queue.make_split = partial(TrackedSplitRing, _NoSplitRegion(), list(numbers))


def owed(queue: VirtQueue) -> list[int]:
    """What `queue` has still to take again, as `start_again` wants it."""
    ring = queue.ring
    return again_numbers(ring.again) if isinstance(ring, TrackedSplitRing | TrackedPackedRing) else []


def _buffers(numbers: Sequence[int]) -> list[list[Descriptor]]:
    """A packed ring's: how many descriptors, and what is in them, again and again."""
    buffers: list[list[Descriptor]] = []
    at = 0
    while at < len(numbers):
        count = numbers[at]
        if not 0 < 4 * count < len(numbers) - at:
            raise ValueError(f"{count} descriptors in {len(numbers) - at - 1} numbers")
        parts = iter(numbers[at + 1 : at + 1 + 4 * count])
        buffers.append(list(zip(parts, parts, parts, parts, strict=True)))
        at += 1 + 4 * count
    return buffers


class _NoSplitRegion(SplitRegion):
    """An in-flight area that nobody looks at."""

    def __init__(self) -> None:
        pass

    def took(self, chains: Sequence[Chain]) -> None:
        pass

    def pushed(self, used: Sequence[tuple[Chain, int]]) -> None:
        pass

    def published(self, used_idx: int) -> None:
        pass


class _NoPackedRegion(PackedRegion):
    """The same for a packed ring."""

    def __init__(self) -> None:
        pass

    def took(self, ident: int, descriptors: Sequence[Descriptor]) -> None:
        pass

    def using(self, idents: Sequence[int], old: int, new: int) -> None:
        pass

    def used(self, idents: Sequence[int], new: int) -> None:
        pass
