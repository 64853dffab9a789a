"""The split ring: misdeeds, chains, tables and sizes; `test_ring_machine.py` goes through it at random."""

from __future__ import annotations

import pytest

from devmodels.conformance import Profile, ViolationLog
from devmodels.trace import EventKind, TraceEvent, Tracer
from tests.unit.virtio.dut import NEEDS_RESET, Mode
from tests.unit.virtio.hostile import EDITS, Edit, chain, table_of
from tests.unit.virtio.model import (
    EVENT_IDX,
    INDIRECT,
    INDIRECT_DESC,
    NEXT,
    WRITE,
    DriverRing,
    Form,
)
from tests.unit.virtio.plain import Kind, each_in_turn, kinds
from tests.unit.virtio.rig import DATA, FEATURES, TABLE, Rig, rig


def break_ring(r: Rig[DriverRing], edit: Edit, pick_low: bool) -> None:
    edit.do(r.driver, TABLE, lambda low, high: low if pick_low else high)
    r.device.kick(0)
    r.device.idle()


@pytest.mark.long
@kinds
@pytest.mark.parametrize("pick_low", [True, False], ids=["least", "most"])
@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_each_misdeed_is_one_violation_and_needs_a_reset(edit: Edit, pick_low: bool, kind: Kind) -> None:
    r = rig(8, edit.with_features, kind=kind)
    r.device.mode = Mode.LATER
    for _ in range(edit.out):
        r.send([(DATA, 16)])
    before = r.plain.copy()
    taken = len(r.device.taken)
    break_ring(r, edit, pick_low)
    assert r.clauses == [edit.clause]
    assert r.device.status & NEEDS_RESET
    assert r.device.notifications.config == 1
    assert r.notified == 0
    assert len(r.device.taken) == taken
    assert r.driver.used_idx == before.unpack("<H", r.parts[2] + 2)[0]


@kinds
def test_what_was_done_before_the_misdeed_is_shown(kind: Kind) -> None:
    """One bad chain does not take with it what the same doorbell brought before."""
    r = rig(8, kind=kind)
    for number in range(3):
        r.place([(DATA + 64 * number, 64)])
    r.driver.write_entry(3, 0xFFFF)
    r.driver.out += r.driver.offered
    r.driver.offered = []
    r.driver.move_idx(4)
    r.device.kick(0)
    r.device.idle()
    assert r.clauses == ["VIRTIO 1.4 §2.7.13"]
    assert [used.length for used in r.driver.collect()] == [64, 64, 64]


@kinds
@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("size", [2, 4, 256, 32768])
def test_a_chain_may_be_as_long_as_the_queue(size: int, form: Form, kind: Kind) -> None:
    count = min(size, 300) if form is Form.DIRECT else min(size - size // 2 - 1, 300) or 1
    r = rig(size, INDIRECT_DESC, kind=kind)
    readable = [(DATA + 2 * n, 1) for n in range(count // 2)]
    writable = [(DATA + 0x1000 + 2 * n, 1) for n in range(count - count // 2)]
    r.place(writable, readable, form if count > 1 else Form.DIRECT)
    r.expose()
    (job,) = r.device.taken
    assert job.chain.readable == readable
    assert job.chain.writable == writable
    assert [used.length for used in r.driver.collect()] == [len(writable)]
    assert r.clauses == []


@pytest.mark.parametrize("size", [2, 8])
def test_a_chain_in_a_table_is_at_most_as_long_as_the_queue(size: int) -> None:
    r = rig(size, INDIRECT_DESC)
    entries = [(DATA, 1, WRITE | NEXT, n + 1) for n in range(size - 1)] + [(DATA, 1, WRITE, 0)]
    r.driver.move_idx(table_of(r.driver, TABLE, entries))
    r.device.kick(0)
    assert r.clauses == []
    longer = [(DATA, 1, WRITE | NEXT, n + 1) for n in range(size)] + [(DATA, 1, WRITE, 0)]
    r.driver.move_idx(table_of(r.driver, TABLE, longer))
    r.device.kick(0)
    assert r.clauses == ["VIRTIO 1.4 §2.7.5.3.1"]


def test_a_lenient_device_takes_long_chains_as_others_do() -> None:
    log = ViolationLog(Profile.LENIENT)
    r = rig(8, INDIRECT_DESC, violations=log)
    for count, clauses in ((1024, []), (1025, ["VIRTIO 1.4 §2.7.5.3.1"])):
        entries = [(DATA, 1, WRITE | NEXT, n + 1) for n in range(count - 1)] + [(DATA, 1, WRITE, 0)]
        r.driver.move_idx(table_of(r.driver, TABLE, entries))
        r.device.kick(0)
        assert r.clauses == clauses


def test_a_table_may_be_larger_than_its_chain() -> None:
    """Only the entries that are reached are looked at, wherever they are."""
    r = rig(4, INDIRECT_DESC)
    r.plain.pack("<QIHH", TABLE, DATA, 8, NEXT, 1000)
    r.plain.pack("<QIHH", TABLE + 16000, DATA + 64, 8, WRITE, 9)
    r.driver.move_idx(chain(r.driver, (TABLE, 16016, INDIRECT, 0)))
    r.device.kick(0)
    (job,) = r.device.taken
    assert (job.chain.readable, job.chain.writable) == ([(DATA, 8)], [(DATA + 64, 8)])


def test_the_walk_copies_each_descriptor_once() -> None:
    """A guest that changes descriptors meanwhile gains nothing: every descriptor is loaded once."""
    r = rig(8, INDIRECT_DESC)
    events: list[TraceEvent] = []
    tracer = Tracer(lambda: 0)
    tracer.sinks.append(events.append)
    r.memory.observe(trace=tracer)
    r.place([(DATA, 8), (DATA + 8, 8)], [(DATA + 64, 8)], Form.MIXED)
    r.expose()
    reads = [event.detail[0] for event in events if event.kind is EventKind.DMA_READ]
    desc = [address for address in reads if isinstance(address, int) and address < r.parts[1]]
    ring = [address for address in desc if address >= r.parts[0]]
    assert len(ring) == len(set(ring)) == 2
    assert reads.count(TABLE) == 1


@pytest.mark.long
@pytest.mark.parametrize(("size", "features", "kind"), each_in_turn([1, 2, 16], FEATURES))
def test_indices_go_round_at_65536(size: int, features: int, kind: Kind) -> None:
    r = rig(size, features, kind=kind, start=65536 - 40)
    r.driver.set_used_event(65536 - 40)
    for _ in range(90):
        free = r.driver.free
        for number in range(free):
            r.place([(DATA + 16 * number, 16)])
        assert r.expose()
        assert len(r.driver.collect()) == free
        r.driver.set_used_event(r.driver.last_used)
    assert r.driver.idx == r.driver.used_idx == (65536 - 40 + 90 * size) & 0xFFFF
    assert r.notified == 90
    assert r.clauses == []


@pytest.mark.slow
def test_more_than_65536_buffers_go_through_one_ring() -> None:
    r = rig(256, EVENT_IDX)
    count = 0
    while count < 70_000:
        for _ in range(256):
            r.place([(DATA, 1)])
        r.expose()
        count += len(r.driver.collect())
    assert len(r.device.taken) == count == 70_144
    assert r.driver.used_idx == count & 0xFFFF


@pytest.mark.slow
def test_a_full_ring_of_the_largest_size() -> None:
    r = rig(32768)
    for _ in range(32768):
        r.place([(DATA, 1)])
    r.expose()
    assert len(r.driver.collect()) == 32768
    assert r.clauses == []


@kinds
@pytest.mark.parametrize("in_table", [False, True], ids=["direct", "table"])
def test_a_chain_follows_next_even_where_its_neighbours_look_like_one(kind: Kind, in_table: bool) -> None:
    """Entries 0, 1, 2 would make a whole chain; the driver links 0, 3, 2 and then 0, 1, 4."""
    for first, second, third in ((0, 3, 2), (0, 1, 4)):
        r = rig(8, INDIRECT_DESC, kind=kind)
        entries = {
            0: (DATA, 16, NEXT, second),
            1: (DATA + 0x100, 32, WRITE | NEXT, third),
            2: (DATA + 0x200, 1, WRITE, 0),
            3: (DATA + 0x300, 64, WRITE | NEXT, third),
            4: (DATA + 0x400, 2, WRITE, 0),
        }
        at = TABLE if in_table else r.parts[0]
        for number, entry in entries.items():
            r.plain.pack("<QIHH", at + 16 * number, *entry)
        if in_table:
            r.plain.pack("<QIHH", r.parts[0], TABLE, 16 * len(entries), INDIRECT, 0)
        r.driver.write_entry(0, first)
        r.driver.move_idx(1)
        r.device.kick(0)
        (job,) = r.device.taken
        assert job.chain.readable == [entries[0][:2]]
        assert job.chain.writable == [entries[second][:2], entries[third][:2]]
        assert r.clauses == []
