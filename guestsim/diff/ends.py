"""What QEMU 7.2 ends of, or never comes back from: what it does, when, clause, devices.  Sequences avoid it."""

from __future__ import annotations

FAULT, FAILS, LOOPS = "ends with a segmentation fault", "ends with a failed assertion", "loops for ever"

ENDS = (
    (
        FAULT,
        "The data of a command that uses PIO come after its port was stopped or reset.",
        "AHCI 1.3.1 §10.4",
        ("ahci-disk",),
    ),
    (
        FAULT,
        "The data of a command that uses DMA, and is not queued, come after a software reset by two FISes.",
        "AHCI 1.3.1 §10.4.1",
        ("ahci-disk", "ahci-cd"),
    ),
    (
        FAILS,
        "A software reset comes while one of two devices on a channel transfers by DMA.",
        "ATA/ATAPI-7 vol. 2 §11.3",
        ("ide-pair",),
    ),
    (
        LOOPS,
        "A software reset comes while ranges are trimmed.",
        "ATA/ATAPI-7 vol. 2 §11.3",
        ("ide-disk", "ide-pair"),
    ),
    (
        LOOPS,
        "A chain of a packed ring breaks a rule: the device needs a reset, and looks for the same chain again.",
        "VIRTIO 1.4 §2.8.17",
        ("virtio-blk", "virtio-scsi"),
    ),
)
