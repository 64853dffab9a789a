"""The functions of a PC's chipset that are no storage: host bridge, ISA bridge, power management, SMBus.

They are there to be found where a client looks for them, with the configuration space that QEMU's have.  What works:
PCIEXBAR of the q35's host bridge (Intel 316966 §5.1.17), and the ISA bridges' routing of PIRQs (Intel 290550 §2.2.8;
Intel 316972 §13.1.20).  What else there is is kept, without effect; only the locks of the q35 (of its SMRAM, and
of SMIs) are not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from devmodels.pci.bars import BarKind, Windows
from devmodels.pci.bus import ECAM_SIZE, Ecam, RootBus
from devmodels.pci.decode import Claim
from devmodels.pci.function import PciFunction, PciIdentity
from devmodels.registers import RW, Register, RegisterFile

INTEL, SUBSYSTEM_VENDOR, SUBSYSTEM = 0x8086, 0x1AF4, 0x1100
PCIEXBAR_OFFSET, PIRQ_OFFSET, SECOND_PIRQ_OFFSET = 0x60, 0x60, 0x68
ECAM_WINDOW = 256 << 20

Routed = Callable[[int, int], None]


def _identity(
    device: int, class_code: int, revision: int, *, pin: int = 0, status: int = 0, alone: bool = False
) -> PciIdentity:
    return PciIdentity(
        INTEL, device, class_code, revision, SUBSYSTEM_VENDOR, SUBSYSTEM, pin, status, alone=alone
    )


Held = Mapping[int, tuple[int, int]]
"""Offset of a byte in configuration space, to its value at first and the bits that can be written."""
ANY = 0xFF

I440FX_HELD: Held = {0x72: (0x02, ANY)}
"""SMRAM (Intel 290549 §3.2.21)."""
DRAM_ROWS = 0x57
"""DRB7: the end of memory, in units of 8 MiB (Intel 290549 §3.2.17)."""
PIIX3_HELD: Held = {
    0x4C: (0x4D, ANY),  # ISA I/O recovery
    0x4E: (0x03, ANY),  # X-bus chip select
    0x69: (0x02, ANY),  # top of memory
    0x70: (0x80, ANY),  # motherboard device IRQ
    0x76: (0x0C, ANY),  # motherboard device DMA
    0x77: (0x0C, ANY),
    0x78: (0x02, ANY),  # programmable chip select
    0xA0: (0x08, ANY),  # SMI control
    0xA8: (0x0F, ANY),  # fast off timer
}
PIIX3_ANEW = (
    *(0x4C, 0x4E, 0x4F, 0x69, 0x70, 0x76, 0x77, 0x78, 0x79, 0x80, 0x82),
    *(0xA0, *range(0xA2, 0xA9), 0xAA, 0xAB, 0xAC, 0xAE),
)
PIIX4_PM_HELD: Held = {
    0x40: (0x01, ANY),  # PMBASE: I/O
    0x5F: (0x10, ANY),  # device resources
    0x63: (0x60, ANY),
    0x90: (0x01, ANY),  # SMBBASE
    0x91: (0xB1, ANY),
    0xD2: (0x09, ANY),  # SMBHSTCFG
}
PIIX4_PM_ANEW = (0x40, *range(0x58, 0x5C), 0x80)
MCH_HELD: Held = {
    0x50: (0x10, 0x10),
    0x51: (0x00, 0x00),
    0x9C: (0x00, 0x00),
    0x9D: (0x02, 0x00),  # SMRAM
    0x9E: (0x38, 0x00),  # ESMRAMC
}
ICH9_LPC_HELD: Held = {
    0x40: (0x01, 0x87),  # PMBASE: I/O
    0x42: (0x00, 0x00),
    0x43: (0x00, 0x00),
}
ICH9_LPC_ANEW = (0x40, 0x41, 0x44, *range(0xF0, 0xF4))
ICH9_SMBUS_HELD: Held = {0x40: (0x00, 0xF7)}  # HOSTC
SMBUS_BAR, SMBUS_SIZE = 4, 64


class Chip(PciFunction):
    """A function that has `held` in its configuration space, and no device; a reset changes the bytes of `anew`."""

    def __init__(self, identity: PciIdentity, held: Held, anew: Iterable[int] = (), *, name: str) -> None:
        super().__init__(identity, name=name, as_qemu=True)
        self._hold(held)
        self._anew = {offset: held.get(offset, (0, ANY)) for offset in anew}

    def on_reset(self) -> None:
        """What a reset changes is as it was at first; the rest stays."""
        self._hold(self._anew)

    def _hold(self, held: Held) -> None:
        for offset, (value, writable) in held.items():
            self.config.hold(offset, bytes((value,)), bytes((writable,)))


class PciExBar(RegisterFile, size=8, widths=(1, 2, 4), lenient=True):
    """Where the window onto configuration space is."""

    low = Register(0, 4, clause="Intel 316966 §5.1.17")
    base = low.bits(31, 28, RW, reset=0xB)
    rest = low.bits(27, 3, RW, doc="kept: the window has 256 buses")
    length = low.bits(2, 1, RW, doc="kept")
    enable = low.bit(0, RW)
    high = Register(4, 4, RW, clause="Intel 316966 §5.1.17")

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed

    @low.on_write
    @high.on_write
    def _written(self, _old: int, _new: int) -> None:
        self._changed()


class HostBridge(Chip):
    """00:00.0 of pc, with `ram` bytes of memory."""

    def __init__(self, ram: int) -> None:
        rows = min(ram >> 23, 0xFF)
        held = {**I440FX_HELD, DRAM_ROWS: (rows, ANY)}
        super().__init__(_identity(0x1237, 0x060000, 2), held, name="i440FX")


class Q35HostBridge(Chip):
    """00:00.0 of q35, with the window that firmware switches on."""

    def __init__(self, bus: RootBus) -> None:
        super().__init__(_identity(0x29C0, 0x060000, 0), MCH_HELD, name="mch")
        self._ecam = Ecam(bus)
        self._bar = PciExBar(self.decode_changed)
        self.add_registers(PCIEXBAR_OFFSET, self._bar)

    def claims(self, *, io: bool) -> Iterator[Claim]:
        """The window: bus 0 answers, the rest of it reads ones."""
        yield from super().claims(io=io)
        if not io and self._bar.enable:
            base = self._bar.high << 32 | self._bar.base << 28
            # Whoever is reached through it may be this function itself.
            yield Claim(base, ECAM_SIZE, self._ecam, None)
            yield Claim(base + ECAM_SIZE, ECAM_WINDOW - ECAM_SIZE, _Absent(), None)


class _Absent:
    """Buses where nobody is."""

    def read(self, _offset: int, size: int) -> int:
        return (1 << 8 * size) - 1

    def write(self, _offset: int, _size: int, _value: int) -> None:
        pass


class PirqRouting(RegisterFile, size=4, widths=(1, 2, 4), lenient=True):
    """The ISA line of four PIRQs; bit 7: none."""

    a = Register(0, 1, RW, reset=0x80, clause="Intel 290550 §2.2.8")
    b = Register(1, 1, RW, reset=0x80, clause="Intel 290550 §2.2.8")
    c = Register(2, 1, RW, reset=0x80, clause="Intel 290550 §2.2.8")
    d = Register(3, 1, RW, reset=0x80, clause="Intel 290550 §2.2.8")

    def __init__(self, first: int, routed: Routed) -> None:
        super().__init__()
        self._first = first
        self._routed = routed

    @a.on_write
    @b.on_write
    @c.on_write
    @d.on_write
    def _written(self, _old: int, _new: int) -> None:
        self.tell()

    def tell(self) -> None:
        """What the routes are now."""
        for number, register in enumerate((self.a, self.b, self.c, self.d)):
            self._routed(self._first + number, register)


class IsaBridge(Chip):
    """The bridge to the ISA bus, with the routing of `pirqs` lines."""

    def __init__(
        self,
        identity: PciIdentity,
        held: Held,
        anew: Iterable[int],
        pirqs: int,
        routed: Routed,
        *,
        name: str,
    ) -> None:
        super().__init__(identity, held, anew, name=name)
        self._routing = [PirqRouting(4 * number, routed) for number, _ in enumerate(range(0, pirqs, 4))]
        for offset, routing in zip((PIRQ_OFFSET, SECOND_PIRQ_OFFSET), self._routing, strict=False):
            self.add_registers(offset, routing)

    def on_reset(self) -> None:
        """Nothing is routed any more."""
        super().on_reset()
        for routing in self._routing:
            routing.tell()


class SmBus(Chip):
    """00:1f.3 of q35, with I/O ports where nobody is."""

    def __init__(self) -> None:
        super().__init__(_identity(0x2930, 0x0C0500, 2, pin=1), ICH9_SMBUS_HELD, name="ICH9-SMB")
        self.add_bar(SMBUS_BAR, SMBUS_SIZE, Windows(SMBUS_SIZE), kind=BarKind.IO)


def pc_functions(routed: Routed, ram: int) -> Iterator[tuple[int, int, PciFunction]]:
    """(slot, function number, function) of pc, without the IDE controller at 1.1."""
    yield 0, 0, HostBridge(ram)
    piix3 = _identity(0x7000, 0x060100, 0, status=0x0200)
    yield 1, 0, IsaBridge(piix3, PIIX3_HELD, PIIX3_ANEW, 4, routed, name="PIIX3")
    pm = _identity(0x7113, 0x068000, 3, pin=1, status=0x0280, alone=True)
    yield 1, 3, Chip(pm, PIIX4_PM_HELD, PIIX4_PM_ANEW, name="PIIX4_PM")


def q35_functions(bus: RootBus, routed: Routed) -> Iterator[tuple[int, int, PciFunction]]:
    """The same of q35, without the HBA at 1f.2."""
    yield 0, 0, Q35HostBridge(bus)
    yield (
        0x1F,
        0,
        IsaBridge(_identity(0x2918, 0x060100, 2), ICH9_LPC_HELD, ICH9_LPC_ANEW, 8, routed, name="ICH9-LPC"),
    )
    yield 0x1F, 3, SmBus()
