"""A virtio device on PCI without bus mastering, and its resets, VIRTIO 1.4 §4.1.4.3."""

from __future__ import annotations

import pytest

from tests.unit.virtio.dut import RUNNING, Mode
from tests.unit.virtio.model import RING_RESET
from tests.unit.virtio.pcirig import (
    FIELDS,
    NO_VECTOR,
    PciRig,
    mapped,
    started,
)
from tests.unit.virtio.plain import Kind
from tests.unit.virtio.rig import DATA


@pytest.mark.parametrize("kind", Kind)
def test_nothing_is_taken_or_shown_without_bus_mastering(kind: Kind) -> None:
    r = PciRig(kind=kind)
    r.start()
    r.device.mode = Mode.LATER
    r.expose()
    r.notify(0)
    r.device.mode = Mode.AT_ONCE
    r.bus_master(False)
    r.expose((DATA + 64, 16))
    r.notify(0)
    r.device.complete(r.device.waiting[0])
    assert r.used() == 0
    assert not r.line
    r.bus_master(True)
    assert r.used() == 2
    assert r.line


def test_a_device_that_starts_without_bus_mastering_waits_for_it() -> None:
    r = PciRig()
    r.map_bars(master=False)
    r.negotiate()
    r.set_queue()
    r.expose()
    r.go()
    assert r.used() == 0
    r.bus_master(True)
    assert r.used() == 1


def test_everything_is_as_new_after_a_device_reset() -> None:
    r = mapped(num_queues=2)
    r.enable_msix()
    r.negotiate(RING_RESET)
    r.set("config_msix_vector", 0)
    r.set_queue(1)
    r.set("queue_msix_vector", 2)
    r.go()
    r.set("device_status", 0)
    assert r.get("device_status") == 0
    assert r.get("config_msix_vector") == NO_VECTOR
    r.set("queue_select", 1)
    values = {name: r.get(name) for name, (offset, _) in FIELDS.items() if 0x18 <= offset < 0x3C}
    assert values == {
        "queue_size": 8,
        "queue_msix_vector": NO_VECTOR,
        "queue_enable": 0,
        "queue_notify_off": 1,
        "queue_desc": 0,
        "queue_driver": 0,
        "queue_device": 0,
        "queue_notif_config_data": 0,
        "queue_reset": 0,
    }


def test_a_device_reset_takes_the_interrupt_back() -> None:
    r = started()
    r.expose()
    r.notify(0)
    assert r.line
    r.set("device_status", 0)
    assert not r.line
    assert r.isr() == 0


def test_a_device_reset_waits_with_status() -> None:
    r = started()
    r.device.mode = Mode.LATER
    r.expose()
    r.notify(0)
    r.set("device_status", 0)
    assert r.get("device_status") == RUNNING
    r.device.complete(r.device.waiting[0])
    assert r.get("device_status") == 0
    assert not r.line


@pytest.mark.parametrize("running", [0, 2])
def test_a_function_reset_resets_the_device(running: int) -> None:
    r = started()
    r.device.mode = Mode.LATER
    for number in range(running):
        r.expose((DATA + 64 * number, 16))
    r.notify(0)
    r.machine.reset()
    for job in list(r.device.waiting):
        r.device.complete(job)
    r.device.idle()
    assert r.driver.used_idx == 0
    assert r.device.status == 0
    assert not r.line
    r.device.mode = Mode.AT_ONCE
    r.start()
    r.expose()
    r.notify(0)
    assert r.used() == 1
