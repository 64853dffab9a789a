"""The packed ring: misdeeds, lists, tables and sizes; `test_ring_machine.py` goes through it at random."""

from __future__ import annotations

import pytest

from devmodels.conformance import Profile, ViolationLog
from devmodels.memory import GuestMemory
from tests.unit.virtio.dut import NEEDS_RESET, Mode
from tests.unit.virtio.model import (
    EVENT_IDX,
    INDIRECT,
    INDIRECT_DESC,
    NEXT,
    WRITE,
)
from tests.unit.virtio.packed_hostile import PACKED_EDITS, PackedEdit, put, table_of
from tests.unit.virtio.packed_model import (
    DESC,
    RING_PACKED,
    USED,
    PackedDriverRing,
)
from tests.unit.virtio.plain import Kind, each_in_turn, kinds
from tests.unit.virtio.rig import DATA, FEATURES, TABLE, packed_rig

SIZES = [1, 2, 3, 5, 7, 12, 100]


@pytest.mark.long
@kinds
@pytest.mark.parametrize("pick_low", [True, False], ids=["least", "most"])
@pytest.mark.parametrize("edit", PACKED_EDITS, ids=str)
def test_each_misdeed_is_one_violation_and_needs_a_reset(
    edit: PackedEdit, pick_low: bool, kind: Kind
) -> None:
    r = packed_rig(7, edit.with_features, kind=kind)
    r.device.mode = Mode.LATER
    for _ in range(7 if edit.full else edit.out):
        r.send([(DATA, 16)])
    assert edit.possible(r.driver)
    taken = len(r.device.taken)
    edit.do(r.driver, TABLE, lambda low, high: low if pick_low else high)
    before = r.plain.copy()
    r.device.kick(0)
    r.device.idle()
    assert r.clauses == [edit.clause]
    assert r.device.status & NEEDS_RESET
    assert r.device.notifications.config == 1
    assert r.notified == 0
    assert len(r.device.taken) == taken
    wish = {r.parts[2] + at for at in range(4)}
    assert set(r.plain.differences(before)) <= wish


@kinds
@pytest.mark.parametrize("length", [1, 2])
def test_a_full_ring_that_goes_on_is_a_misdeed_whatever_came_before(length: int, kind: Kind) -> None:
    """The device looks ahead for buffers as long as the last one, and no further than there is room."""
    r = packed_rig(6, start=4, kind=kind)
    r.device.mode = Mode.LATER
    pair = [(DATA, 8, WRITE | NEXT), (DATA, 8, WRITE)]
    put(r.driver, *pair, ident=1)
    r.device.kick(0)
    put(r.driver, *pair, ident=2)
    put(r.driver, *pair, ident=3)
    put(r.driver, *pair[-length:], ident=4)
    r.device.kick(0)
    r.device.idle()
    assert len(r.device.taken) == 3
    assert r.clauses == ["VIRTIO 1.4 §2.8.16"]


@kinds
def test_a_broken_ring_is_left_alone_however_full_it_looks(kind: Kind) -> None:
    """Where the next descriptor reads available for ever, a device must not look for ever (CVE-2026-16457)."""
    r = packed_rig(8, kind=kind)
    put(r.driver, (DATA, 16, WRITE), ident=5)
    put(r.driver, (DATA, 16, INDIRECT), ident=6)
    for ident in range(7, 12):
        put(r.driver, (DATA, 16, WRITE), ident=ident)
    r.device.kick(0)
    r.device.idle()
    assert len(r.clauses) == 1
    assert r.device.status & NEEDS_RESET
    ring = r.queue.ring
    assert ring is not None
    assert ring.pending()
    before = r.plain.copy()
    for _ in range(3):
        r.device.kick(0)
        r.device.process(r.queue)
        r.device.idle(turns=2)
    assert r.plain.differences(before) == []
    assert len(r.device.taken) == 1
    assert len(r.clauses) == 1


@kinds
def test_what_was_done_before_the_misdeed_is_shown(kind: Kind) -> None:
    r = packed_rig(8, kind=kind)
    for number in range(3):
        r.place([(DATA + 64 * number, 64)])
    put(r.driver, (DATA, 16, INDIRECT))
    r.device.kick(0)
    r.device.idle()
    assert r.clauses == ["VIRTIO 1.4 §2.8.19"]
    assert [used.length for used in r.driver.collect()] == [64, 64, 64]


def test_an_id_is_any_16_bits_and_indexes_nothing() -> None:
    """Ids far above the queue's size come back as they were (spdk #3860: a table's index elsewhere)."""
    r = packed_rig(4)
    r.device.mode = Mode.LATER
    for ident in (0xFFFF, 4, 0x8000, 0):
        put(r.driver, (DATA, 8, WRITE), ident=ident)
    r.device.kick(0)
    assert set(r.queue.in_flight) == {0xFFFF, 4, 0x8000, 0}
    for job in [r.device.waiting[at] for at in (2, 0, 3, 1)]:
        r.device.complete(job)
    r.device.idle()
    assert [used.buffer.head for used in r.driver.collect()] == [0x8000, 0xFFFF, 0, 4]
    assert r.clauses == []


@pytest.mark.long
@kinds
@pytest.mark.parametrize("size", [1, 2, 3, 5, 100, 300, 32767, 32768])
def test_a_list_may_be_as_long_as_the_queue(size: int, kind: Kind) -> None:
    count = min(size, 300)
    r = packed_rig(size, kind=kind)
    readable = [(DATA + 2 * n, 1) for n in range(count // 2)]
    writable = [(DATA + 0x1000 + 2 * n, 1) for n in range(count - count // 2)]
    for turn in range(3):
        r.send(writable, readable)
        assert r.device.taken[turn].chain.readable == readable
        assert r.device.taken[turn].chain.writable == writable
        assert [used.length for used in r.driver.collect()] == [len(writable)]
    assert r.clauses == []


@pytest.mark.long
@pytest.mark.parametrize(("size", "features", "kind"), each_in_turn(SIZES, FEATURES))
def test_lists_go_round_the_end_of_the_ring(size: int, features: int, kind: Kind) -> None:
    """Lists of two where there is room, that begin everywhere: the wrap counter changes in the middle of some."""
    r = packed_rig(size, features, kind=kind)
    length = min(2, size)
    for round_ in range(5 * size + 5):
        r.driver.wish(False, 0)
        count = max(1, min(r.driver.free // length, 1 + round_ % 3))
        for number in range(count):
            r.place([(DATA + 64 * number, 8)] * (length - 1) + [(DATA + 4096 + 64 * number, 8)])
        assert r.expose()
        assert len(r.driver.collect()) == count
    assert r.driver.last_used > 4 * size
    assert r.notified == 5 * size + 5
    assert r.clauses == []


def test_lists_come_back_in_any_order_and_each_takes_one_descriptor() -> None:
    """§2.8.6: one used descriptor for a list, then as many are skipped as it had."""
    r = packed_rig(12)
    r.device.mode = Mode.LATER
    buffers = [r.send([(DATA + 256 * n, 1)] * (n + 1)) for n in range(4)]
    for at in (3, 1, 0, 2):
        r.device.complete(r.device.taken[at])
    r.device.idle()
    found = r.driver.peek()
    assert [used.buffer for _, used in found] == [buffers[at] for at in (3, 1, 0, 2)]
    assert [place for place, _ in found] == [0, 4, 6, 7]


@pytest.mark.parametrize("size", [2, 7])
def test_a_table_is_at_most_as_long_as_the_queue(size: int) -> None:
    r = packed_rig(size, INDIRECT_DESC)
    table_of(r.driver, TABLE, [(DATA, 1, WRITE)] * size)
    r.device.kick(0)
    assert r.clauses == []
    table_of(r.driver, TABLE, [(DATA, 1, WRITE)] * (size + 1))
    r.device.kick(0)
    assert r.clauses == ["VIRTIO 1.4 §2.8.19"]


def test_a_lenient_device_takes_long_tables_as_others_do() -> None:
    log = ViolationLog(Profile.LENIENT)
    r = packed_rig(8, INDIRECT_DESC, violations=log)
    for count, clauses in ((1024, []), (1025, ["VIRTIO 1.4 §2.8.19"])):
        table_of(r.driver, TABLE, [(DATA, 1, WRITE)] * count)
        r.device.kick(0)
        assert r.clauses == clauses


def test_a_table_is_taken_whole_whatever_next_says() -> None:
    """§2.8.7: of the flags only WRITE counts; the others are a driver's mistake and no more (openvmm #2983)."""
    r = packed_rig(8, INDIRECT_DESC)
    table_of(r.driver, TABLE, [(DATA, 4, 0), (DATA + 8, 4, NEXT | INDIRECT), (DATA + 64, 8, WRITE | NEXT)])
    r.device.kick(0)
    r.device.idle()
    (job,) = r.device.taken
    assert (job.chain.readable, job.chain.writable) == ([(DATA, 4), (DATA + 8, 4)], [(DATA + 64, 8)])
    assert [used.length for used in r.driver.collect()] == [8]
    assert r.clauses == ["VIRTIO 1.4 §2.8.19"]
    assert not r.device.status & NEEDS_RESET


@pytest.mark.slow
def test_more_than_65536_buffers_go_through_one_ring() -> None:
    r = packed_rig(2500, EVENT_IDX)
    count = 0
    while count < 70_000:
        for _ in range(2500):
            r.place([(DATA, 1)])
        r.expose()
        count += len(r.driver.collect())
    assert len(r.device.taken) == count == 70_000


@pytest.mark.slow
def test_a_full_ring_of_the_largest_size() -> None:
    r = packed_rig(32768)
    for _ in range(32768):
        r.place([(DATA, 1)])
    r.expose()
    assert len(r.driver.collect()) == 32768
    assert r.clauses == []


# --- sizes, reset


def test_a_queue_may_be_of_any_size_where_the_ring_is_packed() -> None:
    device = packed_rig(100).device
    assert device.queues[0].max_size == 100
    device.negotiate(1 << 32)
    assert device.queues[0].max_size == 64
    device.negotiate(1 << 32 | RING_PACKED)
    assert device.queues[0].size == device.queues[0].max_size == 100


@pytest.mark.parametrize("size", [0, 32769, -1])
def test_an_impossible_queue_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="queue-size"):
        type(packed_rig().device)(GuestMemory(), queue_size=size, features=RING_PACKED)


def test_a_queue_can_be_reset_and_come_back_as_new() -> None:
    """§2.6.1: wrap counters are 1 again, whatever they were."""
    r = packed_rig(7, 1 << 40)
    for _ in range(10):
        r.send([(DATA, 1)])
        r.driver.collect()
    r.device.reset_queue(r.queue)
    assert not r.queue.resetting
    r.driver = PackedDriverRing(r.plain, 5, r.parts, r.driver.features)
    r.device.enable_queue(r.device.set_queue(0, 5, r.parts))
    for _ in range(12):
        r.send([(DATA, 1)])
        assert len(r.driver.collect()) == 1
    assert r.clauses == []


def test_descriptors_of_an_old_life_are_not_taken_for_new_ones() -> None:
    """§2.8.15: what is there before the driver has written anything is judged by the wrap counter alone."""
    r = packed_rig(4)
    r.plain.store(r.parts[0], DESC.pack(DATA, 8, 1, WRITE | USED) * 4)
    r.device.kick(0)
    r.device.idle()
    assert r.device.taken == []
    assert r.clauses == []
