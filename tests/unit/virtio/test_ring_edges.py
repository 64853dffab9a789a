"""Where one bit more or less in a ring would go unseen otherwise: odd flags, odd tables, memory that moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from devmodels.memory import GuestMemory
from devmodels.memoryregions import BouncedRegion
from devmodels.virtio.layout import VIRTQ_DESC
from devmodels.virtio.packed import PackedRing
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain, RingError
from devmodels.virtio.split import SplitRing
from tests.unit.virtio.dut import Mode, TestDevice
from tests.unit.virtio.hostile import chain, table_of
from tests.unit.virtio.model import (
    EVENT_IDX,
    IN_ORDER,
    INDIRECT,
    INDIRECT_DESC,
    NEXT,
    NOTIFICATION_DATA,
    WRITE,
    Driver,
    Form,
)
from tests.unit.virtio.packed_hostile import put
from tests.unit.virtio.packed_model import DISABLE
from tests.unit.virtio.plain import Kind, kinds
from tests.unit.virtio.rig import DATA, TABLE, Rig, move_ring, packed_rig, rig


@kinds
def test_flags_that_mean_nothing_in_a_descriptor_change_nothing(kind: Kind) -> None:
    """§2.7.5: NEXT, WRITE and INDIRECT are all that there are."""
    r = rig(8, INDIRECT_DESC, kind=kind)
    r.driver.move_idx(chain(r.driver, (DATA, 8, NEXT | 0x0008, 0), (DATA + 64, 8, WRITE | 0xFFF0, 0)))
    r.device.kick(0)
    (job,) = r.device.taken
    assert (job.chain.readable, job.chain.writable) == ([(DATA, 8)], [(DATA + 64, 8)])
    assert r.clauses == []


@kinds
@pytest.mark.parametrize("entries", [3, 4, 5])
def test_next_says_where_a_table_goes_on(entries: int, kind: Kind) -> None:
    """§2.7.5.3: it need not be the entry that follows."""
    r = rig(8, INDIRECT_DESC, kind=kind)
    table = [(DATA, 8, NEXT, 2), (DATA + 8, 8, NEXT, 3), (DATA + 64, 8, WRITE, 0), *[(0, 0, 0, 0)] * 2]
    r.driver.move_idx(table_of(r.driver, TABLE, table[:entries]))
    r.device.kick(0)
    (job,) = r.device.taken
    assert (job.chain.readable, job.chain.writable) == ([(DATA, 8)], [(DATA + 64, 8)])


@kinds
def test_next_says_where_a_chain_goes_on(kind: Kind) -> None:
    r = rig(8, kind=kind)
    for head, entry in enumerate([(DATA, 8, NEXT, 2), (DATA + 8, 8, NEXT, 3), (DATA + 64, 8, WRITE, 0)]):
        r.driver.write_desc(1 + head, *entry[:3], entry[3] + 1 if entry[3] else 0)
    r.driver.write_entry(0, 1)
    r.driver.move_idx(1)
    r.device.kick(0)
    (job,) = r.device.taken
    assert (job.chain.readable, job.chain.writable) == ([(DATA, 8)], [(DATA + 64, 8)])


@pytest.mark.parametrize("sent", [0, 1, 3])
def test_a_device_that_moves_knows_where_an_in_order_driver_goes_on(sent: int) -> None:
    """§2.7.5: what was not said before is not said after the move, and the other way round."""
    r = rig(8, IN_ORDER)
    for _ in range(sent):
        r.send([(DATA, 1)])
    r.driver.collect()
    moved = TestDevice(r.memory, queue_size=8)
    moved.restore(r.device.save())
    head = sent or 5
    for each in (head, head + 1):
        r.driver.write_desc(each, DATA, 1, WRITE, 0)
        r.driver.write_entry(0, each)
        r.driver.move_idx(1)
        moved.kick(0)
        moved.idle()
    assert [each.clause for each in moved.violations.recent] == []
    r.driver.write_desc(0, DATA, 1, WRITE, 0)
    r.driver.write_entry(0, 0)
    r.driver.move_idx(1)
    moved.kick(0)
    assert [each.clause for each in moved.violations.recent] == ["VIRTIO 1.4 §2.7.5"]


def test_no_part_of_the_used_ring_may_be_read_only() -> None:
    r = rig(8)
    base = 0x8000_0000
    store = bytearray(4096)

    def region(at: int, size: int, *, readonly: bool = False) -> BouncedRegion:
        return BouncedRegion(
            at, size, lambda _a, n: bytes(n), lambda a, d: store.__setitem__(a, d[0]), readonly=readonly
        )

    for each in (region(base, 32), region(base + 32, 16, readonly=True), region(base + 48, 64)):
        r.memory.add(each)
    SplitRing(r.memory, 2, (*r.parts[:2], base), 0, {})
    with pytest.raises(RingError, match="read-only"):
        SplitRing(r.memory, 8, (*r.parts[:2], base), 0, {})


@pytest.mark.parametrize("make", [rig, packed_rig])
def test_a_ring_knows_that_memory_has_changed(make: Callable[[int], Rig[Driver]]) -> None:
    r = make(8)
    ring = r.queue.ring
    assert ring is not None
    assert ring.attached
    region = r.memory.regions[0]
    r.memory.remove(region)
    r.memory.add(region)
    assert not ring.attached
    ring.attach()
    assert ring.attached


@kinds
@pytest.mark.parametrize("entries", [2, 3, 4])
def test_a_table_outside_memory_needs_a_reset_whatever_its_length(entries: int, kind: Kind) -> None:
    r = rig(8, INDIRECT_DESC, kind=kind)
    r.driver.move_idx(chain(r.driver, (0x4000_0000, 16 * entries, INDIRECT, 0)))
    r.device.kick(0)
    assert r.clauses == ["VIRTIO 1.4 §2.7.5.3"]
    assert r.device.taken == []


# --- packed rings


@kinds
@pytest.mark.parametrize("odd", [0x0008, 0x7F78])
def test_flags_that_mean_nothing_in_a_packed_descriptor_change_nothing(odd: int, kind: Kind) -> None:
    r = packed_rig(8, kind=kind)
    put(r.driver, (DATA, 8, NEXT | odd), (DATA + 8, 8, NEXT | odd), (DATA + 64, 8, WRITE | odd))
    r.device.kick(0)
    (job,) = r.device.taken
    assert (job.chain.readable, job.chain.writable) == ([(DATA, 8), (DATA + 8, 8)], [(DATA + 64, 8)])
    assert (job.chain.readable_bytes, job.chain.writable_bytes) == (16, 8)
    assert r.clauses == []


@kinds
@pytest.mark.parametrize("entries", [2, 3, 4])
def test_a_packed_table_outside_memory_needs_a_reset_whatever_its_length(entries: int, kind: Kind) -> None:
    r = packed_rig(8, INDIRECT_DESC, kind=kind)
    put(r.driver, (0x4000_0000, 16 * entries, INDIRECT))
    r.device.kick(0)
    assert r.clauses == ["VIRTIO 1.4 §2.8.7"]
    assert r.device.taken == []


def test_a_new_packed_ring_can_be_told_to_want_no_notifications() -> None:
    r = packed_rig(8)
    r.plain.pack("<I", r.parts[2], 0)
    PackedRing(r.memory, 8, r.parts, 0, {}).disable_notifications()
    assert r.plain.unpack("<HH", r.parts[2]) == (0, DISABLE)


@pytest.mark.parametrize("features", [0, EVENT_IDX])
def test_a_packed_driver_in_moved_memory_is_told_not_to_notify(features: int) -> None:
    """What is said while the device looks is said in the memory that is there now."""
    r = packed_rig(8, features)
    seen: list[int] = []
    handle = r.device.handle

    def look(queue: object, chains: Sequence[Chain]) -> None:
        seen.append(r.plain.unpack("<HH", r.parts[2])[1])
        handle(r.queue, chains)

    r.device.handle = look  # type: ignore[method-assign]
    move_ring(r)
    r.send([(DATA, 16)])
    assert seen == [DISABLE]


def test_a_split_driver_in_moved_memory_is_told_not_to_notify() -> None:
    r = rig(8)
    seen: list[int] = []
    handle = r.device.handle

    def look(queue: object, chains: Sequence[Chain]) -> None:
        seen.append(r.driver.used_flags)
        handle(r.queue, chains)

    r.device.handle = look  # type: ignore[method-assign]
    move_ring(r)
    r.send([(DATA, 16)])
    assert seen == [1]


@pytest.mark.parametrize("make", [rig, packed_rig])
def test_a_ring_says_what_it_has_taken_and_given_back(make: Callable[[int], Rig[Driver]]) -> None:
    r = make(8)
    ring = r.queue.ring
    assert ring is not None
    for _ in range(3):
        r.send([(DATA, 8)])
    r.device.mode = Mode.LATER
    r.send([(DATA, 8)])
    assert (ring.last_avail & 7, ring.used_idx & 7) == (4, 3)


@pytest.mark.parametrize("make", [rig, packed_rig])
@pytest.mark.parametrize("form", [Form.DIRECT, Form.INDIRECT])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_ring_gives_no_more_at_a_time_than_was_asked_for(
    count: int, form: Form, make: Callable[[int, int], Rig[Driver]]
) -> None:
    """What counts is descriptors, those of tables, too: that many are looked at before others have their turn."""
    r = make(16, INDIRECT_DESC)
    for _ in range(4):
        r.place([(DATA, 8)] * (count - 2), [(DATA, 8)] * 2, form)
    r.driver.expose()
    ring = r.queue.ring
    assert ring is not None
    chains: list[Chain] = []
    taken = ring.take(4, count + 1, chains)
    assert (len(chains), taken) == (2, 2 * count)
    assert ring.take(2, count, chains) == count
    assert ring.take(1, 100, chains) == count


@pytest.mark.parametrize("make", [rig, packed_rig])
def test_what_was_stored_before_is_loaded_after_a_fence(
    make: Callable[[int], Rig[Driver]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """§2.7.13.3, §2.8.21.1: an index or a flag may be seen before all that it stands for, up to the fence."""
    r = make(8)
    ring = r.plain.blocks[0].data
    before = bytes(ring)
    r.place([(DATA + 64, 16)], [(DATA, 8)])
    late = [(at, new) for at, (old, new) in enumerate(zip(before, ring, strict=True)) if old != new]
    ring[:] = before
    r.driver.expose()

    def fence(_memory: GuestMemory) -> None:
        for at, byte in late:
            ring[at] = byte
        late.clear()

    monkeypatch.setattr(GuestMemory, "fence", fence)
    r.device.kick(0)
    assert [(job.chain.readable, job.chain.writable) for job in r.device.taken] == [
        ([(DATA, 8)], [(DATA + 64, 16)])
    ]
    assert r.clauses == []


@pytest.mark.parametrize("make", [rig, packed_rig])
def test_memory_that_moves_while_the_device_looks_has_the_wish_for_notifications(
    make: Callable[[int], Rig[Driver]],
) -> None:
    """An embedder may change its map in the middle of it: a driver that sees the new memory alone must notify."""
    r = make(8)
    r.device.mode = Mode.LATER
    handle = r.device.handle

    def move(queue: VirtQueue, chains: Sequence[Chain]) -> None:
        handle(queue, chains)
        move_ring(r)

    r.device.handle = move  # type: ignore[method-assign]
    for count in (1, 2):
        r.place([(DATA, 16)])
        assert r.expose(), "a notification is wanted"
        assert len(r.device.taken) == count


@kinds
@pytest.mark.parametrize("entries", [2, 3, 4])
def test_a_table_without_the_feature_needs_a_reset_whatever_its_length(entries: int, kind: Kind) -> None:
    r = packed_rig(8, kind=kind)
    r.driver.write_table(TABLE, [(DATA, 8, 0), (DATA + 8, 8, 0), *[(DATA + 64, 8, WRITE)] * 2][-entries:])
    put(r.driver, (TABLE, 16 * entries, INDIRECT))
    r.device.kick(0)
    assert (r.clauses, r.device.taken) == (["VIRTIO 1.4 §2.8.19"], [])
    s = rig(8, kind=kind)
    table = [(DATA, 8, NEXT, 1), (DATA + 8, 8, NEXT, 2), (DATA + 64, 8, WRITE, 0), (0, 0, 0, 0)]
    s.driver.move_idx(table_of(s.driver, TABLE, table[:entries]))
    s.device.kick(0)
    assert (s.clauses, s.device.taken) == (["VIRTIO 1.4 §2.7.5.3.1"], [])


@kinds
def test_a_list_of_three_needs_room_for_three(kind: Kind) -> None:
    """§2.8.17: two descriptors are free, and the third one's buffer is with the device."""
    r = packed_rig(8, kind=kind)
    for _ in range(2):
        r.send([(DATA, 8)])
    assert len(r.driver.collect()) == 2
    r.device.mode = Mode.LATER
    for _ in range(6):
        r.send([(DATA, 8)])
    assert len(r.device.taken) == 8
    put(r.driver, (DATA, 8, NEXT), (DATA + 8, 8, NEXT), (DATA + 64, 8, WRITE))
    r.device.kick(0)
    assert (r.clauses, len(r.device.taken)) == (["VIRTIO 1.4 §2.8.17"], 8)


@pytest.mark.parametrize("make", [rig, packed_rig])
def test_a_notification_is_not_judged_by_memory_that_is_gone(make: Callable[[int, int], Rig[Driver]]) -> None:
    r = make(8, NOTIFICATION_DATA)
    move_ring(r)
    r.place([(DATA, 8)])
    r.driver.expose()
    r.device.kick(0, r.driver.notification << 16)
    r.device.idle()
    assert r.clauses == []
    assert len(r.driver.collect()) == 1


@pytest.mark.parametrize("make", [rig, packed_rig])
def test_who_waits_for_a_queue_hears_once_when_all_is_back(make: Callable[[int], Rig[Driver]]) -> None:
    r = make(8)
    told: list[int] = []
    r.queue.when_idle(lambda: told.append(0))
    assert told == [0], "at once"
    r.device.mode = Mode.LATER
    for _ in range(2):
        r.send([(DATA, 16)])
    r.queue.stop_when_idle(lambda: told.append(len(r.driver.collect())))
    for job in list(r.device.waiting):
        assert told == [0]
        r.device.complete(job)
        r.device.idle()
    assert told == [0, 2]


def test_a_split_ring_has_a_power_of_two_of_entries() -> None:
    assert [size for size in range(-1, 20) if rig(16).queue.allows(size)] == [1, 2, 4, 8, 16]
    assert [size for size in range(-1, 20) if packed_rig(12).queue.allows(size)] == list(range(1, 13))


@kinds
def test_data_that_looks_like_a_table_is_data(kind: Kind) -> None:
    """§2.7.5.3: INDIRECT says what is one, and neither its length nor what is in it."""
    r = rig(8, INDIRECT_DESC, kind=kind)
    table = [(DATA + 512, 8, NEXT, 1), (DATA + 520, 8, NEXT, 2), (DATA + 528, 8, WRITE, 0)]
    for at, entry in enumerate(table):
        r.plain.store(TABLE + 16 * at, VIRTQ_DESC.pack(*entry))
    r.driver.move_idx(chain(r.driver, (TABLE, 48, NEXT, 0), (DATA, 8, NEXT, 0), (DATA + 64, 8, WRITE, 0)))
    r.device.kick(0)
    (job,) = r.device.taken
    assert (job.chain.readable, job.chain.writable) == ([(TABLE, 48), (DATA, 8)], [(DATA + 64, 8)])


@kinds
@pytest.mark.parametrize("flags", [0, WRITE])
def test_a_chain_ends_where_next_is_not_set_whatever_lies_behind(flags: int, kind: Kind) -> None:
    """§2.7.5: `next` of its last descriptor, and the one that it leads to, may be what was there before."""
    r = rig(8, kind=kind)
    for at, entry in enumerate([(DATA, 8, NEXT, 1), (DATA + 8, 8, flags, 2), (DATA + 64, 8, WRITE, 3)]):
        r.driver.write_desc(at, *entry)
    r.driver.write_entry(0, 0)
    r.driver.move_idx(1)
    r.device.kick(0)
    (job,) = r.device.taken
    second = [(DATA + 8, 8)]
    expected = ([(DATA, 8)], second) if flags else ([(DATA, 8), *second], [])
    assert (job.chain.readable, job.chain.writable) == expected
    assert r.clauses == []


@kinds
@pytest.mark.parametrize("head", [1, 3, 5])
def test_a_chain_may_go_on_at_the_first_descriptor(head: int, kind: Kind) -> None:
    """§2.7.5: what lies behind its head may be of another one, and as usual as any."""
    r = rig(8, kind=kind)
    entries = {
        head: (DATA, 8, NEXT, 0),
        0: (DATA + 64, 8, WRITE, 0),
        head + 1: (DATA + 8, 8, NEXT, head + 2),
        head + 2: (DATA + 128, 8, WRITE, 0),
    }
    for at, entry in entries.items():
        r.driver.write_desc(at, *entry)
    r.driver.write_entry(0, head)
    r.driver.move_idx(1)
    r.device.kick(0)
    (job,) = r.device.taken
    assert (job.chain.readable, job.chain.writable) == ([(DATA, 8)], [(DATA + 64, 8)])


@kinds
@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_chain_of_more_than_4_gib_needs_a_reset_and_is_told_with_its_length(count: int, kind: Kind) -> None:
    """§2.7.5.2"""
    r = rig(8, kind=kind)
    ends = [(DATA, 0xC000_0000, NEXT, 0), (DATA, 0xA000_0000, WRITE, 0)]
    r.driver.move_idx(chain(r.driver, ends[0], *[(DATA, 16, NEXT, 0)] * (count - 2), ends[1]))
    r.device.kick(0)
    (told,) = r.device.violations.recent
    assert (told.clause, told.summary) == (
        "VIRTIO 1.4 §2.7.5.2",
        "chain of head 0 is longer than 2**32 bytes",
    )
    assert int.from_bytes(told.data, "little") == 0x1_6000_0000 + 16 * (count - 2)
    assert r.device.taken == []


@pytest.mark.parametrize("part", range(3))
def test_each_part_of_a_ring_may_end_where_memory_does(part: int) -> None:
    """§2.7: so many bytes, and no more, are anybody's business."""
    r = rig(8)
    sizes, aligned = (16 * 8, 6 + 2 * 8, 6 + 8 * 8), (16, 2, 4)
    end = r.plain.blocks[-1].end
    at = (end - sizes[part]) // aligned[part] * aligned[part]

    def parts(address: int) -> tuple[int, int, int]:
        return tuple(address if number == part else each for number, each in enumerate(r.parts))  # type: ignore[return-value]

    SplitRing(r.memory, 8, parts(at), 0, {})
    with pytest.raises(RingError, match="outside memory"):
        SplitRing(r.memory, 8, parts(at + aligned[part]), 0, {})


@kinds
@pytest.mark.parametrize("entries", [9, 12, 1 << 10, 3 << 12, 1 << 20, 3 << 16])
def test_a_table_that_is_longer_than_is_allowed_is_refused_however_it_begins(
    entries: int, kind: Kind
) -> None:
    """§2.8.19"""
    r = packed_rig(8, INDIRECT_DESC, kind=kind)
    r.driver.write_table(TABLE, [(DATA, 8, 0), (DATA + 8, 8, 0), (DATA + 64, 8, WRITE)])
    put(r.driver, (TABLE, 16 * entries, INDIRECT))
    r.device.kick(0)
    assert (r.clauses, r.device.taken) == (["VIRTIO 1.4 §2.8.19"], [])


def test_a_list_that_goes_on_into_nothing_is_told_with_the_place() -> None:
    """§2.8.17; places are those of the ring, on the second lap, too."""
    for start, place in ((0, 1), (7, 0), (9, 2), (15, 0)):
        r = packed_rig(8, start=start)
        put(r.driver, (DATA, 8, NEXT))
        r.device.kick(0)
        (told,) = r.device.violations.recent
        assert told.summary == f"a list goes on at {place}, which is not available"


def test_a_packed_device_that_wants_every_notification_says_nothing_else() -> None:
    """§2.8.14: flags are ENABLE, which is 0, and no descriptor is named; what is reserved is 0."""
    r = packed_rig(8)
    for _ in range(3):
        assert r.plain.unpack("<I", r.parts[2]) == (0,)
        r.send([(DATA, 8)])


@pytest.mark.long
@pytest.mark.parametrize("make", [rig, packed_rig])
def test_a_queue_with_much_to_do_leaves_others_their_turn(make: Callable[[int], Rig[Driver]]) -> None:
    """Some thousand descriptors at a time; the rest in the turns that follow, without another notification."""
    r = make(8192)
    for _ in range(8000):
        r.place([(DATA, 1)])
    r.driver.expose()
    r.device.process(r.queue)
    first = len(r.device.taken)
    assert 1000 < first < 6000
    r.device.idle()
    assert len(r.device.taken) == 8000
    assert r.clauses == []
    assert len(r.driver.collect()) == 8000


def test_a_table_in_a_list_is_told_with_the_place() -> None:
    """§2.8.19, on both laps."""
    for start, place in ((0, 1), (7, 0), (9, 2), (15, 0)):
        r = packed_rig(8, INDIRECT_DESC, start=start)
        put(r.driver, (DATA, 8, NEXT), (TABLE, 16, INDIRECT))
        r.device.kick(0)
        (told,) = r.device.violations.recent
        assert told.summary == f"indirect descriptor at {place} in a list linked by NEXT"
