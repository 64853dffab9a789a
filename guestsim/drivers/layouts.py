"""Structures in memory and registers as the guest knows them: field names, offsets, sizes.

Written down from VIRTIO 1.4 (§2.7, §4.1.4, §5.2), apart from the devices' own declarations on purpose: two ends that
share one mistake would agree.  A test compares them with the kernel's headers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

_SIZES = {"B": 1, "H": 2, "I": 4, "Q": 8}


@dataclass(frozen=True, slots=True)
class Field:
    """A little-endian integer of `size` bytes at `offset`."""

    offset: int
    size: int


class Layout:
    """A packed little-endian structure: fields by name, in order, with `struct` codes B, H, I and Q."""

    __slots__ = ("fields", "name", "size", "struct")

    def __init__(self, name: str, **codes: str) -> None:
        self.name = name
        self.fields: dict[str, Field] = {}
        offset = 0
        for field, code in codes.items():
            self.fields[field] = Field(offset, _SIZES[code])
            offset += _SIZES[code]
        self.size = offset
        self.struct = struct.Struct("<" + "".join(codes.values()))

    def __getitem__(self, field: str) -> Field:
        return self.fields[field]

    def pack(self, *values: int) -> bytes:
        """The structure's bytes from one value for each field."""
        return self.struct.pack(*values)

    def unpack(self, data: bytes) -> dict[str, int]:
        """Field name to value."""
        return dict(zip(self.fields, self.struct.unpack(data), strict=True))


class Feature(IntEnum):
    """Feature bits that say how rings and transport work (VIRTIO 1.4 §6; those below 28 are legacy, §6.3)."""

    NOTIFY_ON_EMPTY = 24
    ANY_LAYOUT = 27
    INDIRECT_DESC = 28
    EVENT_IDX = 29
    VERSION_1 = 32
    ACCESS_PLATFORM = 33
    RING_PACKED = 34
    IN_ORDER = 35
    ORDER_PLATFORM = 36
    SR_IOV = 37
    NOTIFICATION_DATA = 38
    NOTIF_CONFIG_DATA = 39
    RING_RESET = 40


class Status(IntFlag):
    """The device status field (VIRTIO 1.4 §2.1)."""

    ACKNOWLEDGE = 1
    DRIVER = 2
    DRIVER_OK = 4
    FEATURES_OK = 8
    NEEDS_RESET = 64
    FAILED = 128


# --- Split virtqueues (§2.7)

DESC_NEXT = 1
DESC_WRITE = 2
DESC_INDIRECT = 4
AVAIL_NO_INTERRUPT = 1
USED_NO_NOTIFY = 1

MAX_QUEUE_SIZE = 32768

DESC = Layout("virtq_desc", addr="Q", len="I", flags="H", next="H")
AVAIL = Layout("virtq_avail", flags="H", idx="H")
USED = Layout("virtq_used", flags="H", idx="H")
USED_ELEM = Layout("virtq_used_elem", id="I", len="I")


def avail_size(queue_size: int) -> int:
    """Bytes of an available ring, `used_event` included (§2.7)."""
    return AVAIL.size + 2 * queue_size + 2


def used_size(queue_size: int) -> int:
    """Bytes of a used ring, `avail_event` included (§2.7)."""
    return USED.size + USED_ELEM.size * queue_size + 2


# --- Packed virtqueues (§2.8)

PACKED_AVAIL = 1 << 7
PACKED_USED = 1 << 15

PACKED_DESC = Layout("vring_packed_desc", addr="Q", len="I", id="H", flags="H")
PACKED_EVENT = Layout("vring_packed_desc_event", off_wrap="H", flags="H")

EVENT_ENABLE = 0
EVENT_DISABLE = 1
EVENT_DESC = 2
EVENT_FLAGS_MASK = 3
EVENT_WRAP = 1 << 15

# --- PCI transport (§4.1.4)


class CapType(IntEnum):
    """`cfg_type` of a virtio structure PCI capability (§4.1.4)."""

    COMMON = 1
    NOTIFY = 2
    ISR = 3
    DEVICE = 4
    PCI = 5
    SHARED_MEMORY = 8
    VENDOR = 9


PCI_CAP = Layout(
    "virtio_pci_cap",
    cap_vndr="B",
    cap_next="B",
    cap_len="B",
    cfg_type="B",
    bar="B",
    id="B",
    padding="H",
    offset="I",
    length="I",
)
NOTIFY_MULTIPLIER = Field(16, 4)
PCI_CFG_DATA = Field(16, 4)

COMMON_CFG = Layout(
    "virtio_pci_common_cfg",
    device_feature_select="I",
    device_feature="I",
    driver_feature_select="I",
    driver_feature="I",
    config_msix_vector="H",
    num_queues="H",
    device_status="B",
    config_generation="B",
    queue_select="H",
    queue_size="H",
    queue_msix_vector="H",
    queue_enable="H",
    queue_notify_off="H",
    queue_desc="Q",
    queue_driver="Q",
    queue_device="Q",
    queue_notif_config_data="H",
    queue_reset="H",
    admin_queue_index="H",
    admin_queue_num="H",
)

NO_VECTOR = 0xFFFF
ISR_QUEUE = 1
ISR_CONFIG = 2

# --- PCI transport, legacy interface (§4.1.4.10)

LEGACY_CFG = Layout(
    "legacy header",
    device_feature="I",
    driver_feature="I",
    queue_pfn="I",
    queue_size="H",
    queue_select="H",
    queue_notify="H",
    device_status="B",
    isr="B",
    config_msix_vector="H",
    queue_msix_vector="H",
)
LEGACY_CONFIG = 20
LEGACY_CONFIG_MSIX = 24

LEGACY_PAGE = 4096
"""What a ring is aligned to, its used part as well (§2.7.2)."""

# --- MMIO transport (§4.2.2, legacy §4.2.4)

MMIO_MAGIC = 0x7472_6976
MMIO_CONFIG = 0x100

MMIO_REGISTERS: dict[str, Field] = {
    "magic_value": Field(0x000, 4),
    "version": Field(0x004, 4),
    "device_id": Field(0x008, 4),
    "vendor_id": Field(0x00C, 4),
    "device_feature": Field(0x010, 4),
    "device_feature_select": Field(0x014, 4),
    "driver_feature": Field(0x020, 4),
    "driver_feature_select": Field(0x024, 4),
    "guest_page_size": Field(0x028, 4),
    "queue_select": Field(0x030, 4),
    "queue_size_max": Field(0x034, 4),
    "queue_size": Field(0x038, 4),
    "queue_align": Field(0x03C, 4),
    "queue_pfn": Field(0x040, 4),
    "queue_enable": Field(0x044, 4),
    "queue_notify": Field(0x050, 4),
    "interrupt_status": Field(0x060, 4),
    "interrupt_ack": Field(0x064, 4),
    "device_status": Field(0x070, 4),
    "queue_desc": Field(0x080, 8),
    "queue_driver": Field(0x090, 8),
    "queue_device": Field(0x0A0, 8),
    "queue_reset": Field(0x0C0, 4),
    "config_generation": Field(0x0FC, 4),
}
"""Registers by the names that those over PCI have, where both have them: `queue_enable` is QueueReady."""

REGISTERS: dict[str, int] = {
    name: field.size
    for fields in (COMMON_CFG.fields, LEGACY_CFG.fields, MMIO_REGISTERS)
    for name, field in fields.items()
    if fields is COMMON_CFG.fields or name not in COMMON_CFG.fields
}
"""Every register that some transport has by name, and the bytes that its value takes."""

# --- Block device (§5.2)


class BlkFeature(IntEnum):
    """Feature bits of the block device (§5.2.3)."""

    SIZE_MAX = 1
    SEG_MAX = 2
    GEOMETRY = 4
    RO = 5
    BLK_SIZE = 6
    FLUSH = 9
    TOPOLOGY = 10
    CONFIG_WCE = 11
    MQ = 12
    DISCARD = 13
    WRITE_ZEROES = 14
    LIFETIME = 15
    SECURE_ERASE = 16
    ZONED = 17


class BlkType(IntEnum):
    """Request types of the block device (§5.2.6)."""

    IN = 0
    OUT = 1
    FLUSH = 4
    GET_ID = 8
    GET_LIFETIME = 10
    DISCARD = 11
    WRITE_ZEROES = 13
    SECURE_ERASE = 14


class BlkStatus(IntEnum):
    """The status byte of a block request (§5.2.6)."""

    OK = 0
    IOERR = 1
    UNSUPP = 2


SECTOR = 512
ID_BYTES = 20
WRITE_ZEROES_UNMAP = 1

BLK_HEADER = Layout("virtio_blk_req", type="I", reserved="I", sector="Q")
BLK_RANGE = Layout("virtio_blk_discard_write_zeroes", sector="Q", num_sectors="I", flags="I")
BLK_LIFETIME = Layout(
    "virtio_blk_lifetime", pre_eol_info="H", device_lifetime_est_typ_a="H", device_lifetime_est_typ_b="H"
)

BLK_CONFIG = Layout(
    "virtio_blk_config",
    capacity="Q",
    size_max="I",
    seg_max="I",
    cylinders="H",
    heads="B",
    sectors="B",
    blk_size="I",
    physical_block_exp="B",
    alignment_offset="B",
    min_io_size="H",
    opt_io_size="I",
    writeback="B",
    unused0="B",
    num_queues="H",
    max_discard_sectors="I",
    max_discard_seg="I",
    discard_sector_alignment="I",
    max_write_zeroes_sectors="I",
    max_write_zeroes_seg="I",
    write_zeroes_may_unmap="B",
    unused1_0="B",
    unused1_1="B",
    unused1_2="B",
    max_secure_erase_sectors="I",
    max_secure_erase_seg="I",
    secure_erase_sector_alignment="I",
)

BLK_CONFIG_FEATURES: dict[str, BlkFeature] = {
    "size_max": BlkFeature.SIZE_MAX,
    "seg_max": BlkFeature.SEG_MAX,
    "cylinders": BlkFeature.GEOMETRY,
    "heads": BlkFeature.GEOMETRY,
    "sectors": BlkFeature.GEOMETRY,
    "blk_size": BlkFeature.BLK_SIZE,
    "physical_block_exp": BlkFeature.TOPOLOGY,
    "alignment_offset": BlkFeature.TOPOLOGY,
    "min_io_size": BlkFeature.TOPOLOGY,
    "opt_io_size": BlkFeature.TOPOLOGY,
    "writeback": BlkFeature.CONFIG_WCE,
    "num_queues": BlkFeature.MQ,
    "max_discard_sectors": BlkFeature.DISCARD,
    "max_discard_seg": BlkFeature.DISCARD,
    "discard_sector_alignment": BlkFeature.DISCARD,
    "max_write_zeroes_sectors": BlkFeature.WRITE_ZEROES,
    "max_write_zeroes_seg": BlkFeature.WRITE_ZEROES,
    "write_zeroes_may_unmap": BlkFeature.WRITE_ZEROES,
    "max_secure_erase_sectors": BlkFeature.SECURE_ERASE,
    "max_secure_erase_seg": BlkFeature.SECURE_ERASE,
    "secure_erase_sector_alignment": BlkFeature.SECURE_ERASE,
}
"""Which feature bit says that a field of `virtio_blk_config` exists (§5.2.4); `capacity` always does."""
