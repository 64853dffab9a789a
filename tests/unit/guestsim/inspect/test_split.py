"""What the inspector says of split rings: what is in flight, and what is broken, with its clause."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestsim.drivers.layouts import Feature
from guestsim.inspect.state import BlkRequest

from .rings import BASE, INDIRECT, NEXT, SIZE, WRITE, SplitRing

EVENT_IDX = frozenset({Feature.EVENT_IDX})


def clauses(ring: SplitRing) -> list[str]:
    return [problem.clause for problem in ring.inspect().problems]


def test_requests_in_flight_are_read() -> None:
    ring = SplitRing()
    head = ring.add(*ring.memory.blk(0, 7, 512, 1024, writable=True))
    table = ring.add(ring.memory.table(ring.memory.blk(1, 9, 4096)))
    state = ring.inspect()
    assert state.problems == []
    assert (state.outstanding, state.indices["available idx"], state.indices["used idx"]) == (2, 2, 0)
    assert [(b.id, b.slot, b.indirect, b.placement) for b in state.buffers] == [
        (head, 0, False, "in flight"),
        (table, 1, True, "in flight"),
    ]
    first, second = (buffer.request for buffer in state.buffers)
    assert first is not None
    assert second is not None
    status = state.buffers[0].parts[-1].address
    assert first == BlkRequest(0, "IN", 7, 1536, 2, status, 0xFF)
    assert (second.type_name, second.sector, second.length, second.segments) == ("OUT", 9, 4096, 1)
    assert state.slots == "FF......"


def test_avail_event_tells_how_far_the_device_has_looked() -> None:
    ring = SplitRing()
    for _ in range(3):
        ring.add(*ring.memory.blk(4, 0))
    ring.memory.write(ring.device + 4 + 8 * 8, struct.pack("<H", 1))
    state = ring.inspect(replace(ring.at, size=8, features=EVENT_IDX))
    assert [buffer.placement for buffer in state.buffers] == ["in flight", "available", "available"]
    assert state.slots == "FAA....."
    assert [buffer.placement for buffer in ring.inspect().buffers] == ["in flight"] * 3


@given(
    choices=st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=120),
    index=st.sampled_from([0, 5, 65530]),
    in_order=st.booleans(),
    last_in_first_out=st.booleans(),
)
def test_what_is_in_flight_is_found(
    choices: list[tuple[bool, int]], index: int, in_order: bool, last_in_first_out: bool
) -> None:
    """In order exactly; out of order as many as there are, or a note that says how many more."""
    ring = SplitRing(index=index, last_in_first_out=last_in_first_out)
    work(ring, choices, in_order=in_order)
    state = ring.inspect()
    assert state.problems == []
    assert state.outstanding == len(ring.chains)
    named = {buffer.id for buffer in state.buffers}
    if in_order:
        assert named == set(ring.chains)
    assert len(state.buffers) == len(named) <= state.outstanding
    if len(named) < state.outstanding:
        assert any("do not name them" in note or "does not name" in note for note in state.notes)


def work(ring: SplitRing, choices: Iterable[tuple[bool, int]], *, in_order: bool = False) -> None:
    """Buffers come and go: make one available, or use one of those in flight."""
    for add, choice in choices:
        if add and ring.free:
            ring.add((BASE, 4, 0))
        elif ring.chains:
            ring.use(list(ring.chains)[0 if in_order else choice % len(ring.chains)])


@pytest.mark.long
@pytest.mark.parametrize(("last_in_first_out", "at_least"), [(False, 195), (True, 175)])
def test_out_of_order_the_likeliest_reading_is_mostly_right(last_in_first_out: bool, at_least: int) -> None:
    """A device that overtakes by one or two; heads are taken round the ring, or the one that was freed last."""
    right = 0
    for seed in range(200):
        choice = random.Random(seed)
        ring = SplitRing(size=32, last_in_first_out=last_in_first_out)
        work(ring, [(choice.random() < 0.5, choice.randrange(3)) for _ in range(200)])
        right += {buffer.id for buffer in ring.inspect().buffers} == set(ring.chains)
    assert right >= at_least


class Allocator:
    """Where the driver has its indirect tables: memory that was freed last is taken first, and spoilt meanwhile."""

    def __init__(self, ring: SplitRing) -> None:
        self._ring = ring
        self._free: list[int] = []
        self._tables: dict[int, int] = {}

    def add(self) -> None:
        address, length, flags = self._ring.memory.table(self._ring.memory.blk(1, 9, 4096))
        if self._free:
            there, address = address, self._free.pop()
            self._ring.memory.write(address, bytes(self._ring.memory.bytes[there - BASE :][:length]))
        self._tables[self._ring.add((address, length, flags))] = address

    def use(self, head: int) -> None:
        self._ring.use(head)
        self._free.append(self._tables.pop(head))
        self._ring.memory.write(self._free[-1] + 32, b"\xa5" * 8)


@pytest.mark.parametrize("seed", range(20))
def test_what_lies_in_memory_that_was_given_away_is_not_in_flight(seed: int) -> None:
    """A device that overtakes by far: only the chains tell which heads have come back."""
    choice = random.Random(seed)
    ring = SplitRing(size=64)
    driver = Allocator(ring)
    for _ in range(300):
        if choice.random() < 0.5 and len(ring.chains) < 20:
            driver.add()
        elif ring.chains:
            driver.use(choice.choice(list(ring.chains)))
    state = ring.inspect()
    assert state.problems == []
    assert {buffer.id for buffer in state.buffers} == set(ring.chains)


def test_before_the_first_lap_nothing_unwritten_is_taken_for_an_entry() -> None:
    ring = SplitRing(last_in_first_out=False)
    work(ring, [(True, 0)] * 6 + [(False, 1)] + [(True, 0)] * 2)
    assert {buffer.id for buffer in ring.inspect().buffers} == set(ring.chains)


def test_a_request_that_is_stuck_for_a_whole_lap_is_counted() -> None:
    ring = SplitRing(size=4, last_in_first_out=False)
    ring.add((BASE, 4, 0))
    for _ in range(9):
        ring.use(ring.add((BASE, 4, 0)))
    state = ring.inspect()
    assert state.outstanding == 1
    assert state.problems == []


# --- what is broken


def test_available_idx_too_far_ahead() -> None:
    ring = SplitRing()
    ring.memory.write(ring.driver + 2, struct.pack("<H", 9))
    problem = ring.inspect().problems[0]
    assert problem.clause == "VIRTIO 1.4 §2.7.6.1"
    assert problem.text == "available idx 9 is 9 ahead of used idx 0: more than the queue's 8 entries"


def test_used_idx_ahead() -> None:
    ring = SplitRing()
    ring.memory.write(ring.device + 2, struct.pack("<H", 3))
    assert clauses(ring) == ["VIRTIO 1.4 §2.7.8"]


def test_a_head_out_of_range() -> None:
    ring = SplitRing()
    ring.expose(8)
    assert ring.inspect().problems[0].text == "entry 0 of the available ring names descriptor 8 of 8"
    assert clauses(ring) == ["VIRTIO 1.4 §2.7.13"]


@pytest.mark.parametrize("before", [0, 20])
def test_a_head_twice(before: int) -> None:
    ring = SplitRing()
    for _ in range(before):
        ring.use(ring.add((BASE, 4, 0)))
    ring.expose(ring.add((BASE, 4, 0)))
    assert clauses(ring) == ["VIRTIO 1.4 §2.7.13"]


def test_a_used_element_out_of_range() -> None:
    ring = SplitRing()
    ring.use(ring.add((BASE, 4, 0)))
    ring.memory.write(ring.device + 4, struct.pack("<I", 99))
    assert clauses(ring) == ["VIRTIO 1.4 §2.7.8"]


def test_flags() -> None:
    ring = SplitRing()
    ring.memory.write(ring.driver, b"\x01\0")
    ring.memory.write(ring.device, b"\x01\0")
    assert clauses(ring) == []
    both = ["VIRTIO 1.4 §2.7.7.1", "VIRTIO 1.4 §2.7.10.2"]
    assert [p.clause for p in ring.inspect(replace(ring.at, features=EVENT_IDX)).problems] == both
    ring.memory.write(ring.driver, b"\x02\0")
    assert clauses(ring) == both[:1]


@pytest.mark.parametrize(
    ("flags", "following", "says", "clause"),
    [
        (NEXT, 7, "the chain loops at descriptor 7", "2.7.5.2"),
        (NEXT, 8, "descriptor 7 goes on at 8 of 8", "2.7.5"),
        (INDIRECT, 0, "an indirect table of 20 bytes", "2.7.5.3"),
        (INDIRECT | NEXT, 0, "descriptor 7 has both INDIRECT and NEXT", "2.7.5.3.1"),
    ],
)
def test_a_broken_chain(flags: int, following: int, says: str, clause: str) -> None:
    ring = SplitRing()
    head = ring.add((BASE, 20, 0))
    ring.descriptor(head, BASE, 20, flags, following)
    problem = ring.inspect().problems[0]
    assert says in problem.text
    assert problem.clause == f"VIRTIO 1.4 §{clause}"


def test_elements_outside_memory_and_in_the_wrong_order() -> None:
    ring = SplitRing()
    ring.add((BASE + SIZE - 4, 8, 0))
    ring.add((BASE, 4, WRITE), (BASE, 4, 0))
    ring.add((BASE + SIZE, 16, INDIRECT))
    ring.add(ring.memory.table([(BASE, 4, 0)] * 9))
    assert clauses(ring) == [
        "VIRTIO 1.4 §2.7.5",
        "VIRTIO 1.4 §2.7.4.2",
        "VIRTIO 1.4 §2.7.5.3",
        "VIRTIO 1.4 §2.7.5.3.1",
    ]


def test_indirect_in_indirect_and_not_negotiated() -> None:
    ring = SplitRing()
    inner = ring.memory.table([(BASE, 4, 0)])
    ring.add(ring.memory.table([inner]))
    without = replace(ring.at, features=frozenset())
    texts = [problem.text for problem in ring.inspect(without).problems]
    assert texts == [
        "head 7: indirect, and INDIRECT_DESC was not negotiated",
        "head 7: entry 0 of the indirect table is indirect again",
    ]


def test_two_chains_that_share_a_descriptor() -> None:
    ring = SplitRing()
    first = ring.add((BASE, 4, 0))
    second = ring.add((BASE, 4, 0))
    ring.descriptor(second, BASE, 4, NEXT, first)
    assert ring.inspect().problems[0].text == "head 6: descriptor 7 is part of the chain of head 7 too"


@pytest.mark.parametrize(
    ("kind", "sector", "data", "says"),
    [
        (0, 0, 100, "100 bytes of data, expected a multiple of 512"),
        (11, 0, 15, "15 bytes of ranges, expected a multiple of 16"),
        (4, 5, 0, "FLUSH with sector 5, expected 0"),
    ],
)
def test_block_requests_that_may_not_be(kind: int, sector: int, data: int, says: str) -> None:
    ring = SplitRing()
    ring.add(*ring.memory.blk(kind, sector, *([data] if data else [])))
    assert says in ring.inspect().problems[0].text


def test_a_block_request_without_a_status_byte() -> None:
    ring = SplitRing()
    ring.add(*ring.memory.blk(1, 0, 512)[:-1])
    assert ring.inspect().problems == []
    blk = ring.inspect(replace(ring.at, kind="blk"))
    assert blk.problems[0].text == "head 7: no device-writable byte for the status"


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ({"desc": BASE + 8}, "2.7.1"),
        ({"driver": BASE + 1}, "2.7.1"),
        ({"device": BASE + 2}, "2.7.1"),
        ({"desc": BASE + SIZE}, "2.7"),
        ({"device": (1 << 64) - 4}, "2.7"),
        ({"size": 7}, "2.7"),
    ],
)
def test_rings_in_wrong_places(change: dict[str, Any], clause: str) -> None:
    ring = SplitRing()
    assert f"VIRTIO 1.4 §{clause}" in [p.clause for p in ring.inspect(replace(ring.at, **change)).problems]


@given(
    size=st.sampled_from([1, 2, 3, 8, 16]),
    noise=st.lists(st.tuples(st.integers(0, 0x400), st.binary(max_size=8)), max_size=20),
)
def test_whatever_is_in_memory_the_inspector_ends(size: int, noise: list[tuple[int, bytes]]) -> None:
    ring = SplitRing(size=16)
    for sector in range(4):
        ring.add(ring.memory.table(ring.memory.blk(sector % 2, sector, 512)))
    for offset, data in noise:
        ring.memory.write(BASE + offset, data)
    state = ring.inspect(replace(ring.at, size=size, kind="blk"))
    assert len(state.buffers) <= 16


@pytest.mark.long
def test_work_on_hostile_tables_is_bounded() -> None:
    """Every head of a large queue refers to one long table."""
    ring = SplitRing(size=1024)
    table = ring.memory.table([(BASE, 4, 0)] * 1024)
    for _ in range(1024):
        ring.add(table)
    state = ring.inspect()
    assert sum(len(buffer.parts) for buffer in state.buffers) <= 1 << 18
    assert "the rest is not looked at" in state.problems[-1].text
