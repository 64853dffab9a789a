"""Names and structures of the virtio block device, VIRTIO 1.4 §5.2.3 to §5.2.6."""

from __future__ import annotations

from enum import IntEnum

from devmodels.wire import Codec

SECTOR = 512


class BlkFeature(IntEnum):
    """Feature bits (numbers), VIRTIO 1.4 §5.2.3."""

    VIRTIO_BLK_F_SIZE_MAX = 1
    VIRTIO_BLK_F_SEG_MAX = 2
    VIRTIO_BLK_F_GEOMETRY = 4
    VIRTIO_BLK_F_RO = 5
    VIRTIO_BLK_F_BLK_SIZE = 6
    VIRTIO_BLK_F_FLUSH = 9
    VIRTIO_BLK_F_TOPOLOGY = 10
    VIRTIO_BLK_F_CONFIG_WCE = 11
    VIRTIO_BLK_F_MQ = 12
    VIRTIO_BLK_F_DISCARD = 13
    VIRTIO_BLK_F_WRITE_ZEROES = 14
    VIRTIO_BLK_F_LIFETIME = 15
    VIRTIO_BLK_F_SECURE_ERASE = 16


class BlkType(IntEnum):
    """Request types, VIRTIO 1.4 §5.2.6."""

    VIRTIO_BLK_T_IN = 0
    VIRTIO_BLK_T_OUT = 1
    VIRTIO_BLK_T_FLUSH = 4
    VIRTIO_BLK_T_GET_ID = 8
    VIRTIO_BLK_T_GET_LIFETIME = 10
    VIRTIO_BLK_T_DISCARD = 11
    VIRTIO_BLK_T_WRITE_ZEROES = 13
    VIRTIO_BLK_T_SECURE_ERASE = 14


class BlkStatus(IntEnum):
    """Status byte of a request, VIRTIO 1.4 §5.2.6."""

    VIRTIO_BLK_S_OK = 0
    VIRTIO_BLK_S_IOERR = 1
    VIRTIO_BLK_S_UNSUPP = 2


REQUEST_HEADER = Codec.ints(
    lambda c: c.Struct("type" / c.Int32ul, "reserved" / c.Int32ul, "sector" / c.Int64ul)
)
"""The device-readable head of struct virtio_blk_req, VIRTIO 1.4 §5.2.6."""

RANGE_SEGMENT = Codec.ints(
    lambda c: c.Struct("sector" / c.Int64ul, "num_sectors" / c.Int32ul, "flags" / c.Int32ul)
)
"""struct virtio_blk_discard_write_zeroes, VIRTIO 1.4 §5.2.6."""

RANGE_FLAG_UNMAP = 1

LIFETIME = Codec.ints(
    lambda c: c.Struct(
        "pre_eol_info" / c.Int16ul,
        "device_lifetime_est_typ_a" / c.Int16ul,
        "device_lifetime_est_typ_b" / c.Int16ul,
    )
)
"""struct virtio_blk_lifetime, VIRTIO 1.4 §5.2.6."""

ID_BYTES = 20
"""Length of the device ID string, VIRTIO 1.4 §5.2.6."""

CONFIG = Codec.ints(
    lambda c: c.Struct(
        "capacity" / c.Int64ul,
        "size_max" / c.Int32ul,
        "seg_max" / c.Int32ul,
        "cylinders" / c.Int16ul,
        "heads" / c.Int8ul,
        "sectors" / c.Int8ul,
        "blk_size" / c.Int32ul,
        "physical_block_exp" / c.Int8ul,
        "alignment_offset" / c.Int8ul,
        "min_io_size" / c.Int16ul,
        "opt_io_size" / c.Int32ul,
        "writeback" / c.Int8ul,
        "unused0" / c.Padding(1),
        "num_queues" / c.Int16ul,
        "max_discard_sectors" / c.Int32ul,
        "max_discard_seg" / c.Int32ul,
        "discard_sector_alignment" / c.Int32ul,
        "max_write_zeroes_sectors" / c.Int32ul,
        "max_write_zeroes_seg" / c.Int32ul,
        "write_zeroes_may_unmap" / c.Int8ul,
        "unused1" / c.Padding(3),
        "max_secure_erase_sectors" / c.Int32ul,
        "max_secure_erase_seg" / c.Int32ul,
        "secure_erase_sector_alignment" / c.Int32ul,
    )
)
"""struct virtio_blk_config up to the fields that a device without zones has, VIRTIO 1.4 §5.2.4."""

CONFIG_END, CONFIG_END_DISCARD, CONFIG_END_WRITE_ZEROES = 36, 48, 57
"""Where the fields end that have a meaning without either feature, with discards, with write zeroes."""

WRITEBACK_OFFSET = 32
"""Offset of `writeback`, the one field that a driver may write."""
