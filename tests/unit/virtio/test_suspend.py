"""A driver suspends its device and resumes it, VIRTIO 1.4 §3.4."""

from __future__ import annotations

import pytest

from devmodels.snapshot import restore_snapshot, save_snapshot
from guestsim.targets.inprocess import InProcessTarget
from tests.unit.virtio.dut import NEEDS_RESET, RUNNING, Mode
from tests.unit.virtio.pcirig import DEVICE, PciRig
from tests.unit.virtio.plain import Kind

SUSPEND_BIT = 16
SUSPEND = 1 << 43
DRIVER_OK = 4
SUSPENDED = RUNNING & ~DRIVER_OK | SUSPEND_BIT
DRIVER_RULES = "VIRTIO 1.4 §3.4.1"


@pytest.fixture(params=[Kind.SHARED, Kind.BOUNCED])
def rig(request: pytest.FixtureRequest) -> PciRig:
    rig = PciRig(kind=request.param, config=bytes(8))
    rig.start(SUSPEND)
    return rig


def suspend(rig: PciRig) -> None:
    rig.set("device_status", RUNNING | SUSPEND_BIT)


def resume(rig: PciRig) -> None:
    rig.set("device_status", rig.get("device_status") | DRIVER_OK)
    rig.device.idle()


def test_an_idle_device_is_suspended_at_once_and_resumes(rig: PciRig) -> None:
    suspend(rig)
    assert rig.get("device_status") == SUSPENDED
    resume(rig)
    assert rig.get("device_status") == RUNNING
    rig.expose()
    rig.notify(0)
    assert rig.used() == 1
    assert rig.clauses() == []


def test_it_waits_for_what_it_has_taken_and_shows_it(rig: PciRig) -> None:
    rig.device.mode = Mode.LATER
    rig.expose()
    rig.notify(0)
    suspend(rig)
    assert rig.get("device_status") == RUNNING, "a request is running"
    rig.device.complete(rig.device.waiting[0])
    assert rig.get("device_status") == SUSPENDED
    assert rig.used() == 1
    assert rig.line, "and the driver was notified"


def test_it_takes_nothing_more_until_it_resumes(rig: PciRig) -> None:
    rig.device.mode = Mode.LATER
    rig.expose()
    rig.notify(0)
    suspend(rig)
    rig.expose()
    rig.notify(0)
    assert len(rig.device.taken) == 1
    rig.device.complete(rig.device.waiting[0])
    rig.notify(0)
    rig.device.idle()
    assert len(rig.device.taken) == 1
    assert rig.clauses() == [DRIVER_RULES, DRIVER_RULES]
    resume(rig)
    assert len(rig.device.taken) == 2


def test_buffers_that_came_meanwhile_are_taken_and_reported(rig: PciRig) -> None:
    suspend(rig)
    rig.expose()
    assert rig.used() == 0
    resume(rig)
    assert rig.used() == 1
    assert rig.clauses() == [DRIVER_RULES]


def test_a_buffer_that_was_there_before_is_no_mistake(rig: PciRig) -> None:
    rig.device.mode = Mode.LATER
    rig.expose()
    rig.notify(0)
    suspend(rig)
    rig.expose()
    rig.device.complete(rig.device.waiting[0])
    assert rig.get("device_status") == SUSPENDED
    resume(rig)
    assert rig.clauses() == []


@pytest.mark.parametrize("written", [SUSPENDED, SUSPENDED & ~SUSPEND_BIT])
def test_nothing_but_driver_ok_resumes_it(rig: PciRig, written: int) -> None:
    suspend(rig)
    rig.expose()
    rig.set("device_status", written)
    rig.device.idle()
    assert rig.get("device_status") == SUSPENDED
    assert rig.used() == 0


def test_the_bit_is_ignored_before_driver_ok(rig: PciRig) -> None:
    rig.negotiate(SUSPEND)
    rig.set("device_status", 11 | SUSPEND_BIT)
    assert rig.get("device_status") == 11
    assert rig.clauses() == [DRIVER_RULES]


def test_without_the_feature_there_is_no_such_bit() -> None:
    rig = PciRig()
    rig.start()
    suspend(rig)
    assert rig.get("device_status") == RUNNING
    assert rig.clauses() == ["VIRTIO 1.4 §2.1.1"]


def test_a_configuration_write_is_ignored(rig: PciRig) -> None:
    suspend(rig)
    rig.machine.write(rig.where[DEVICE], 1, 7)
    assert rig.machine.read(rig.where[DEVICE], 1) == 0
    assert rig.clauses() == [DRIVER_RULES]


def test_a_reset_ends_a_suspension_and_one_that_waits(rig: PciRig) -> None:
    suspend(rig)
    rig.start(SUSPEND)
    assert rig.get("device_status") == RUNNING
    rig.device.mode = Mode.NEVER
    rig.expose()
    rig.notify(0)
    suspend(rig)
    rig.device.mode = Mode.AT_ONCE
    rig.start(SUSPEND)
    rig.expose()
    rig.notify(0)
    assert rig.used() == 1
    assert rig.get("device_status") == RUNNING


def test_a_device_whose_ring_breaks_meanwhile_needs_a_reset(rig: PciRig) -> None:
    rig.device.mode = Mode.LATER
    rig.expose()
    rig.notify(0)
    suspend(rig)
    rig.device.needs_reset()
    rig.device.complete(rig.device.waiting[0])
    assert rig.get("device_status") == RUNNING | NEEDS_RESET


def test_without_bus_mastering_the_suspension_waits(rig: PciRig) -> None:
    rig.bus_master(False)
    suspend(rig)
    assert rig.get("device_status") == RUNNING
    rig.bus_master(True)
    assert rig.get("device_status") == SUSPENDED


@pytest.mark.parametrize("shared", [True, False])
def test_a_new_size_is_shown_and_told_after_the_suspension(shared: bool) -> None:
    with InProcessTarget(
        blockdevs=[{"driver": "memory", "node-name": "d0", "size": 1 << 20}],
        devices=[{"driver": "virtio-blk-device", "drive": "d0", "id": "v0", "force-legacy": False}],
        shared=shared,
    ) as target:
        told: list[str] = []
        device = target.assembly.virtio_device("v0")
        device.driver_features = SUSPEND | 1 << 32
        device.transport = Listener(told)
        for status in (1, 3, 11, 15, 15 | SUSPEND_BIT):
            device.write_status(status)
        target.resize("d0", 2 << 20)
        assert (device.read_config(0, 8), told) == (2048, [])
        device.write_status(int(device.status) | DRIVER_OK)
        assert (device.read_config(0, 8), told) == (4096, ["config"])


class Listener:
    """A transport that notes configuration changes."""

    def __init__(self, told: list[str]) -> None:
        self._told = told

    def notify_used(self, queue: int) -> None:
        self._told.append(f"used {queue}")

    def notify_config(self) -> None:
        self._told.append("config")


def machine(size: int = 1 << 20) -> InProcessTarget:
    return InProcessTarget(
        blockdevs=[{"driver": "memory", "node-name": "d0", "size": size}],
        devices=[{"driver": "virtio-blk-device", "drive": "d0", "id": "v0", "force-legacy": False}],
    )


@pytest.mark.parametrize("suspended", [True, False])
def test_a_new_size_is_told_after_a_move(suspended: bool) -> None:
    """The disk has grown while the device was suspended, or on its way: no driver misses that."""
    with machine() as first, machine(2 << 20) as second:
        device = first.assembly.virtio_device("v0")
        device.driver_features = SUSPEND | 1 << 32
        for status in (1, 3, 11, 15):
            device.write_status(status)
        if suspended:
            device.write_status(15 | SUSPEND_BIT)
            first.resize("d0", 2 << 20)
        told: list[str] = []
        restored = second.assembly.virtio_device("v0")
        restored.transport = Listener(told)
        restore_snapshot(second.assembly, save_snapshot(first.assembly))
        if suspended:
            assert (restored.load_config(0, 8), told) == (2048, [])
            restored.write_status(int(restored.status) | DRIVER_OK)
        assert (restored.load_config(0, 8), told) == (4096, ["config"])


def test_a_snapshot_keeps_a_suspension() -> None:
    with machine() as first, machine() as second:
        device = first.assembly.virtio_device("v0")
        device.driver_features = SUSPEND | 1 << 32
        for status in (1, 3, 11, 15, 15 | SUSPEND_BIT):
            device.write_status(status)
        restore_snapshot(second.assembly, save_snapshot(first.assembly))
        restored = second.assembly.virtio_device("v0")
        assert restored.status == SUSPENDED
        restored.write_status(int(restored.status) | DRIVER_OK)
        assert restored.status == RUNNING
