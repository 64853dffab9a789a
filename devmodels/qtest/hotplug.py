"""ACPI PCI hot-plug as QEMU's pc has it (QEMU: docs/specs/acpi_pci_hotplug), and devices that wait for it.

Ports AE00h up (slots with something new), AE04h down (slots that are asked for), AE08h eject (a written 1 takes
out what is in that slot, whether or not the host has asked for it), AE0Ch removable, all of the bus that AE10h selects:
the board's own is 0, those behind bridges come after it.  A device that the host takes out stays
until the guest ejects its slot, or the machine is reset.  Chipset, displays, IDE controllers and bridges stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from devmodels.options import OptionError

if TYPE_CHECKING:
    from devmodels.assembly.assembly import Assembly
    from devmodels.pci.bridge import PciBridge
    from devmodels.pci.bus import RootBus
    from devmodels.pci.function import PciFunction

HOTPLUG_PORT, HOTPLUG_PORTS = 0xAE00, 0x18
UP, DOWN, EJECT, REMOVABLE, BUS = 0x00, 0x04, 0x08, 0x0C, 0x10
SLOTS = 32
BUSES = 256
"""How many can be selected."""
GRACE_MS = 1
"""So long a device that is asked for is not asked for again."""
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
        self.up: set[int] = set()
        """Slots with something new, which nobody has asked for yet."""
        self.selected = 0
        """The bus whose slots the registers show."""
        self._waiting: dict[int, str] = {}
        self._not_before: dict[str, int] = {}

    def _remove(self, name: str) -> None:
        self._assembly.context.start(self._assembly.remove_device(name))

    def added(self, name: str) -> None:
        """A device was plugged while the machine was there."""
        slot = self.slot_of(name)
        if slot is not None:
            self.up.add(slot)

    def slot_of(self, name: str) -> int | None:
        """Where a PCI device is; the slots of each bus come after those of the bus before it."""
        function: PciFunction | None = self._bridges.get(name) or self._assembly.function(name)
        for number, bus in enumerate(self._buses()):
            for slot, _, each in bus.functions():
                if each is function:
                    return SLOTS * number + slot
        return None

    def _buses(self, of: RootBus | None = None) -> list[RootBus]:
        """In QEMU's order: behind a bus those of its bridges, the newest bridge first."""
        bus = self._assembly.machine.bus if of is None else of
        bridges = [
            bridge
            for bridge in self._bridges.values()
            if any(each is bridge for _, _, each in bus.functions())
        ]
        return [bus, *(each for bridge in reversed(bridges) for each in self._buses(bridge.behind))]

    @property
    def waiting(self) -> list[str]:
        """The devices that wait, by name."""
        return list(self._waiting.values())

    def ask(self, slot: int, name: str) -> None:
        """Ask the guest to let a slot with a device go; OptionError where it has only just been asked."""
        now = self._assembly.context.now_ns() // 1_000_000
        if name in self.waiting and now < self._not_before[name]:
            raise OptionError(f"Device {name} is already in the process of unplug")
        self._waiting[slot], self._not_before[name] = name, now + GRACE_MS

    def reset(self) -> None:
        """What the guest was asked for goes now: it cannot answer any more."""
        waiting, self._waiting, self.up = self._waiting, {}, set()
        for name in waiting.values():
            if name not in self._bridges:
                self.take_out(name)

    def read(self, offset: int, size: int) -> int:
        """Slots of the selected bus as bits."""
        value, first = 0, SLOTS * self.selected
        if self.selected >= BUSES:
            pass
        elif offset == BUS:
            value = self.selected
        elif offset == UP:
            value = self._bits(self.up)
            self.up.difference_update(range(first, first + SLOTS))
        elif offset == DOWN:
            value = self._bits(self._waiting)
        elif offset == REMOVABLE:
            value = ALL & ~sum({1 << slot for slot, name, _ in self._functions() if name is None})
        return value & (1 << 8 * size) - 1

    def _bits(self, slots: Iterable[int]) -> int:
        """Those of the selected bus."""
        return sum(1 << slot % SLOTS for slot in slots if slot // SLOTS == self.selected)

    def write(self, offset: int, _size: int, value: int) -> None:
        """Select a bus; eject the first of the slots."""
        if offset == BUS:
            self.selected = value
        elif offset == EJECT and value:
            self._eject((value & -value).bit_length() - 1)

    def _eject(self, slot: int) -> None:
        """All functions of a slot go together, and none where one of them stays."""
        self._waiting.pop(SLOTS * self.selected + slot, None)
        there = [(name, function) for at, name, function in self._functions() if at == slot]
        if any(name is None for name, _ in there):
            return
        for name, function in there:
            if name:
                self.take_out(name)
            else:
                self._assembly.machine.unplug(function)

    def _functions(self) -> Iterator[tuple[int, str | None, PciFunction]]:
        """Slot, device and function on the selected bus; no device where it stays, and "" for a placeholder."""
        assembly, buses = self._assembly, self._buses()
        if self.selected >= len(buses):
            return
        for slot, _, function in buses[self.selected].functions():
            name = assembly.device_of(function)
            if name is None and function.identity.class_code >> 16 == NETWORK:
                yield slot, "", function
            else:
                stays = name is None or assembly.options[name]["driver"] in STAYING
                yield slot, None if stays else name, function
