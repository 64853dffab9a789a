"""Names of VIRTIO 1.4 that every virtio device shares: status bits and the feature bits of rings and transports."""

from __future__ import annotations

from enum import IntEnum, IntFlag


class Status(IntFlag):
    """Device status bits, VIRTIO 1.4 §2.1."""

    ACKNOWLEDGE = 1
    DRIVER = 2
    DRIVER_OK = 4
    FEATURES_OK = 8
    SUSPEND = 16
    DEVICE_NEEDS_RESET = 64
    FAILED = 128


class Feature(IntEnum):
    """Reserved feature bits, VIRTIO 1.4 §6: bit numbers, not masks."""

    VIRTIO_F_NOTIFY_ON_EMPTY = 24
    """Legacy interface only, VIRTIO 1.4 §6.3: a used ring that has all that was made available is told of."""
    VIRTIO_F_ANY_LAYOUT = 27
    """Legacy interface only, VIRTIO 1.4 §6.3."""
    VIRTIO_F_INDIRECT_DESC = 28
    VIRTIO_F_EVENT_IDX = 29
    UNUSED = 30
    """Legacy interface only, VIRTIO 1.4 §6.3: who accepts it accepts whatever is offered."""
    VIRTIO_F_VERSION_1 = 32
    VIRTIO_F_ACCESS_PLATFORM = 33
    VIRTIO_F_RING_PACKED = 34
    VIRTIO_F_IN_ORDER = 35
    VIRTIO_F_NOTIFICATION_DATA = 38
    VIRTIO_F_NOTIF_CONFIG_DATA = 39
    VIRTIO_F_RING_RESET = 40
    VIRTIO_F_SUSPEND = 43


NOTIFY_ON_EMPTY = 1 << Feature.VIRTIO_F_NOTIFY_ON_EMPTY
ANY_LAYOUT = 1 << Feature.VIRTIO_F_ANY_LAYOUT
UNUSED = 1 << Feature.UNUSED
INDIRECT_DESC = 1 << Feature.VIRTIO_F_INDIRECT_DESC
EVENT_IDX = 1 << Feature.VIRTIO_F_EVENT_IDX
ACCESS_PLATFORM = 1 << Feature.VIRTIO_F_ACCESS_PLATFORM
VERSION_1 = 1 << Feature.VIRTIO_F_VERSION_1
RING_PACKED = 1 << Feature.VIRTIO_F_RING_PACKED
IN_ORDER = 1 << Feature.VIRTIO_F_IN_ORDER
NOTIFICATION_DATA = 1 << Feature.VIRTIO_F_NOTIFICATION_DATA
NOTIF_CONFIG_DATA = 1 << Feature.VIRTIO_F_NOTIF_CONFIG_DATA
SUSPEND = 1 << Feature.VIRTIO_F_SUSPEND
RING_RESET = 1 << Feature.VIRTIO_F_RING_RESET
NOT_QEMUS = NOTIFICATION_DATA | NOTIF_CONFIG_DATA | SUSPEND
"""What devices here have and QEMU's have not."""

MAX_QUEUE_SIZE = 32768
"""The largest virtqueue, VIRTIO 1.4 §2.7 and §2.8."""


def feature_word(bits: int, select: int) -> int:
    """32 feature bits from bit 32 * `select` on; 0 where none are defined (VIRTIO 1.4 §4.1.4.3.1, §4.2.2)."""
    return bits >> 32 * select & 0xFFFF_FFFF if select < 8 else 0
