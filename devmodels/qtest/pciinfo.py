"""What is on a machine's PCI buses: `query-pci`, in the members of QEMU's qapi/pci.json."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import UNSET, UnsetType, field

from devmodels.pci.bars import Bar, BarKind
from devmodels.pci.bridge import BUSES, IO, MEMORY, PREFETCHABLE, PciBridge
from devmodels.pci.bus import RootBus
from devmodels.pci.function import PciFunction
from devmodels.qtest.board import Board

CLASSES = {
    0x0100: "SCSI controller",
    0x0101: "IDE controller",
    0x0106: "SATA controller",
    0x0200: "Ethernet controller",
    0x0300: "VGA controller",
    0x0600: "Host bridge",
    0x0601: "ISA bridge",
    0x0604: "PCI bridge",
    0x0680: "Bridge",
    0x0C05: "SMBus",
}
"""Base class and sub-class, in QEMU's words."""
NAMED = "/machine/peripheral/"
"""Below that are devices with an id."""
NOWHERE = -1
"""The address of a BAR that is not decoded."""


class PciClass(msgspec.Struct):
    """Base class and sub-class, with their name where that is known."""

    desc: str
    code: int = field(name="class")


class PciId(msgspec.Struct, rename="kebab"):
    """Who a function says it is."""

    device: int
    vendor: int
    subsystem: int | UnsetType = UNSET
    subsystem_vendor: int | UnsetType = UNSET


class PciRegion(msgspec.Struct, kw_only=True):
    """A BAR; of memory with what kind it is."""

    bar: int
    type: str
    address: int
    size: int
    prefetch: bool | UnsetType = UNSET
    mem_type_64: bool | UnsetType = UNSET


class PciRange(msgspec.Struct):
    """A window of a bridge's."""

    base: int
    limit: int


class PciBusInfo(msgspec.Struct):
    """The buses of a bridge, and its windows."""

    number: int
    secondary: int
    subordinate: int
    io_range: PciRange
    memory_range: PciRange
    prefetchable_range: PciRange


class PciBridgeInfo(msgspec.Struct):
    """A bridge, and what its bus has, where that has a number."""

    bus: PciBusInfo
    devices: list[PciDeviceInfo] | UnsetType = UNSET


class PciDeviceInfo(msgspec.Struct, kw_only=True):
    """A function; `irq` where it has a pin."""

    bus: int
    slot: int
    function: int
    class_info: PciClass
    id: PciId
    irq: int | UnsetType = UNSET
    irq_pin: int
    qdev_id: str
    pci_bridge: PciBridgeInfo | UnsetType = UNSET
    regions: list[PciRegion]


class PciInfo(msgspec.Struct):
    """A root bus."""

    bus: int
    devices: list[PciDeviceInfo]


def pci_info(board: Board) -> list[PciInfo]:
    """The root bus, where the board has one."""
    if board.name == "none":
        return []
    return [PciInfo(0, list(_devices(board, board.machine.bus, 0)))]


def id_of(board: Board, function: PciFunction) -> str:
    """The id that a user gave to a function's device; empty where nobody did."""
    return path_of(board, function).removeprefix(NAMED) if path_of(board, function).startswith(NAMED) else ""


def path_of(board: Board, function: PciFunction) -> str:
    """Where a function's device is in QEMU's tree of objects; empty for what is none of ours."""
    if isinstance(function, PciBridge):
        return NAMED + function.name
    assembly = board.assembly
    for name, device in (*assembly.ata_hosts.items(), *assembly.devices.items()):
        if device is function:
            drive = assembly.drives.get(name)
            path = assembly.paths.get(name, "" if drive is None else drive.qom_path)
            return path.removesuffix("/virtio-backend")
    return ""


def class_name(function: PciFunction) -> str:
    """What a function is, in words."""
    return CLASSES.get(function.identity.class_code >> 8, "")


def _devices(board: Board, bus: RootBus, number: int) -> Iterator[PciDeviceInfo]:
    for slot, at, function in bus.functions():
        identity, header = function.identity, function.header
        bridge: PciBridgeInfo | UnsetType = UNSET
        if isinstance(function, PciBridge):
            bridge = _bridge(board, function)
        yield PciDeviceInfo(
            bus=number,
            slot=slot,
            function=at,
            class_info=PciClass(class_name(function), identity.class_code >> 8),
            id=PciId(
                identity.device_id,
                identity.vendor_id,
                header.subsystem_id or UNSET,
                header.subsystem_vendor_id or UNSET,
            ),
            irq=header.interrupt_line if identity.interrupt_pin else UNSET,
            irq_pin=identity.interrupt_pin,
            qdev_id=id_of(board, function),
            pci_bridge=bridge,
            regions=[_region(function, bar) for _, bar in sorted(function.bars.items())],
        )


def address_of(function: PciFunction, bar: Bar) -> int:
    """Where a BAR is decoded; NOWHERE where it is not."""
    base = function.bar_address(bar.index)
    claimed = any(claim.base == base for claim in function.claims(io=bar.kind.is_io))
    return base if claimed else NOWHERE


def _region(function: PciFunction, bar: Bar) -> PciRegion:
    address = address_of(function, bar)
    if bar.kind.is_io:
        return PciRegion(bar=bar.index, type="io", address=address, size=bar.size)
    return PciRegion(
        bar=bar.index,
        type="memory",
        address=address,
        size=bar.size,
        prefetch=bar.kind in (BarKind.PREFETCHABLE32, BarKind.PREFETCHABLE64),
        mem_type_64=bar.kind.is_64bit,
    )


def _bridge(board: Board, bridge: PciBridge) -> PciBridgeInfo:
    """PCI-to-PCI Bridge 1.2 §3.2.5: base and limit have the upper bits of addresses."""
    header = bridge.header
    buses, io = header.value_of(BUSES), header.value_of(IO)
    secondary = buses >> 8 & 0xFF
    info = PciBusInfo(
        buses & 0xFF,
        secondary,
        buses >> 16 & 0xFF,
        PciRange((io & 0xF0) << 8, io & 0xF000 | 0xFFF),
        _window(header.value_of(MEMORY)),
        _window(header.value_of(PREFETCHABLE)),
    )
    behind = list(_devices(board, bridge.behind, secondary)) if secondary else UNSET
    return PciBridgeInfo(info, behind)


def _window(value: int) -> PciRange:
    return PciRange((value & 0xFFF0) << 16, value & 0xFFF0_0000 | 0xF_FFFF)
