"""ACPI PCI hot-plug as QEMU's pc has it (QEMU: docs/specs/acpi_pci_hotplug), and devices that wait for it.

Ports AE00h up (slots with something new), AE04h down (slots that are asked for), AE08h eject (a written 1 takes
out what is in that slot, whether or not the host has asked for it), AE0Ch removable, AE10h bus select.  A device that
the host takes out stays until the guest ejects its slot, or the machine is reset.  Chipset, displays, IDE controllers
and bridges stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from devmodels.assembly.assembly import Assembly
    from devmodels.pci.bridge import PciBridge
    from devmodels.pci.function import PciFunction

HOTPLUG_PORT, HOTPLUG_PORTS = 0xAE00, 0x18
UP, DOWN, EJECT, REMOVABLE = 0x00, 0x04, 0x08, 0x0C
SLOTS = 32
ALL = 0xFFFF_FFFF
NETWORK = 0x02
"""The class of cards, which may leave as well."""
STAYING = ("piix3-ide", "piix4-ide")
"""Devices of ours that QEMU lets nobody plug or unplug."""


class PciHotplug:
    """The registers; `ask` has a device wait for its ejection: `take_out` is called with its name then."""

    def __init__(self, assembly: Assembly, bridges: dict[str, PciBridge]) -> None:
        self._assembly = assembly
        self._bridges = bridges
        self.take_out: Callable[[str], None] = self._remove
        self.up = 0
        """Slots with something new, which nobody has asked for yet."""
        self._waiting: dict[int, str] = {}

    def _remove(self, name: str) -> None:
        self._assembly.context.start(self._assembly.remove_device(name))

    def added(self, name: str) -> None:
        """A device was plugged while the machine was there."""
        slot = self.slot_of(name)
        if slot is not None and slot < SLOTS:
            self.up |= 1 << slot

    def slot_of(self, name: str) -> int | None:
        """Where a PCI device is; slots of a bus behind a bridge, which the registers do not show, are further ones."""
        function: PciFunction | None = self._bridges.get(name) or self._assembly.function(name)
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
        waiting, self._waiting, self.up = self._waiting, {}, 0
        for name in waiting.values():
            if name not in self._bridges:
                self.take_out(name)

    def read(self, offset: int, size: int) -> int:
        """Slots as bits."""
        value = 0
        if offset == UP:
            value, self.up = self.up, 0
        elif offset == DOWN:
            value = sum(1 << slot for slot in self._waiting if slot < SLOTS)
        elif offset == REMOVABLE:
            value = ALL & ~sum({1 << slot for slot, name, _ in self._functions() if name is None})
        return value & (1 << 8 * size) - 1

    def write(self, offset: int, _size: int, value: int) -> None:
        """Eject."""
        if offset == EJECT:
            for slot in range(SLOTS):
                if value >> slot & 1:
                    self._eject(slot)

    def _eject(self, slot: int) -> None:
        """All functions of a slot go together, and none where one of them stays."""
        self._waiting.pop(slot, None)
        there = [(name, function) for at, name, function in self._functions() if at == slot]
        if any(name is None for name, _ in there):
            return
        for name, function in there:
            if name:
                self.take_out(name)
            else:
                self._assembly.machine.unplug(function)

    def _functions(self) -> Iterator[tuple[int, str | None, PciFunction]]:
        """Slot, device and function on the board's own bus; no device where it stays, and "" for a placeholder."""
        assembly = self._assembly
        names = {id(assembly.function(name)): name for name in (*assembly.ata_hosts, *assembly.devices)}
        for slot, _, function in assembly.machine.bus.functions():
            name = names.get(id(function))
            if name is None and function.identity.class_code >> 16 == NETWORK:
                yield slot, "", function
            else:
                stays = name is None or assembly.options[name]["driver"] in STAYING
                yield slot, None if stays else name, function
