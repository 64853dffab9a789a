"""Transfer modes: the one that SET FEATURES (03h, ACS-3 §7.45) has chosen, without effect but what is told of it."""

from __future__ import annotations

MULTIWORD_MODES, ULTRA_MODES, PIO_MODES = 3, 7, 5
"""Modes 0 to 2, 0 to 6, 0 to 4."""
FLOW_CONTROL, MULTIWORD, ULTRA = 0x08, 0x20, 0x40
"""The count that SET FEATURES, set transfer mode, is given, without the mode."""


class TransferModes:
    """The DMA mode: `multiword` or `ultra` is its number, the other one -1."""

    __slots__ = ("multiword", "ultra")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As after power-on: the fastest one."""
        self.multiword, self.ultra = -1, ULTRA_MODES - 1

    def choose(self, value: int) -> bool:
        """Take a mode as SET FEATURES gives it; False where there is no such one."""
        mode = value & 7
        if value in (0, 1) or (value & 0xF8 == FLOW_CONTROL and mode < PIO_MODES):
            return True
        if value & 0xF8 == MULTIWORD and mode < MULTIWORD_MODES:
            self.multiword, self.ultra = mode, -1
            return True
        if value & 0xF8 == ULTRA and mode < ULTRA_MODES:
            self.multiword, self.ultra = -1, mode
            return True
        return False

    @property
    def multiword_word(self) -> int:
        """Word 63 of IDENTIFY DEVICE."""
        return (1 << MULTIWORD_MODES) - 1 | (0x100 << self.multiword if self.multiword >= 0 else 0)

    @property
    def ultra_word(self) -> int:
        """Word 88."""
        return (1 << ULTRA_MODES) - 1 | (0x100 << self.ultra if self.ultra >= 0 else 0)
