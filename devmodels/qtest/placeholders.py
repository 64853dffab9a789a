"""Display adapters and network cards: functions that take their slots, so that those behind them are where QEMU's are.

They have identity, interrupt pin, and BARs and expansion ROM of the size that QEMU 7.2's have; memory and ports behind
them are nobody's, and there are no capabilities.  `-vga`, `-net` and `-nic` name them, `-device` too, and without
`-nodefaults` a board has one of each.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from devmodels.assembly.assembly import FIRST_FREE_SLOT, pci_place
from devmodels.options import OptionError
from devmodels.pci.bars import BarKind, Windows
from devmodels.pci.bus import RootBus
from devmodels.pci.function import PciIdentity
from devmodels.qtest.board import Board
from devmodels.qtest.chipset import SUBSYSTEM, SUBSYSTEM_VENDOR, Chip, Held
from devmodels.qtest.commandline import Launch
from devmodels.qtest.devices import check_bus

MEMORY, PREFETCHABLE, PREFETCHABLE64, IO = (
    BarKind.MEMORY32,
    BarKind.PREFETCHABLE32,
    BarKind.PREFETCHABLE64,
    BarKind.IO,
)
KIB, MIB = 1 << 10, 1 << 20
DISPLAY, ETHERNET = 0x030000, 0x020000
ROMS = {DISPLAY: 64 * KIB, ETHERNET: 256 * KIB}
ROM_OFFSET, ROM_ENABLE = 0x30, 1
QEMU_BOARD = (SUBSYSTEM_VENDOR, SUBSYSTEM)
NO_PIN, INTA = 0, 1


class Looks(msgspec.Struct, frozen=True):
    """Who a placeholder is, its BARs by index, each with its size and kind, and what else its header holds."""

    identity: PciIdentity
    bars: dict[int, tuple[int, BarKind]]
    held: Held = {}


LOOKS = {
    "VGA": Looks(
        PciIdentity(0x1234, 0x1111, DISPLAY, 2, *QEMU_BOARD, NO_PIN),
        {0: (16 * MIB, PREFETCHABLE), 2: (4 * KIB, MEMORY)},
    ),
    "cirrus-vga": Looks(
        PciIdentity(0x1013, 0x00B8, DISPLAY, 0, *QEMU_BOARD, NO_PIN),
        {0: (32 * MIB, PREFETCHABLE), 1: (4 * KIB, MEMORY)},
    ),
    "vmware-svga": Looks(
        PciIdentity(0x15AD, 0x0405, DISPLAY, 0, 0x15AD, 0x0405, NO_PIN),
        {0: (16, IO), 1: (16 * MIB, PREFETCHABLE), 2: (64 * KIB, PREFETCHABLE)},
        {0x0D: (0x40, 0)},  # latency timer
    ),
    "qxl-vga": Looks(
        PciIdentity(0x1B36, 0x0100, DISPLAY, 5, *QEMU_BOARD, INTA),
        {0: (64 * MIB, MEMORY), 1: (64 * MIB, MEMORY), 2: (8 * KIB, MEMORY), 3: (32, IO)},
    ),
    "virtio-vga": Looks(
        PciIdentity(0x1AF4, 0x1050, DISPLAY, 1, *QEMU_BOARD, INTA),
        {0: (8 * MIB, PREFETCHABLE), 2: (16 * KIB, PREFETCHABLE64), 4: (4 * KIB, MEMORY)},
    ),
    "e1000": Looks(
        PciIdentity(0x8086, 0x100E, ETHERNET, 3, *QEMU_BOARD, INTA),
        {0: (128 * KIB, MEMORY), 1: (64, IO)},
    ),
    "e1000e": Looks(
        PciIdentity(0x8086, 0x10D3, ETHERNET, 0, 0x8086, 0x0000, INTA),
        {0: (128 * KIB, MEMORY), 1: (128 * KIB, MEMORY), 2: (32, IO), 3: (16 * KIB, MEMORY)},
    ),
    "ne2k_pci": Looks(PciIdentity(0x10EC, 0x8029, ETHERNET, 0, *QEMU_BOARD, INTA), {0: (256, IO)}),
    "pcnet": Looks(
        PciIdentity(0x1022, 0x2000, ETHERNET, 0x10, 0, 0, INTA, 0x0280),
        {0: (32, IO), 1: (32, MEMORY)},
        {0x3E: (0x06, 0), 0x3F: (0xFF, 0)},  # minimal grant, maximal latency
    ),
    "rtl8139": Looks(
        PciIdentity(0x10EC, 0x8139, ETHERNET, 0x20, *QEMU_BOARD, INTA),
        {0: (256, IO), 1: (256, MEMORY)},
    ),
    "virtio-net-pci": Looks(
        PciIdentity(0x1AF4, 0x1000, ETHERNET, 0, SUBSYSTEM_VENDOR, 1, INTA),
        {0: (32, IO), 4: (16 * KIB, PREFETCHABLE64)},
    ),
}
"""By the name of QEMU's device."""
VGA_TYPES = {
    "std": "VGA",
    "cirrus": "cirrus-vga",
    "vmware": "vmware-svga",
    "qxl": "qxl-vga",
    "virtio": "virtio-vga",
}
"""What `-vga` calls them."""
ALIASES = {"virtio": "virtio-net-pci", "virtio-net": "virtio-net-pci"}
ISA_CARD = "ne2k_isa"
"""It takes no slot."""
DEFAULT_VGA = "std"
DEFAULT_CARDS = {"pc": "e1000", "q35": "e1000e"}


class Placeholder(Chip):
    """One of them."""

    def __init__(self, looks: Looks, name: str) -> None:
        super().__init__(looks.identity, looks.held, name=name)
        size = ROMS.get(looks.identity.class_code, 0)
        self._rom_writable = ((-size & 0xFFFF_FFFF | ROM_ENABLE) if size else 0).to_bytes(4, "little")
        self.on_reset()
        for index, (size, kind) in looks.bars.items():
            self.add_bar(index, size, Windows(size), kind=kind)

    def on_reset(self) -> None:
        """The expansion ROM is nowhere."""
        self.config.hold(ROM_OFFSET, bytes(4), self._rom_writable)


def model_of(driver: object) -> str | None:
    """The placeholder that `-device` calls so; None where there is none."""
    name = ALIASES.get(driver, driver) if isinstance(driver, str) else None
    return name if name in LOOKS else None


def add_given(board: Board, model: str, options: dict[str, object], looks: Looks | None = None) -> None:
    """One of the line's `-device`: of its options `bus` and `addr` say something."""
    if board.name == "none":
        raise OptionError(f"No 'PCI' bus found for device '{model}'")
    check_bus(options.get("bus", "pci.0"), board)
    bridge = board.bridges.get(str(options.get("bus")))
    bus, first = (board.machine.bus, FIRST_FREE_SLOT) if bridge is None else (bridge.behind, 0)
    addr = options.get("addr")
    _plug(bus, model, None if addr is None else str(addr), first, looks)


def add_boards_own(board: Board, launch: Launch, drivers: list[object]) -> None:
    """The display adapter, then the cards; `drivers` are those of the line's `-device`."""
    if board.name == "none":
        return
    vga = launch.vga
    if vga is None and launch.defaults and not any(model_of(each) in VGA_TYPES.values() for each in drivers):
        vga = DEFAULT_VGA
    if vga not in (None, "none", *VGA_TYPES):
        raise OptionError(f"unknown vga type: {vga}")
    if vga in VGA_TYPES:
        _plug(board.machine.bus, VGA_TYPES[vga], None, FIRST_FREE_SLOT)
    for model, addr in _cards(board, launch):
        name = model_of(model)
        if name is None or LOOKS[name].identity.class_code != ETHERNET:
            raise OptionError(f"Unsupported NIC model: {model}")
        _plug(board.machine.bus, name, addr, FIRST_FREE_SLOT)


def _cards(board: Board, launch: Launch) -> Iterator[tuple[str, str | None]]:
    """Model and address of the line's cards, those of `-nic` first; the default one where no network is named."""
    usual = DEFAULT_CARDS[board.name]
    if launch.defaults and not launch.network:
        yield usual, None
    for card in (*launch.nics, *launch.net_nics):
        model = card.get("model", usual)
        if model != ISA_CARD:
            yield model, card.get("addr")


def _plug(bus: RootBus, name: str, addr: str | None, first: int, looks: Looks | None = None) -> None:
    slot, number = pci_place(bus, addr, first)
    try:
        bus.plug(Placeholder(looks or LOOKS[name], name), slot, number)
    except ValueError as error:
        raise OptionError(str(error)) from None
