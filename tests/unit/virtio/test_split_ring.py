"""The split ring, story by story; `test_ring_machine.py` goes through it at random."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from devmodels.conformance import Profile, ViolationLog
from devmodels.memory import GuestMemory
from devmodels.memoryregions import BouncedRegion
from devmodels.trace import EventKind, TraceEvent, Tracer
from devmodels.virtio.ring import Chain, RingError
from devmodels.virtio.split import SplitRing
from tests.unit.virtio.dut import NEEDS_RESET, Mode, pattern
from tests.unit.virtio.hostile import EDITS, Edit, chain, table_of
from tests.unit.virtio.model import (
    EVENT_IDX,
    IN_ORDER,
    INDIRECT,
    INDIRECT_DESC,
    NEXT,
    NOTIFICATION_DATA,
    WRITE,
    Buffer,
    DriverRing,
    Form,
)
from tests.unit.virtio.plain import Kind, each_in_turn, shared
from tests.unit.virtio.rig import DATA, TABLE, Rig, rig

kinds = pytest.mark.parametrize("kind", Kind)
LAST = (1 << 64) - 16
FEATURES = [0, EVENT_IDX, IN_ORDER, EVENT_IDX | IN_ORDER]


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


def test_payload_then_element_then_index_then_the_drivers_wish() -> None:
    """§2.7.8.2: everything before the used index; §2.7.13.3: the available index before its entries."""
    r = rig(8, EVENT_IDX)
    order: list[str] = []
    _, avail, used = r.parts
    names = {
        avail + 2: "avail.idx",
        avail + 4: "avail.ring",
        avail + 4 + 2 * 8: "used_event",
        r.parts[0]: "descriptor",
        used + 2: "used.idx",
        used + 4: "used.id",
        used + 8: "used.len",
        used + 4 + 8 * 8: "avail_event",
        DATA: "payload",
    }

    def sink(event: TraceEvent) -> None:
        address = event.detail[0]
        assert isinstance(address, int)
        order.append(names[address])

    tracer = Tracer(lambda: 0)
    tracer.sinks.append(sink)
    r.memory.observe(trace=tracer)
    r.send([(DATA, 8)])
    assert order == [
        "avail.idx",
        "avail.ring",
        "descriptor",
        "payload",
        "used.id",
        "used.len",
        "avail_event",
        "avail.idx",
        "used.idx",
        "used_event",
    ]


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


@pytest.mark.parametrize("first", [0, 65530, 32767])
@pytest.mark.parametrize("ahead", [-1, 0, 1, 2, 3, 4, 100, 32767, -32768])
def test_event_idx_asks_for_one_crossing(first: int, ahead: int) -> None:
    """§2.7.7.2: notify when the entry at used_event is written, else do not."""
    r = rig(16, EVENT_IDX, start=first)
    r.driver.set_used_event(first + ahead)
    for number in range(3):
        r.place([(DATA + 16 * number, 16)])
    r.expose()
    assert r.notified == (1 if 0 <= ahead < 3 else 0)


@pytest.mark.parametrize(("flags", "notified"), [(0, 1), (1, 0)])
def test_no_interrupt_suppresses_without_event_idx(flags: int, notified: int) -> None:
    r = rig()
    r.driver.set_used_event(0)
    r.driver.set_no_interrupt(bool(flags))
    r.send([(DATA, 16)])
    assert r.notified == notified


def test_the_other_way_to_suppress_does_not_count() -> None:
    """With VIRTIO_F_EVENT_IDX flags are ignored; without it used_event is."""
    r = rig(16, EVENT_IDX)
    r.driver.set_no_interrupt(True)
    r.send([(DATA, 16)])
    assert r.notified == 1
    r = rig(16)
    r.driver.set_used_event(1000)
    r.send([(DATA, 16)])
    assert r.notified == 1


@pytest.mark.parametrize(("count", "batches"), [(1, []), (2, [2]), (16, [16]), (17, [16]), (40, [16, 16, 8])])
def test_buffers_of_one_doorbell_are_a_batch(count: int, batches: list[int]) -> None:
    """At most sixteen in one, none for a buffer that comes alone."""
    r = rig(64)
    for number in range(count):
        r.place([(DATA + 16 * number, 16)])
    r.expose()
    assert r.device.batches == batches
    assert len(r.driver.collect()) == count


def test_the_driver_sees_each_batch_while_the_next_is_worked_on() -> None:
    r = rig(64)
    seen: list[int] = []
    handle = r.device.handle

    def look(queue: object, chains: Sequence[Chain]) -> None:
        seen.append(r.driver.used_idx)
        handle(r.queue, chains)

    r.device.handle = look  # type: ignore[method-assign]
    for _ in range(40):
        r.place([(DATA, 16)])
    r.expose()
    assert seen == [0, 16, 32]


def test_one_doorbell_is_one_notification() -> None:
    r = rig(16)
    for number in range(10):
        r.place([(DATA + 16 * number, 16)])
    r.expose()
    assert r.notified == 1
    assert len(r.driver.collect()) == 10


def test_an_idle_device_asks_for_exactly_the_next_buffer() -> None:
    """§2.7.10.2: avail_event is the entry that the driver fills next."""
    r = rig(8, EVENT_IDX)
    for _ in range(20):
        r.send([(DATA, 16)])
        r.driver.collect()
        assert r.plain.unpack("<H", r.parts[2] + 4 + 8 * 8) == (r.driver.idx,)
        assert r.driver.used_flags == 0


def test_flags_say_that_no_notification_is_needed_while_the_device_looks() -> None:
    r = rig(8)
    seen: list[int] = []
    handle = r.device.handle

    def look(queue: object, chains: Sequence[Chain]) -> None:
        seen.append(r.driver.used_flags)
        handle(r.queue, chains)

    r.device.handle = look  # type: ignore[method-assign]
    r.send([(DATA, 16)])
    assert seen == [1]
    assert r.driver.used_flags == 0


def test_a_buffer_that_comes_while_the_device_works_needs_no_notification() -> None:
    r = rig(8)
    handle = r.device.handle
    late: list[Buffer] = []

    def one_more(queue: object, chains: Sequence[Chain]) -> None:
        if not late:
            late.append(r.place([(DATA, 16)]))
            assert not r.driver.expose()
        handle(r.queue, chains)

    r.device.handle = one_more  # type: ignore[method-assign]
    r.send([(DATA, 16)])
    assert len(r.driver.collect()) == 2


@kinds
def test_in_order_holds_back_what_is_done_too_early(kind: Kind) -> None:
    r = rig(8, IN_ORDER, kind=kind)
    r.device.mode = Mode.LATER
    buffers = [r.send([(DATA + 64 * n, 8 * n)]) for n in range(4)]
    jobs = list(r.device.waiting)
    for job in (jobs[2], jobs[1]):
        r.device.complete(job)
    r.device.idle()
    assert r.driver.used_idx == 0
    assert r.notified == 0
    r.device.complete(jobs[0])
    r.device.idle()
    assert [(used.buffer, used.length) for used in r.driver.collect()] == [
        (buffers[0], 0),
        (buffers[1], 8),
        (buffers[2], 16),
    ]
    r.device.complete(jobs[3])
    r.device.idle()
    assert [used.buffer for used in r.driver.collect()] == [buffers[3]]


def test_in_order_holds_where_descriptors_go_round() -> None:
    r = rig(4, IN_ORDER)
    for _ in range(3):
        r.send([(DATA, 1)])
    r.driver.collect()
    r.device.mode = Mode.LATER
    buffers = [r.send([(DATA, 1)]) for _ in range(3)]
    assert [buffer.head for buffer in buffers] == [3, 0, 1]
    for job in reversed(r.device.waiting[:]):
        r.device.complete(job)
    r.device.idle()
    assert [used.buffer for used in r.driver.collect()] == buffers


def test_in_order_drivers_take_descriptors_in_the_order_of_the_table() -> None:
    """§2.7.5: one that does not is told so, once; what it sends is done."""
    r = rig(8, IN_ORDER | INDIRECT_DESC)
    for _ in range(5):
        r.place([(DATA, 1), (DATA, 1)], [(DATA, 1)], Form.DIRECT)
        r.place([(DATA, 1), (DATA, 1)], [(DATA, 1)], Form.INDIRECT)
        r.place([(DATA, 1), (DATA, 1)], [(DATA, 1)], Form.MIXED)
        r.expose()
        assert len(r.driver.collect()) == 3
    assert r.clauses == []
    for head in (3, 2):
        r.driver.write_desc(head, DATA, 1, WRITE, 0)
        r.driver.write_entry(0, head)
        r.driver.move_idx(1)
        r.device.kick(0)
    assert len(r.device.taken) == 17
    assert r.clauses == ["VIRTIO 1.4 §2.7.5"]
    assert not r.device.status & NEEDS_RESET


@pytest.mark.parametrize("flags", [2, 0xFFFE, 0xFFFF])
def test_available_flags_that_mean_nothing_are_a_violation_and_said_once(flags: int) -> None:
    """§2.7.7.1: they are 0 or 1; the bit that means something still does."""
    r = rig(8)
    r.plain.pack("<H", r.parts[1], flags)
    for _ in range(3):
        r.send([(DATA, 16)])
    assert r.notified == (0 if flags & 1 else 3)
    assert r.clauses == ["VIRTIO 1.4 §2.7.7.1"]


@pytest.mark.parametrize("start", [0, 65530, 32760])
def test_a_notification_that_agrees_with_the_index_is_fine_also_late(start: int) -> None:
    r = rig(8, NOTIFICATION_DATA, start=start)
    indices = [r.driver.idx]
    for _ in range(4):
        r.place([(DATA, 1)])
        r.driver.expose()
        indices.append(r.driver.idx)
    for index in (*indices, *indices):
        r.device.kick(0, index << 16)
    assert r.clauses == []


@pytest.mark.parametrize("ahead", [1, 2, 0x7FFE])
def test_a_notification_of_more_than_the_index_shows_is_a_violation(ahead: int) -> None:
    r = rig(8, NOTIFICATION_DATA)
    r.place([(DATA, 1)])
    r.driver.expose()
    r.device.kick(0, (r.driver.idx + ahead) << 16)
    assert r.clauses == ["VIRTIO 1.4 §2.9"]
    r.device.idle()
    assert len(r.driver.collect()) == 1


@pytest.mark.parametrize("features", [0, EVENT_IDX])
def test_a_buffer_that_comes_while_the_device_goes_to_sleep_is_not_lost(features: int) -> None:
    """The driver looks for the last time before the device has asked for a notification; so the device looks again."""
    r = rig(8, features, kind=Kind.BOUNCED)
    wish = r.parts[2] + (4 + 8 * 8 if features else 0)
    region = next(region for region in r.memory.regions if region.base == r.parts[0])
    store = region.store
    late: list[bool] = []

    def racing_store(offset: int, data: bytes | bytearray | memoryview) -> None:
        asks = region.base + offset == wish and (features or bytes(data) == b"\0\0")
        if asks and not late:
            r.place([(DATA + 64, 16)])
            late.append(r.driver.expose())
        store(offset, data)

    hooked = BouncedRegion(
        region.base,
        region.size,
        lambda address, length: region.load(address - region.base, length),
        lambda address, data: racing_store(address - region.base, data),
    )
    r.memory.remove(region)
    r.memory.add(hooked)
    r.send([(DATA, 16)])
    assert late == [False], "the driver had no reason to notify"
    assert len(r.driver.collect()) == 2


@kinds
def test_payload_goes_where_the_descriptors_say(kind: Kind) -> None:
    r = rig(8, kind=kind)
    r.send([(DATA + 3, 5), (DATA + 100, 0), (DATA + 200, 7)])
    written = pattern(0, 12)
    assert r.plain.load(DATA + 3, 5) == written[:5]
    assert r.plain.load(DATA + 200, 7) == written[5:]


@pytest.mark.parametrize(
    "vector", [(LAST, 17), (LAST, 16), (0xFFFF, 2), (0x5000_0000, 1), (LAST + 15, 0xFFFF_FFFF)]
)
def test_payload_outside_memory_is_for_the_device_type_to_answer(vector: tuple[int, int]) -> None:
    """The ring itself is whole: the buffer comes back with nothing written, the next one is served."""
    r = rig(8)
    r.send([vector])
    assert [used.length for used in r.driver.collect()] == [0]
    r.send([(DATA, 4)])
    assert [used.length for used in r.driver.collect()] == [4]
    assert not r.device.status & NEEDS_RESET


def test_a_buffer_may_be_empty() -> None:
    r = rig(8)
    r.send([(0xDEAD_0000_0000, 0)])
    assert [used.length for used in r.driver.collect()] == [0]
    assert r.clauses == []


@pytest.mark.parametrize(("part", "align"), [(0, 16), (1, 2), (2, 4)])
def test_a_misaligned_part_needs_a_reset(part: int, align: int) -> None:
    r = rig(8)
    for off in range(1, align):
        parts = list(r.parts)
        parts[part] += off
        with pytest.raises(RingError) as caught:
            SplitRing(r.memory, 8, (parts[0], parts[1], parts[2]), 0, {})
        assert caught.value.clause == "VIRTIO 1.4 §2.7.1"


@kinds
@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("address", [0x4000_0000, 0xFFF0, LAST, (1 << 64) - 64])
def test_a_part_outside_memory_needs_a_reset(part: int, address: int, kind: Kind) -> None:
    r = rig(8, kind=kind)
    parts = list(r.parts)
    parts[part] = address
    with pytest.raises(RingError, match="outside memory"):
        SplitRing(r.memory, 8, (parts[0], parts[1], parts[2]), 0, {})


def test_a_used_ring_in_read_only_memory_needs_a_reset() -> None:
    r = rig(8)
    rom = BouncedRegion(0x8000_0000, 4096, lambda _a, n: bytes(n), lambda _a, _d: None, readonly=True)
    r.memory.add(rom)
    SplitRing(r.memory, 8, (0x8000_0000, 0x8000_0000, r.parts[2]), 0, {})
    with pytest.raises(RingError, match="read-only"):
        SplitRing(r.memory, 8, (*r.parts[:2], 0x8000_0000), 0, {})


@kinds
def test_a_ring_whose_memory_leaves_needs_a_reset(kind: Kind) -> None:
    r = rig(8, kind=kind)
    r.place([(DATA, 16)])
    r.driver.expose()
    r.memory.remove(next(region for region in r.memory.regions if region.base == r.parts[0]))
    r.device.kick(0)
    r.device.idle()
    assert r.clauses == ["VIRTIO 1.4 §2.7"]
    assert r.device.status & NEEDS_RESET


@kinds
def test_a_buffer_in_flight_when_the_rings_memory_leaves_is_not_lost_to_the_device(kind: Kind) -> None:
    r = rig(8, kind=kind)
    r.device.mode = Mode.LATER
    r.send([(DATA, 16)])
    r.memory.remove(next(region for region in r.memory.regions if region.base == r.parts[0]))
    r.device.complete(r.device.waiting[0])
    r.device.idle()
    assert r.device.status & NEEDS_RESET
    assert not r.queue.in_flight


def test_a_glance_notices_that_memory_has_moved() -> None:
    """A poller must not go on looking at memory that is no longer the guest's."""
    r = rig(8)
    ring = r.queue.ring
    assert ring is not None
    assert not ring.pending()
    move_ring(r)
    r.place([(DATA, 16)])
    r.driver.expose()
    assert ring.pending()
    r.device.process(r.queue)
    assert len(r.driver.collect()) == 1


def move_ring(r: Rig[DriverRing]) -> None:
    """The guest's memory that holds the ring lies somewhere else in the host from now on."""
    old = next(region for region in r.memory.regions if region.base == r.parts[0])
    r.plain.blocks[0].data = bytearray(r.plain.blocks[0].data)
    r.memory.remove(old)
    r.memory.add(shared(r.plain.blocks[0]))


def test_memory_may_move_between_the_end_of_a_buffer_and_its_showing() -> None:
    r = rig(8)
    r.device.mode = Mode.LATER
    r.send([(DATA, 16)])
    r.device.complete(r.device.waiting[0])
    move_ring(r)
    r.device.idle()
    assert r.driver.used_idx == 1
    assert r.notified == 1


@pytest.mark.parametrize("features", [0, EVENT_IDX])
def test_memory_may_move_while_a_buffer_is_handled(features: int) -> None:
    r = rig(8, features)
    handle = r.device.handle

    def move(queue: object, chains: Sequence[Chain]) -> None:
        move_ring(r)
        handle(r.queue, chains)

    r.device.handle = move  # type: ignore[method-assign]
    for _ in range(3):
        r.send([(DATA, 16)])
        assert len(r.driver.collect()) == 1


def test_an_embedder_whose_memory_is_nowhere_gets_a_violation_not_an_exception() -> None:
    memory = GuestMemory()
    with pytest.raises(RingError):
        SplitRing(memory, 8, (0, 0, 0), 0, {})


def test_a_doorbell_takes_a_bounded_number_of_descriptors_in_one_go() -> None:
    """Other work of the same context comes in between, however long the chains."""
    r = rig(4096)
    for at in range(4095):
        r.driver.write_desc(at, DATA, 0, NEXT, at + 1)
    r.driver.write_desc(4095, DATA, 0, WRITE, 0)
    for at in range(4096):
        r.driver.write_entry(at, at)
    r.driver.move_idx(4096)
    r.device.mode = Mode.LATER
    r.device.kick(0)
    assert 0 < len(r.device.taken) < 10


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
