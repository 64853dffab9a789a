"""Rings found by searching memory, and memory in which there are none."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestsim.inspect.find import TooMuchError, find_queues
from guestsim.inspect.image import MemoryImage

from .rings import AVAIL, BASE, SIZE, PackedRing, SplitRing


def worked(ring: SplitRing, requests: int) -> SplitRing:
    """The ring after some requests, the last of them in flight."""
    request = ring.memory.table(ring.memory.blk(1, 7, 512))
    for number in range(requests):
        head = ring.add(request)
        if number + 1 < requests:
            ring.use(head)
    return ring


@pytest.mark.parametrize("size", [8, 64, 128, 256, 1024])
@pytest.mark.parametrize("requests", [1, 7, 3000])
def test_a_split_ring_is_found(size: int, requests: int) -> None:
    ring = worked(SplitRing(size=size, last_in_first_out=False), requests)
    (found,) = find_queues(MemoryImage([(BASE, ring.memory.bytes)]))
    assert found.queue.desc == ring.desc
    assert found.queue.driver == ring.driver
    assert found.queue.size == size
    if requests > 1:
        assert found.queue == ring.at


def test_the_more_a_ring_was_used_the_surer_it_is_one() -> None:
    scores = []
    for requests in (1, 7, 3000):
        ring = worked(SplitRing(size=256, last_in_first_out=False), requests)
        (found,) = find_queues(MemoryImage([(BASE, ring.memory.bytes)]))
        scores.append(found.score)
    assert scores == sorted(set(scores))
    assert scores[-1] == 100


def test_why_it_is_taken_for_one_is_told() -> None:
    ring = worked(SplitRing(size=256), 3)
    (found,) = find_queues(MemoryImage([(BASE, ring.memory.bytes)]))
    assert found.why == (
        "1 of 1 heads begin chains in memory",
        "2 of 2 used elements name heads that were made available",
        "1 of 1 chains are requests of a block device",
    )


def test_a_ring_that_begins_no_page_is_found_in_small_steps() -> None:
    ring = worked(SplitRing(size=64, last_in_first_out=False), 100)
    moved = MemoryImage([(BASE, ring.memory.bytes), (BASE - 0x1000, bytes(0x800))])
    assert find_queues(moved)[0].queue == ring.at
    shifted = SplitRing(size=64, last_in_first_out=False)
    inside = bytes(ring.memory.bytes)
    data = bytearray(SIZE + 16)
    data[16:] = inside
    # All of memory lies 16 bytes further on, what is in it still means the same places.
    image = MemoryImage([(BASE, data)])
    assert find_queues(image) == []
    assert find_queues(image, step=16)[0].queue.desc == shifted.desc + 16


@pytest.mark.parametrize("laps", [1, 4, 5])
def test_a_packed_ring_is_found(laps: int) -> None:
    ring = PackedRing(size=64)
    request = ring.memory.table(ring.memory.blk(1, 7, 512), packed=True)
    for _ in range(64 * laps + 5):
        ring.use(ring.add(request))
    ring.add(request)
    (found,) = find_queues(MemoryImage([(BASE, ring.memory.bytes)]))
    assert (found.queue.desc, found.queue.size, found.queue.packed) == (ring.desc, 64, True)


def test_a_packed_ring_not_gone_round_is_found_and_its_size_guessed() -> None:
    ring = PackedRing(size=256)
    for _ in range(5):
        ring.use(ring.add((BASE, 512, 0)))
    (found,) = find_queues(MemoryImage([(BASE, ring.memory.bytes)]))
    assert (found.queue.desc, found.queue.size) == (ring.desc, 256)
    assert "its size is a guess" in found.why[-1]


def test_several_rings_are_told_apart() -> None:
    """Two memories beside each other, a ring in each."""
    first = worked(SplitRing(size=128, last_in_first_out=False), 50)
    second = worked(SplitRing(size=256, last_in_first_out=False), 500)
    far = bytearray(second.memory.bytes)
    image = MemoryImage([(BASE, first.memory.bytes), (BASE + SIZE, far)])
    # What the second ring refers to lies in the first memory: any memory will do.
    places = [(found.queue.desc, found.queue.size) for found in find_queues(image)]
    assert sorted(places) == [(first.desc, 128), (second.desc + SIZE, 256)]


def test_there_are_no_rings_in_noise() -> None:
    noise = random.Random(1).randbytes(1 << 19)
    choice = random.Random(2)
    small = b"".join(struct.pack("<H", choice.randrange(4)) for _ in range(1 << 16))
    image = MemoryImage(
        [(0, noise), (1 << 20, small), (1 << 24, bytes(1 << 20)), (1 << 28, b"\x01\0" * (1 << 17))]
    )
    assert find_queues(image) == []


@pytest.mark.slow
def test_memory_full_of_rings_is_given_up() -> None:
    """Descriptors that look available, and available rings, from one end of memory to the other."""
    full = struct.pack("<QIHH", BASE, 4, 1, AVAIL) * (1 << 16)
    with pytest.raises(TooMuchError, match="too much of memory looks like rings"):
        find_queues(MemoryImage([(BASE, full)]), step=16)


@given(
    base=st.sampled_from([0, 8, 4088, 1 << 40, (1 << 64) - 8192]),
    length=st.integers(0, 8192),
    noise=st.lists(st.tuples(st.integers(0, 8191), st.binary(max_size=24)), max_size=20),
    step=st.sampled_from([16, 256, 4096]),
)
def test_whatever_is_in_memory_the_search_ends(
    base: int, length: int, noise: list[tuple[int, bytes]], step: int
) -> None:
    data = bytearray(8192)
    for at, content in noise:
        content = content[: 8192 - at]
        data[at : at + len(content)] = content
    for found in find_queues(MemoryImage([(base, data[:length])]), step=step):
        assert 0 <= found.score <= 100
