"""The register files that there are, each with the title and the anchor under which readers find it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from devmodels.ahci.registers import GenericHostControl, LoosePortRegisters, PortRegisters
from devmodels.ahci.sata import AddressMap, IndexData, SataCapability
from devmodels.ide_cdrom.function import Timing, UltraTiming
from devmodels.ide_cdrom.registers import BusMasterRegisters, CommandBlock, ControlBlock
from devmodels.pci.express import ExpressCapability
from devmodels.pci.header import Type0Header
from devmodels.pci.msi import Msi32, Msi32Masked, Msi64, Msi64Masked
from devmodels.pci.msix import MsixCapability, MsixTable
from devmodels.pci.power import PowerCapability
from devmodels.pci.vendor import VendorCapability
from devmodels.qtest.chipset import PciExBar, PirqRouting
from devmodels.registers import Port, Register, RegisterFile
from devmodels.virtio.mmio_legacy import LegacyMmio
from devmodels.virtio.mmio_modern import ModernMmio
from devmodels.virtio.pci_legacy import LegacyHeader
from devmodels.virtio.pci_modern import (
    AccessCapability,
    CommonConfig,
    IsrStatus,
    NotifyCapability,
    VirtioCapability,
)

ROOT = Path(__file__).parents[2]


class File(NamedTuple):
    """A register file: its anchor, its title, where a guest finds it."""

    anchor: str
    title: str
    place: str
    registers: type[RegisterFile]


class Group(NamedTuple):
    """Files that belong together."""

    anchor: str
    title: str
    files: tuple[File, ...]


_CONFIG = "in configuration space"
_LISTED = "in the list of capabilities"
GROUPS = (
    Group(
        "ahci",
        "AHCI",
        (
            File("hba", "Generic host control", "BAR 5", GenericHostControl),
            File("port", "A port", "BAR 5", PortRegisters),
            File("port-qemu", "A port under profile qemu", "BAR 5", LoosePortRegisters),
            File("idp", "Index and data pair", "BAR 4 of an ICH9", IndexData),
            File("map", "Address map of an ICH9", f"{_CONFIG}, 90h", AddressMap),
            File("sata-cap", "Serial ATA capability", _LISTED, SataCapability),
        ),
    ),
    Group(
        "ide",
        "IDE",
        (
            File(
                "command-block",
                "Command block: the task file",
                "1F0h and 170h, or BARs 0 and 2",
                CommandBlock,
            ),
            File("control-block", "Control block", "3F4h and 374h, or BARs 1 and 3", ControlBlock),
            File("bus-master", "Bus master", "BAR 4, 8 bytes a channel", BusMasterRegisters),
            File("timing", "Timing of a PIIX", f"{_CONFIG}, 40h", Timing),
            File("ultra", "Ultra DMA of a PIIX4", f"{_CONFIG}, 48h", UltraTiming),
        ),
    ),
    Group(
        "virtio",
        "VIRTIO",
        (
            File("common", "Common configuration (PCI)", "BAR 4, 0000h", CommonConfig),
            File("isr", "ISR status (PCI)", "BAR 4, 1000h", IsrStatus),
            File("legacy", "Legacy interface (PCI)", "BAR 0, in I/O space", LegacyHeader),
            File("mmio", "MMIO, version 2", "at the device's address", ModernMmio),
            File("mmio-legacy", "MMIO, version 1", "at the device's address", LegacyMmio),
            File("virtio-cap", "Where a structure lies", _LISTED, VirtioCapability),
            File("notify-cap", "Where notifications go", _LISTED, NotifyCapability),
            File("access-cap", "Window into a BAR", _LISTED, AccessCapability),
        ),
    ),
    Group(
        "pci",
        "PCI",
        (
            File("header", "Configuration header, type 0", f"{_CONFIG}, 00h", Type0Header),
            File("msix", "MSI-X capability", _LISTED, MsixCapability),
            File("msix-table", "MSI-X table", "in the BAR that the capability names", MsixTable),
            File("msi", "MSI capability", f"{_LISTED}: 64-bit address, masks", Msi64Masked),
            File("msi64", "MSI without masks", _LISTED, Msi64),
            File("msi32-masked", "MSI with a 32-bit address and masks", _LISTED, Msi32Masked),
            File("msi32", "MSI with a 32-bit address", _LISTED, Msi32),
            File("express", "PCI Express capability", _LISTED, ExpressCapability),
            File("power", "Power management capability", _LISTED, PowerCapability),
            File("vendor", "Vendor-specific capability", _LISTED, VendorCapability),
        ),
    ),
    Group(
        "chipset",
        "Chipset of the stand-in's boards",
        (
            File("pciexbar", "PCIEXBAR of q35's host bridge", f"{_CONFIG}, 60h", PciExBar),
            File("pirq", "PIRQ routing of the ISA bridges", f"{_CONFIG}, 60h (and 68h)", PirqRouting),
        ),
    ),
)


def shown() -> set[Register | Port]:
    """The registers and ports of all files that are listed, and of the arrays in them."""
    return {each for group in GROUPS for file in group.files for each in _of(file.registers)}


def _of(registers: type[RegisterFile]) -> Iterator[Register | Port]:
    layout = registers.layout()
    yield from layout.registers
    yield from layout.ports
    for block in layout.blocks:
        yield from _of(block.element)


def named() -> Iterator[tuple[str, Register | Port]]:
    """Every register and port that a module of `devmodels` declares, with the names of its file and its own."""
    for path in sorted((ROOT / "devmodels").rglob("*.py")):
        if "RegisterFile" in (text := path.read_text(encoding="utf-8")) or "Capability, size" in text:
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for registers in _below(RegisterFile):
        if registers.__module__.startswith("devmodels."):
            for name, each in vars(registers).items():
                if isinstance(each, Register | Port):
                    yield f"{registers.__name__}.{name}", each


def declared() -> set[Register | Port]:
    """Those themselves."""
    return {each for _, each in named()}


def _below(registers: type[RegisterFile]) -> Iterator[type[RegisterFile]]:
    for each in registers.__subclasses__():
        yield each
        yield from _below(each)
