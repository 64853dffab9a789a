"""Queues of a device, notifications, reset as a state, configuration generation (VIRTIO 1.4 chapters 2 and 3)."""

from __future__ import annotations

import pytest

from devmodels.memory import GuestMemory
from devmodels.trace import EventKind, TraceEvent, Tracer
from devmodels.virtio.device import CORE_FEATURES
from tests.unit.virtio.dut import IN_ORDER, NEEDS_RESET, RUNNING, Mode, TestDevice
from tests.unit.virtio.model import EVENT_IDX, RING_RESET, VERSION_1, Buffer, DriverRing, Form, area_sizes
from tests.unit.virtio.plain import Block, Kind, PlainMemory, guest_memory
from tests.unit.virtio.rig import DATA, RING, Rig, rig, ring_parts

NOTIFY = "VIRTIO 1.4 §4.1.5.2.1"
SEQUENCE = "VIRTIO 1.4 §3.1.1"


def clauses(of: TestDevice) -> list[str]:
    return [each.clause for each in of.violations.recent]


def busy(count: int = 1, features: int = RING_RESET, mode: Mode = Mode.LATER) -> Rig[DriverRing]:
    """A device with `count` buffers in flight."""
    r = rig(8, features)
    r.device.mode = mode
    for number in range(count):
        r.send([(DATA + 64 * number, 64)])
    return r


def untouched(r: Rig[DriverRing], since: PlainMemory) -> bool:
    _, _, used = r.parts
    size = area_sizes(r.driver.size)[2]
    return r.plain.load(used, size) == since.load(used, size)


def test_a_trace_has_each_buffer_that_was_taken() -> None:
    r = rig(8)
    events: list[TraceEvent] = []
    r.device.trace = Tracer(lambda: 0)
    r.device.trace.sinks.append(events.append)
    r.send([(DATA + 64, 32)], [(DATA, 16), (DATA + 16, 8)])
    chains = [each.detail for each in events if each.kind is EventKind.CHAIN]
    assert chains == [(0, 0, 2, DATA, 16, DATA + 16, 8, DATA + 64, 32)]


@pytest.mark.parametrize("by_driver", [False, True])
def test_a_device_that_one_side_has_given_up_takes_nothing(by_driver: bool) -> None:
    """§2.1: FAILED is the driver's word, DEVICE_NEEDS_RESET the device's; both end with a reset."""
    r = rig(8)
    if by_driver:
        r.device.write_status(RUNNING | 0x80)
    else:
        r.device.needs_reset()
    since = r.plain.copy()
    r.send([(DATA, 64)])
    r.device.kick(0)
    r.device.idle()
    assert r.device.taken == []
    assert untouched(r, since)


# --- making


@pytest.mark.parametrize("size", [0, 1, 3, 100, 65536, -2])
def test_an_impossible_queue_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="queue-size"):
        TestDevice(GuestMemory(), queue_size=size)


def test_a_thousand_queues_of_the_largest_size() -> None:
    """Every one of them can be used, and unused ones cost next to nothing."""
    parts, end = ring_parts(32768)
    plain = PlainMemory([Block(RING, bytearray(end - RING)), Block(0, bytearray(4096))])
    device = TestDevice(guest_memory(plain, Kind.SHARED), num_queues=1024, queue_size=32768)
    device.negotiate(VERSION_1)
    driver = DriverRing(plain, 32768, parts, VERSION_1)
    device.enable_queue(device.set_queue(1023, 32768, parts))
    device.go()
    driver.place(Buffer([], [(0x100, 8)]), Form.DIRECT, 0)
    driver.expose()
    device.kick(1023)
    assert device.notifications.used == [1023]
    assert [used.length for used in driver.collect()] == [8]


# --- notifications


def test_a_notification_before_driver_ok_is_a_violation_and_takes_nothing() -> None:
    r = rig(8)
    r.device.negotiate(VERSION_1)
    driver = DriverRing(r.plain, 8, r.parts, VERSION_1)
    r.driver = driver
    r.device.enable_queue(r.device.set_queue(0, 8, r.parts))
    r.place([(DATA, 16)])
    driver.expose()
    before = r.plain.copy()
    r.device.kick(0)
    r.device.idle()
    assert clauses(r.device) == [SEQUENCE]
    assert untouched(r, before)
    r.device.go()
    r.device.idle()
    assert len(driver.collect()) == 1, "what was there before DRIVER_OK needs no notification"


@pytest.mark.parametrize("index", [1, 2, 65535])
def test_a_notification_of_an_absent_queue_is_a_violation(index: int) -> None:
    r = rig(8)
    r.device.kick(index)
    assert clauses(r.device) == [NOTIFY]


def test_a_notification_of_a_disabled_queue_is_a_violation() -> None:
    device = TestDevice(GuestMemory(), num_queues=2)
    device.negotiate(VERSION_1)
    device.go()
    device.kick(1)
    assert clauses(device) == [NOTIFY]


def test_spurious_notifications_are_harmless() -> None:
    """§2.7.10.2"""
    r = rig(8)
    for _ in range(5):
        r.device.kick(0)
    assert clauses(r.device) == []
    assert r.notified == 0


def test_notifications_are_traced_with_their_data() -> None:
    r = rig(8)
    events: list[TraceEvent] = []
    r.device.trace = Tracer(lambda: 0)
    r.device.trace.sinks.append(events.append)
    r.device.kick(0)
    r.device.kick(0, 0x8001_0000)
    assert [(event.kind, event.detail) for event in events] == [
        (EventKind.KICK, (0, -1)),
        (EventKind.KICK, (0, 0x8001_0000)),
    ]


def test_what_a_driver_sets_up_is_traced_whatever_the_transport() -> None:
    r = rig(8, features=RING_RESET)
    events: list[TraceEvent] = []
    r.device.trace = Tracer(lambda: 0)
    r.device.trace.sinks.append(events.append)
    queue = r.device.queues[0]
    parts = (queue.desc, queue.driver, queue.device)
    r.device.reset_queue(queue)
    queue.desc, queue.driver, queue.device = parts
    r.device.enable_queue(queue)
    r.device.write_status(0)
    for status in (1, 3):
        r.device.write_status(status)
    r.device.write_features(1, select=1)
    r.device.write_status(11)
    assert [(event.kind, event.detail) for event in events] == [
        (EventKind.RESET, (0,)),
        (EventKind.QUEUE, (0, 8, *parts, 0, 0)),
        (EventKind.RESET, (-1,)),
        (EventKind.FEATURES, (VERSION_1,)),
    ]


# --- setting queues up


def test_a_queue_enabled_before_features_ok_is_out_of_sequence() -> None:
    device = TestDevice(GuestMemory(), num_queues=1)
    device.write_status(3)
    device.enable_queue(device.queues[0])
    assert clauses(device) == [SEQUENCE]


def test_a_queue_enabled_after_driver_ok_runs_at_once() -> None:
    r = rig(8, RING_RESET)
    r.device.reset_queue(r.queue)
    r.driver = DriverRing(r.plain, 8, r.parts, VERSION_1)
    r.device.set_queue(0, 8, r.parts)
    r.place([(DATA, 16)])
    r.driver.expose()
    r.device.enable_queue(r.queue)
    r.device.idle()
    assert len(r.driver.collect()) == 1


@pytest.mark.parametrize("when", ["before DRIVER_OK", "after DRIVER_OK"])
def test_a_queue_that_is_nowhere_needs_a_reset(when: str) -> None:
    device = TestDevice(GuestMemory())
    device.negotiate(VERSION_1)
    queue = device.set_queue(0, 8, (0x1000, 0x2000, 0x3000))
    if when.startswith("before"):
        device.enable_queue(queue)
        assert not device.status & NEEDS_RESET
        device.go()
    else:
        device.go()
        device.enable_queue(queue)
    assert device.status == RUNNING | NEEDS_RESET
    assert clauses(device) == ["VIRTIO 1.4 §2.7"]
    assert device.notifications.config == 1
    device.kick(0)
    device.write_status(0)
    assert device.status == 0


# --- reset as a state


@pytest.mark.parametrize("count", [1, 3])
def test_a_reset_waits_for_what_runs_and_touches_nothing(count: int) -> None:
    r = busy(count)
    before = r.plain.copy()
    resets = r.device.resets
    r.device.write_status(0)
    for job in list(r.device.waiting):
        assert r.device.status == RUNNING, "status is not 0 before the reset is over"
        r.device.complete(job)
        r.device.idle()
    assert r.device.status == 0
    assert r.device.resets == resets + 1
    assert untouched(r, before)
    assert r.notified == 0


def test_a_reset_drops_what_has_not_started() -> None:
    r = busy(3, mode=Mode.NEVER)
    r.device.write_status(0)
    assert r.device.status == 0


def test_what_was_done_just_before_the_reset_is_not_shown_after_it() -> None:
    r = busy(2)
    r.device.complete(r.device.waiting[0])
    r.device.write_status(0)
    before = r.plain.copy()
    r.device.idle()
    assert untouched(r, before)
    assert r.driver.used_idx == 0
    assert r.notified == 0


def test_a_second_reset_during_a_reset_changes_nothing() -> None:
    r = busy()
    resets = r.device.resets
    r.device.write_status(0)
    r.device.write_status(0)
    r.device.complete(r.device.waiting[0])
    assert r.device.status == 0
    assert r.device.resets == resets + 1


def test_status_written_during_a_reset_is_a_violation() -> None:
    """§4.1.4.3.2: the driver waits until it reads 0."""
    r = busy()
    r.device.write_status(0)
    r.device.write_status(1)
    assert clauses(r.device) == ["VIRTIO 1.4 §4.1.4.3.2"]
    r.device.complete(r.device.waiting[0])
    assert r.device.status == 0


def test_a_device_in_reset_takes_nothing_more() -> None:
    r = busy()
    r.device.write_status(0)
    r.place([(DATA + 0x100, 16)])
    r.driver.expose()
    r.device.kick(0)
    r.device.idle()
    assert len(r.device.taken) == 1
    r.device.enable_queue(r.queue)
    r.device.reset_queue(r.queue)
    r.device.write_features(1, select=0)
    r.device.complete(r.device.waiting[0])
    assert not r.queue.enabled
    assert r.device.driver_features == 0


def test_another_queue_is_not_started_during_a_reset() -> None:
    parts, end = ring_parts(8)
    plain = PlainMemory([Block(RING, bytearray(2 * (end - RING))), Block(0, bytearray(0x1_0000))])
    second = tuple(address + end - RING for address in parts)
    device = TestDevice(guest_memory(plain, Kind.SHARED), num_queues=2)
    device.negotiate(VERSION_1)
    device.enable_queue(device.set_queue(0, 8, parts))
    device.go()
    r = Rig(plain, device.memory, device, device.queues[0], DriverRing(plain, 8, parts, VERSION_1), parts)
    device.mode = Mode.LATER
    r.send([(DATA, 16)])
    device.write_status(0)
    assert len(second) == 3
    device.enable_queue(device.set_queue(1, 8, (second[0], second[1], second[2])))
    assert device.queues[1].ring is None
    device.complete(device.waiting[0])
    assert device.status == 0
    assert not device.queues[1].enabled
    assert device.queues[1].desc == 0


def test_everything_is_as_new_after_a_reset() -> None:
    r = busy(2, RING_RESET | EVENT_IDX, Mode.AT_ONCE)
    r.device.write_status(0)
    queue = r.queue
    assert (queue.size, queue.desc, queue.driver, queue.device) == (queue.max_size, 0, 0, 0)
    assert not queue.enabled
    assert r.device.driver_features == 0
    r.device.negotiate(VERSION_1)
    r.driver = DriverRing(r.plain, 8, r.parts, VERSION_1)
    r.device.enable_queue(r.device.set_queue(0, 8, r.parts))
    r.device.go()
    r.device.idle()
    r.send([(DATA, 32)])
    assert [used.length for used in r.driver.collect()] == [32]
    assert r.driver.used_idx == 1


def test_a_reset_revives_a_broken_ring_with_buffers_in_flight() -> None:
    r = busy(2)
    r.driver.write_entry(0, 0xFFFF)
    r.driver.move_idx(1)
    r.device.kick(0)
    assert r.device.status & NEEDS_RESET
    r.device.write_status(0)
    assert r.device.status != 0
    for job in list(r.device.waiting):
        r.device.complete(job)
    assert r.device.status == 0
    assert not r.queue.in_flight


# --- queue reset (§2.6.1)


def test_a_queue_reset_waits_for_what_runs() -> None:
    r = busy(2)
    before = r.plain.copy()
    r.device.reset_queue(r.queue)
    assert r.queue.resetting
    for job in list(r.device.waiting):
        assert r.queue.resetting
        r.device.complete(job)
        r.device.idle()
    assert not r.queue.resetting
    assert not r.queue.enabled
    assert untouched(r, before)
    assert r.notified == 0
    assert r.device.status == RUNNING


def test_a_queue_in_reset_takes_nothing_more() -> None:
    r = busy()
    r.device.reset_queue(r.queue)
    r.place([(DATA + 0x100, 16)])
    r.driver.expose()
    r.device.kick(0)
    r.device.process(r.queue)
    r.device.enable_queue(r.queue)
    r.device.idle()
    assert len(r.device.taken) == 1


def test_a_queue_reset_during_a_queue_reset_changes_nothing() -> None:
    r = busy()
    r.device.reset_queue(r.queue)
    r.device.reset_queue(r.queue)
    r.device.complete(r.device.waiting[0])
    assert not r.queue.resetting


def test_a_queue_reset_during_a_reset_is_none() -> None:
    r = busy()
    r.device.write_status(0)
    r.device.reset_queue(r.queue)
    assert (r.device.resetting, r.queue.resetting) == (True, False)


def test_a_device_reset_during_a_queue_reset_ends_both() -> None:
    r = busy()
    r.device.reset_queue(r.queue)
    r.device.write_status(0)
    r.device.complete(r.device.waiting[0])
    assert not r.queue.resetting
    assert r.device.status == 0


def test_a_disabled_queue_can_be_reset() -> None:
    device = TestDevice(GuestMemory())
    device.negotiate(VERSION_1 | RING_RESET)
    device.set_queue(0, 8, (16, 32, 64))
    device.reset_queue(device.queues[0])
    assert device.queues[0].desc == 0
    assert not device.queues[0].resetting


def test_a_queue_can_come_back_with_another_size_and_place() -> None:
    r = rig(8, RING_RESET)
    r.send([(DATA, 16)])
    r.device.reset_queue(r.queue)
    desc, avail, used = r.parts
    parts = (desc, avail + 16, used + 32)
    r.driver = DriverRing(r.plain, 2, parts, VERSION_1)
    r.device.enable_queue(r.device.set_queue(0, 2, parts))
    r.send([(DATA, 48)])
    assert [each.length for each in r.driver.collect()] == [48]


# --- bus mastering, as the PCI transport uses it


def test_a_paused_device_neither_takes_nor_shows_anything() -> None:
    r = busy(2)
    before = r.plain.copy()
    r.device.paused = True
    r.device.complete(r.device.waiting[0])
    r.device.idle()
    r.place([(DATA + 0x100, 16)])
    r.driver.expose()
    r.device.kick(0)
    r.device.idle()
    assert r.driver.used_idx == before.unpack("<H", r.parts[2] + 2)[0]
    assert r.notified == 0
    r.device.paused = False
    r.device.process(r.queue)
    r.device.idle()
    assert len(r.driver.collect()) == 1
    assert len(r.device.taken) == 3


# --- configuration (§2.5, §4.1.4.3.1)


def test_the_generation_moves_once_a_change_can_be_seen() -> None:
    device = TestDevice(GuestMemory(), config=b"\1\2\3\4")
    first = device.config_generation
    assert device.load_config(0, 4) == 0x04030201
    assert device.config_generation == first
    device.config[0] = 9
    device.config_changed()
    device.config_changed()
    assert device.config_generation == first
    device.load_config(3, 1)
    assert device.config_generation != first
    second = device.config_generation
    device.load_config(0, 1)
    assert device.config_generation == second


def test_a_driver_that_reads_as_told_never_sees_half_a_change() -> None:
    """§2.5.1: read the generation before and after."""
    device = TestDevice(GuestMemory(), config=bytes(8))
    for round_ in range(1, 600):
        before = device.config_generation
        low = device.load_config(0, 4)
        device.config[:] = (round_ << 32 | round_).to_bytes(8, "little")
        device.config_changed()
        high = device.load_config(4, 4)
        assert low != high
        assert device.config_generation != before
        assert device.load_config(0, 4) == device.load_config(4, 4)


def test_a_change_is_announced_to_a_running_driver_alone() -> None:
    device = TestDevice(GuestMemory())
    device.config_changed()
    assert device.notifications.config == 0
    device.negotiate(VERSION_1)
    device.config_changed()
    assert device.notifications.config == 0
    device.go()
    device.config_changed()
    assert device.notifications.config == 1
    device.config_changed(notify=False)
    assert device.notifications.config == 1


def test_the_core_offers_what_it_can_do() -> None:
    assert CORE_FEATURES == VERSION_1 | 1 << 28 | EVENT_IDX | RING_RESET | 1 << 38 | 1 << 43
    assert not CORE_FEATURES & IN_ORDER
