"""ACPI PCI hot-plug as QEMU's pc has it (QEMU: docs/specs/acpi_pci_hotplug), and devices that wait for it.

Ports AE00h up (slots with something new), AE04h down (slots that are asked for), AE08h eject (a written 1 takes
out what is in that slot), AE0Ch removable, AE10h bus select.  A device that the host takes out stays until the guest
ejects its slot, or the machine is reset.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from devmodels.assembly.assembly import Assembly
    from devmodels.pci.function import PciFunction

HOTPLUG_PORT, HOTPLUG_PORTS = 0xAE00, 0x18
UP, DOWN, EJECT, REMOVABLE = 0x00, 0x04, 0x08, 0x0C
CHIPSET_SLOTS = 0b11
SLOTS = 32


class PciHotplug:
    """The registers; `ask` has a device wait for its ejection: `take_out` is called with its name then."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self.take_out: Callable[[str], None] = lambda _: None
        self.up = 0
        """Slots with something new, which nobody has asked for yet."""
        self._waiting: dict[int, str] = {}

    def added(self, name: str) -> None:
        """A device was plugged while the machine was there."""
        slot = self.slot_of(name)
        if slot is not None and slot < SLOTS:
            self.up |= 1 << slot

    def slot_of(self, name: str) -> int | None:
        """Where a PCI device is; slots of a bus behind a bridge, which the registers do not show, are further ones."""
        function: PciFunction | None = self._assembly.function(name)
        buses = list(dict.fromkeys(bus for bus, _ in self._assembly.machine.bus.walk()))
        for number, bus in enumerate(buses):
            for slot, _, each in bus.functions():
                if each is function:
                    return SLOTS * number + slot
        return None

    @property
    def waiting(self) -> list[str]:
        """The devices that wait, by name."""
        return list(self._waiting.values())

    def ask(self, slot: int, name: str) -> None:
        """Ask the guest to let a slot with a device go; it may be asked again."""
        self._waiting[slot] = name

    def reset(self) -> None:
        """What the guest was asked for goes now: it cannot answer any more."""
        for slot in list(self._waiting):
            self._eject(slot)
        self.up = 0

    def read(self, offset: int, size: int) -> int:
        """Slots as bits."""
        value = 0
        if offset == UP:
            value, self.up = self.up, 0
        elif offset == DOWN:
            value = sum(1 << slot for slot in self._waiting if slot < SLOTS)
        elif offset == REMOVABLE:
            value = 0xFFFF_FFFF & ~CHIPSET_SLOTS
        return value & (1 << 8 * size) - 1

    def write(self, offset: int, _size: int, value: int) -> None:
        """Eject."""
        if offset == EJECT:
            for slot in range(SLOTS):
                if value >> slot & 1:
                    self._eject(slot)

    def _eject(self, slot: int) -> None:
        name = self._waiting.pop(slot, None)
        if name is not None:
            self.take_out(name)
