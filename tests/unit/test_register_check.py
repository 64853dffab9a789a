"""The check of a register file finds each bit that does not do as declared, wherever and however."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from devmodels.registers import RW, WO, Register, RegisterFile
from devmodels.registers.check import check_registers

ONES = 0xFFFF_FFFF


class Word(RegisterFile, size=4, widths=(1, 2, 4)):
    word = Register(0, 4, RW)

    def __init__(self, wrong: Callable[[int, int], int] = lambda _old, new: new) -> None:
        super().__init__()
        self.wrong = wrong

    @word.on_write
    def _written(self, old: int, new: int) -> None:
        self.word = self.wrong(old, new)


class Hidden(RegisterFile, size=4):
    word = Register(0, 4, WO)

    @word.on_write
    def _written(self, _old: int, new: int) -> None:
        self.word = new ^ 0x8000_0000


class Reader(RegisterFile, size=4):
    word = Register(0, 4, RW)

    def __init__(self, bit: int, right: int) -> None:
        super().__init__()
        self.bit, self.left = bit, right

    @word.on_read
    def _read(self, held: int) -> int:
        self.left -= 1
        return held if self.left >= 0 else held ^ 1 << self.bit


class Kept(RegisterFile, size=4, resets=("warm",)):
    word = Register(0, 4, RW)

    def __init__(self, bit: int, domain: str) -> None:
        super().__init__()
        self.kept, self.domain = 1 << bit, domain

    def reset(self, domain: str = "power-on") -> None:
        kept = self.word & self.kept if domain == self.domain else 0
        super().reset(domain)
        self.word |= kept


def test_all_accesses_are_made() -> None:
    """Four bytes, two halves, one whole; zeros, ones, every other bit and each bit alone; on zeros and on ones."""
    assert check_registers(Word) == 2 * (4 * (4 + 8) + 2 * (4 + 16) + (4 + 32))
    assert check_registers(Word, behaving=[Word.word]) == 0


def test_a_register_that_is_taken_in_parts_has_nothing_wrong() -> None:
    class Wide(RegisterFile, size=8, widths=(4,)):
        word = Register(0, 8, RW)

    assert check_registers(Wide) == 2 * 2 * (4 + 32)


@pytest.mark.long
@pytest.mark.parametrize("bit", range(32))
def test_a_bit_that_is_not_taken_is_found(bit: int) -> None:
    with pytest.raises(AssertionError, match="the first read gave"):
        check_registers(lambda: Word(lambda _old, new: new & ~(1 << bit)))
    with pytest.raises(AssertionError, match="the first read gave"):
        check_registers(lambda: Word(lambda old, new: new | old & 1 << bit))


@pytest.mark.parametrize("pattern", [ONES, 0x5555_5555, 0xAAAA_AAAA, *(1 << bit for bit in range(32))])
def test_a_pattern_that_is_mistaken_is_found(pattern: int) -> None:
    with pytest.raises(AssertionError, match="the first read gave"):
        check_registers(lambda: Word(lambda old, new: 0 if (old, new) == (0, pattern) else new))


def test_zeros_over_ones_that_are_mistaken_are_found() -> None:
    with pytest.raises(
        AssertionError, match=r"Word\.word: 0x0 written to 4 bytes at 0x0: the first read gave"
    ):
        check_registers(lambda: Word(lambda old, new: 1 if (old, new) == (ONES, 0) else new))


@pytest.mark.parametrize("bit", [0, 31])
@pytest.mark.parametrize("turn", ["first", "second"])
def test_a_read_that_is_wrong_is_found(turn: str, bit: int) -> None:
    with pytest.raises(AssertionError, match=f"the {turn} read gave"):
        check_registers(lambda: Reader(bit, right=0 if turn == "first" else 1))


def test_what_cannot_be_read_is_looked_at_in_the_device() -> None:
    with pytest.raises(AssertionError, match="the device holds 0x80000000, not 0x0"):
        check_registers(Hidden)


@pytest.mark.parametrize("bit", [0, 7, 31])
@pytest.mark.parametrize("domain", ["power-on", "warm"])
def test_a_bit_that_a_reset_leaves_is_found(domain: str, bit: int) -> None:
    with pytest.raises(AssertionError, match=f"after reset {domain} the device holds"):
        check_registers(lambda: Kept(bit, domain))
