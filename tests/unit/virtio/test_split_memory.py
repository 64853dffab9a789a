"""The memory of a split ring: races with the driver, and memory that is not there, moves or leaves."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from devmodels.memory import GuestMemory
from devmodels.memoryregions import BouncedRegion
from devmodels.virtio.ring import Chain, RingError
from devmodels.virtio.split import SplitRing
from tests.unit.virtio.dut import NEEDS_RESET, Mode, pattern
from tests.unit.virtio.model import (
    EVENT_IDX,
    NEXT,
    WRITE,
)
from tests.unit.virtio.plain import Kind, kinds
from tests.unit.virtio.rig import DATA, LAST, move_ring, rig


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
