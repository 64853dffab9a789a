"""Notifications of a split ring: which are wanted, and those that carry data, VIRTIO 1.4 §2.7.7, §2.7.10 and §2.9."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from devmodels.virtio.ring import Chain
from tests.unit.virtio.model import (
    EVENT_IDX,
    NOTIFICATION_DATA,
    Buffer,
)
from tests.unit.virtio.rig import DATA, rig


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
