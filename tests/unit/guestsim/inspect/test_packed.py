"""What the inspector says of packed rings, which hold no index: where both sides are, what is in flight."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .rings import AVAIL, BASE, INDIRECT, NEXT, SIZE, USED, WRITE, PackedRing


def clauses(ring: PackedRing) -> list[str]:
    return [problem.clause for problem in ring.inspect().problems]


def places(ring: PackedRing) -> tuple[int, int, int, int]:
    return ring.next_available, ring.driver_wrap, ring.next_used, ring.device_wrap


def inspected(ring: PackedRing) -> tuple[int, ...]:
    indices = ring.inspect().indices
    return tuple(indices[n] for n in ("next available", "driver wrap", "next used", "device wrap"))


def test_requests_in_flight_are_read() -> None:
    ring = PackedRing(size=7)
    direct = ring.add(*ring.memory.blk(0, 7, 512, 1024, writable=True))
    indirect = ring.add(ring.memory.table(ring.memory.blk(1, 9, 4096), packed=True))
    state = ring.inspect()
    assert state.problems == []
    assert [(b.id, b.slot, b.indirect) for b in state.buffers] == [(direct, 0, False), (indirect, 4, True)]
    requests = [b.request for b in state.buffers if b.request is not None]
    assert [(r.type_name, r.sector, r.length, r.segments) for r in requests] == [
        ("IN", 7, 1536, 2),
        ("OUT", 9, 4096, 1),
    ]
    assert state.slots == "FFFFF.."


def test_an_unused_ring() -> None:
    ring = PackedRing()
    assert inspected(ring) == (0, 1, 0, 1)
    assert ring.inspect().outstanding == 0


@given(size=st.integers(1, 9), choices=st.lists(st.tuples(st.booleans(), st.integers(1, 4)), max_size=80))
def test_places_are_found_where_buffers_are_used_in_order(size: int, choices: list[tuple[bool, int]]) -> None:
    """Lists of block requests' framing: the device's place can be told from what a used list leaves behind."""
    ring = PackedRing(size=size)
    header = ring.memory.blk(4, 0)[0]
    for add, length in choices:
        if add and ring.room >= length:
            ring.add(header, *[(BASE, 512, WRITE)] * (length - 1))
        elif ring.lengths:
            ring.use(next(iter(ring.lengths)))
    state = ring.inspect()
    assert inspected(ring) == places(ring)
    assert [buffer.id for buffer in state.buffers] == list(ring.lengths)
    assert state.problems == []


@given(
    size=st.integers(3, 9),
    choices=st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=80),
)
def test_places_are_found_where_buffers_take_one_descriptor(
    size: int, choices: list[tuple[bool, int]]
) -> None:
    """Out of order too; which buffers they are cannot always be told, for their descriptors are overwritten."""
    ring = PackedRing(size=size)
    table = ring.memory.table(ring.memory.blk(1, 9, 4096), packed=True)
    for add, choice in choices:
        if add and ring.room:
            ring.add(table)
        elif ring.lengths:
            ring.use(list(ring.lengths)[choice % len(ring.lengths)])
    state = ring.inspect()
    assert inspected(ring) == places(ring)
    assert state.outstanding == len(ring.lengths)
    assert state.problems == []


def test_the_devices_event_tells_how_far_it_has_looked() -> None:
    ring = PackedRing()
    for _ in range(3):
        ring.add(*ring.memory.blk(4, 0))
    ring.memory.write(ring.device, struct.pack("<HH", 2 | 1 << 15, 2))
    state = ring.inspect()
    assert [buffer.placement for buffer in state.buffers] == ["in flight", "available", "available"]
    assert (state.indices["device event"], state.indices["device event wrap"]) == (2, 1)


# --- what is broken


def test_event_suppression_that_may_not_be() -> None:
    ring = PackedRing()
    ring.memory.write(ring.driver, struct.pack("<HH", 8, 2))
    ring.memory.write(ring.device, struct.pack("<HH", 0, 3))
    assert clauses(ring) == ["VIRTIO 1.4 §2.8.14"] * 2


def test_wrap_bits_in_no_order() -> None:
    ring = PackedRing()
    ring.descriptor(2, BASE, 4, 0, AVAIL)
    ring.descriptor(5, BASE, 4, 0, AVAIL)
    assert "VIRTIO 1.4 §2.8.1" in clauses(ring)


def test_a_list_that_has_no_end() -> None:
    ring = PackedRing()
    ring.descriptor(0, BASE, 4, 0, AVAIL | NEXT)
    assert clauses(ring) == ["VIRTIO 1.4 §2.8.17"]


def test_broken_lists() -> None:
    ring = PackedRing(size=16)
    ring.add((BASE, 4, WRITE), (BASE, 4, 0))
    ring.add((BASE + SIZE, 4, 0))
    ring.add((BASE, 20, INDIRECT))
    ring.add(ring.memory.table([(BASE, 4, 0)], packed=True), (BASE, 4, 0))
    ring.add(ring.memory.table([ring.memory.table([(BASE, 4, 0)], packed=True)], packed=True))
    assert clauses(ring) == [
        "VIRTIO 1.4 §2.8.17",
        "VIRTIO 1.4 §2.8.4",
        "VIRTIO 1.4 §2.8.7",
        "VIRTIO 1.4 §2.8.19",
        "VIRTIO 1.4 §2.8.19",
    ]


def test_an_id_twice() -> None:
    ring = PackedRing()
    ring.descriptor(0, BASE, 4, 3, AVAIL)
    ring.descriptor(1, BASE, 4, 3, AVAIL)
    assert clauses(ring) == ["VIRTIO 1.4 §2.8.21.1"]


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ({"desc": BASE + 8}, "2.8.11"),
        ({"driver": BASE + 2}, "2.8.11"),
        ({"desc": BASE + SIZE}, "2.8.10.1"),
        ({"device": BASE + SIZE}, "2.8.10.1"),
    ],
)
def test_rings_in_wrong_places(change: dict[str, Any], clause: str) -> None:
    ring = PackedRing()
    assert f"VIRTIO 1.4 §{clause}" in [p.clause for p in ring.inspect(replace(ring.at, **change)).problems]


@given(
    size=st.integers(1, 20),
    noise=st.lists(st.tuples(st.integers(0, 0x200), st.binary(max_size=16)), max_size=20),
    flags=st.lists(st.sampled_from([0, AVAIL, USED, AVAIL | USED]), min_size=20, max_size=20),
)
def test_whatever_is_in_memory_the_inspector_ends(
    size: int, noise: list[tuple[int, bytes]], flags: list[int]
) -> None:
    ring = PackedRing(size=20)
    for index, bits in enumerate(flags):
        ring.descriptor(index, BASE, 512, index, bits)
    for offset, data in noise:
        ring.memory.write(BASE + offset, data)
    state = ring.inspect(replace(ring.at, size=size, kind="blk"))
    assert len(state.buffers) <= size
