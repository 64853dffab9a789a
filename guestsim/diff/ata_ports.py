"""Which register of which ATA host an address is, as the guest has placed them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guestsim.diff.access import Read
from guestsim.diff.sides import ECAM
from guestsim.drivers.ahci_layouts import ABAR, PORT_STRIDE, PORTS_OFFSET, Hba, PortReg
from guestsim.drivers.ide_layouts import COMMAND_PORTS, CONTROL_PORTS, BusMaster, Reg
from guestsim.script.machine import AHCI_HOSTS, IDE_HOSTS, place

if TYPE_CHECKING:
    from guestsim.targets.inprocess import InProcessTarget

_BAR0 = 0x10
_MASTER_BAR, _MASTER = 4, 8
"""The bus masters' BAR, and the registers that each channel has there (SFF-8038i §2)."""
_ABAR_SIZE = 0x1000
_FIRST_IRQ = 14


@dataclass(frozen=True, slots=True)
class Place:
    """A register: its window, the number of its port or channel (-1: none), and the offset.

    Registers of all ports have the offsets of port 0's.  `base` is where those of this port or channel begin.
    """

    window: str
    number: int
    offset: int
    size: int
    base: int

    @property
    def register(self) -> int:
        """The offset among a port's registers (AHCI 1.3.1 §3.3)."""
        return self.offset - PORTS_OFFSET

    @property
    def read(self) -> Read:
        """As masks have it."""
        return Read(self.window, self.offset, self.size)


class AtaPorts:
    """The registers of a machine's ATA hosts, given by their options, at the addresses that they have now."""

    def __init__(self, target: InProcessTarget, devices: Sequence[Mapping[str, object]]) -> None:
        self._target = target
        self._hbas = [*_functions(devices, AHCI_HOSTS)]
        self._ide = [*_functions(devices, IDE_HOSTS)]

    def find(self, address: int, size: int, *, port: bool) -> Place | None:
        """The register at an address; None where there is none."""
        return self._port(address, size) if port else self._register(address, size)

    def command(self, number: int) -> int:
        """Where a channel's command block is."""
        return COMMAND_PORTS[number]

    def control(self, number: int) -> int:
        """Where its alternate status is."""
        return CONTROL_PORTS[number]

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Command block and alternate status of each channel."""
        yield from zip(COMMAND_PORTS, CONTROL_PORTS, strict=True) if self._ide else ()

    def is_data(self, address: int) -> bool:
        """Whether a port is a data register, of which each read takes a word."""
        return bool(self._ide) and address in COMMAND_PORTS

    def channels(self) -> Iterator[tuple[int, int, int]]:
        """Of each channel: its input of the interrupt controller, status, and its bus master's status (0: none)."""
        for function in self._ide:
            base = self._target.read(function + _BAR0 + 4 * _MASTER_BAR, 4) & ~0xF
            for number, command in enumerate(COMMAND_PORTS):
                master = base + _MASTER * number + BusMaster.STATUS if base else 0
                yield _FIRST_IRQ + number, command + Reg.STATUS, master

    def hbas(self) -> Iterator[tuple[int, dict[int, int]]]:
        """Of each HBA: where its IS is, and PxIS of each port that there is."""
        for function in self._hbas:
            base = self._target.read(function + _BAR0 + 4 * ABAR, 4) & ~0xF
            if base:
                implemented = self._target.read(base + Hba.PI, 4)
                ports = [number for number in range(32) if implemented >> number & 1]
                yield (
                    base + Hba.IS,
                    {number: base + PORTS_OFFSET + PORT_STRIDE * number + PortReg.IS for number in ports},
                )

    def _register(self, address: int, size: int) -> Place | None:
        for function in self._hbas:
            base = self._target.read(function + _BAR0 + 4 * ABAR, 4) & ~0xF
            if base and base <= address < base + _ABAR_SIZE:
                offset = address - base
                if offset < PORTS_OFFSET:
                    return Place("hba", -1, offset, size, base)
                number, register = divmod(offset - PORTS_OFFSET, PORT_STRIDE)
                return Place("hba", number, PORTS_OFFSET + register, size, address - register)
        return None

    def _port(self, address: int, size: int) -> Place | None:
        if not self._ide:
            return None
        for number, (command, control) in enumerate(zip(COMMAND_PORTS, CONTROL_PORTS, strict=True)):
            if command <= address <= command + Reg.STATUS:
                return Place("ide", number, address - command, size, command)
            if address == control:
                return Place("control", number, 0, size, control)
        for function in self._ide:
            base = self._target.read(function + _BAR0 + 4 * _MASTER_BAR, 4) & ~0xF
            if base and base <= address < base + 2 * _MASTER:
                number, offset = divmod(address - base, _MASTER)
                return Place("master", number, offset, size, base + _MASTER * number)
        return None


def _functions(devices: Sequence[Mapping[str, object]], kinds: frozenset[str]) -> Iterator[int]:
    """Configuration spaces of those of some kinds."""
    for one in devices:
        if one.get("driver") in kinds:
            slot, function = place(str(one["addr"]))
            yield ECAM + (slot << 15) + (function << 12)
