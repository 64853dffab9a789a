"""Structures of the split and the packed virtqueue, VIRTIO 1.4 §2.7.5 to §2.7.8 and §2.8.13 to §2.8.14."""

from __future__ import annotations

from devmodels.wire import Codec

VIRTQ_DESC_F_NEXT = 1
VIRTQ_DESC_F_WRITE = 2
VIRTQ_DESC_F_INDIRECT = 4
VIRTQ_AVAIL_F_NO_INTERRUPT = 1
VIRTQ_USED_F_NO_NOTIFY = 1

VIRTQ_DESC_F_AVAIL = 1 << 7
VIRTQ_DESC_F_USED = 1 << 15
RING_EVENT_FLAGS_ENABLE = 0
RING_EVENT_FLAGS_DISABLE = 1
RING_EVENT_FLAGS_DESC = 2
WRAP_COUNTER = 1 << 15
"""The bit that carries a wrap counter where 15 bits are an offset (VIRTIO 1.4 §2.8.14)."""

VIRTQ_DESC = Codec.ints(
    lambda c: c.Struct("addr" / c.Int64ul, "len" / c.Int32ul, "flags" / c.Int16ul, "next" / c.Int16ul)
)
"""struct virtq_desc, VIRTIO 1.4 §2.7.5."""

PVIRTQ_DESC = Codec.ints(
    lambda c: c.Struct("addr" / c.Int64ul, "len" / c.Int32ul, "id" / c.Int16ul, "flags" / c.Int16ul)
)
"""struct pvirtq_desc, VIRTIO 1.4 §2.8.13."""
PVIRTQ_EVENT_SUPPRESS = Codec.ints(lambda c: c.Struct("desc" / c.Int16ul, "flags" / c.Int16ul))
"""struct pvirtq_event_suppress, VIRTIO 1.4 §2.8.14."""

DESC_SIZE = 16
DESC_ALIGN = 16
AVAIL_ALIGN = 2
USED_ALIGN = 4
EVENT_ALIGN = 4


def avail_size(queue_size: int) -> int:
    """Bytes of an available ring with `used_event`, VIRTIO 1.4 §2.7."""
    return 6 + 2 * queue_size


def used_size(queue_size: int) -> int:
    """Bytes of a used ring with `avail_event`, VIRTIO 1.4 §2.7."""
    return 6 + 8 * queue_size
