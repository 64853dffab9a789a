"""The virtio devices that can be compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from guestsim.diff.access import Read, Step, Wait, Write
from guestsim.diff.arena import MESSAGES, MESSAGES_SIZE
from guestsim.diff.device import FUNCTION, SLOT, Device
from guestsim.diff.grammar import (
    virtio,
    virtio_blk,
    virtio_chains,
    virtio_driver,
    virtio_legacy,
    virtio_packed,
    virtio_rings,
    virtio_scsi,
)
from guestsim.diff.masks import Mask, of_memory, strict
from guestsim.diff.play import Area
from guestsim.diff.profiles import AS_QEMU
from guestsim.diff.scsi_masks import SCSI_CD_MASKS, SCSI_MASKS
from guestsim.diff.sides import Lines, Side, Window, Windows
from guestsim.diff.virtio_masks import COMMON, PACKED, REQUESTS
from guestsim.drivers.layouts import COMMON_CFG, LEGACY_CFG

MSIX_BAR = 0xE000_0000
MODERN_BAR = 0xE001_0000
LEGACY_BAR, LEGACY_SIZE = 0xC000, 0x80
PAGE = 0x1000
"""What each structure of the modern interface, and that of MSI-X, has to itself."""


def _register(read: Read) -> str:
    """A register's name."""
    if read.window == "legacy":
        for name, field in LEGACY_CFG.fields.items():
            if field.offset == read.offset:
                return f"legacy.{name}"
    if read.window == "common":
        for name, field in COMMON_CFG.fields.items():
            if field.offset <= read.offset < field.offset + field.size:
                return f"common.{name}"
    return f"{read.window}+{read.offset:#x}"


def place_legacy(side: Side) -> Windows:
    """The same for a transitional function that is driven by its legacy interface (VIRTIO 1.4 §4.1.4.10)."""
    found = place_virtio(side)
    for name, offset in (("device", 20), ("device-msix", 24), ("legacy-isr-msix", 19), ("legacy-none", 0)):
        found[name] = Window(LEGACY_BAR + offset, LEGACY_SIZE - offset, port=True)
    return found


def place_virtio(side: Side) -> Windows:
    """Give a virtio function its addresses, and find its structures by their capabilities (VIRTIO 1.4 §4.1.4)."""
    side.windows = {"pci": FUNCTION}
    for bar, address in ((0, LEGACY_BAR), (1, MSIX_BAR), (4, MODERN_BAR)):
        side.do([Write("pci", 0x10 + 4 * bar, 4, address)])
    found: Windows = {
        "pci": FUNCTION,
        "msix": Window(MSIX_BAR, PAGE),
        "legacy": Window(LEGACY_BAR, LEGACY_SIZE, port=True),
    }
    kinds = {1: "common", 2: "notify", 3: "isr", 4: "device"}
    (at,) = side.do([Read("pci", 0x34, 1)])
    while at:
        identity, then, kind, offset = side.do(
            [Read("pci", at, 1), Read("pci", at + 1, 1), Read("pci", at + 3, 1), Read("pci", at + 8, 4)]
        )
        if identity == 0x11:
            found["msixcap"] = Window(FUNCTION.base + at, 12)
            (pending,) = side.do([Read("pci", at + 8, 4)])
            pending &= ~7
            found["pba"] = Window(MSIX_BAR + pending, PAGE - pending)
        elif identity == 0x09 and kind in kinds:
            found[kinds[kind]] = Window(MODERN_BAR + offset, PAGE)
            found[f"cap-{kinds[kind]}"] = Window(FUNCTION.base + at, 20)
        elif identity == 0x09 and kind == 5:
            found["cap-pci"] = Window(FUNCTION.base + at, 20)
        at = then
    for alias, window in (("common-none", "common"), ("common-beyond", "common"), ("isr-msix", "isr")):
        found[alias] = found[window]
    return found


def _virtio_areas(queues: int) -> Iterator[Area]:
    yield Area("buffers", virtio_chains.BUFFERS, virtio_chains.BUFFERS_END - virtio_chains.BUFFERS)
    for number in range(queues):
        base = virtio_rings.RINGS + number * virtio_rings.RING_ROOM
        yield Area(f"queue {number} descriptors", base + virtio_rings.DESC_AT, 0x1000)
        yield Area(f"queue {number} available ring", base + virtio_rings.AVAIL_AT, 0x1000)
        yield Area(f"queue {number} used ring", base + virtio_rings.USED_AT, 0x1000)
        yield Area(f"queue {number} used flags", base + virtio_rings.USED_AT, 2)
        yield Area(f"queue {number} used index", base + virtio_rings.USED_AT + 2, 2)
        yield Area(
            f"queue {number} tables",
            base + virtio_rings.TABLE_AT,
            virtio_rings.RING_ROOM - virtio_rings.TABLE_AT,
        )
    yield Area("interrupt messages", MESSAGES, MESSAGES_SIZE)


def _virtio_prologue(vectors: int) -> tuple[Step, ...]:
    """The function's command register and vectors, the device reset."""
    return (
        Step(
            "begin",
            (
                Write("pci", 4, 2, 0x0007),
                Write("common", COMMON_CFG["device_status"].offset, 1, 0),
                Wait(),
                virtio.put("device_feature_select", 0),
                virtio.put("driver_feature_select", 1),
                virtio.put("driver_feature", 0),
                virtio.put("driver_feature_select", 0),
                virtio.put("driver_feature", 0),
                virtio.put("queue_select", 0),
                Write("msixcap", 2, 2, 0),
                *virtio.message_table(vectors),
                Read("isr", 0, 1),
                Wait(),
            ),
        ),
    )


VIRTIO_BLK = Device(
    name="virtio-blk",
    what="virtio-blk-pci, modern interface",
    options=[
        {
            "driver": "virtio-blk-pci",
            "id": "v0",
            "drive": "d0",
            "addr": "4",
            "serial": "serial-number-of-dev",
            "num-queues": virtio_blk.QUEUES,
            "vectors": virtio_blk.QUEUES + 1,
            "disable-legacy": "on",
            "packed": True,
            "discard_granularity": 512,
            "max-discard-sectors": virtio_blk.MOST_DISCARDED,
            "max-write-zeroes-sectors": virtio_blk.MOST_ZEROED,
        }
    ],
    ours={"max-discard-seg": 1, "max-write-zeroes-seg": 1, "ioeventfd": False},
    theirs={"ioeventfd": False},
    lines=Lines(slots=(SLOT,)),
    place=place_virtio,
    prologue=_virtio_prologue(virtio_blk.QUEUES + 1),
    observe=(virtio.get("device_status"),),
    areas=tuple(_virtio_areas(virtio_blk.QUEUES)),
    masks=(
        *COMMON,
        *REQUESTS,
        *PACKED,
        *strict(
            Mask(
                "features offered",
                "A device offers what it has (VIRTIO 1.4 §2.2): NOTIFICATION_DATA, NOTIF_CONFIG_DATA, SUSPEND.",
                "common",
                4,
                8,
                bits=1 << 6 | 1 << 7 | 1 << 11,
            ),
        ),
        *strict(
            Mask(
                "fields of no queue",
                "What fields of a queue that is not there hold is not said, but for queue_size "
                "(VIRTIO 1.4 §4.1.4.3.1).",
                "common-none",
                0,
                0x40,
            ),
            Mask(
                "queue_select above 1023",
                "There is no such queue (size 0: VIRTIO 1.4 §4.1.4.3.1); QEMU goes on with the last one (right: ours).",
                "common-beyond",
                0,
                0x40,
            ),
        ),
        *strict(
            Mask(
                "ISR status with MSI-X",
                "With MSI-X a driver should not look at the queue bit (VIRTIO 1.4 §4.1.4.5.2); QEMU sets it.",
                "isr-msix",
                0,
                1,
                bits=1,
            )
        ),
        *strict(
            Mask(
                "ISR status of a broken device",
                "A configuration change sets bit 1 (VIRTIO 1.4 §4.1.4.5.1); QEMU sets bit 0 as well (right: ours).",
                "isr",
                0,
                1,
                bits=1,
                tags=frozenset({"broken"}),
                values=(0, 1),
            )
        ),
    ),
    grammar=virtio_blk.VirtioBlkGrammar(),
    label=_register,
    drive={"discard": "unmap"},
    user="/machine/peripheral/v0/virtio-backend",
)

TRANSITIONAL = replace(
    VIRTIO_BLK,
    name="virtio-blk-transitional",
    what="virtio-blk-pci, transitional, over the legacy interface",
    options=[{**VIRTIO_BLK.options[0], "disable-legacy": "off", "packed": False}],
    place=place_legacy,
    prologue=(
        Step(
            "begin",
            (
                Write("pci", 4, 2, 0x0007),
                virtio_legacy.put("device_status", 0),
                Wait(),
                virtio_legacy.put("queue_select", 0),
                Write("msixcap", 2, 2, 0),
                *virtio.message_table(virtio_blk.QUEUES + 1),
                virtio_legacy.get("isr"),
                Wait(),
            ),
        ),
    ),
    observe=(virtio_legacy.get("device_status"),),
    masks=(
        *COMMON,
        *REQUESTS,
        *strict(
            of_memory(
                "broken-legacy",
                "Ours says NEEDS_RESET over the legacy interface as well; QEMU does not (VIRTIO 1.4 §2.1.2).",
            )
        ),
        *strict(
            Mask(
                "ISR status of a broken device",
                "Ours says NEEDS_RESET over the legacy interface as well; QEMU does not (VIRTIO 1.4 §2.1.2).",
                "legacy",
                19,
                20,
                bits=2,
                tags=frozenset({"broken"}),
                values=(2, 0),
            )
        ),
        *strict(
            Mask(
                "ISR status of a broken device",
                "Ours says NEEDS_RESET over the legacy interface as well; QEMU does not (VIRTIO 1.4 §2.1.2).",
                "legacy-isr-msix",
                0,
                1,
                bits=3,
                tags=frozenset({"broken"}),
                values=(2, None),
            )
        ),
        *strict(
            Mask(
                "features offered",
                "A device offers what it has (VIRTIO 1.4 §2.2): QEMU's has NOTIFY_ON_EMPTY.",
                "legacy",
                0,
                4,
                bits=1 << 24,
            )
        ),
        *strict(
            Mask(
                "fields of no queue",
                "What fields of a queue that is not there hold is not said, but for queue_size "
                "(VIRTIO 1.4 §4.1.5.1.3).",
                "legacy-none",
                0,
                24,
            )
        ),
        *strict(
            Mask(
                "ISR status with MSI-X",
                "With MSI-X a driver should not look at the queue bit (VIRTIO 1.4 §4.1.4.5.2); QEMU sets it.",
                "legacy-isr-msix",
                0,
                1,
                bits=1,
            )
        ),
    ),
    grammar=virtio_blk.VirtioBlkGrammar(legacy=True),
)

VIRTIO_SCSI = replace(
    VIRTIO_BLK,
    name="virtio-scsi",
    what="virtio-scsi-pci with a scsi-hd, modern interface",
    options=[
        {
            "driver": "virtio-scsi-pci",
            "id": "s0",
            "addr": "4",
            "num_queues": virtio_scsi.QUEUES - 2,
            "vectors": virtio_scsi.QUEUES + 1,
            "disable-legacy": "on",
            "packed": True,
        },
        {
            "driver": "scsi-hd",
            "id": "disk0",
            "drive": "d0",
            "bus": "s0.0",
            "serial": "of-both",
            "device_id": "disk-of-both",
            "vendor": "OF-BOTH",
            "product": "scsi-hd",
            "ver": "1.0",
            "wwn": 0x5000_C500_1234_5678,
            "dpofua": True,
            "rotation_rate": 1,
            "discard_granularity": 512,
            "max_io_size": 1 << 19,
            "max_unmap_size": 1 << 19,
        },
    ],
    user="/machine/peripheral/disk0",
    ours={"inout": False, "ioeventfd": False},
    prologue=_virtio_prologue(virtio_scsi.QUEUES + 1),
    areas=tuple(_virtio_areas(virtio_scsi.QUEUES)),
    masks=(
        *(mask for mask in VIRTIO_BLK.masks if mask not in REQUESTS),
        of_memory(
            virtio_driver.RESET_COMMAND,
            "Whether a command has ended when the reset comes, or is ended by it (VIRTIO 1.4 §5.6.6.1), is a matter of "
            "time: QEMU is let go on just before, since it hears nobody in a reset.",
            profiles=AS_QEMU,
        ),
        *strict(
            of_memory(
                virtio_packed.LATE,
                "QEMU's control queue, packed, goes on asking for the first descriptor, "
                "before DRIVER_OK for nothing (VIRTIO 1.4 §2.8.10; right: ours).",
            ),
            of_memory(
                "used-len",
                "QEMU's used.len counts what it has read as if it were written (VIRTIO 1.4 §2.7.8.2; right: ours).",
            ),
        ),
        *strict(
            of_memory(
                "residual",
                "QEMU does not say how much a command that failed has left undone (VIRTIO 1.4 §5.6.6.1; right: ours).",
            ),
            of_memory(
                "sense-detail",
                "Information and sense key specific bytes are optional (SPC-4 §4.5.3); ours has them.",
            ),
            of_memory(
                "which-reset",
                "The unit attention after a reset says 29/00 where ours says 29/03 or 29/07 (SPC-4 §4.5.6).",
            ),
            of_memory(
                "sense-rest",
                "What lies behind the sense data is nobody's (VIRTIO 1.4 §5.6.6.1, sense_len); ours zeroes it.",
            ),
            of_memory(
                "data-rest",
                "QEMU's REQUEST SENSE goes on with zeroes up to the allocation length (SPC-4 §4.2.5.6; right: ours).",
            ),
        ),
        *SCSI_MASKS,
    ),
    grammar=virtio_scsi.VirtioScsiGrammar(),
)

VIRTIO_SCSI_CD = replace(
    VIRTIO_SCSI,
    name="virtio-scsi-cd",
    what="virtio-scsi-pci with a scsi-cd, modern interface",
    options=[
        VIRTIO_SCSI.options[0],
        {
            "driver": "scsi-cd",
            "id": "cd0",
            "drive": "d0",
            "bus": "s0.0",
            "serial": "of-both",
            "device_id": "cd-of-both",
            "vendor": "OF-BOTH",
            "product": "scsi-cd",
            "ver": "1.0",
            "wwn": 0x5000_C500_8765_4321,
        },
    ],
    user="/machine/peripheral/cd0",
    drive={},
    grammar=virtio_scsi.VirtioScsiGrammar(cd=True),
    masks=(*(mask for mask in VIRTIO_SCSI.masks if mask not in SCSI_MASKS), *SCSI_CD_MASKS),
)
