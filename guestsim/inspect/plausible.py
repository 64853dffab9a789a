"""Whether memory at some place is a virtqueue in use, how likely, and why.

A score is from 0 to 100: what must hold gives 50, the rest is what memory that only happens to look so doesn't have.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guestsim.drivers.layouts import (
    AVAIL,
    DESC,
    DESC_INDIRECT,
    DESC_NEXT,
    USED,
    USED_ELEM,
    avail_size,
    used_size,
)
from guestsim.inspect.blk import looks_like_blk, read_request
from guestsim.inspect.chains import Chains
from guestsim.inspect.image import OutsideMemoryError
from guestsim.inspect.packed import AVAIL as PACKED_AVAIL
from guestsim.inspect.packed import USED as PACKED_USED
from guestsim.inspect.state import Virtqueue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guestsim.inspect.image import MemoryImage

_MASK = 0xFFFF
_USED_ALIGNMENTS = (64, 4096, 4)
"""Linux's first, which is taken where nothing speaks for another."""
_DESC_FLAGS = 7
_PACKED_FLAGS = 7 | PACKED_AVAIL | PACKED_USED
_SAMPLE = 64
"""How many buffers are looked at."""

_GUESS = 256
"""Entries that a packed ring is taken to have where it was not gone round yet."""

_LARGEST_PACKED = 4096
"""Entries of the largest packed ring that is looked for."""

_AT_ONCE = 16

_BASE = 50
_MANY = 16


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that looks like a virtqueue: `score` 0 to 100, `why` in a person's words, the memory it takes."""

    queue: Virtqueue
    score: int
    why: tuple[str, ...]
    start: int
    end: int


class Patience:
    """How many more ring entries may be looked at: memory can be made of what looks like rings.

    Linux's memory takes about 3 for each of its pages, of which there are `pages`.
    """

    def __init__(self, pages: int) -> None:
        self.entries = (1 << 22) + 32 * pages

    @property
    def over(self) -> bool:
        """Whether there was too much to look at."""
        return self.entries < 0


def judge_split(
    image: MemoryImage, desc: int, driver: int, size: int, patience: Patience
) -> Candidate | None:
    """A split ring of `size` entries with its table and its available ring there; None where it is none."""
    if desc < 0:
        return None
    try:
        flags, index = struct.unpack("<HH", image.read(driver, AVAIL.size))
        if flags > 1 or not index or not _last_head_begins_well(image, desc, driver, size, index):
            return None
        patience.entries -= size
        avail = image.read(driver, avail_size(size))
        heads = struct.unpack(f"<{size}H", avail[AVAIL.size : -2])
        if max(heads) >= size:
            return None
        device, done = _used_ring(image, driver + len(avail), size, index)
        return _weigh(image, Virtqueue(desc, driver, device, size), index, heads, done)
    except (OutsideMemoryError, LookupError):
        return None


def _last_head_begins_well(image: MemoryImage, desc: int, driver: int, size: int, index: int) -> bool:
    """A small look that tells most memory from a ring."""
    entry = image.read(driver + AVAIL.size + 2 * ((index - 1) % size), 2)
    head = int.from_bytes(entry, "little")
    return head < size and _begins_well(image, image.read(desc + DESC.size * head, DESC.size), 0, size)


def _used_ring(image: MemoryImage, end: int, size: int, index: int) -> tuple[int, list[int]]:
    """Where the used ring lies behind the available ring's `end`, and what it names; LookupError where it doesn't."""
    places = dict.fromkeys(-(-end // align) * align for align in _USED_ALIGNMENTS)
    found = [
        (place, _used_ids(image, place, size, index))
        for place in places
        if image.contains(place, used_size(size))
    ]
    rings = [(place, done) for place, done in found if done is not None]
    # Before the device has used anything, `avail_event` alone may say where its ring is.
    rings.sort(key=lambda ring: (not ring[1], not any(image.read(ring[0], used_size(size)))))
    return rings[0]


def _used_ids(image: MemoryImage, device: int, size: int, index: int) -> list[int] | None:
    """What the used ring there names in its last lap, the oldest first; None where it can't be one."""
    flags, used = struct.unpack("<HH", image.read(device, USED.size))
    if flags > 1 or index - used & _MASK > size:
        return None
    data = image.read(device + USED.size, used_size(size) - USED.size)
    named = [head for head, _ in USED_ELEM.struct.iter_unpack(data[: USED_ELEM.size * size])]
    if max(named) >= size:
        return None
    lap = used if used < size and used <= index else size
    return [named[(used - back) % size] for back in range(lap, 0, -1)]


def _weigh(
    image: MemoryImage, queue: Virtqueue, index: int, heads: Sequence[int], done: Sequence[int]
) -> Candidate | None:
    size = queue.size
    lap = index if index < size else size
    recent = list(dict.fromkeys(heads[(index - back) % size] for back in range(1, lap + 1)))
    chains = Chains(image, queue)
    table = image.read(queue.desc, DESC.size * size)
    sample = recent[:_SAMPLE]
    good = [head for head in sample if _begins_well(image, table, head, size)]
    if 10 * len(good) < 9 * len(sample):
        return None
    blocks = sum(_is_blk(image, chains, table, head) for head in good)
    known = set(recent)
    strays = sum(head not in known for head in done)
    if done and 4 * strays > len(done):
        return None
    # One entry that happens to be right is found in any memory; two dozen are not.
    score = _BASE + 20 * min(len(good), _MANY) // _MANY
    why = [f"{len(good)} of {len(sample)} heads begin chains in memory"]
    if done:
        score += 10 + 10 * min(len(set(done)), _MANY) // _MANY
        why.append(f"{len(done) - strays} of {len(done)} used elements name heads that were made available")
    if blocks:
        score += 10 * blocks // len(sample)
        why.append(f"{blocks} of {len(sample)} chains are requests of a block device")
    assert queue.device is not None
    return Candidate(queue, score, tuple(why), queue.desc, queue.device + used_size(size))


def _begins_well(image: MemoryImage, table: bytes, head: int, size: int) -> bool:
    address, length, flags, following = DESC.struct.unpack_from(table, DESC.size * head)
    if not address or not length or flags & ~_DESC_FLAGS or not image.contains(address, length):
        return False
    if flags & DESC_INDIRECT:
        return not length % DESC.size
    return not flags & DESC_NEXT or following < size


def _is_blk(image: MemoryImage, chains: Chains, table: bytes, head: int) -> bool:
    parts, _ = chains.follow(table, head)
    return looks_like_blk(read_request(image, parts))


def judge_packed(image: MemoryImage, desc: int) -> tuple[Candidate | None, int]:
    """A packed ring with its descriptors there, or None; and how many bytes from there on were judged."""
    ring = _packed_run(image, desc)
    return _weigh_packed(image, desc, ring), DESC.size * len(ring)


def _weigh_packed(image: MemoryImage, desc: int, ring: list[tuple[int, int, int, int]]) -> Candidate | None:
    written = len(ring)
    while written and not any(ring[written - 1]):
        written -= 1
    if written < 2:
        return None
    # The largest power of two that is written; where the ring was not gone round yet, nobody knows.  An AVAIL bit of
    # 0 in a written descriptor is from a second lap.
    lapped = len(ring) == written or any(not flags & PACKED_AVAIL for _, _, _, flags in ring[:written])
    size = 1 << written.bit_length() - 1 if lapped else max(_GUESS, 1 << (written - 1).bit_length())
    ring = ring[: min(size, written)]
    ids = {number for _, _, number, _ in ring}
    marked = any(flags & (PACKED_AVAIL | PACKED_USED) for _, _, _, flags in ring)
    if not marked or max(ids) >= size or not image.contains(desc, DESC.size * size):
        return None
    queue = Virtqueue(desc, None, None, size, packed=True)
    blocks = _packed_blocks(image, queue, ring)
    score = _BASE - 10 + 20 * min(len(ring), _MANY) // _MANY + 10 * min(len(ids), _MANY) // _MANY
    why = [f"{len(ring)} descriptors lie in memory, their AVAIL bits change once at most"]
    if blocks:
        score += 20
        why.append(f"{blocks} lists are requests of a block device")
    if not lapped:
        score -= 10
        why.append("not gone round yet: its size is a guess")
    return Candidate(queue, score, tuple(why), desc, desc + DESC.size * size)


def _packed_run(image: MemoryImage, desc: int) -> list[tuple[int, int, int, int]]:
    """Descriptors from there on, as far as they may be those of one packed ring; unwritten ones included."""
    ring: list[tuple[int, int, int, int]] = []
    changes = 0
    while len(ring) < _LARGEST_PACKED:
        try:
            data = image.read(desc + DESC.size * len(ring), DESC.size * _AT_ONCE)
        except OutsideMemoryError:
            return ring
        for address, length, number, flags in DESC.struct.iter_unpack(data):
            written = address | length | number | flags
            changes += bool(ring) and (flags ^ ring[-1][3]) & PACKED_AVAIL != 0
            if flags & ~_PACKED_FLAGS or changes > 1 or (written and not _in_memory(image, address, length)):
                return ring
            ring.append((address, length, number, flags))
        if not any(data):
            return ring
    return ring


def _in_memory(image: MemoryImage, address: int, length: int) -> bool:
    # A used element's length is what was written, which may be nothing.
    return bool(address) and image.contains(address, length)


def _packed_blocks(image: MemoryImage, queue: Virtqueue, ring: Sequence[tuple[int, int, int, int]]) -> int:
    """How many of the ring's indirect descriptors are requests of a block device."""
    chains = Chains(image, queue)
    tables = [descriptor for descriptor in ring if descriptor[3] & DESC_INDIRECT][:_SAMPLE]
    found = 0
    for descriptor in tables:
        parts, _ = chains.follow_packed([descriptor], descriptor[2])
        found += looks_like_blk(read_request(image, parts))
    return found
