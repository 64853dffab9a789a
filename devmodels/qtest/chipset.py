"""The functions of a PC's chipset that are no storage: host bridge, ISA bridge, power management, SMBus.

They are there to be found where a client looks for them.  What works: PCIEXBAR of the q35's host bridge (Intel 316966
§5.1.17), and the ISA bridges' routing of PIRQs (Intel 290550 §2.2.8; Intel 316972 §13.1.20).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from devmodels.pci.bus import ECAM_SIZE, Ecam, RootBus
from devmodels.pci.decode import Claim
from devmodels.pci.function import PciFunction, PciIdentity
from devmodels.registers import RO, RW, Register, RegisterFile

INTEL, SUBSYSTEM_VENDOR, SUBSYSTEM = 0x8086, 0x1AF4, 0x1100
PCIEXBAR_OFFSET, PIRQ_OFFSET, SECOND_PIRQ_OFFSET = 0x60, 0x60, 0x68
ECAM_WINDOW = 256 << 20

Routed = Callable[[int, int], None]


def _identity(device: int, class_code: int, revision: int, *, pin: int = 0) -> PciIdentity:
    return PciIdentity(INTEL, device, class_code, revision, SUBSYSTEM_VENDOR, SUBSYSTEM, pin, status=0x0200)


class PciExBar(RegisterFile, size=8, widths=(1, 2, 4), lenient=True):
    """Where the window onto configuration space is."""

    low = Register(0, 4, clause="Intel 316966 §5.1.17")
    base = low.bits(31, 28, RW, reset=0xB)
    mask = low.bits(27, 26, RO)
    length = low.bits(2, 1, RW)
    enable = low.bit(0, RW)
    high = Register(4, 4, RW, clause="Intel 316966 §5.1.17")

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed

    @low.on_write
    @high.on_write
    def _written(self, _old: int, _new: int) -> None:
        self._changed()


class HostBridge(PciFunction):
    """00:00.0 of pc."""

    def __init__(self) -> None:
        super().__init__(_identity(0x1237, 0x060000, 2), name="i440FX")


class Q35HostBridge(PciFunction):
    """00:00.0 of q35, with the window that firmware switches on."""

    def __init__(self, bus: RootBus) -> None:
        super().__init__(_identity(0x29C0, 0x060000, 0), name="mch")
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


class IsaBridge(PciFunction):
    """The bridge to the ISA bus, with the routing of `pirqs` lines."""

    def __init__(self, device: int, revision: int, pirqs: int, routed: Routed, *, name: str) -> None:
        super().__init__(_identity(device, 0x060100, revision), name=name)
        self._routing = [PirqRouting(4 * number, routed) for number, _ in enumerate(range(0, pirqs, 4))]
        for offset, routing in zip((PIRQ_OFFSET, SECOND_PIRQ_OFFSET), self._routing, strict=False):
            self.add_registers(offset, routing)

    def on_reset(self) -> None:
        """Nothing is routed any more."""
        for routing in self._routing:
            routing.tell()


def pc_functions(routed: Routed) -> Iterator[tuple[int, int, PciFunction]]:
    """(slot, function number, function) of pc, without the IDE controller at 1.1."""
    yield 0, 0, HostBridge()
    yield 1, 0, IsaBridge(0x7000, 0, 4, routed, name="PIIX3")
    yield 1, 3, PciFunction(_identity(0x7113, 0x068000, 3, pin=1), name="PIIX4_PM")


def q35_functions(bus: RootBus, routed: Routed) -> Iterator[tuple[int, int, PciFunction]]:
    """The same of q35, without the HBA at 1f.2."""
    yield 0, 0, Q35HostBridge(bus)
    yield 0x1F, 0, IsaBridge(0x2918, 2, 8, routed, name="ICH9-LPC")
    yield 0x1F, 3, PciFunction(_identity(0x2930, 0x0C0500, 2, pin=1), name="ICH9-SMB")
