"""The packed ring, story by story; `test_ring_machine.py` goes through it at random."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from devmodels.conformance import Profile, ViolationLog
from devmodels.memory import GuestMemory
from devmodels.memoryregions import BouncedRegion
from devmodels.trace import EventKind, TraceEvent, Tracer
from devmodels.virtio.packed import PackedRing
from devmodels.virtio.ring import Chain, RingError
from tests.unit.virtio.dut import NEEDS_RESET, Mode, pattern
from tests.unit.virtio.model import (
    EVENT_IDX,
    IN_ORDER,
    INDIRECT,
    INDIRECT_DESC,
    NEXT,
    NOTIFICATION_DATA,
    WRITE,
    Buffer,
    Form,
)
from tests.unit.virtio.packed_hostile import PACKED_EDITS, PackedEdit, put, table_of
from tests.unit.virtio.packed_model import (
    AVAIL,
    DESC,
    DISABLE,
    ENABLE,
    ONE,
    RING_PACKED,
    USED,
    WRAP,
    PackedDriverRing,
)
from tests.unit.virtio.plain import Kind, each_in_turn, shared
from tests.unit.virtio.rig import DATA, RING, TABLE, Rig, packed_rig

kinds = pytest.mark.parametrize("kind", Kind)
LAST = (1 << 64) - 16
FEATURES = [0, EVENT_IDX, IN_ORDER, EVENT_IDX | IN_ORDER]
SIZES = [1, 2, 3, 5, 7, 12, 100]
PackedRig = Rig[PackedDriverRing]


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


def observed(r: PackedRig, names: dict[int, str]) -> list[str]:
    """The device's accesses from now on, by name, loads with '?' and stores with '!'."""
    seen: list[str] = []

    def sink(event: TraceEvent) -> None:
        address = event.detail[0]
        assert isinstance(address, int)
        seen.append(names[address] + ("!" if event.kind is EventKind.DMA_WRITE else "?"))

    tracer = Tracer(lambda: 0)
    tracer.sinks.append(sink)
    r.memory.observe(trace=tracer)
    return seen


def test_flags_are_loaded_first_and_stored_last() -> None:
    """§2.8.2, §2.8.21.1: the flags before the rest; of two used descriptors the first one's flags last of all."""
    r = packed_rig(8, EVENT_IDX)
    desc, driver, device = r.parts
    names = {driver: "driver event", device: "device event", DATA: "payload"}
    for n in range(3):
        names |= {desc + 16 * n: f"desc {n}", desc + 16 * n + 8: f"len {n}", desc + 16 * n + 12: f"flags {n}"}
    order = observed(r, names)
    r.place([(DATA, 8)])
    r.place([(DATA, 8)])
    r.expose()
    assert order == [
        "device event!",
        "flags 0?",
        "flags 0?",
        "flags 1?",
        "flags 2?",
        "desc 0?",
        "desc 1?",
        "flags 2?",
        "payload!",
        "payload!",
        "device event!",
        "flags 2?",
        "len 0!",
        "len 1!",
        "flags 1!",
        "flags 0!",
        "driver event?",
    ]


def test_each_descriptor_is_copied_once() -> None:
    """A guest that changes descriptors meanwhile gains nothing."""
    r = packed_rig(8, INDIRECT_DESC)
    events: list[TraceEvent] = []
    tracer = Tracer(lambda: 0)
    tracer.sinks.append(events.append)
    r.memory.observe(trace=tracer)
    r.place([(DATA, 8), (DATA + 8, 8)], [(DATA + 64, 8)])
    r.place([(DATA, 8), (DATA + 8, 8)], [(DATA + 64, 8)], Form.INDIRECT)
    r.expose()
    reads = [event.detail[0] for event in events if event.kind is EventKind.DMA_READ]
    whole = [
        address for address in reads if isinstance(address, int) and address in range(RING, RING + 128, 16)
    ]
    assert whole == [RING, RING + 16, RING + 32, RING + 48]
    assert reads.count(TABLE) == 1


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


@pytest.mark.parametrize("start", [0, 6, 7, 13])
@pytest.mark.parametrize("ahead", range(14))
def test_an_event_is_one_descriptor_of_one_turn(start: int, ahead: int) -> None:
    """§2.8.10: notify when that descriptor is used, skipped ones included, and the wrap counter is right."""
    r = packed_rig(7, EVENT_IDX, start=start)
    r.driver.set_event(ONE, r.driver.position(7, start + ahead))
    r.place([(DATA, 8), (DATA + 16, 8)])
    r.place([(DATA + 32, 8)])
    r.expose()
    assert r.notified == (1 if ahead < 3 else 0)
    assert r.clauses == []


@pytest.mark.parametrize("features", [0, EVENT_IDX])
@pytest.mark.parametrize(("flags", "notified"), [(ENABLE, 1), (DISABLE, 0)])
@pytest.mark.parametrize("position", [0, WRAP, 0xFFFF])
def test_all_or_no_notifications(flags: int, notified: int, position: int, features: int) -> None:
    """The position means nothing then."""
    r = packed_rig(7, features)
    r.driver.set_event(flags, position)
    r.send([(DATA, 16)])
    assert r.notified == notified
    assert r.clauses == []


@pytest.mark.parametrize(
    ("flags", "position", "features", "notified"),
    [
        (ONE, WRAP, 0, 1),
        (3, 0, EVENT_IDX, 1),
        (ONE, WRAP | 7, EVENT_IDX, 1),
        (4 | ENABLE, 0, 0, 1),
        (0x8000 | DISABLE, 0, 0, 0),
    ],
)
def test_a_wish_that_is_none_is_a_violation_and_said_once(
    flags: int, position: int, features: int, notified: int
) -> None:
    """Reserved flags, one descriptor without EVENT_IDX, an offset beyond the ring: notified rather too often."""
    r = packed_rig(7, features)
    r.driver.set_event(flags, position)
    for _ in range(3):
        r.send([(DATA, 16)])
        r.driver.collect()
    assert r.notified == 3 * notified
    assert r.clauses == ["VIRTIO 1.4 §2.8.14"]
    assert not r.device.status & NEEDS_RESET


def test_an_idle_device_asks_for_exactly_the_next_buffer() -> None:
    r = packed_rig(5, EVENT_IDX)
    for _ in range(20):
        r.send([(DATA, 16)])
        r.driver.collect()
        assert r.plain.unpack("<HH", r.parts[2]) == (r.driver.notification, ONE)


@pytest.mark.parametrize("features", [0, EVENT_IDX])
def test_no_notification_is_asked_for_while_the_device_looks(features: int) -> None:
    r = packed_rig(8, features)
    seen: list[int] = []
    handle = r.device.handle

    def look(queue: object, chains: Sequence[Chain]) -> None:
        seen.append(r.plain.unpack("<HH", r.parts[2])[1])
        handle(r.queue, chains)

    r.device.handle = look  # type: ignore[method-assign]
    r.send([(DATA, 16)])
    assert seen == [DISABLE]


@pytest.mark.parametrize("count", [1, 2, 16, 17, 40])
def test_buffers_of_one_doorbell_are_a_batch(count: int) -> None:
    r = packed_rig(60)
    for number in range(count):
        r.place([(DATA + 16 * number, 16)])
    r.expose()
    batches = [16] * (count // 16) + [count % 16] * (count % 16 > 1)
    assert r.device.batches == batches
    assert len(r.driver.collect()) == count


def test_one_doorbell_is_one_notification() -> None:
    r = packed_rig(16)
    for number in range(10):
        r.place([(DATA + 16 * number, 16)])
    r.expose()
    assert r.notified == 1
    assert len(r.driver.collect()) == 10


def test_the_driver_sees_each_batch_while_the_next_is_worked_on() -> None:
    r = packed_rig(64)
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


# --- IN_ORDER (§2.8.8)


@kinds
def test_in_order_holds_back_what_is_done_too_early(kind: Kind) -> None:
    r = packed_rig(8, IN_ORDER, kind=kind)
    r.device.mode = Mode.LATER
    buffers = [r.send([(DATA + 64 * n, 8 * n + 8)]) for n in range(4)]
    jobs = list(r.device.waiting)
    for job in (jobs[2], jobs[1]):
        r.device.complete(job)
    r.device.idle()
    assert r.driver.peek() == []
    assert r.notified == 0
    r.device.complete(jobs[0])
    r.device.idle()
    found = r.driver.collect()
    # One used descriptor stands for all three.
    assert [(used.buffer, used.length) for used in found] == [
        (buffers[0], None),
        (buffers[1], None),
        (buffers[2], 24),
    ]
    r.device.complete(jobs[3])
    r.device.idle()
    assert [used.buffer for used in r.driver.collect()] == [buffers[3]]


def test_a_batch_is_one_descriptor_at_the_place_of_its_first() -> None:
    r = packed_rig(9, IN_ORDER)
    for number in range(3):
        r.place([(DATA + 64 * number, 4), (DATA + 64 * number + 8, 4)])
    r.expose()
    assert [(place, used.length) for place, used in r.driver.peek()] == [(0, None), (0, None), (0, 8)]
    for number in range(1, 6):
        flags = r.plain.unpack("<H", r.parts[0] + 16 * number + 14)[0]
        assert flags & (AVAIL | USED) == AVAIL, "a skipped descriptor was written"


def test_a_buffer_that_was_not_written_wholly_ends_its_batch() -> None:
    """§2.8.8: what is skipped counts as written completely, so a shorter length has to be told."""
    r = packed_rig(8, IN_ORDER)
    r.device.mode = Mode.LATER
    for number in range(5):
        r.send([(DATA + 64 * number, 8)])
    for number, job in enumerate(list(r.device.waiting)):
        r.device.fraction = 50 if number in (1, 3) else 100
        r.device.complete(job)
    r.device.idle()
    assert [(place, used.length) for place, used in r.driver.peek()] == [
        (0, None),
        (0, 4),
        (2, None),
        (2, 4),
        (4, 8),
    ]


# --- notifications that carry data (§2.9)


@pytest.mark.parametrize("start", [0, 6, 11])
def test_a_notification_that_agrees_with_the_ring_is_fine_also_late(start: int) -> None:
    r = packed_rig(7, NOTIFICATION_DATA, start=start)
    r.device.mode = Mode.LATER
    places = [r.driver.notification]
    for _ in range(4):
        r.place([(DATA, 1)])
        r.driver.expose()
        places.append(r.driver.notification)
    for place in (*places, *places):
        r.device.kick(0, place << 16)
    assert len(r.device.taken) == 4
    assert r.clauses == []


@pytest.mark.parametrize("ahead", [2, 3, 7])
def test_a_notification_of_more_than_the_ring_shows_is_a_violation(ahead: int) -> None:
    r = packed_rig(7, NOTIFICATION_DATA)
    r.place([(DATA, 1)])
    r.driver.expose()
    r.device.kick(0, r.driver.position(7, ahead) << 16)
    r.device.idle()
    assert r.clauses == ["VIRTIO 1.4 §2.8.16"]
    assert len(r.driver.collect()) == 1
    assert not r.device.status & NEEDS_RESET


@pytest.mark.parametrize("offset", [7, 8, 0x7FFF])
@pytest.mark.parametrize("wrap", [0, 0x8000])
def test_a_notification_beyond_the_ring_is_a_violation(offset: int, wrap: int) -> None:
    r = packed_rig(7, NOTIFICATION_DATA)
    r.device.kick(0, (offset | wrap) << 16)
    assert r.clauses == ["VIRTIO 1.4 §2.8.16"]


def test_a_notification_is_not_judged_while_the_device_may_not_master_the_bus() -> None:
    r = packed_rig(7, NOTIFICATION_DATA, kind=Kind.BOUNCED)
    region = next(region for region in r.memory.regions if region.base == r.parts[0])
    looks: list[int] = []

    def counted(address: int, length: int) -> bytes:
        looks.append(address)
        return region.load(address - region.base, length)

    r.memory.remove(region)
    r.memory.add(
        BouncedRegion(region.base, region.size, counted, lambda a, data: region.store(a - region.base, data))
    )
    r.device.process(r.queue)
    r.device.pause()
    looks.clear()
    r.device.kick(0, r.driver.position(7, 3) << 16)
    r.device.idle()
    assert looks == []
    assert r.clauses == []


# --- races and memory


def test_a_descriptor_that_is_taken_back_breaks_the_ring() -> None:
    """§2.8.16: available at one look and not at the next; the device must not look for ever."""
    r = packed_rig(32, kind=Kind.BOUNCED)
    region = next(region for region in r.memory.regions if region.base == r.parts[0])
    looks = 0

    def flickering(address: int, length: int) -> bytes:
        nonlocal looks
        data = region.load(address - region.base, length)
        if address != RING + 12 or length != 4:
            return data
        looks += 1
        assert looks < 100
        return data if looks % 2 else bytes(4)

    hooked = BouncedRegion(
        region.base, region.size, flickering, lambda a, data: region.store(a - region.base, data)
    )
    r.memory.remove(region)
    r.memory.add(hooked)
    r.send([(DATA, 16)])
    assert r.clauses == ["VIRTIO 1.4 §2.8.16"]
    assert r.device.status & NEEDS_RESET


@pytest.mark.parametrize("features", [0, EVENT_IDX])
def test_a_buffer_that_comes_while_the_device_goes_to_sleep_is_not_lost(features: int) -> None:
    """The driver looks for the last time before the device has asked for a notification; so the device looks again."""
    r = packed_rig(8, features, kind=Kind.BOUNCED)
    region = next(region for region in r.memory.regions if region.base == r.parts[0])
    store = region.store
    late: list[bool] = []

    def racing_store(offset: int, data: bytes | bytearray | memoryview) -> None:
        asks = region.base + offset == r.parts[2] and bytes(data)[2] != DISABLE
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


def test_a_descriptor_that_becomes_available_in_the_middle_of_a_look_waits_for_the_next_one() -> None:
    """Its flags were loaded too early: the rest of it must not be looked at before they are loaded again."""
    r = packed_rig(8, kind=Kind.BOUNCED)
    region = next(region for region in r.memory.regions if region.base == r.parts[0])
    late: list[Buffer] = []

    def racing_load(address: int, length: int) -> bytes:
        data = region.load(address - region.base, length)
        if length == 4 and address == RING + 16 + 12 and not late:
            late.append(r.place([(DATA + 64, 16)]))
            assert not r.driver.expose()
        return data

    hooked = BouncedRegion(
        region.base, region.size, racing_load, lambda a, data: region.store(a - region.base, data)
    )
    r.memory.remove(region)
    r.memory.add(hooked)
    r.send([(DATA, 16)])
    assert len(late) == 1
    assert [used.length for used in r.driver.collect()] == [16, 16]


@kinds
def test_payload_goes_where_the_descriptors_say(kind: Kind) -> None:
    r = packed_rig(8, kind=kind)
    r.send([(DATA + 3, 5), (DATA + 100, 0), (DATA + 200, 7)])
    written = pattern(0, 12)
    assert r.plain.load(DATA + 3, 5) == written[:5]
    assert r.plain.load(DATA + 200, 7) == written[5:]


@pytest.mark.parametrize("vector", [(LAST, 17), (LAST, 16), (0xFFFF, 2), (LAST + 15, 0xFFFF_FFFF)])
def test_payload_outside_memory_is_for_the_device_type_to_answer(vector: tuple[int, int]) -> None:
    """Nothing was written, and the used descriptor says so: no WRITE flag (§2.8.3)."""
    r = packed_rig(8)
    r.send([vector])
    assert [used.length for used in r.driver.collect()] == [0]
    r.send([(DATA, 4)])
    assert [used.length for used in r.driver.collect()] == [4]
    assert not r.device.status & NEEDS_RESET


def test_a_buffer_that_is_only_read_comes_back_without_the_write_flag() -> None:
    r = packed_rig(8)
    r.send([], [(DATA, 8)])
    assert [used.length for used in r.driver.collect()] == [0]
    assert r.plain.unpack("<H", r.parts[0] + 14) == (AVAIL | USED,)


@pytest.mark.parametrize(("part", "align"), [(0, 16), (1, 4), (2, 4)])
def test_a_misaligned_part_needs_a_reset(part: int, align: int) -> None:
    r = packed_rig(8)
    for off in range(1, align):
        parts = list(r.parts)
        parts[part] += off
        with pytest.raises(RingError) as caught:
            PackedRing(r.memory, 8, (parts[0], parts[1], parts[2]), 0, {})
        assert caught.value.clause == "VIRTIO 1.4 §2.8.11"


@kinds
@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("address", [0x4000_0000, LAST, (1 << 64) - 64])
def test_a_part_outside_memory_needs_a_reset(part: int, address: int, kind: Kind) -> None:
    r = packed_rig(8, kind=kind)
    parts = list(r.parts)
    parts[part] = address
    with pytest.raises(RingError, match="outside memory"):
        PackedRing(r.memory, 8, (parts[0], parts[1], parts[2]), 0, {})


@pytest.mark.parametrize("part", [0, 2])
def test_a_part_that_the_device_writes_in_read_only_memory_needs_a_reset(part: int) -> None:
    r = packed_rig(8)
    rom = BouncedRegion(0x8000_0000, 4096, lambda _a, n: bytes(n), lambda _a, _d: None, readonly=True)
    r.memory.add(rom)
    PackedRing(r.memory, 8, (r.parts[0], 0x8000_0000, r.parts[2]), 0, {})
    parts = list(r.parts)
    parts[part] = 0x8000_0000
    with pytest.raises(RingError, match="read-only"):
        PackedRing(r.memory, 8, (parts[0], parts[1], parts[2]), 0, {})


@pytest.mark.parametrize("positions", [(7, WRAP), (WRAP, WRAP | 7), (0x7FFF, 0), (WRAP | 3, WRAP | 4)])
def test_positions_that_no_ring_has_are_refused(positions: tuple[int, int]) -> None:
    r = packed_rig(7)
    last_avail, used_idx = positions
    with pytest.raises(RingError, match="position"):
        PackedRing(r.memory, 7, r.parts, 0, {}, last_avail=last_avail, used_idx=used_idx)


@kinds
def test_a_ring_whose_memory_leaves_needs_a_reset(kind: Kind) -> None:
    r = packed_rig(8, kind=kind)
    r.place([(DATA, 16)])
    r.driver.expose()
    r.memory.remove(next(region for region in r.memory.regions if region.base == r.parts[0]))
    r.device.kick(0)
    r.device.idle()
    assert r.clauses == ["VIRTIO 1.4 §2.8.10.1"]
    assert r.device.status & NEEDS_RESET


@kinds
def test_a_buffer_in_flight_when_the_rings_memory_leaves_is_not_lost_to_the_device(kind: Kind) -> None:
    r = packed_rig(8, kind=kind)
    r.device.mode = Mode.LATER
    r.send([(DATA, 16)])
    r.memory.remove(next(region for region in r.memory.regions if region.base == r.parts[0]))
    r.device.complete(r.device.waiting[0])
    r.device.idle()
    assert r.device.status & NEEDS_RESET
    assert not r.queue.in_flight


def move_ring(r: PackedRig) -> None:
    """The guest's memory that holds the ring lies somewhere else in the host from now on."""
    old = next(region for region in r.memory.regions if region.base == r.parts[0])
    r.plain.blocks[0].data = bytearray(r.plain.blocks[0].data)
    r.memory.remove(old)
    r.memory.add(shared(r.plain.blocks[0]))


def test_a_glance_notices_that_memory_has_moved() -> None:
    r = packed_rig(8)
    ring = r.queue.ring
    assert ring is not None
    assert not ring.pending()
    move_ring(r)
    r.place([(DATA, 16)])
    r.driver.expose()
    assert ring.pending()
    r.device.process(r.queue)
    assert len(r.driver.collect()) == 1


def test_memory_may_move_between_the_end_of_a_buffer_and_its_showing() -> None:
    r = packed_rig(8)
    r.device.mode = Mode.LATER
    r.send([(DATA, 16)])
    r.device.complete(r.device.waiting[0])
    move_ring(r)
    r.device.idle()
    assert len(r.driver.collect()) == 1
    assert r.notified == 1


@pytest.mark.parametrize("features", [0, EVENT_IDX])
@pytest.mark.parametrize("count", [1, 20])
def test_memory_may_move_while_a_buffer_is_handled(count: int, features: int) -> None:
    r = packed_rig(32, features)
    handle = r.device.handle

    def move(queue: object, chains: Sequence[Chain]) -> None:
        move_ring(r)
        handle(r.queue, chains)

    r.device.handle = move  # type: ignore[method-assign]
    for _ in range(3):
        for _ in range(count):
            r.place([(DATA, 16)])
        r.expose()
        assert len(r.driver.collect()) == count


def test_a_doorbell_takes_a_bounded_number_of_descriptors_in_one_go() -> None:
    """Other work of the same context comes in between, however long the tables."""
    r = packed_rig(4096, INDIRECT_DESC)
    entries = [(0, 0, WRITE)] * 2048
    r.driver.write_table(0, entries)
    for ident in range(100):
        put(r.driver, (0, 16 * 2048, INDIRECT), ident=ident)
    r.device.mode = Mode.LATER
    r.device.kick(0)
    assert 0 < len(r.device.taken) < 10
    r.device.idle()
    assert len(r.device.taken) == 100


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
