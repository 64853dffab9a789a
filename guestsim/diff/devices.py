"""The table of the devices that can be compared."""

from __future__ import annotations

from collections.abc import Callable

from guestsim.diff.access import Access, FormError
from guestsim.diff.ata_devices import AHCI_CD, AHCI_DISK, IDE_CD, IDE_DISK, IDE_PAIR
from guestsim.diff.device import Device
from guestsim.diff.script_device import of_script
from guestsim.diff.virtio_devices import TRANSITIONAL, VIRTIO_BLK, VIRTIO_SCSI, VIRTIO_SCSI_CD
from guestsim.targets import TargetError

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


def device_of(text: str) -> Device:
    """The device that a file of accesses names, with the machine of a script where that follows; FormError for none."""
    name, _, machine = text.partition(" ")
    if name not in DEVICES:
        raise FormError(f"device {name}: expected one of {', '.join(DEVICES)}")
    return of_script(DEVICES[name], machine) if machine else DEVICES[name]


def check_of(text: str) -> Callable[[Access], None]:
    """What refuses an access to what this device does not have, with `FormError`; so does this for no device."""
    try:
        return device_of(text).check()
    except TargetError as error:
        raise FormError(str(error)) from None
