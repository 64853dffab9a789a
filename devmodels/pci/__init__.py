"""PCI: a function with its configuration space and capabilities, and the root bus it sits on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.lazy import exports

if TYPE_CHECKING:
    from devmodels.pci.bars import BarHandler, BarKind, Windows
    from devmodels.pci.bus import RootBus
    from devmodels.pci.capability import Capability
    from devmodels.pci.express import ExpressCapability
    from devmodels.pci.function import PciFunction, PciIdentity
    from devmodels.pci.msi import MsiCapability
    from devmodels.pci.msix import MsixCapability
    from devmodels.pci.power import PowerCapability
    from devmodels.pci.vendor import VendorCapability

__all__ = [
    "BarHandler",
    "BarKind",
    "Capability",
    "ExpressCapability",
    "MsiCapability",
    "MsixCapability",
    "PciFunction",
    "PciIdentity",
    "PowerCapability",
    "RootBus",
    "VendorCapability",
    "Windows",
]

__getattr__ = exports(
    __name__,
    {
        "bars": "BarHandler BarKind Windows",
        "bus": "RootBus",
        "capability": "Capability",
        "express": "ExpressCapability",
        "function": "PciFunction PciIdentity",
        "msi": "MsiCapability",
        "msix": "MsixCapability",
        "power": "PowerCapability",
        "vendor": "VendorCapability",
    },
)
"""A function has some of the capabilities, and imports those."""
