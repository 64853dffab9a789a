"""PCI: a function with its configuration space and capabilities, and the root bus it sits on."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

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

_WHERE = {
    "BarHandler": "bars",
    "BarKind": "bars",
    "Capability": "capability",
    "ExpressCapability": "express",
    "MsiCapability": "msi",
    "MsixCapability": "msix",
    "PciFunction": "function",
    "PciIdentity": "function",
    "PowerCapability": "power",
    "RootBus": "bus",
    "VendorCapability": "vendor",
    "Windows": "bars",
}


def __getattr__(name: str) -> object:
    """A function has some of the capabilities, and imports those."""
    if name not in _WHERE:
        raise AttributeError(name)
    return getattr(import_module(f"devmodels.pci.{_WHERE[name]}"), name)
