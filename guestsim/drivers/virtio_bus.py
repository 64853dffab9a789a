"""Finding the machine's virtio devices, whatever they are attached to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guestsim.drivers.pci import scan
from guestsim.drivers.virtio_pci import MODERN_ID_BASE, VENDOR_ID
from guestsim.drivers.virtio_pci_modern import ModernPci

if TYPE_CHECKING:
    from guestsim.drivers.pci import PciFunction
    from guestsim.drivers.transport import Transport
    from guestsim.guest import Guest

BLOCK = 2
"""The block device's ID (VIRTIO 1.4 §5)."""

_TRANSITIONAL_IDS = {0x1001: BLOCK}
"""PCI device ID of a transitional function to the virtio device ID (§4.1.2.1)."""


def device_id(function: PciFunction) -> int | None:
    """The virtio device ID of a function on PCI, or None where it is no virtio device (§4.1.2)."""
    if function.vendor != VENDOR_ID:
        return None
    if function.device in _TRANSITIONAL_IDS:
        return _TRANSITIONAL_IDS[function.device]
    return function.device - MODERN_ID_BASE if function.device >= MODERN_ID_BASE else None


def find(guest: Guest, kind: int) -> list[Transport]:
    """The machine's virtio devices with the device ID `kind`, in order."""
    return [ModernPci(guest, function) for function in scan(guest) if device_id(function) == kind]
