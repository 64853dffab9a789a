"""A driver suspends its device and resumes it, VIRTIO 1.4 §3.4."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from devmodels.conformance import written
from devmodels.virtio.constants import Status

if TYPE_CHECKING:
    from devmodels.virtio.device import VirtioDevice


def suspend(device: VirtioDevice, *, ready: bool) -> None:
    """The driver sets SUSPEND: take no more buffers, and be suspended when what was taken has been given back."""
    if not ready:
        device.violation("VIRTIO 1.4 §3.4.1", "SUSPEND set before DRIVER_OK", bytes((Status.SUSPEND,)))
    elif not device.suspending:
        device.suspending = True
        device.settle_open()
        settle(device)


def settle(device: VirtioDevice) -> None:
    """Be suspended, if the driver has asked for it and everything that was taken has been given back."""
    if not device.suspending or device.paused:
        return
    for queue in device.queues:
        if queue.in_flight:
            queue.when_idle(partial(settle, device))
            return
    for queue in device.queues:
        queue.flush()
    device.suspending = False
    if device.status & Status.DEVICE_NEEDS_RESET:
        device.settle_open()
    else:
        for queue in device.queues:
            queue.left = queue.waiting()
        device.status = device.status & ~Status.DRIVER_OK | Status.SUSPEND


def resume(device: VirtioDevice, new: Status) -> None:
    """The driver sets `new` bits of status, DRIVER_OK among them, in a suspended device: it goes on."""
    for queue in device.queues:
        if queue.left is not None and queue.waiting() > queue.left:
            queue.report(
                "VIRTIO 1.4 §3.4.1",
                "buffers made available while the device was suspended",
                written(queue.waiting(), 2),
            )
    device.status = (device.status | new) & ~Status.SUSPEND
    device.resumed()
    device.start_queues()
