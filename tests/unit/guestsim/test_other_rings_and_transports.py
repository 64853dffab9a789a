"""The virtio-blk driver on our own devices with a packed ring and through the legacy interface."""

from __future__ import annotations

import pytest

from guestsim.disk import Disk, boot
from guestsim.drivers import virtio_blk
from guestsim.drivers.layouts import Feature
from guestsim.drivers.packed import PackedQueue
from guestsim.drivers.pci import scan
from guestsim.drivers.virtio_blk import DroppedError
from guestsim.drivers.virtio_bus import open_function
from guestsim.drivers.virtio_pci_legacy import LegacyPci
from guestsim.drivers.virtio_pci_modern import ModernPci
from guestsim.errors import GuestCheckError, GuestError
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget


@pytest.mark.disk(packed=True, num_queues=2)
def test_a_packed_ring_marks_what_was_written(disk: Disk, machine: InProcessTarget) -> None:
    for number in range(40):
        disk.write(512 * number, bytes([number]) * 512, scatter=2)
        assert disk.read(512 * number, 512) == bytes([number]) * 512
    queue = disk.driver.queues[0]
    assert isinstance(queue, PackedQueue)
    assert queue.unmarked == 0
    assert machine.violations() == []


@pytest.mark.disk(packed=True)
def test_packed_requests_in_flight_are_dropped_by_a_reset(disk: Disk, guest: Guest) -> None:
    before = guest.memory.in_use
    pending = guest.run(disk.driver.submit([virtio_blk.read(0, 512)]))
    disk.reset()
    with pytest.raises(DroppedError):
        guest.run(disk.driver.finish(pending[0]))
    assert guest.memory.in_use == before


def test_a_split_ring_wants_a_power_of_two(guest: Guest) -> None:
    driver = virtio_blk.VirtioBlk(guest, virtio_blk.find(guest)[0])
    with pytest.raises(GuestError, match="size 12, expected a power of two"):
        guest.run(driver.probe(queue_size=12))


def test_a_transitional_function_has_two_interfaces(guest: Guest, machine: InProcessTarget) -> None:
    (function,) = scan(guest)
    driver = virtio_blk.VirtioBlk(guest, open_function(guest, function))
    assert isinstance(driver.device.transport, ModernPci)
    guest.run(driver.probe())
    guest.run(driver.write(0, b"m" * 512))
    guest.run(driver.switch(open_function(guest, function, legacy=True)))
    assert isinstance(driver.device.transport, LegacyPci)
    guest.run(driver.probe())
    assert Feature.VERSION_1 not in driver.device.features
    assert guest.run(driver.read(0, 512)) == b"m" * 512
    with pytest.raises(GuestError, match="cannot reset one queue"):
        guest.run(driver.reset_queue(0))
    with pytest.raises(GuestError, match="no queue_enable"):
        driver.device.get("queue_enable")
    assert machine.violations() == []


@pytest.mark.disk(disable_legacy="on")
def test_a_modern_function_has_one(guest: Guest) -> None:
    (function,) = scan(guest)
    with pytest.raises(GuestCheckError, match="BAR 0 is no I/O region"):
        open_function(guest, function, legacy=True)


@pytest.mark.disk(disable_modern=True)
def test_a_legacy_function_is_found_as_what_it_is(guest: Guest) -> None:
    disk = boot(guest)
    assert isinstance(disk.driver.device.transport, LegacyPci)
    disk.write(0, b"l" * 4096)
    assert disk.read(0, 4096) == b"l" * 4096
