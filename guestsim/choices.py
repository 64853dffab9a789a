"""What users choose from, in options of commands."""

from __future__ import annotations

from enum import StrEnum


class RingChoice(StrEnum):
    """Which rings devices have."""

    SPLIT = "split"
    PACKED = "packed"


class TransportChoice(StrEnum):
    """How devices are reached."""

    PCI = "pci"
    PCI_LEGACY = "pci-legacy"
    MMIO = "mmio"
    MMIO_LEGACY = "mmio-legacy"


class MemoryChoice(StrEnum):
    """How devices reach guest memory."""

    SHARED = "shared"
    BOUNCED = "bounced"
