"""The table of the devices that can be compared."""

from __future__ import annotations

from collections.abc import Callable

from guestsim.diff.access import Access, FormError
from guestsim.diff.ata_devices import AHCI_CD, AHCI_DISK, IDE_CD, IDE_DISK, IDE_PAIR
from guestsim.diff.device import Device
from guestsim.diff.virtio_devices import TRANSITIONAL, VIRTIO_BLK, VIRTIO_SCSI, VIRTIO_SCSI_CD

DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        VIRTIO_BLK,
        TRANSITIONAL,
        VIRTIO_SCSI,
        VIRTIO_SCSI_CD,
        AHCI_DISK,
        AHCI_CD,
        IDE_DISK,
        IDE_CD,
        IDE_PAIR,
    )
}


def check_of(name: str) -> Callable[[Access], None]:
    """What refuses an access to what this device does not have, with `FormError`; so does this for no device."""
    if name not in DEVICES:
        raise FormError(f"device {name}: expected one of {', '.join(DEVICES)}")
    return DEVICES[name].check()
