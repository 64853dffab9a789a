"""Which register of which virtio device an address is: windows as the guest has placed them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from guestsim.diff.access import Read
from guestsim.diff.sides import ECAM, Window
from guestsim.script.machine import ON_BUSES, place

if TYPE_CHECKING:
    from guestsim.targets.inprocess import InProcessTarget

_BAR0 = 0x10
_STRUCTURES = {1: "common", 2: "notify", 3: "isr", 4: "device"}


class Registers:
    """The registers of a machine's devices, given by their options, at the addresses that they have now."""

    def __init__(self, target: InProcessTarget, devices: Sequence[Mapping[str, object]]) -> None:
        self._target = target
        self._functions = [
            ECAM + (slot << 15) + (function << 12)
            for one in devices
            if one.get("driver") not in ON_BUSES
            for slot, function in (place(str(one["addr"])),)
        ]

    def find(self, address: int, size: int, *, port: bool) -> Read | None:
        """The register at an address; None where there is none."""
        for base in self._functions:
            for name, window in self._windows(base):
                if window.port is port and window.base <= address < window.base + window.size:
                    return Read(name, address - window.base, size)
        return None

    def _windows(self, base: int) -> Iterator[tuple[str, Window]]:
        yield "pci", Window(base, 0x1000)
        yield from self._virtio(base)

    def _virtio(self, base: int) -> Iterator[tuple[str, Window]]:
        """By the capabilities (VIRTIO 1.4 §4.1.4), and the legacy interface (§4.1.4.10)."""
        read = self._target.read
        at = read(base + 0x34, 1)
        while at:
            kind = read(base + at, 1)
            if kind == 0x11:
                yield "msix", Window(self._bar(base, read(base + at + 4, 1) & 7), 0x1000)
            elif kind == 0x09 and (name := _STRUCTURES.get(read(base + at + 3, 1))) is not None:
                bar = self._bar(base, read(base + at + 4, 1))
                yield name, Window(bar + read(base + at + 8, 4), read(base + at + 12, 4))
            at = read(base + at + 1, 1)
        yield "legacy", Window(self._bar(base, 0), 0x80, port=True)

    def _bar(self, base: int, index: int) -> int:
        low = self._target.read(base + _BAR0 + 4 * index, 4)
        if low & 1:
            return low & ~3
        high = self._target.read(base + _BAR0 + 4 * index + 4, 4) if low & 6 == 4 else 0
        return high << 32 | low & ~0xF
