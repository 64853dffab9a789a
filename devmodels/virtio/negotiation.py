"""What a driver may write to device status, which features it may accept, when it may notify: VIRTIO 1.4 §2, §3.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.conformance import written
from devmodels.trace import EventKind
from devmodels.virtio.constants import ACCESS_PLATFORM, SUSPEND, VERSION_1, Status

if TYPE_CHECKING:
    from devmodels.virtio.device import VirtioDevice

_KNOWN_STATUS = (
    Status.ACKNOWLEDGE
    | Status.DRIVER
    | Status.DRIVER_OK
    | Status.FEATURES_OK
    | Status.DEVICE_NEEDS_RESET
    | Status.FAILED
)


def new_bits(device: VirtioDevice, value: int) -> Status:
    """The bits that a write of `value` sets, without those that must not be set now; what is wrong is reported."""
    clause = "VIRTIO 1.4 §2.1.1"
    old = device.status
    if old & ~value & ~(Status.DEVICE_NEEDS_RESET | Status.SUSPEND):
        device.violation(clause, f"status {value:#x} clears bits of {int(old):#x}", written(value, 1))
    known = _KNOWN_STATUS & ~Status.FEATURES_OK if device.legacy else _KNOWN_STATUS
    if device.driver_features & SUSPEND and old & Status.FEATURES_OK:
        known |= Status.SUSPEND
    # A legacy device of QEMU's keeps FEATURES_OK, and settles nothing by it.
    new = Status(value & (_KNOWN_STATUS if device.as_qemu else known)) & ~old
    if value & ~known:
        device.violation(clause, f"status {value:#x} has undefined bits", written(value, 1))
    if new & Status.DEVICE_NEEDS_RESET:
        device.violation(clause, "driver sets DEVICE_NEEDS_RESET", written(value, 1))
        new &= ~Status.DEVICE_NEEDS_RESET
    if old & Status.FAILED:
        device.violation(clause, "status written after FAILED without a reset", written(value, 1))
    clause = "VIRTIO 1.4 §3.1.1"
    if new & Status.DRIVER and not (old | new) & Status.ACKNOWLEDGE:
        device.violation(clause, "DRIVER without ACKNOWLEDGE", written(value, 1))
    if new & known & Status.FEATURES_OK:
        if not (old | new) & Status.DRIVER:
            device.violation(clause, "FEATURES_OK without DRIVER", written(value, 1))
        if not _acceptable(device):
            new &= ~Status.FEATURES_OK
    if new & Status.DRIVER_OK and not (device.legacy or (old | new) & Status.FEATURES_OK):
        device.violation(clause, "DRIVER_OK without FEATURES_OK", written(value, 1))
        if not device.as_qemu:
            new &= ~Status.DRIVER_OK
    return new


def _acceptable(device: VirtioDevice) -> bool:
    """Whether the features the driver wrote are a valid subset (VIRTIO 1.4 §2.2.2).

    QEMU takes every subset, and judges nothing of a driver without VERSION_1.
    """
    extra = device.driver_features & ~device.device_features
    if extra:
        device.violation(
            "VIRTIO 1.4 §2.2.1",
            f"driver accepts features {extra:#x} that were not offered",
            written(device.driver_features, 8),
        )
        return False
    if not device.driver_features & VERSION_1 and not device.front_end:
        device.violation(
            "VIRTIO 1.4 §6.1",
            "driver does not accept VIRTIO_F_VERSION_1",
            written(device.driver_features, 8),
        )
        return device.as_qemu
    if device.device_features & ~device.driver_features & ACCESS_PLATFORM:
        # Its addresses would be physical ones, which this device cannot reach (VIRTIO 1.4 §6.2).
        device.violation(
            "VIRTIO 1.4 §6.1",
            "driver does not accept VIRTIO_F_ACCESS_PLATFORM",
            written(device.driver_features, 8),
        )
        return False
    return True


def write_features(device: VirtioDevice, value: int, select: int) -> None:
    """The driver writes 32 feature bits, those from bit 32 * `select` on."""
    if device.as_qemu:
        _write_as_qemu(device, value, select)
        return
    if device.status & Status.FEATURES_OK:
        device.violation("VIRTIO 1.4 §3.1.1", "features written after FEATURES_OK", written(value, 4))
        return
    if device.resetting:
        return
    if not device.status & Status.DRIVER:
        device.violation("VIRTIO 1.4 §3.1.1", "features written before DRIVER", written(value, 4))
    if not select < 8:
        if value:
            device.violation(
                "VIRTIO 1.4 §2.2.1", f"features {value:#x} written at select {select}", written(value, 4)
            )
        return
    shift = 32 * select
    device.driver_features = device.driver_features & ~(0xFFFF_FFFF << shift) | value << shift


def _write_as_qemu(device: VirtioDevice, value: int, select: int) -> None:
    """As QEMU's: what was written before a reset stays in the other word, and only what is offered is accepted."""
    if select >= 2:
        return
    shift = 32 * select
    device.features_written = device.features_written & ~(0xFFFF_FFFF << shift) | value << shift
    if device.status & Status.FEATURES_OK or device.resetting:
        return
    device.driver_features = device.features_written & device.device_features


def write_legacy_features(device: VirtioDevice, value: int) -> None:
    """The driver writes its 32 feature bits through the legacy interface; queues that run go on with them."""
    if device.resetting:
        return
    if device.status & (Status.DRIVER_OK | Status.FEATURES_OK if device.as_qemu else Status.DRIVER_OK):
        device.violation("VIRTIO 1.4 §3.1.2", "features written after DRIVER_OK", written(value, 4))
        return
    device.driver_features = value
    device.note(EventKind.FEATURES, value)
    device.features_accepted()
    for queue in device.queues:
        if queue.ring is not None:
            queue.renegotiate()


def notified(index: int, data: int | None) -> bytes:
    """What was written to notify the device."""
    return written(index if data is None else data, 2)


def judge_notification(device: VirtioDevice, index: int, data: int | None) -> bool:
    """A notification while no queue runs: whether something was wrong with that, which is reported."""
    sent = notified(index, data)
    name = f"notification of queue {index}"
    if device.suspending or device.suspended:
        device.violation("VIRTIO 1.4 §3.4.1", f"{name} of a suspended device", sent)
    elif not (device.status & Status.DRIVER_OK or device.legacy):
        device.violation("VIRTIO 1.4 §3.1.1", f"{name} before DRIVER_OK", sent)
    else:
        return False
    return True
