"""Options of a virtio block device, and the configuration space that follows from them (VIRTIO 1.4 §5.2.4).

Option names, defaults and units are those of QEMU's virtio-blk devices; what QEMU does not have says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from devmodels.blockbackend.errorpolicy import OnReadError, OnWriteError
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
from devmodels.virtio_blk.layout import (
    CONFIG,
    CONFIG_END,
    CONFIG_END_DISCARD,
    CONFIG_END_WRITE_ZEROES,
    SECTOR,
    BlkFeature,
)

MAX_QUEUES = 1024
"""Most queues of one device; a vhost-user back end is held to 256 by its protocol's users."""

MAX_INTERVAL = 10**9
"""The longest interval of statistics, in seconds."""

MAX_SECTORS = 0x7FFFFFFF // SECTOR
"""Default limit of discard and write-zeroes requests, in sectors of 512 bytes (2 GiB less one sector)."""


class Lifetime(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True):
    """What GET_LIFETIME answers, in the values of VIRTIO 1.4 §5.2.6; ours, not QEMU's."""

    pre_eol_info: int = 0
    device_lifetime_est_typ_a: int = 0
    device_lifetime_est_typ_b: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.pre_eol_info <= 3:
            raise ValueError(f"pre-eol-info is {self.pre_eol_info}, expected 0 to 3")
        for value in (self.device_lifetime_est_typ_a, self.device_lifetime_est_typ_b):
            if not 0 <= value <= 11:
                raise ValueError(f"device-lifetime-est is {value}, expected 0 to 11")


class VirtioBlkOptions(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True):
    """Options of a virtio block device.

    Sizes are in bytes unless they end in `_sectors` (512 bytes).  Ours beyond QEMU's: `size_max`, `secure_erase`,
    `max_discard_seg`, `max_write_zeroes_seg`, `max_secure_erase_sectors`, `max_secure_erase_seg`, `lifetime`.
    With the profile `qemu` a discard and a write zeroes have one segment, as QEMU's have.
    """

    num_queues: int = 1
    queue_size: int = 256
    serial: str = ""
    logical_block_size: int = msgspec.field(default=512, name="logical_block_size")
    physical_block_size: int = msgspec.field(default=512, name="physical_block_size")
    min_io_size: int = msgspec.field(default=0, name="min_io_size")
    opt_io_size: int = msgspec.field(default=0, name="opt_io_size")
    alignment_offset: int = msgspec.field(default=0, name="alignment_offset")
    discard_granularity: int = msgspec.field(default=0, name="discard_granularity")
    cyls: int = 0
    heads: int = 0
    secs: int = 0
    size_max: int = 0
    seg_max: int = msgspec.field(default=0, name="seg_max")
    config_wce: bool = True
    write_cache: Literal["on", "off", "auto"] = "auto"
    discard: bool = True
    write_zeroes: bool = True
    secure_erase: bool = False
    max_discard_sectors: int = MAX_SECTORS
    max_discard_seg: int = 32
    max_write_zeroes_sectors: int = MAX_SECTORS
    max_write_zeroes_seg: int = 32
    max_secure_erase_sectors: int = MAX_SECTORS
    max_secure_erase_seg: int = 32
    lifetime: Lifetime | None = None
    flush: bool = True
    indirect_desc: bool = msgspec.field(default=True, name="indirect_desc")
    event_idx: bool = msgspec.field(default=True, name="event_idx")
    in_order: bool = msgspec.field(default=False, name="in_order")
    packed: bool = False
    queue_reset: bool = msgspec.field(default=True, name="queue_reset")
    iommu_platform: bool = msgspec.field(default=False, name="iommu_platform")
    request_merging: bool = True
    rerror: OnReadError = "auto"
    werror: OnWriteError = "auto"
    account_invalid: bool = True
    account_failed: bool = True
    stats_intervals: tuple[int, ...] = ()
    iothread: str | None = None
    iothread_vq_mapping: list[VqMapping] | None = None

    def __post_init__(self) -> None:
        require("num-queues", self.num_queues, 1 <= self.num_queues <= MAX_QUEUES, f"1 to {MAX_QUEUES}")
        check_queue_size("queue-size", self.queue_size, packed=self.packed)
        for name in ("logical_block_size", "physical_block_size"):
            value = getattr(self, name)
            good = not value & (value - 1) and 512 <= value <= 2 << 20
            require(name, value, good, "a power of two from 512 to 2097152")
        if self.physical_block_size < self.logical_block_size:
            raise ValueError(
                f"physical_block_size is {self.physical_block_size},"
                f" expected at least logical_block_size ({self.logical_block_size})"
            )
        block = self.logical_block_size
        blocks = {"min_io_size": 0xFFFF, "opt_io_size": 0xFFFF_FFFF, "alignment_offset": 0xFF}
        blocks["discard_granularity"] = 0xFFFF_FFFF * SECTOR // block
        for name, most in blocks.items():
            value = getattr(self, name)
            good = value % block == 0 and 0 <= value <= most * block
            require(name, value, good, f"a multiple of {block} up to {most * block}")
        limits = {"cyls": 65535, "heads": 255, "secs": 255, "size_max": 0xFFFF_FFFF, "seg_max": 1 << 16}
        for name, top in limits.items():
            value = getattr(self, name)
            require(name.replace("size_max", "size-max"), value, 0 <= value <= top, f"0 to {top}")
        geometry = (self.cyls, self.heads, self.secs)
        if any(geometry) and not all(geometry):
            raise ValueError(f"geometry (cyls, heads, secs) is {geometry}, expected all three or none")
        check_threads(self)
        for seconds in self.stats_intervals:
            require("stats-intervals", seconds, 1 <= seconds <= MAX_INTERVAL, f"1 to {MAX_INTERVAL} seconds")
        if len(self.serial.encode()) > 20:
            raise ValueError(f"serial {self.serial!r} is longer than 20 bytes")
        for name in ("discard", "write_zeroes", "secure_erase"):
            for kind in ("sectors", "seg"):
                field = f"max_{name}_{kind}"
                value = getattr(self, field)
                require(field.replace("_", "-"), value, 1 <= value < 1 << 32, "1 to 4294967295")

    def segments(self) -> int:
        """The number of data segments a request may have (seg_max): by default what fits a split ring too."""
        return segments(self.seg_max, self.queue_size)


def offered_features(options: VirtioBlkOptions, *, read_only: bool, no_ranges: bool) -> int:
    """The device's own feature bits and the ring features its options switch, VIRTIO 1.4 §5.2.3.

    With `no_ranges` neither discards nor write zeroes are offered.
    """
    f = BlkFeature
    offered = {
        f.VIRTIO_BLK_F_SIZE_MAX: options.size_max > 0,
        f.VIRTIO_BLK_F_SEG_MAX: True,
        f.VIRTIO_BLK_F_GEOMETRY: True,
        f.VIRTIO_BLK_F_RO: read_only,
        f.VIRTIO_BLK_F_BLK_SIZE: True,
        f.VIRTIO_BLK_F_FLUSH: options.flush,
        f.VIRTIO_BLK_F_TOPOLOGY: True,
        f.VIRTIO_BLK_F_CONFIG_WCE: options.flush and options.config_wce,
        f.VIRTIO_BLK_F_MQ: options.num_queues > 1,
        f.VIRTIO_BLK_F_DISCARD: options.discard and not no_ranges,
        f.VIRTIO_BLK_F_WRITE_ZEROES: options.write_zeroes and not no_ranges,
        f.VIRTIO_BLK_F_LIFETIME: options.lifetime is not None,
        f.VIRTIO_BLK_F_SECURE_ERASE: options.secure_erase and not read_only,
    }
    features = sum(1 << bit for bit, on in offered.items() if on)
    ring = {
        INDIRECT_DESC: options.indirect_desc,
        EVENT_IDX: options.event_idx,
        IN_ORDER: options.in_order,
        RING_PACKED: options.packed,
        RING_RESET: options.queue_reset,
        ACCESS_PLATFORM: options.iommu_platform,
    }
    return features | sum(mask for mask, on in ring.items() if on)


def _geometry(options: VirtioBlkOptions, capacity: int) -> tuple[int, int, int]:
    """Cylinders, heads, sectors: as given, or the usual translation of 16 heads and 63 sectors."""
    if options.cyls:
        return options.cyls, options.heads, options.secs
    return min(capacity // (16 * 63), 16383), 16, 63


def config_values(
    options: VirtioBlkOptions,
    features: int,
    *,
    capacity: int,
    writeback: bool,
    may_unmap: bool,
    whole_tracks: bool = False,
) -> dict[str, int]:
    """What is in the configuration space of a device that offers `features`; `capacity` in sectors of 512 bytes.

    `may_unmap`: whether writing zeroes can free space.  `whole_tracks`: where the geometry does not divide the capacity
    into logical blocks, a track ends with a whole one.

    Fields of features that are not offered read 0, except those that drivers are known to show in any case.
    """

    def on(bit: BlkFeature, value: int) -> int:
        return value if features >> bit & 1 else 0

    f = BlkFeature
    block = options.logical_block_size
    cylinders, heads, sectors = _geometry(options, capacity)
    if whole_tracks and capacity * SECTOR // heads // sectors % block:
        sectors &= -(block // SECTOR)
    granularity = options.discard_granularity or block
    return {
        "capacity": capacity,
        "size_max": on(f.VIRTIO_BLK_F_SIZE_MAX, options.size_max),
        "seg_max": options.segments(),
        "cylinders": cylinders,
        "heads": heads,
        "sectors": sectors,
        "blk_size": block,
        "physical_block_exp": (options.physical_block_size // block).bit_length() - 1,
        "alignment_offset": options.alignment_offset // block,
        "min_io_size": options.min_io_size // block,
        "opt_io_size": options.opt_io_size // block,
        "writeback": int(writeback),
        "num_queues": options.num_queues,
        "max_discard_sectors": on(f.VIRTIO_BLK_F_DISCARD, options.max_discard_sectors),
        "max_discard_seg": on(f.VIRTIO_BLK_F_DISCARD, options.max_discard_seg),
        "discard_sector_alignment": on(f.VIRTIO_BLK_F_DISCARD, granularity // SECTOR),
        "max_write_zeroes_sectors": on(f.VIRTIO_BLK_F_WRITE_ZEROES, options.max_write_zeroes_sectors),
        "max_write_zeroes_seg": on(f.VIRTIO_BLK_F_WRITE_ZEROES, options.max_write_zeroes_seg),
        "write_zeroes_may_unmap": on(f.VIRTIO_BLK_F_WRITE_ZEROES, int(may_unmap)),
        "max_secure_erase_sectors": on(f.VIRTIO_BLK_F_SECURE_ERASE, options.max_secure_erase_sectors),
        "max_secure_erase_seg": on(f.VIRTIO_BLK_F_SECURE_ERASE, options.max_secure_erase_seg),
        "secure_erase_sector_alignment": on(f.VIRTIO_BLK_F_SECURE_ERASE, block // SECTOR),
    }


def as_qemu(options: VirtioBlkOptions, features: int, sectors: int) -> tuple[VirtioBlkOptions, int]:
    """What the options are with the profile `qemu`, and how long the configuration space is.

    QEMU takes one segment of a discard or a write zeroes, and has no option for it; its space ends behind the last
    field that one of these features gives a meaning.  The geometry is that of a disk of so many `sectors` for good.
    """
    size = CONFIG_END
    if features >> BlkFeature.VIRTIO_BLK_F_DISCARD & 1:
        size = CONFIG_END_DISCARD
    if features >> BlkFeature.VIRTIO_BLK_F_WRITE_ZEROES & 1:
        size = CONFIG_END_WRITE_ZEROES
    cylinders, heads, secs = _geometry(options, sectors)
    return msgspec.structs.replace(
        options,
        max_discard_seg=1,
        max_write_zeroes_seg=1,
        cyls=max(cylinders, 1 if options.cyls else 2),
        heads=heads,
        secs=secs,
    ), size


def pack_config(values: Mapping[str, int]) -> bytes:
    """The configuration space with these values."""
    return CONFIG.pack(*(values[name] for name in CONFIG.names))
