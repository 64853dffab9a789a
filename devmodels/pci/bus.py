"""The root bus: 32 slots of 8 functions, bus number 0, and the two ways into their configuration space.

CF8/CFC (configuration mechanism #1): a dword written to port 0xCF8 selects, ports 0xCFC to 0xCFF reach the dword
selected.

        31   30      24 23         16 15      11 10    8 7               2 1 0
       | E  |          |     bus     |  device  |  fn   |    register     |   |

ECAM: 4096 bytes of memory space a function; 1 MiB for the one bus.

Functions that are not there read ones.  A bus behind a bridge is one of these, too.

References: PCI Local Bus 3.0 §3.2.2.3.2; PCI Express 6.0 §7.2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import msgspec

from devmodels.interrupts import Line, LineSource, Outbox
from devmodels.pci.decode import Claim
from devmodels.pci.function import PciFunction

SLOTS = 32
FUNCTIONS = 8
INTX_LINES = 4

CONFIG_ADDRESS = 0xCF8
CONFIG_DATA = 0xCFC
ECAM_SIZE = SLOTS * FUNCTIONS * 4096

_ENABLE = 1 << 31
_ADDRESS_BITS = 0x80FF_FFFC

IntxSink: TypeAlias = Callable[[int, bool], None]


class Wiring(msgspec.Struct, frozen=True):
    """A board's interrupt lines: how many there are, and which one (from 0) has pin 1 to 4 of a slot."""

    lines: int
    line: Callable[[int, int], int]


class RootBus:
    """Bus 0.

    `on_decode_change` is called when the claimed ranges have changed; `on_intx(line, level)` gets the levels of the
    shared lines, which `wiring` gives to slots and pins.
    """

    def __init__(
        self,
        outbox: Outbox,
        on_decode_change: Callable[[], None],
        on_intx: IntxSink,
        wiring: Wiring | None = None,
    ) -> None:
        self._outbox = outbox
        self._on_decode_change = on_decode_change
        self._functions: dict[tuple[int, int], PciFunction] = {}
        self._wiring = USUAL_WIRING if wiring is None else wiring
        self._lines = [Line(outbox, _bind(on_intx, number)) for number in range(self._wiring.lines)]
        self.refused = 0
        """Configuration accesses refused because the function was in the middle of another access."""

    # --- plugging

    def plug(self, function: PciFunction, slot: int, number: int = 0) -> None:
        """Put `function` into a slot; ValueError where there is no such place or it is taken."""
        if not 0 <= slot < SLOTS or not 0 <= number < FUNCTIONS:
            raise ValueError(f"there is no place {slot:02x}.{number} on a PCI bus")
        if (slot, number) in self._functions:
            raise ValueError(f"PCI {slot:02x}.{number} is taken by {self._functions[slot, number].name}")
        if function in self._functions.values():
            raise ValueError(f"{function.name} is plugged already")
        self._functions[slot, number] = function
        pin = function.identity.interrupt_pin
        line = self._lines[self._wiring.line(slot, pin)].source() if pin else None
        function.plugged(self, line, multi_function=False)
        self._mark_multi_function(slot)

    def unplug(self, function: PciFunction) -> None:
        """Take `function` out; ValueError where it isn't plugged."""
        for place, other in self._functions.items():
            if other is function:
                del self._functions[place]
                function.unplugged()
                self._on_decode_change()
                self._mark_multi_function(place[0])
                return
        raise ValueError(f"{function.name} is not plugged")

    def _mark_multi_function(self, slot: int) -> None:
        members = [function for (at, _), function in self._functions.items() if at == slot]
        several = any((slot, number) in self._functions for number in range(1, FUNCTIONS))
        for function in members:
            function.set_multi_function(several)

    def functions(self) -> Iterator[tuple[int, int, PciFunction]]:
        """(slot, function number, function) in order."""
        for (slot, number), function in sorted(self._functions.items(), key=lambda item: item[0]):
            yield slot, number, function

    def by_age(self) -> Iterator[tuple[int, int, PciFunction]]:
        """The same in the order in which they were plugged."""
        for (slot, number), function in self._functions.items():
            yield slot, number, function

    def walk(self) -> Iterator[tuple[RootBus, PciFunction]]:
        """All functions of this bus and of those behind its bridges, each with its bus; a bridge comes first."""
        for _, _, function in self.functions():
            yield self, function
            behind = getattr(function, "behind", None)
            if isinstance(behind, RootBus):
                yield from behind.walk()

    def bus_behind(self, number: int) -> RootBus | None:
        """The bus of that number behind one of the bridges here."""
        found = (function.bus(number) for _, _, function in self.functions())
        return next((bus for bus in found if isinstance(bus, RootBus)), None)

    def pins_of(self, function: PciFunction) -> list[LineSource]:
        """New drivers of the four lines that the pins of the function's slot are wired to."""
        slot = next(slot for slot, _, each in self.functions() if each is function)
        return [self._lines[self._wiring.line(slot, pin)].source() for pin in range(1, INTX_LINES + 1)]

    def at(self, slot: int, number: int) -> PciFunction | None:
        """The function at a place."""
        return self._functions.get((slot, number))

    def claims(self, *, io: bool) -> Iterator[Claim]:
        """The ranges that all functions decode now; earlier ones win: lower slots, functions and BARs."""
        for _, _, function in self.functions():
            yield from function.claims(io=io)

    # --- what functions ask

    def decode_changed(self) -> None:
        """A function's ranges have changed."""
        self._on_decode_change()

    def post(self, address: int, data: int) -> None:
        """A function sends an interrupt message."""
        self._outbox.post(address, data)

    # --- configuration accesses

    def config_read(self, slot: int, number: int, offset: int, size: int) -> int:
        """Read configuration space; ones where nobody is."""
        function = self._enter(slot, number)
        if function is None:
            return (1 << 8 * size) - 1
        try:
            return function.config_read(offset, size)
        finally:
            function.accessing = False

    def config_write(self, slot: int, number: int, offset: int, size: int, value: int) -> None:
        """Write configuration space."""
        function = self._enter(slot, number)
        if function is not None:
            try:
                function.config_write(offset, size, value)
            finally:
                function.accessing = False

    def _enter(self, slot: int, number: int) -> PciFunction | None:
        function = self._functions.get((slot, number))
        if function is None:
            return None
        if function.accessing:
            self.refused += 1
            return None
        function.accessing = True
        return function


def intx_line(slot: int, pin: int) -> int:
    """The shared line, 0 to 3, of `slot`'s interrupt pin (1 to 4); PCI-to-PCI Bridge 1.2 §9.1, Table 9-1."""
    return (slot + pin - 1) % INTX_LINES


USUAL_WIRING = Wiring(INTX_LINES, intx_line)
"""Four lines, to which pin A of slot n is wired as line n modulo 4, and further pins follow."""


def _bind(sink: IntxSink, number: int) -> Callable[[bool], None]:
    return lambda level: sink(number, level)


class ConfigPorts:
    """Ports 0xCF8 to 0xCFF."""

    __slots__ = ("_bus", "address", "mask")

    def __init__(self, bus: RootBus) -> None:
        self._bus = bus
        self.address = 0
        """What 0xCF8 holds."""
        self.mask = _ADDRESS_BITS
        """The bits of it that there are.  With bits 1:0 among them, as QEMU has it, these count in accesses of data."""

    def read(self, offset: int, size: int) -> int:
        """Read the address (a dword at 0xCF8) or the data selected."""
        if offset == 0 and size == 4:
            return self.address
        place, bus = self.place(offset, size), self._selected()
        if place is None or bus is None:
            return (1 << 8 * size) - 1
        return bus.config_read(*place, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write the address (a dword at 0xCF8) or the data selected."""
        if offset == 0 and size == 4:
            self.address = value & self.mask
            return
        place, bus = self.place(offset, size), self._selected()
        if place is not None and bus is not None:
            bus.config_write(*place, size, value)

    def function(self, offset: int, size: int) -> PciFunction | None:
        """Whom an access of data is to; None where it goes nowhere."""
        place, bus = self.place(offset, size), self._selected()
        return None if place is None or bus is None else bus.at(*place[:2])

    def _selected(self) -> RootBus | None:
        number = self.address >> 16 & 0xFF
        return self._bus.bus_behind(number) if number else self._bus

    def place(self, offset: int, size: int) -> tuple[int, int, int] | None:
        """(slot, function, offset) of a data access, on the bus that is selected; None where it goes nowhere."""
        address = self.address
        if offset < 4 or offset + size > 8 or not address & _ENABLE:
            return None
        return address >> 11 & 31, address >> 8 & 7, address & 0xFF | offset & 3

    def reset(self) -> None:
        """Nothing is selected."""
        self.address = 0


class Ecam:
    """The memory window onto configuration space."""

    __slots__ = ("_bus",)

    def __init__(self, bus: RootBus) -> None:
        self._bus = bus

    def read(self, offset: int, size: int) -> int:
        """Read; an access over the end of a function's 4096 bytes goes on in the next one's."""
        room = 0x1000 - (offset & 0xFFF)
        if size > room:
            return self.read(offset, room) | self.read(offset + room, size - room) << 8 * room
        return self._bus.config_read(offset >> 15, offset >> 12 & 7, offset & 0xFFF, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write; an access over the end of a function's 4096 bytes goes on in the next one's."""
        room = 0x1000 - (offset & 0xFFF)
        if size > room:
            self.write(offset, room, value & (1 << 8 * room) - 1)
            self.write(offset + room, size - room, value >> 8 * room)
        else:
            self._bus.config_write(offset >> 15, offset >> 12 & 7, offset & 0xFFF, size, value)
