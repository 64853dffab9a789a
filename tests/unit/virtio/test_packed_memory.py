"""The memory of a packed ring: races with the driver, and memory that is not there, moves or leaves."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from devmodels.memoryregions import BouncedRegion
from devmodels.virtio.packed import PackedRing
from devmodels.virtio.ring import Chain, RingError
from tests.unit.virtio.dut import NEEDS_RESET, Mode, pattern
from tests.unit.virtio.model import (
    EVENT_IDX,
    INDIRECT,
    INDIRECT_DESC,
    WRITE,
    Buffer,
)
from tests.unit.virtio.packed_hostile import put
from tests.unit.virtio.packed_model import (
    AVAIL,
    DISABLE,
    USED,
    WRAP,
)
from tests.unit.virtio.plain import Kind, kinds
from tests.unit.virtio.rig import DATA, LAST, RING, move_ring, packed_rig


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
