"""virtio-scsi's event queue, VIRTIO 1.4 §5.6.6.3: hot plug, parameter changes, missed events."""

from __future__ import annotations

import pytest

from devmodels.iocontext import Event
from tests.unit.virtio.model import EVENT_IDX
from tests.unit.virtio.scsirig import (
    EVENT,
    F_CHANGE,
    F_HOTPLUG,
    REQUEST,
    S_BAD_TARGET,
    TEST_UNIT_READY,
    ScsiRig,
    bring_up,
    lun_of,
    read_10,
    scsi,
    set_up,
)

CLAUSE = "VIRTIO 1.4 §5.6.6.3"
NO_EVENT, TRANSPORT_RESET, ASYNC_NOTIFY, PARAM_CHANGE = range(4)
MISSED = 1 << 31
HARD, RESCAN, REMOVED = range(3)


def name(target: int, lun: int) -> bytes:
    """A unit as events name it."""
    return bytes((1, target)) + (0x4000 | lun if lun > 255 else lun).to_bytes(2, "big") + bytes(4)


def test_buffers_wait_until_there_is_something_to_tell() -> None:
    r = scsi(without=EVENT_IDX)
    first, second = r.offer_events(2)
    assert r.device.queues[EVENT].in_flight == {}
    r.plug(3, 300)
    r.settle()
    assert r.event(first) == (TRANSPORT_RESET, name(3, 300), RESCAN)
    r.device.unplug(3, 300)
    r.settle()
    assert r.event(second) == (TRANSPORT_RESET, name(3, 300), REMOVED)
    assert r.send(TEST_UNIT_READY, lun=lun_of(3, 300)).response == S_BAD_TARGET
    assert r.notifications.used.count(EVENT) == 2


def test_the_units_that_stay_have_another_inventory_to_tell() -> None:
    r = scsi()
    r.ready()
    r.plug(0, 1)
    assert r.send(TEST_UNIT_READY).sense_triple == (0x6, 0x3F, 0x0E)


def test_a_capacity_change_is_told_with_its_code() -> None:
    r = scsi()
    r.ready()
    (sent,) = r.offer_events()
    backend = r.device.bus.targets[0].units[0].backend  # type: ignore[attr-defined]
    r.device.context.start(backend.resize(1 << 17))
    r.settle()
    assert r.event(sent) == (PARAM_CHANGE, name(0, 0), 0x2A | 0x09 << 8)
    assert r.send(TEST_UNIT_READY).sense_triple == (0x6, 0x2A, 0x09)


def test_parameters_of_drives_are_not_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """§5.6.6.3.2: units with MMC's classes of events have those instead."""
    r = scsi()
    r.ready()
    (sent,) = r.offer_events()
    unit = r.device.bus.targets[0].units[0]
    monkeypatch.setattr(type(unit), "notification_classes", 0x10)
    r.device.context.start(unit.backend.resize(1 << 17))  # type: ignore[attr-defined]
    r.settle()
    assert r.event(sent) is None
    assert r.send(TEST_UNIT_READY).sense_triple == (0x6, 0x2A, 0x09)


def test_an_event_without_a_buffer_is_missed_and_the_next_buffer_says_so() -> None:
    r = scsi()
    r.plug(1, 0)
    r.plug(2, 0)
    r.settle()
    first, second = r.offer_events(2)
    assert r.event(first) == (NO_EVENT | MISSED, bytes(8), 0)
    assert r.event(second) is None
    r.plug(3, 0)
    r.settle()
    assert r.event(second) == (TRANSPORT_RESET, name(3, 0), RESCAN)


def test_without_the_features_nothing_is_told() -> None:
    r = scsi(without=1 << F_HOTPLUG | 1 << F_CHANGE)
    (sent,) = r.offer_events()
    r.plug(1, 0)
    backend = r.device.bus.targets[0].units[0].backend  # type: ignore[attr-defined]
    r.device.context.start(backend.resize(1 << 17))
    r.settle()
    assert r.event(sent) is None


def test_a_buffer_that_is_too_short_is_given_back_unused() -> None:
    r = scsi()
    short, good = [*r.offer_events(1, room=15), *r.offer_events()]
    r.plug(1, 0)
    r.settle()
    assert short.length == 0
    assert r.clauses == [CLAUSE]
    r.plug(2, 0)
    r.settle()
    assert r.event(good) == (TRANSPORT_RESET | MISSED, name(2, 0), RESCAN)


def test_a_reset_forgets_what_was_missed() -> None:
    r = scsi()
    r.plug(1, 0)
    r.device.write_status(0)
    bring_up(r, r.device.device_features)
    (sent,) = r.offer_events()
    assert r.event(sent) is None


RUNNING, SUSPEND = 0x0F, 0x10
DRIVER_OK = 4


def suspended() -> ScsiRig:
    """A host whose driver has suspended it, with a buffer in the event queue."""
    r = scsi()
    r.ready()
    r.offer_events()
    r.device.write_status(RUNNING | SUSPEND)
    r.settle()
    assert int(r.device.status) == RUNNING & ~DRIVER_OK | SUSPEND
    return r


def test_a_suspended_device_tells_nothing_and_then_that_it_has_not() -> None:
    r = suspended()
    r.plug(1, 0)
    r.settle()
    assert r.order[-1].queue != EVENT
    r.device.write_status(int(r.device.status) | DRIVER_OK)
    r.settle()
    assert r.event(r.order[-1]) == (NO_EVENT | MISSED, bytes(8), 0)
    assert r.clauses == []


def test_a_suspended_device_with_nothing_to_tell_has_missed_nothing() -> None:
    r = suspended()
    r.device.write_status(int(r.device.status) | DRIVER_OK)
    r.settle()
    assert r.order[-1].queue != EVENT
    r.plug(1, 0)
    r.settle()
    assert r.event(r.order[-1]) == (TRANSPORT_RESET, name(1, 0), RESCAN)


def test_events_while_a_suspension_waits_are_missed() -> None:
    r = scsi()
    r.ready()
    r.offer_events()
    r.disk.gate = Event(r.device.context)
    r.start(read_10(0, 1), room=512)
    r.go()
    r.device.write_status(RUNNING | SUSPEND)
    r.plug(1, 0)
    r.settle()
    assert not r.device.suspended
    r.disk.gate.set()
    r.settle()
    assert r.device.suspended
    assert r.order[-1].queue == REQUEST
    r.device.write_status(int(r.device.status) | DRIVER_OK)
    r.settle()
    assert r.event(r.order[-1]) == (NO_EVENT | MISSED, bytes(8), 0)


def test_an_event_that_was_told_before_is_shown_before_the_suspension() -> None:
    r = scsi()
    (sent,) = r.offer_events()
    r.plug(1, 0)
    r.device.write_status(RUNNING | SUSPEND)
    r.collect()
    assert r.device.suspended
    assert r.event(sent) == (TRANSPORT_RESET, name(1, 0), RESCAN)


def test_what_was_missed_over_a_suspension_waits_for_a_buffer() -> None:
    r = scsi()
    r.device.write_status(RUNNING | SUSPEND)
    r.plug(1, 0)
    r.device.write_status(int(r.device.status) | DRIVER_OK)
    r.settle()
    first, second = r.offer_events(2)
    assert r.event(first) == (NO_EVENT | MISSED, bytes(8), 0)
    assert r.event(second) is None


def test_a_reset_of_a_suspended_device_forgets_what_was_missed() -> None:
    r = suspended()
    r.plug(1, 0)
    bring_up(r, r.device.device_features)
    (sent,) = r.offer_events()
    assert r.event(sent) is None


def again(r: ScsiRig) -> None:
    """The driver has reset the event queue, and sets it up again."""
    queue = r.device.queues[EVENT]
    assert not queue.resetting
    assert not queue.enabled
    r.sent = [sent for sent in r.sent if sent.queue != EVENT]
    r.drivers[EVENT] = set_up(r, queue, r.device.driver_features)


@pytest.mark.parametrize("packed", [False, True])
def test_an_event_that_the_driver_has_not_seen_before_it_reset_the_queue_is_missed(packed: bool) -> None:
    r = scsi(packed=packed)
    r.offer_events(2)
    r.plug(1, 0)
    r.device.reset_queue(r.device.queues[EVENT])
    again(r)
    first, second = r.offer_events(2)
    assert r.event(first) == (NO_EVENT | MISSED, bytes(8), 0)
    r.plug(2, 0)
    r.settle()
    assert r.event(second) == (TRANSPORT_RESET, name(2, 0), RESCAN)
    assert r.clauses == []


def test_events_without_an_event_queue_are_missed() -> None:
    r = scsi()
    r.offer_events(2)
    r.device.reset_queue(r.device.queues[EVENT])
    r.plug(1, 0)
    r.settle()
    again(r)
    (sent,) = r.offer_events()
    assert r.event(sent) == (NO_EVENT | MISSED, bytes(8), 0)


def test_an_event_that_it_has_seen_is_not() -> None:
    r = scsi()
    (sent,) = r.offer_events()
    r.plug(1, 0)
    r.settle()
    assert r.event(sent) is not None
    r.device.reset_queue(r.device.queues[EVENT])
    again(r)
    (sent,) = r.offer_events()
    assert r.event(sent) is None


def test_a_reset_of_the_event_queue_gives_its_buffers_up() -> None:
    r = scsi()
    r.offer_events(2)
    queue = r.device.queues[EVENT]
    r.device.reset_queue(queue)
    r.settle()
    assert not queue.resetting
    r.plug(1, 0)
    r.settle()
    assert [sent for sent in r.order if sent.queue == EVENT] == []
    assert r.clauses == []
