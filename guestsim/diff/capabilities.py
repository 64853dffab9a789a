"""Capabilities of a function that lie elsewhere on the other side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from guestsim.diff.sides import ECAM

if TYPE_CHECKING:
    from guestsim.targets.inprocess import InProcessTarget
    from guestsim.targets.qemu import QemuTarget

_POINTER = 0x34
_LENGTHS = {0x01: 8, 0x11: 12, 0x12: 8}


class Moved:
    """Addresses in configuration space of functions, ours to theirs."""

    def __init__(self, ours: InProcessTarget, theirs: QemuTarget, slots: Sequence[int]) -> None:
        self._moves = [move for slot in slots for move in _moves(ours, theirs, ECAM + (slot << 15))]

    def there(self, address: int) -> int:
        """Where theirs has what ours has at an address."""
        for start, length, more in self._moves:
            if start <= address < start + length:
                return address + more
        return address


def _moves(ours: InProcessTarget, theirs: QemuTarget, base: int) -> Iterator[tuple[int, int, int]]:
    """Where the other function has a capability that lies elsewhere: address, length, and what to add."""
    mine = dict(_walk(ours, base))
    for identity, at in _walk(theirs, base):
        if mine.get(identity, at) != at:
            yield base + mine[identity], _LENGTHS.get(identity[0], 20), at - mine[identity]


def _walk(side: InProcessTarget | QemuTarget, base: int) -> Iterator[tuple[tuple[int, int], int]]:
    """A function's capabilities: identity, with the kind of a virtio structure, and offset (PCI 3.0 §6.7)."""
    if side.read(base, 2) == 0xFFFF or not side.read(base + 6, 2) >> 4 & 1:
        return
    at = side.read(base + _POINTER, 1)
    for _ in range(48):
        if not at:
            return
        identity = side.read(base + at, 1)
        yield (identity, side.read(base + at + 3, 1) if identity == 9 else 0), at
        at = side.read(base + at + 1, 1)
