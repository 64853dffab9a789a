"""Options of a virtio SCSI host device, and the configuration space that follows from them (VIRTIO 1.4 §5.6.4).

Option names, defaults and units are those of QEMU's virtio-scsi devices; what QEMU does not have says so.
"""

from __future__ import annotations

import msgspec

from devmodels.iothreads import VqMapping, check_threads
from devmodels.virtio.constants import (
    ACCESS_PLATFORM,
    EVENT_IDX,
    IN_ORDER,
    INDIRECT_DESC,
    RING_PACKED,
    RING_RESET,
)
from devmodels.virtio.ringoptions import check_queue_size, require, segments
from devmodels.virtio_scsi.layout import (
    CDB_SIZE_AT,
    CONFIG,
    EVENT_SIZE,
    FIRST_REQUEST_QUEUE,
    MAX_LUN,
    MAX_TARGET,
    SENSE_SIZE_AT,
    ScsiFeature,
)

MAX_QUEUES = 1024
"""Most virtqueues of one device, the two fixed ones included."""

MAX_CDB_SIZE = 255
MAX_SENSE_SIZE = 65535
"""The largest that a driver may choose: what common devices take."""


class VirtioScsiOptions(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True):
    """Options of a virtio SCSI host device.

    `num_queues` counts request queues.  `max_sectors` (512 bytes each) and `cmd_per_lun` are hints to the driver.
    `iothread`, `iothread_vq_mapping`: threads of the request queues, which are counted from 0 there.
    Ours: `seg_max`, by default (0) what fits a ring of `virtqueue_size`, and `inout` (data both ways in one command).
    """

    num_queues: int = msgspec.field(default=1, name="num_queues")
    virtqueue_size: int = msgspec.field(default=256, name="virtqueue_size")
    seg_max: int = msgspec.field(default=0, name="seg_max")
    max_sectors: int = msgspec.field(default=0xFFFF, name="max_sectors")
    cmd_per_lun: int = msgspec.field(default=128, name="cmd_per_lun")
    inout: bool = True
    hotplug: bool = True
    param_change: bool = msgspec.field(default=True, name="param_change")
    indirect_desc: bool = msgspec.field(default=True, name="indirect_desc")
    event_idx: bool = msgspec.field(default=True, name="event_idx")
    in_order: bool = msgspec.field(default=False, name="in_order")
    packed: bool = False
    queue_reset: bool = msgspec.field(default=True, name="queue_reset")
    iommu_platform: bool = msgspec.field(default=False, name="iommu_platform")
    iothread: str | None = None
    iothread_vq_mapping: list[VqMapping] | None = None

    def __post_init__(self) -> None:
        check_threads(self)
        most = MAX_QUEUES - FIRST_REQUEST_QUEUE
        require("num_queues", self.num_queues, 1 <= self.num_queues <= most, f"1 to {most}")
        check_queue_size("virtqueue_size", self.virtqueue_size, packed=self.packed)
        require("seg_max", self.seg_max, 0 <= self.seg_max <= 1 << 16, "0 to 65536")
        for name in ("max_sectors", "cmd_per_lun"):
            value = getattr(self, name)
            require(name, value, 1 <= value < 1 << 32, "1 to 4294967295")

    def segments(self) -> int:
        """The number of data segments that a command may have (seg_max)."""
        return segments(self.seg_max, self.virtqueue_size)


def offered_features(options: VirtioScsiOptions) -> int:
    """The device's own feature bits and the ring features its options switch, VIRTIO 1.4 §5.6.3."""
    f = ScsiFeature
    offered = {
        f.VIRTIO_SCSI_F_INOUT: options.inout,
        f.VIRTIO_SCSI_F_HOTPLUG: options.hotplug,
        f.VIRTIO_SCSI_F_CHANGE: options.param_change,
    }
    ring = {
        INDIRECT_DESC: options.indirect_desc,
        EVENT_IDX: options.event_idx,
        IN_ORDER: options.in_order,
        RING_PACKED: options.packed,
        RING_RESET: options.queue_reset,
        ACCESS_PLATFORM: options.iommu_platform,
    }
    return sum(1 << bit for bit, on in offered.items() if on) | sum(mask for mask, on in ring.items() if on)


def build_config(options: VirtioScsiOptions, *, sense_size: int, cdb_size: int) -> bytes:
    """The configuration space, with the sizes that are in force."""
    values = {
        "num_queues": options.num_queues,
        "seg_max": options.segments(),
        "max_sectors": options.max_sectors,
        "cmd_per_lun": options.cmd_per_lun,
        "event_info_size": EVENT_SIZE,
        "sense_size": sense_size,
        "cdb_size": cdb_size,
        "max_channel": 0,
        "max_target": MAX_TARGET,
        "max_lun": MAX_LUN,
    }
    return CONFIG.pack(*(values[name] for name in CONFIG.names))


WRITABLE_END = CDB_SIZE_AT + 4


def sizes_in(config: bytes) -> tuple[int, int]:
    """`sense_size` and `cdb_size` of a configuration space."""
    sense_size = int.from_bytes(config[SENSE_SIZE_AT : SENSE_SIZE_AT + 4], "little")
    return sense_size, int.from_bytes(config[CDB_SIZE_AT : CDB_SIZE_AT + 4], "little")
