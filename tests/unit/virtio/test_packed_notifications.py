"""Notifications of a packed ring: which are wanted, and those that carry data, VIRTIO 1.4 §2.8.10 and §2.9."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from devmodels.memoryregions import BouncedRegion
from devmodels.virtio.ring import Chain
from tests.unit.virtio.dut import NEEDS_RESET, Mode
from tests.unit.virtio.model import (
    EVENT_IDX,
    NOTIFICATION_DATA,
)
from tests.unit.virtio.packed_model import (
    DISABLE,
    ENABLE,
    ONE,
    WRAP,
)
from tests.unit.virtio.plain import Kind
from tests.unit.virtio.rig import DATA, packed_rig


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
