"""The devices there are, by QEMU's names; the module of one is imported when it is first wanted."""

from __future__ import annotations

from importlib import import_module
from typing import Literal

import msgspec

from devmodels.assembly.kind import DeviceKind

Place = Literal["pci", "mmio", "bus", "ata"]


class DeviceType(msgspec.Struct, frozen=True):
    """`place` is where it goes: PCI, an address of its own, or the bus of another device, of SCSI or ATA."""

    name: str
    place: Place
    module: str

    @property
    def kind(self) -> DeviceKind:
        """Its options, and how it is made."""
        devices: dict[str, DeviceKind] = import_module(f"devmodels.assembly.{self.module}").DEVICES
        return devices[self.name]


DEVICES = {
    each.name: each
    for each in (
        DeviceType("virtio-blk-pci", "pci", "blk_devices"),
        DeviceType("virtio-blk-device", "mmio", "blk_mmio_devices"),
        DeviceType("virtio-scsi-pci", "pci", "scsi_devices"),
        DeviceType("virtio-scsi-device", "mmio", "scsi_mmio_devices"),
        DeviceType("scsi-hd", "bus", "scsi_disks"),
        DeviceType("scsi-cd", "bus", "scsi_drives"),
        DeviceType("ich9-ahci", "pci", "ahci_devices"),
        DeviceType("ahci", "pci", "ahci_devices"),
        DeviceType("piix3-ide", "pci", "piix_devices"),
        DeviceType("piix4-ide", "pci", "piix_devices"),
        DeviceType("ide-hd", "ata", "ata_disks"),
        DeviceType("ide-cd", "ata", "ata_drives"),
    )
}
