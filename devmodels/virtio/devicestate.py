"""A virtio device's state, taken from it and given to another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.virtio import suspension
from devmodels.virtio.constants import RING_PACKED, Status
from devmodels.virtio.state import DeviceState

if TYPE_CHECKING:
    from devmodels.virtio.device import VirtioDevice


def taken(device: VirtioDevice) -> DeviceState:
    """The device's state as it is; nothing is shown to the driver for it."""
    return DeviceState(
        int(device.status),
        device.driver_features,
        device.config_generation,
        device.config_unread,
        [queue.state() for queue in device.queues],
        device.save_own(),
        device.legacy,
        device.suspending,
        device.resetting,
        device.save_parts(),
    )


def give(device: VirtioDevice, state: DeviceState) -> None:
    """Let the device go on from a state that was judged; RuntimeError where it has not been reset."""
    if device.status or device.resetting:
        raise RuntimeError(f"{device.name}: has to be reset before its state is restored")
    device.legacy = state.legacy
    device.status = Status(state.status)
    device.driver_features = device.features_written = state.driver_features
    device.config_generation = state.config_generation
    device.suspending = state.suspending
    device.restore_own(state.own)
    device.restore_parts(state.parts)
    device.config_unread = state.config_changed
    for queue, saved in zip(device.queues, state.queues, strict=True):
        queue.restore(saved)
    for queue, saved in zip(device.queues, state.queues, strict=True):
        if saved.resetting:
            device.reset_queue(queue)
    if state.resetting:
        device.reset()
    suspension.settle(device)


def judge(device: VirtioDevice, state: DeviceState) -> None:
    """ValueError where `state` cannot be this device's."""
    known = device.device_features | (device.legacy_features if state.legacy else 0)
    # What a driver has written and the device has not yet accepted may be anything.
    accepted = state.driver_features if state.status & Status.FEATURES_OK or state.legacy else 0
    if len(state.queues) != len(device.queues) or accepted & ~known:
        raise ValueError(f"{device.name}: the state is of a device with other options")
    if set(state.own) != set(device.save_own()):
        raise ValueError(
            f"{device.name}: the state has {sorted(state.own)}, expected {sorted(device.save_own())}"
        )
    device.judge_parts(state.parts)
    broken = state.resetting or bool(state.status & (Status.DEVICE_NEEDS_RESET | Status.FAILED))
    for queue, saved in zip(device.queues, state.queues, strict=True):
        queue.judge(saved, packed=bool(state.driver_features & RING_PACKED), broken=broken or saved.resetting)
