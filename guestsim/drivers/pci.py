"""PCI as an operating system finds it: functions on the root bus, BARs, capabilities, MSI-X and INTx.

Follows PCI Local Bus 3.0 (chapter 6 and its MSI-X section 6.8.2) and, for ECAM, PCI Express Base 6.0 §7.2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from guestsim.errors import GuestCheckError, GuestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guestsim.guest import Guest
    from guestsim.targets import Target

CONFIG_ADDRESS = 0xCF8
CONFIG_DATA = 0xCFC

VENDOR = 0x00
COMMAND = 0x04
STATUS = 0x06
HEADER_TYPE = 0x0E
BAR0 = 0x10
CAPABILITY_POINTER = 0x34
INTERRUPT_PIN = 0x3D

COMMAND_IO = 1 << 0
COMMAND_MEMORY = 1 << 1
COMMAND_MASTER = 1 << 2
COMMAND_INTX_DISABLE = 1 << 10
STATUS_CAPABILITIES = 1 << 4

CAP_POWER = 0x01
CAP_MSI = 0x05
CAP_MSIX = 0x11
CAP_SATA = 0x12
CAP_VENDOR = 0x09

_SLOTS = 32
_FUNCTIONS = 8
_MAX_CAPABILITIES = 48
_MSI_ENABLE = 1 << 0
_MSI_64 = 1 << 7
_MSIX_ENABLE = 1 << 15
_MSIX_FUNCTION_MASK = 1 << 14
_MSIX_ENTRY = 16
_ENTRY_MASKED = 1


class ConfigSpace:
    """Access to the configuration space of bus 0: through ECAM where the machine has it, else ports CF8/CFC."""

    __slots__ = ("_ecam", "_target")

    def __init__(self, target: Target) -> None:
        self._target = target
        self._ecam = target.layout.ecam

    def read(self, slot: int, function: int, offset: int, size: int) -> int:
        """Read 1, 2 or 4 bytes at a naturally aligned `offset`."""
        if self._ecam is not None:
            return self._target.read(self._ecam + (slot << 15) + (function << 12) + offset, size)
        self._select(slot, function, offset)
        return self._target.io_read(CONFIG_DATA + (offset & 3), size)

    def write(self, slot: int, function: int, offset: int, size: int, value: int) -> None:
        """Write 1, 2 or 4 bytes at a naturally aligned `offset`."""
        if self._ecam is not None:
            self._target.write(self._ecam + (slot << 15) + (function << 12) + offset, size, value)
            return
        self._select(slot, function, offset)
        self._target.io_write(CONFIG_DATA + (offset & 3), size, value)

    def _select(self, slot: int, function: int, offset: int) -> None:
        address = 1 << 31 | slot << 11 | function << 8 | offset & 0xFC
        self._target.io_write(CONFIG_ADDRESS, 4, address)


@dataclass(frozen=True, slots=True)
class Bar:
    """A base address register that has been given a place: `base` in memory space or, with `io`, a port."""

    target: Target
    index: int
    base: int
    size: int
    io: bool

    def read(self, offset: int, size: int) -> int:
        """Read a register of 1, 2, 4 or (memory only) 8 bytes."""
        if self.io:
            return self.target.io_read(self.base + offset, size)
        return self.target.read(self.base + offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register of 1, 2, 4 or (memory only) 8 bytes."""
        # A device gets numbers: flags, inverted, lose the bits that have no name.
        if self.io:
            self.target.io_write(self.base + offset, size, int(value))
        else:
            self.target.write(self.base + offset, size, int(value))


@dataclass(frozen=True, slots=True)
class Capability:
    """One entry of a function's capability list."""

    id: int
    offset: int


class PciFunction:
    """One function on bus 0, as the guest has found it."""

    __slots__ = ("_guest", "_space", "bars", "device", "function", "slot", "vendor")

    def __init__(self, guest: Guest, space: ConfigSpace, slot: int, function: int) -> None:
        self._guest = guest
        self._space = space
        self.slot = slot
        self.function = function
        identity = space.read(slot, function, VENDOR, 4)
        self.vendor = identity & 0xFFFF
        self.device = identity >> 16
        self.bars: dict[int, Bar] = {}

    def __str__(self) -> str:
        return f"00:{self.slot:02x}.{self.function}"

    def read(self, offset: int, size: int) -> int:
        """Read the configuration space."""
        return self._space.read(self.slot, self.function, offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write the configuration space."""
        self._space.write(self.slot, self.function, offset, size, value)

    @property
    def interrupt_pin(self) -> int:
        """1 for INTA# to 4 for INTD#, 0 where the function has no line."""
        return self.read(INTERRUPT_PIN, 1)

    def capabilities(self) -> list[Capability]:
        """The capability list in order; GuestCheckError where it doesn't end or leaves the space (PCI 3.0 §6.7)."""
        if not self.read(STATUS, 2) & STATUS_CAPABILITIES:
            return []
        found: list[Capability] = []
        offset = self.read(CAPABILITY_POINTER, 1) & 0xFC
        while offset:
            if offset < 0x40 or len(found) == _MAX_CAPABILITIES:
                raise GuestCheckError("PCI 3.0 §6.7", f"{self}: the capability list is broken at {offset:#x}")
            head = self.read(offset, 2)
            found.append(Capability(head & 0xFF, offset))
            offset = head >> 8 & 0xFC
        return found

    def place_bars(self) -> None:
        """Size every BAR, give each an address of its own, then switch decoding and bus mastering on.

        Decoding is off meanwhile, as PCI 3.0 §6.2.5.1 has it.
        """
        command = self.read(COMMAND, 2) & ~(COMMAND_IO | COMMAND_MEMORY)
        self.write(COMMAND, 2, command)
        self.bars.clear()
        index = 0
        while index < 6:
            index += self._place_bar(index)
        self.write(COMMAND, 2, command | COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER)

    def _place_bar(self, index: int) -> int:
        """Size and place one BAR; returns how many registers it takes (2 for a 64-bit one)."""
        register = BAR0 + 4 * index
        self.write(register, 4, 0xFFFF_FFFF)
        mask = self.read(register, 4)
        if not mask:
            return 1
        target = self._guest.target
        if mask & 1:
            size = (mask & 0xFFFC ^ 0xFFFF) + 1
            base = self._guest.place_io(size)
            self.write(register, 4, base)
            self.bars[index] = Bar(target, index, base, size, io=True)
            return 1
        wide = mask & 6 == 4
        mask &= ~0xF
        if wide:
            self.write(register + 4, 4, 0xFFFF_FFFF)
            mask |= self.read(register + 4, 4) << 32
        else:
            mask |= 0xFFFF_FFFF << 32
        size = (mask ^ 0xFFFF_FFFF_FFFF_FFFF) + 1
        if size & size - 1:
            raise GuestCheckError("PCI 3.0 §6.2.5.1", f"{self}: BAR {index} has the mask {mask:#x}")
        base = self._guest.place_mmio(size)
        self.write(register, 4, base & 0xFFFF_FFFF)
        if wide:
            self.write(register + 4, 4, base >> 32)
        self.bars[index] = Bar(target, index, base, size, io=False)
        return 2 if wide else 1

    def set_command(self, *, on: int = 0, off: int = 0) -> None:
        """Change bits of the command register."""
        self.write(COMMAND, 2, self.read(COMMAND, 2) & ~off | on)

    def msi(self) -> Msi | None:
        """The MSI capability, or None where the function has none."""
        for capability in self.capabilities():
            if capability.id == CAP_MSI:
                return Msi(self, capability.offset)
        return None

    def msix(self) -> Msix | None:
        """The MSI-X capability, or None where the function has none."""
        for capability in self.capabilities():
            if capability.id == CAP_MSIX:
                return Msix(self, capability.offset)
        return None


class Msi:
    """MSI of one function (PCI 3.0 §6.8.1); `vectors` is how many messages it can tell apart."""

    __slots__ = ("_function", "_offset", "_wide", "vectors")

    def __init__(self, function: PciFunction, offset: int) -> None:
        self._function = function
        self._offset = offset
        control = function.read(offset + 2, 2)
        self.vectors = 1 << (control >> 1 & 7)
        self._wide = bool(control & _MSI_64)

    def enable(self, address: int, data: int, vectors: int = 1) -> None:
        """Switch MSI on, for `vectors` messages (a power of two): the low bits of `data` tell them apart."""
        at, function = self._offset, self._function
        function.write(at + 4, 4, address & 0xFFFF_FFFF)
        if self._wide:
            function.write(at + 8, 4, address >> 32)
        function.write(at + (12 if self._wide else 8), 2, data)
        function.write(at + 2, 2, (vectors.bit_length() - 1) << 4 | _MSI_ENABLE)

    def disable(self) -> None:
        """Switch MSI off; the function is back to INTx."""
        self._function.write(self._offset + 2, 2, 0)


class Msix:
    """MSI-X of one function (PCI 3.0 §6.8.2): the table in a BAR, and the two bits that govern all of it."""

    __slots__ = ("_function", "_offset", "_pba", "_pba_offset", "_table", "_table_offset", "size")

    def __init__(self, function: PciFunction, offset: int) -> None:
        self._function = function
        self._offset = offset
        self.size = (function.read(offset + 2, 2) & 0x7FF) + 1
        table = function.read(offset + 4, 4)
        pba = function.read(offset + 8, 4)
        self._table = self._bar(table & 7)
        self._table_offset = table & ~7
        self._pba = self._bar(pba & 7)
        self._pba_offset = pba & ~7

    def _bar(self, index: int) -> Bar:
        bar = self._function.bars.get(index)
        if bar is None or bar.io:
            raise GuestCheckError("PCI 3.0 §6.8.2", f"{self._function}: MSI-X names BAR {index}")
        return bar

    def enable(self) -> None:
        """Switch MSI-X on for the function; INTx is off from now on."""
        self._control(_MSIX_ENABLE)

    def disable(self) -> None:
        """Switch MSI-X off; the function is back to INTx."""
        self._control(0)

    def mask_function(self) -> None:
        """Hold every message of the function back."""
        self._control(_MSIX_ENABLE | _MSIX_FUNCTION_MASK)

    def _control(self, bits: int) -> None:
        old = self._function.read(self._offset + 2, 2) & ~(_MSIX_ENABLE | _MSIX_FUNCTION_MASK)
        self._function.write(self._offset + 2, 2, old | bits)

    def program(self, entry: int, address: int, data: int) -> None:
        """Give an entry its message, and unmask it."""
        at = self._entry(entry)
        self._table.write(at + 12, 4, _ENTRY_MASKED)
        self._table.write(at, 4, address & 0xFFFF_FFFF)
        self._table.write(at + 4, 4, address >> 32)
        self._table.write(at + 8, 4, data)
        self._table.write(at + 12, 4, 0)

    def mask(self, entry: int) -> None:
        """Hold an entry's message back."""
        self._table.write(self._entry(entry) + 12, 4, _ENTRY_MASKED)

    def unmask(self, entry: int) -> None:
        """Let an entry's message go, a pending one at once."""
        self._table.write(self._entry(entry) + 12, 4, 0)

    def pending(self, entry: int) -> bool:
        """The entry's pending bit."""
        self._entry(entry)
        return bool(
            self._pba.read(self._pba_offset + entry // 64 * 8 + entry % 64 // 32 * 4, 4) >> entry % 32 & 1
        )

    def _entry(self, entry: int) -> int:
        if not 0 <= entry < self.size:
            raise GuestError(f"{self._function}: MSI-X entry {entry}: the table has {self.size}")
        return self._table_offset + _MSIX_ENTRY * entry


def scan(guest: Guest) -> Iterator[PciFunction]:
    """Every function on bus 0, in order (PCI 3.0 §6.1: a vendor ID of FFFFh means that nothing is there)."""
    space = ConfigSpace(guest.target)
    for slot in range(_SLOTS):
        if space.read(slot, 0, VENDOR, 2) == 0xFFFF:
            continue
        yield PciFunction(guest, space, slot, 0)
        if space.read(slot, 0, HEADER_TYPE, 1) & 0x80:
            for function in range(1, _FUNCTIONS):
                if space.read(slot, function, VENDOR, 2) != 0xFFFF:
                    yield PciFunction(guest, space, slot, function)
