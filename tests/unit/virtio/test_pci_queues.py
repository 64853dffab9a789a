"""A virtio device's queues on PCI: their reset and their notifications, VIRTIO 1.4 §4.1.4.3.1 and §4.1.5.2."""

from __future__ import annotations

import pytest

from tests.unit.virtio.dut import Mode
from tests.unit.virtio.model import NOTIFICATION_DATA, RING_RESET
from tests.unit.virtio.pcirig import (
    DRIVER_RULES,
    NO_VECTOR,
    NOTIFY,
    mapped,
    started,
)

NOTIF_CONFIG_DATA = 1 << 39


NOTIFICATION = "VIRTIO 1.4 §4.1.5.2.1"


# --- queue reset (§4.1.4.3.1)


def test_queue_reset_goes_through_its_states() -> None:
    r = started(RING_RESET)
    r.device.mode = Mode.LATER
    r.expose()
    r.notify(0)
    assert (r.get("queue_enable"), r.get("queue_reset")) == (1, 0)
    r.set("queue_reset", 1)
    assert r.get("queue_reset") == 1
    r.device.complete(r.device.waiting[0])
    assert (r.get("queue_enable"), r.get("queue_reset")) == (0, 0)
    assert (r.get("queue_size"), r.get("queue_desc"), r.get("queue_msix_vector")) == (8, 0, NO_VECTOR)
    r.device.mode = Mode.AT_ONCE
    r.set_queue()
    assert (r.get("queue_enable"), r.get("queue_reset")) == (1, 0)
    r.expose()
    r.notify(0)
    assert r.used() == 1
    assert r.clauses() == []


def test_queue_reset_needs_its_feature() -> None:
    r = started()
    r.set("queue_reset", 1)
    assert r.get("queue_enable") == 1
    assert len(r.clauses()) == 1


@pytest.mark.parametrize("value", [0, 2])
def test_only_1_can_be_written_to_queue_reset(value: int) -> None:
    r = started(RING_RESET)
    r.set("queue_reset", value)
    assert r.get("queue_enable") == 1
    assert r.clauses() == [DRIVER_RULES]
    (told,) = r.device.violations.recent
    assert told.data == value.to_bytes(2, "little"), "as it was written"


# --- notifications (§4.1.5.2)


def test_each_queue_has_its_own_place_to_notify() -> None:
    r = mapped(num_queues=4)
    r.negotiate()
    places = []
    for queue in range(4):
        r.set("queue_select", queue)
        places.append(r.get("queue_notify_off"))
    assert len(set(places)) == 4
    r.set_queue(3)
    r.go()
    r.expose()
    multiplier = r.config_read(r.capability(NOTIFY).at + 16, 4)
    r.machine.write(r.where[NOTIFY] + places[3] * multiplier, 2, 3)
    assert r.used() == 1
    assert r.clauses() == []


@pytest.mark.parametrize(("size", "value"), [(1, 0), (4, 0), (2, 1), (2, 0xFFFF), (8, 0)])
def test_a_notification_of_another_form_works_and_is_reported(size: int, value: int) -> None:
    r = started()
    r.expose()
    r.notify(0, value, size)
    assert r.used() == 1
    assert r.clauses() == [NOTIFICATION]


def test_notification_data_is_32_bits() -> None:
    r = started(NOTIFICATION_DATA)
    r.expose()
    r.notify(0, r.driver.idx << 16, 4)
    assert r.used() == 1
    assert r.clauses() == []
    r.notify(0, 0, 2)
    assert r.clauses() == [NOTIFICATION]


def test_a_notification_beside_every_queue_goes_nowhere() -> None:
    r = started(num_queues=2)
    r.machine.write(r.where[NOTIFY] + 8, 2, 2)
    r.machine.write(r.where[NOTIFY] + 0xFFE, 2, 0x3FF)
    assert r.machine.read(r.where[NOTIFY], 4) == 0
    assert not r.device.taken


# --- NOTIF_CONFIG_DATA (§4.1.5.2)


@pytest.mark.parametrize("data", [False, True])
def test_notifications_carry_what_the_device_gives_for_the_queue(data: bool) -> None:
    r = started(NOTIF_CONFIG_DATA | (NOTIFICATION_DATA if data else 0), num_queues=2)
    names = []
    for queue in range(2):
        r.set("queue_select", queue)
        names.append(r.get("queue_notif_config_data"))
    assert len(set(names)) == 2
    r.expose()
    value = names[0] | r.driver.notification << 16 if data else names[0]
    r.notify(0, value, size=4 if data else 2)
    assert r.used() == 1
    assert r.clauses() == []
    r.expose()
    value = r.driver.notification << 16 if data else 0
    r.notify(0, value, size=4 if data else 2)
    assert r.used() == 1, "the register itself says which queue"
    assert r.clauses() == [NOTIFICATION]


def test_without_the_feature_the_field_does_not_exist() -> None:
    r = started(num_queues=2)
    r.set("queue_select", 1)
    assert r.get("queue_notif_config_data") == 0
