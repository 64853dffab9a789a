"""What the comparison of scripts leaves out, besides what devices have as masks."""

from __future__ import annotations

from guestsim.diff.ata_devices import ABSENT, OUTPUTS
from guestsim.diff.masks import Mask, strict
from guestsim.drivers.ahci_layouts import Hba
from guestsim.drivers.ide_layouts import Reg
from guestsim.drivers.layouts import COMMON_CFG

SEVERAL = (
    "several registers",
    (
        "A read beyond a register of one byte, or beyond a channel, gives ones in QEMU; ours gives what is beside "
        "(ATA/ATAPI-7 vol. 2 §5: registers are read one by one)."
    ),
)
OWN = (
    Mask(
        "config_generation",
        "How often it has changed is the device's own matter (VIRTIO 1.4 §2.5.1).",
        "common",
        COMMON_CFG["config_generation"].offset,
        COMMON_CFG["config_generation"].offset + 1,
    ),
    Mask(
        "PCI status",
        "Timing of DEVSEL#, fast back-to-back and 66 MHz are a function's own (PCI 3.0 §6.2.3).",
        "pci",
        4,
        8,
        bits=0x06E0_0000,
    ),
    *(
        Mask(
            "capabilities",
            "Which capabilities a function has, and where they lie, is its own (PCI 3.0 §6.7).",
            "pci",
            start,
            end,
        )
        for start, end in ((0x2C, 0x38), (0x40, 0x1000))
    ),
)
"""What scripts do not compare of registers, besides what devices have as masks."""

ATA_OWN = (
    Mask(*OUTPUTS, "ide", Reg.COUNT, Reg.STATUS, tags=frozenset({"sectors"})),
    Mask(*ABSENT, "ide", Reg.ERROR, Reg.STATUS + 1, tags=frozenset({"absent"})),
    Mask(*ABSENT, "control", 0, 1, tags=frozenset({"absent"})),
    *(
        Mask(
            "HBA capabilities",
            "Of which version an HBA is, and what it can do, is its own (AHCI 1.3.1 §3.1.1, §3.1.5, §3.1.10).",
            "hba",
            start,
            start + 4,
        )
        for start in (Hba.CAP, Hba.VS, Hba.CAP2)
    ),
    *(
        Mask(
            *SEVERAL,
            window,
            start,
            end,
            bits=bits,
            values=(None, ones),
        )
        for window, start, end, bits, ones in (
            ("ide", Reg.ERROR, Reg.STATUS + 4, -1, 0xFFFF_FFFF),
            ("ide", Reg.ERROR, Reg.STATUS + 4, -1, 0xFFFF),
            ("control", 0, 4, -1, 0xFFFF_FFFF),
            ("control", 0, 4, -1, 0xFFFF),
        )
    ),
    *strict(Mask(*SEVERAL, "master", 6, 10, bits=0xFFFF_0000, values=(None, 0xFFFF_0000))),
    *(
        Mask(
            "sense-detail",
            "Information and sense key specific bytes are optional (SPC-4 §4.5.3); QEMU's are 0, with the bit VALID.",
            "sense",
            0,
            18,
            bits=bits,
            values=values,
        )
        for bits, values in (
            (0x80, (0, 0x80)),
            (sum(0xFF << 8 * at for at in (*range(3, 7), *range(8, 12), *range(15, 18))), (None, 0)),
        )
    ),
)
"""The same of ATA hosts: here nobody says which the two values are, of commands of sectors."""

REASONS = {
    "in flight": "While a request is in flight, one device is done sooner than the other.",
    "features offered": "A device offers what it has (VIRTIO 1.4 §2.2); the guest is told of what both have.",
    "not looked at": "Buffers that the device may write, and the guest of this script does not look at.",
    "avail_event": "When a device asks to be notified of more buffers is its own matter (VIRTIO 1.4 §2.7.10).",
    "WRITE of used descriptors": "QEMU does not say in a packed ring that it has written (VIRTIO 1.4 §2.8.3; "
    "right: ours).",
    "residual": "QEMU does not say how much a command has left undone, and says less than nothing of one that was done "
    "again (VIRTIO 1.4 §5.6.6.1; right: ours).",
    "good-residual": "The same of a command that has ended well; so ours does under the profile `qemu`, too.",
    "identity": "Who a unit is, and which optional pages and features it has, is its own (SPC-4 §6.6, MMC-6 §5.3).",
    "LUN list": "REPORT LUNS tells of units in any order (SPC-4 §6.33); QEMU tells of LUN 0 also where none is.",
    "reset": "A request in flight at a reset may still be done before it (VIRTIO 1.4 §2.4.1, §2.6.1.1).",
    "messages": "Several buffers may be told of with one interrupt or with more (VIRTIO 1.4 §2.7.7.1), and those at a "
    "reset with none.",
    "disk": "Where a request ends otherwise on QEMU, as the script says, or at a reset, its disk may hold "
    "something else.",
    "data-rest": "What lies behind the data is nobody's (VIRTIO 1.4 §2.7.8.2); ours zeroes it.",
    **{mask.name: mask.reason for mask in (*OWN, *ATA_OWN)},
}
"""The masks of scripts, besides those that devices have."""

OFFERED = frozenset({("common", 4), ("legacy", 0)})
"""Features offered: the guest is told of those that both have."""
