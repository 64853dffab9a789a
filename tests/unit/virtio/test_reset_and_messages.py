"""A message that was held back does not outlive its device's reset, and is not lost else."""

from __future__ import annotations

import pytest

from devmodels.conformance import Profile
from guestsim.drivers import virtio_blk
from tests.unit.virtio.pcirig import PciRig


def test_a_pending_message_is_forgotten_by_a_device_reset(disk, guest, machine) -> None:  # type: ignore[no-untyped-def]
    capability = disk.driver.device.function.capabilities()
    control = next(c.offset for c in capability if c.id == 0x11) + 2
    function = disk.driver.device.function
    function.write(control, 2, function.read(control, 2) | 0x4000)  # function mask
    guest.start(disk.driver.execute(virtio_blk.read(0, 512)))
    guest.run(guest.settle())
    [msix] = [f.msix for f in machine.assembly.devices.values()]
    assert msix.pending.bits
    disk.driver.device.set("device_status", 0)
    machine.take_messages()
    function.write(control, 2, function.read(control, 2) & ~0x4000)
    assert machine.take_messages() == {}


@pytest.mark.parametrize(("profile", "messages"), [(Profile.STRICT, [1]), (Profile.QEMU, [])])
def test_a_message_that_waits_for_bus_mastering_is_sent_once_when_that_is_on(
    profile: Profile, messages: list[int]
) -> None:
    """Its vector is masked first, and not any more while there is no bus mastering (PCI 3.0 §6.2.2, §6.8.3.4).

    That of QEMU's function is lost then.
    """
    rig = PciRig(vectors=3, profile=profile)
    rig.map_bars()
    rig.enable_msix(masked=True)
    rig.negotiate()
    rig.set_queue()
    rig.set("queue_msix_vector", 1)
    rig.go()
    rig.expose()
    rig.notify(0)
    rig.bus_master(False)
    _, _, table = rig.msix()
    rig.machine.write(table + 16 + 12, 4, 0)
    rig.machine.run_until_idle()
    assert rig.messages == []
    rig.bus_master(True)
    rig.machine.run_until_idle()
    assert rig.messages == messages
    rig.bus_master(False)
    rig.bus_master(True)
    assert rig.messages == messages
