"""All targets, by name."""

from __future__ import annotations

from fuzz.target import Target

_ATA, _VIRTIO = "fuzz.targets.ata", "fuzz.targets.virtio"

TARGETS = {
    target.name: target
    for target in (
        Target("ahci-disk", "device", f"{_ATA}:ahci_disk"),
        Target("ahci-cd", "device", f"{_ATA}:ahci_drive"),
        Target("ide-disk", "device", f"{_ATA}:ide_disk"),
        Target("ide-cd", "device", f"{_ATA}:ide_drive"),
        Target("virtio-blk", "device", f"{_VIRTIO}:blk"),
        Target("virtio-scsi", "device", f"{_VIRTIO}:scsi"),
    )
}
