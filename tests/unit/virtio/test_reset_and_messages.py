"""A message that was held back by a mask does not outlive its device's reset."""

from __future__ import annotations

from guestsim.drivers import virtio_blk


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
