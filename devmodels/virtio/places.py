"""Where virtio devices can be put, in the words of QEMU's options: a PCI slot, a slot for virtio-mmio, an address."""

from __future__ import annotations

import re
from typing import Literal, Protocol

SLOTS = 24
SLOT_BASE = 0xFEB0_0000
SLOT_IRQ = 24
"""Slot n lies at SLOT_BASE + n * WINDOW_SIZE and has line SLOT_IRQ + n: where QEMU's microvm has its MMIO devices."""

MAX_VECTORS = 2048

_BUS = r"virtio-mmio-bus\.([0-9]{1,2})"


class PciPlace(Protocol):
    """Options of a virtio device on PCI.

    `addr` is the slot, or slot and function ("4", "4.1", "0x1f.2"), all hexadecimal as QEMU reads them; None takes the
    first free slot.  `vectors` is the number of MSI-X vectors, 0 for INTx alone.  `disable_modern` and `disable_legacy`
    take one of the two interfaces away; auto, as on any conventional bus, leaves the legacy one.  `ioeventfd` says
    something with profile `qemu` alone: without it no queue is looked at before its first notification.
    """

    @property
    def driver(self) -> str:
        """The model."""
        ...

    @property
    def id(self) -> str | None:
        """Its own name."""
        ...

    @property
    def addr(self) -> str | None:
        """Slot and function."""
        ...

    @property
    def vectors(self) -> int | None:
        """The number of MSI-X vectors."""
        ...

    @property
    def disable_modern(self) -> bool:
        """Whether it has no modern interface."""
        ...

    @property
    def disable_legacy(self) -> Literal["on", "off", "auto"]:
        """Whether it has no legacy interface."""
        ...

    @property
    def ioeventfd(self) -> bool:
        """Whether DRIVER_OK is as good as a notification of each queue."""
        ...

    @property
    def iommu_platform(self) -> bool:
        """Whether its addresses are translated."""
        ...


def check_pci_place(options: PciPlace) -> None:
    """ValueError where the options do not go together."""
    if options.disable_modern and options.disable_legacy == "on":
        raise ValueError("disable-modern and disable-legacy are both on, expected one of them off")
    if options.iommu_platform and options.disable_legacy != "on":
        raise ValueError("iommu_platform is on, expected disable-legacy=on with it")
    if options.vectors is not None and not 0 <= options.vectors <= MAX_VECTORS:
        raise ValueError(f"vectors is {options.vectors}, expected 0 to {MAX_VECTORS}")


class MmioPlace(Protocol):
    """Options of a virtio device on MMIO.

    `bus` is a slot ("virtio-mmio-bus.3"); without it the first free slot is taken.  Ours, not QEMU's: `address` and
    `irq` put the device elsewhere.  `force_legacy`, in QEMU an option of the slot, makes it version 1 (QEMU's default)
    or 2.
    """

    @property
    def driver(self) -> str:
        """The model."""
        ...

    @property
    def id(self) -> str | None:
        """Its own name."""
        ...

    @property
    def bus(self) -> str | None:
        """The slot."""
        ...

    @property
    def address(self) -> int | None:
        """Where its registers begin."""
        ...

    @property
    def irq(self) -> int | None:
        """Its interrupt line."""
        ...

    @property
    def force_legacy(self) -> bool:
        """Whether it is of version 1."""
        ...

    @property
    def iommu_platform(self) -> bool:
        """Whether its addresses are translated."""
        ...


def check_mmio_place(options: MmioPlace) -> None:
    """ValueError where the options do not go together."""
    if options.bus is not None and mmio_slot(options) is None:
        raise ValueError(f"bus is {options.bus!r}, expected virtio-mmio-bus.0 to virtio-mmio-bus.{SLOTS - 1}")
    if options.iommu_platform and options.force_legacy:
        raise ValueError("iommu_platform is on, expected force-legacy=off with it")
    from devmodels.virtio.mmio import WINDOW_SIZE  # the transport, which devices on PCI do not want

    if options.address is not None and not 0 <= options.address <= (1 << 64) - WINDOW_SIZE:
        raise ValueError(f"address is {options.address:#x}, expected one below 2**64")
    if options.irq is not None and not 0 <= options.irq <= 0xFFFF_FFFF:
        raise ValueError(f"irq is {options.irq}, expected 0 to 4294967295")
    if options.address is not None and (options.irq is None or options.bus is not None):
        raise ValueError(f"address is {options.address:#x}, expected with it an irq, and no bus")


def mmio_slot(options: MmioPlace) -> int | None:
    """The number of the slot asked for; None where none is, or it is none there can be."""
    found = None if options.bus is None else re.fullmatch(_BUS, options.bus)
    return None if found is None or int(found[1]) >= SLOTS else int(found[1])
