"""`guestsim lint`: what a driver owes a device, and does not do."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from devmodels.trace import EventKind
from devmodels.virtio.constants import IN_ORDER, INDIRECT_DESC
from guestsim.disk import Disk, boot
from guestsim.drivers import virtio_blk, virtio_mmio
from guestsim.drivers.layouts import Status
from guestsim.guest import Guest
from guestsim.lint.run import lint
from guestsim.quick import disk_machine
from guestsim.targets.inprocess import InProcessTarget
from tests.unit.guestsim.lint.test_lint import Event, descriptor, found, sessions_of, taken
from tests.unit.guestsim.show.traces import events_of

OK = 15
SUSPEND = 16
NAMES = {32, 39, 43}
"""VERSION_1, NOTIF_CONFIG_DATA, SUSPEND."""
Mistakes = list[tuple[str, str]]


def of(
    path: Path, act: Callable[[Disk], object], *, read_only: bool = False, **options: str | int | bool
) -> Mistakes:
    """What is found of a driver that does this once it has brought its disk up."""
    drive = {"driver": "memory", "node-name": "d0", "size": 1 << 20, "read-only": read_only}
    device = {"driver": "virtio-blk-pci", "drive": "d0", "id": "v0", **options}
    with InProcessTarget(blockdevs=[drive], devices=[device]) as machine:
        machine.record(path)
        act(boot(Guest(machine)))
    return [each[:2] for each in found(lint(events_of(path)))]


def renegotiate(disk: Disk, features: set[int]) -> None:
    device = disk.driver.device
    disk.guest.run(device.reset())
    device.negotiate(features)


# --- features


def test_features_that_nobody_has_looked_at(tmp_path: Path) -> None:
    def blind(disk: Disk) -> None:
        device = disk.driver.device
        disk.guest.run(device.reset())
        device.set("device_status", 3)
        device.write_features(NAMES)
        device.set("device_status", 11)

    assert of(tmp_path / "d.trace", blind) == [
        ("VIRTIO 1.4 §2.2.1", "features accepted, and those that are offered not read")
    ]


def test_features_that_a_driver_should_accept(tmp_path: Path) -> None:
    options = {"packed": True}
    found_there = of(tmp_path / "d.trace", lambda disk: renegotiate(disk, {32}), read_only=True, **options)
    assert sorted(found_there) == [
        ("VIRTIO 1.4 §5.2.6.1", "VIRTIO_BLK_F_RO is offered and not accepted"),
        ("VIRTIO 1.4 §6.1", "VIRTIO_F_NOTIF_CONFIG_DATA is offered and not accepted"),
        ("VIRTIO 1.4 §6.1", "VIRTIO_F_RING_PACKED is offered and not accepted"),
    ]


# --- queues


def test_a_queue_that_lies_nowhere(tmp_path: Path) -> None:
    def forgetful(disk: Disk) -> None:
        renegotiate(disk, NAMES)
        device = disk.driver.device
        device.set("queue_select", 0)
        device.set("queue_desc", 0x10_0000)
        device.set("queue_enable", 1)

    assert of(tmp_path / "d.trace", forgetful) == [
        ("VIRTIO 1.4 §4.1.4.3.2", "queue 0 enabled without having been told where it lies")
    ]


def test_a_queue_that_was_reset_and_is_not_set_up_again(tmp_path: Path) -> None:
    def forgetful(disk: Disk) -> None:
        device = disk.driver.device
        device.set("queue_select", 0)
        device.set("queue_reset", 1)
        assert not device.get("queue_reset")
        device.set("queue_enable", 1)

    assert of(tmp_path / "d.trace", forgetful)[0] == (
        "VIRTIO 1.4 §2.6.1.2.2",
        "queue 0 enabled without having been told where it lies",
    )


# --- the configuration


def test_a_capacity_that_may_be_of_two_moments(tmp_path: Path) -> None:
    def hasty(disk: Disk) -> None:
        renegotiate(disk, NAMES)
        config = disk.driver.device.transport.config  # type: ignore[attr-defined]
        config.bar.read(config.offset, 4)
        config.bar.read(config.offset + 4, 4)
        disk.driver.device.transport.notifier(0)(0)

    assert of(tmp_path / "d.trace", hasty) == [
        ("VIRTIO 1.4 §2.5.1", "capacity read in two parts, and config_generation not before"),
        ("VIRTIO 1.4 §2.5.1", "capacity read in two parts, and config_generation not after it"),
        ("VIRTIO 1.4 §3.1.1", "notification of queue 0 before DRIVER_OK"),
    ]


# --- a device that has stopped


def test_a_device_that_needs_a_reset_is_not_relied_upon(tmp_path: Path) -> None:
    def goes_on(disk: Disk) -> None:
        queue = disk.driver.queues[0]
        queue.expose_raw(60_000)  # type: ignore[attr-defined]
        queue.publish()
        device = disk.driver.device
        device.transport.notifier(0)(0)
        assert device.status & Status.NEEDS_RESET
        device.transport.notifier(0)(0)

    assert of(tmp_path / "d.trace", goes_on)[-1] == (
        "VIRTIO 1.4 §2.1.1",
        "notification of queue 0 after DEVICE_NEEDS_RESET was seen",
    )


def suspending(disk: Disk) -> Disk:
    renegotiate(disk, NAMES)
    device = disk.driver.device
    device.setup_queue(0)
    device.driver_ok()
    device.set("device_status", OK | SUSPEND)
    return disk


def test_a_suspension_that_is_not_waited_for(tmp_path: Path) -> None:
    def hasty(disk: Disk) -> None:
        device = suspending(disk).driver.device
        device.set("device_status", OK)

    assert of(tmp_path / "d.trace", hasty) == [
        ("VIRTIO 1.4 §3.4.1", "DRIVER_OK set again before the device was seen to be suspended")
    ]


def test_a_device_that_is_used_before_it_runs_again(tmp_path: Path) -> None:
    def hasty(disk: Disk) -> None:
        device = suspending(disk).driver.device
        device.set("device_status", device.status | Status.DRIVER_OK)
        device.transport.notifier(0)(0)

    def patient(disk: Disk) -> None:
        device = suspending(disk).driver.device
        device.set("device_status", device.status | Status.DRIVER_OK)
        assert int(device.status) == OK
        device.transport.notifier(0)(0)

    assert of(tmp_path / "d.trace", hasty) == [
        ("VIRTIO 1.4 §3.4.1", "notification of queue 0 before the device was seen to run again")
    ]
    assert of(tmp_path / "patient.trace", patient) == []


# --- MMIO


def over_mmio(path: Path, act: Callable[[virtio_mmio.ModernMmio], object], *, probe: bool = True) -> Mistakes:
    drive = {"driver": "memory", "node-name": "d0", "size": 1 << 20}
    device = {"driver": "virtio-blk-device", "drive": "d0", "id": "m0", "force-legacy": False}
    with InProcessTarget(blockdevs=[drive], devices=[device]) as machine:
        guest = Guest(machine)
        if not probe:
            (transport,) = virtio_blk.find(guest)
        machine.record(path)
        if probe:
            transport = boot(guest).driver.device.transport
        assert isinstance(transport, virtio_mmio.ModernMmio)
        act(transport)
    return [each[:2] for each in found(lint(events_of(path)))]


def put(transport: virtio_mmio.ModernMmio, at: int, value: int) -> None:
    transport.guest.target.write(transport.slot.base + at, 4, value)


def get(transport: virtio_mmio.ModernMmio, at: int) -> int:
    return transport.guest.target.read(transport.slot.base + at, 4)


def test_a_device_is_asked_what_it_is_first(tmp_path: Path) -> None:
    assert over_mmio(tmp_path / "m.trace", lambda mmio: put(mmio, 0x70, 0), probe=False) == [
        ("VIRTIO 1.4 §4.2.3.1.1", "mmio.status accessed before magic, version and device ID were read")
    ]


def test_a_reset_over_mmio_is_waited_for(tmp_path: Path) -> None:
    def hasty(mmio: virtio_mmio.ModernMmio) -> None:
        put(mmio, 0x70, 0)
        put(mmio, 0x70, 1)

    assert over_mmio(tmp_path / "m.trace", hasty) == [
        ("VIRTIO 1.4 §2.4.2", "device status written after a reset, before it was read as 0")
    ]


def test_words_of_features_are_selected_first(tmp_path: Path) -> None:
    def act(mmio: virtio_mmio.ModernMmio) -> None:
        put(mmio, 0x70, 0)
        assert get(mmio, 0x70) == 0
        put(mmio, 0x70, 3)
        get(mmio, 0x10)
        put(mmio, 0x20, 0)

    assert over_mmio(tmp_path / "m.trace", act) == [
        ("VIRTIO 1.4 §4.2.2.2", "mmio.device_features read before device_features_sel was written"),
        ("VIRTIO 1.4 §4.2.2.2", "driver_features written before driver_features_sel"),
    ]


def test_a_queue_that_is_stopped_is_looked_at(tmp_path: Path) -> None:
    def hasty(mmio: virtio_mmio.ModernMmio) -> None:
        put(mmio, 0x44, 0)
        put(mmio, 0x38, 8)

    def patient(mmio: virtio_mmio.ModernMmio) -> None:
        put(mmio, 0x44, 0)
        assert get(mmio, 0x44) == 0
        put(mmio, 0x38, 8)

    assert over_mmio(tmp_path / "m.trace", hasty) == [
        ("VIRTIO 1.4 §4.2.2.2", "QueueReady written 0, and not read back")
    ]
    assert over_mmio(tmp_path / "patient.trace", patient) == []


def test_a_queue_over_mmio_is_not_used_before_its_reset_is_over(tmp_path: Path) -> None:
    def hasty(mmio: virtio_mmio.ModernMmio) -> None:
        put(mmio, 0xC0, 1)
        put(mmio, 0x44, 1)

    assert over_mmio(tmp_path / "m.trace", hasty)[0] == (
        "VIRTIO 1.4 §2.6.1.1.2",
        "mmio.queue_ready written before queue_reset was read as 0",
    )


def test_what_an_interrupt_was_for_is_read(tmp_path: Path) -> None:
    assert over_mmio(tmp_path / "m.trace", lambda mmio: put(mmio, 0x64, 1)) == [
        ("VIRTIO 1.4 §4.2.3.4.1", "InterruptACK written, and InterruptStatus not read before")
    ]


def test_shared_memory_is_for_drivers_that_expect_it(tmp_path: Path) -> None:
    assert over_mmio(tmp_path / "m.trace", lambda mmio: put(mmio, 0xAC, 0)) == [
        ("VIRTIO 1.4 §4.2.3.1.1", "registers of shared memory used, which nobody expects")
    ]


def test_a_width_that_the_configuration_has_not(tmp_path: Path) -> None:
    def wide(mmio: virtio_mmio.ModernMmio) -> None:
        mmio.guest.target.read(mmio.slot.base + 0x101, 2)

    assert over_mmio(tmp_path / "m.trace", wide) == [
        ("VIRTIO 1.4 §4.2.2.2", "2-byte access at configuration offset 1")
    ]


def test_the_configuration_is_not_written_before_features_ok(tmp_path: Path) -> None:
    def hasty(disk: Disk) -> None:
        device = disk.driver.device
        disk.guest.run(device.reset())
        device.set("device_status", 3)
        device.transport.read_features()
        config = device.transport.config  # type: ignore[attr-defined]
        config.bar.write(config.offset + 32, 1, 0)

    with disk_machine(1 << 20) as machine:
        machine.record(tmp_path / "d.trace")
        hasty(boot(Guest(machine)))
    assert ("VIRTIO 1.4 §3.1.1", "config.writeback written before FEATURES_OK", 1) in found(
        lint(events_of(tmp_path / "d.trace"))
    )


# --- IN_ORDER

ORDERED: list[Event] = [
    ("e0", EventKind.FEATURES, (1 << 32 | IN_ORDER | INDIRECT_DESC,)),
    ("e0", EventKind.QUEUE, (0, 4, 0x1000, 0x2000, 0x3000, 0, 0)),
]


@pytest.mark.parametrize(
    ("head", "following", "wrong"), [(0, 1, False), (3, 0, False), (0, 2, True), (3, 1, True)]
)
def test_descriptors_follow_each_other_in_order(head: int, following: int, wrong: bool) -> None:
    events = [*ORDERED, descriptor(head, 0x8000, 1, following), descriptor(following, 0x9000), taken(head)]
    expected = ("VIRTIO 1.4 §2.7.5.2", f"descriptor {head} goes on at {following} with VIRTIO_F_IN_ORDER", 1)
    assert found(sessions_of(events)) == [expected] * wrong


@pytest.mark.parametrize(("following", "wrong"), [(1, False), (2, True)])
def test_entries_of_a_table_follow_each_other_in_order(following: int, wrong: bool) -> None:
    entries = [(0x8000, 16, 1, following), (0x9000, 16, 2, 0), (0xA000, 16, 2, 0)]
    data = b"".join(struct.pack("<QIHH", *entry) for entry in entries)
    events: list[Event] = [*ORDERED, descriptor(0, 0x5000, 4), ("memory", EventKind.DMA_READ, (0x5000, data))]
    expected = (
        "VIRTIO 1.4 §2.7.5.3.1",
        f"entry 0 of a table goes on at {following} with VIRTIO_F_IN_ORDER",
        1,
    )
    assert found(sessions_of(events)) == [expected] * wrong
