"""When a device must leave guest memory alone: without bus mastering, after it was unplugged; and cheap refusals."""

from __future__ import annotations

import pytest

from devmodels.virtio.pci import VirtioPci
from guestsim.disk import Disk, boot
from guestsim.drivers import virtio_blk
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget

COMMAND = 4
BUS_MASTER = 4


def start_held_read(machine: InProcessTarget, guest: Guest, disk: Disk) -> list[bytes]:
    """A read that the host holds back; returns the guest's memory as it stands then."""
    machine.assembly.run_state.stop("paused")
    guest.start(disk.driver.execute(virtio_blk.read(0, 512)))
    guest.run(guest.settle())
    return ram(machine)


def ram(machine: InProcessTarget) -> list[bytes]:
    return [
        machine.assembly.memory.load(region.base, region.size) for region in machine.assembly.memory.regions
    ]


@pytest.mark.long
def test_nothing_is_answered_without_bus_mastering_and_nothing_is_lost(
    machine: InProcessTarget, guest: Guest, disk: Disk
) -> None:
    function = disk.driver.device.function
    queue = machine.assembly.virtio_device("vd0").queues[0]
    machine.assembly.run_state.stop("paused")
    answer = guest.start(disk.driver.execute(virtio_blk.flush()))
    guest.run(guest.settle())
    command = function.read(COMMAND, 2)
    function.write(COMMAND, 2, command & ~BUS_MASTER)
    before = ram(machine)
    machine.assembly.run_state.cont()
    machine.assembly.machine.run_until_idle()
    assert ram(machine) == before
    assert queue.in_flight
    function.write(COMMAND, 2, command)
    guest.run(guest.settle())
    assert answer.result().status_name == "OK"


def test_a_reset_drops_what_waited_for_bus_mastering(
    machine: InProcessTarget, guest: Guest, disk: Disk
) -> None:
    function = disk.driver.device.function
    start_held_read(machine, guest, disk)
    command = function.read(COMMAND, 2)
    function.write(COMMAND, 2, command & ~BUS_MASTER)
    machine.assembly.run_state.cont()
    machine.assembly.machine.run_until_idle()
    disk.driver.device.set("device_status", 0)
    assert disk.driver.device.get("device_status") == 0


def test_an_unplugged_function_leaves_memory_alone(
    machine: InProcessTarget, guest: Guest, disk: Disk
) -> None:
    before = start_held_read(machine, guest, disk)
    [function] = machine.assembly.devices.values()
    assert isinstance(function, VirtioPci)
    machine.assembly.machine.unplug(function)
    machine.assembly.run_state.cont()
    machine.assembly.machine.run_until_idle()
    assert ram(machine) == before


@pytest.mark.parametrize(("length", "used"), [(1 << 20, 0), (1 << 19, (1 << 19) + 1)])
def test_a_refusal_of_much_data_is_not_paid_for_by_the_device(
    machine: InProcessTarget, disk: Disk, length: int, used: int
) -> None:
    """Data that will not come is zeroed only up to a mebibyte; beyond it the used length is 0."""
    operation = virtio_blk.Operation(virtio_blk.read(disk.capacity, 512).readable, length + 1, checked=False)
    answer = disk.request(operation)
    assert (answer.status_name, answer.used_length) == ("IOERR", used)


def test_a_function_that_is_plugged_again_is_as_new(
    machine: InProcessTarget, guest: Guest, disk: Disk
) -> None:
    disk.write(0, b"kept" * 128)
    [function] = machine.assembly.devices.values()
    assert isinstance(function, VirtioPci)
    machine.assembly.machine.unplug(function)
    machine.assembly.machine.plug(function, 5)
    assert machine.assembly.machine.bus.config_read(5, 0, COMMAND, 2) == 0
    assert boot(Guest(machine)).read(0, 512) == b"kept" * 128
    assert machine.violations() == []
    guest.close()
