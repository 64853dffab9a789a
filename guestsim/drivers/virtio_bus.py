"""Finding the machine's virtio devices, whatever they are attached to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guestsim.drivers import virtio_mmio
from guestsim.drivers.pci import scan
from guestsim.drivers.virtio_pci import MODERN_ID_BASE, VENDOR_ID
from guestsim.drivers.virtio_pci_legacy import LegacyPci
from guestsim.drivers.virtio_pci_modern import ModernPci, has_modern_interface
from guestsim.errors import GuestError

if TYPE_CHECKING:
    from guestsim.drivers.pci import PciFunction
    from guestsim.drivers.transport import Transport
    from guestsim.guest import Guest
    from guestsim.targets import MmioSlot

BLOCK = 2
SCSI = 8
"""Device IDs (VIRTIO 1.4 §5)."""

_TRANSITIONAL_IDS = {0x1001: BLOCK, 0x1004: SCSI}
"""PCI device ID of a transitional function to the virtio device ID (§4.1.2.1)."""


def device_id(function: PciFunction) -> int | None:
    """The virtio device ID of a function on PCI, or None where it is no virtio device (§4.1.2)."""
    if function.vendor != VENDOR_ID:
        return None
    if function.device in _TRANSITIONAL_IDS:
        return _TRANSITIONAL_IDS[function.device]
    return function.device - MODERN_ID_BASE if function.device >= MODERN_ID_BASE else None


def open_function(guest: Guest, function: PciFunction, *, legacy: bool | None = None) -> Transport:
    """The transport of a virtio function: modern where the device has that interface, else legacy; or as said.

    Raises `GuestCheckError` where the interface is not there.
    """
    if legacy is None:
        legacy = not has_modern_interface(function)
    return LegacyPci(guest, function) if legacy else ModernPci(guest, function)


def find(guest: Guest, kind: int) -> list[Transport]:
    """The machine's virtio devices with the device ID `kind`, in order: on PCI, then on MMIO."""
    on_pci = [open_function(guest, function) for function in scan(guest) if device_id(function) == kind]
    on_mmio = (virtio_mmio.probe(guest, slot) for slot in guest.target.layout.virtio_mmio)
    return [*on_pci, *(found[1] for found in on_mmio if found is not None and found[0] == kind)]


def open_slot(guest: Guest, slot: MmioSlot, kind: int) -> Transport:
    """The transport of the device behind a window of MMIO; GuestError where it is none with the device ID `kind`."""
    found = virtio_mmio.probe(guest, slot)
    if found is None or found[0] != kind:
        raise GuestError(f"{slot.name} has the device {found[0] if found else 0}, expected {kind}")
    return found[1]
