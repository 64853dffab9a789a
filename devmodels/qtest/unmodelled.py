"""Storage controllers of QEMU's that are not modelled here: what a machine has of them so that the rest of it runs.

It is a function in their slot with their identity and BARs (QEMU 7.2's), and nothing behind them.  The machine is not
what was asked for, so only those are given one who say what is left out: `guestsim replay` of a reproducer.
"""

from __future__ import annotations

from devmodels.pci.bars import BarKind
from devmodels.pci.function import PciIdentity
from devmodels.qtest.chipset import SUBSYSTEM, SUBSYSTEM_VENDOR
from devmodels.qtest.placeholders import IO, KIB, MEMORY, Looks

MEMORY64 = BarKind.MEMORY64
RAID, SCSI = 0x010400, 0x010000
LSI, VMWARE = 0x1000, 0x15AD

LOOKS = {
    "megasas": Looks(
        PciIdentity(LSI, 0x0060, RAID, 0, LSI, 0x1013),
        {0: (16 * KIB, MEMORY64), 2: (256, IO), 3: (256 * KIB, MEMORY64)},
    ),
    "megasas-gen2": Looks(
        PciIdentity(LSI, 0x0079, RAID, 0, LSI, 0x9261),
        {0: (256, IO), 1: (16 * KIB, MEMORY64), 3: (256 * KIB, MEMORY64)},
    ),
    "lsi53c895a": Looks(
        PciIdentity(LSI, 0x0012, SCSI, 0, 0x0000, 0x1000),
        {0: (256, IO), 1: (KIB, MEMORY), 2: (8 * KIB, MEMORY)},
        {0x0D: (0xFF, 0)},  # latency timer
    ),
    "lsi53c810": Looks(
        PciIdentity(LSI, 0x0001, SCSI, 0, 0x0000, 0x1000),
        {0: (256, IO), 1: (KIB, MEMORY), 2: (8 * KIB, MEMORY)},
        {0x0D: (0xFF, 0)},  # latency timer
    ),
    "am53c974": Looks(PciIdentity(0x1022, 0x2020, SCSI, 0x10, SUBSYSTEM_VENDOR, SUBSYSTEM), {0: (128, IO)}),
}
"""By the name of QEMU's device."""
UNITS = frozenset(("scsi-hd", "scsi-cd", "scsi-disk", "scsi-block", "scsi-generic"))
"""What may be behind them."""
