"""Register files under every bit, and under accesses drawn at random."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.registers import (
    HWINIT,
    RC,
    RO,
    RW,
    RW1C,
    RW1S,
    SC,
    WO,
    Blocks,
    Register,
    RegisterFile,
)
from devmodels.registers.check import check_registers


class Part(RegisterFile, size=6, widths=(1, 2, 4)):
    word = Register(0, 4, RW, reset=0xCAFE)
    flags = Register(4, 2, RW1C, reset=0xFFFF)


class Mixed(RegisterFile, size=0x40, widths=(1, 2, 4, 8), resets=("warm",)):
    control = Register(0x00, 4)
    enable = control.bits(3, 0, RW, reset={"power-on": 5, "warm": 9})
    clear = control.bits(9, 6, RW1C, reset=0xF)
    issue = control.bits(14, 11, RW1S)
    act = control.bits(17, 16, SC)
    hidden = control.bits(20, 19, WO, reset=1)
    model = control.bits(31, 28, HWINIT, reset=0xA)
    both_read = Register(0x04, 2, RO, reset=0x1234)
    both_write = Register(0x04, 2, WO)
    byte = Register(0x07, 1, RW)
    long = Register(0x08, 8, RW, reset=0x0123_4567_89AB_CDEF)
    part = Blocks(Part, 0x10, count=4, stride=8)


class Latched(RegisterFile, size=4, widths=(1, 2, 4)):
    events = Register(0, 4, RC, reset=0x8181_8181)


@pytest.mark.long
@pytest.mark.parametrize("registers", [Part, Mixed, Latched])
def test_every_bit_at_every_width(registers: type[RegisterFile]) -> None:
    assert check_registers(registers) > 100


def test_hardwired_bits_too() -> None:
    def make() -> Part:
        part = Part()
        part.hardwire(Part.word, 0x11, writable=0xFFFF_0000)
        return part

    check_registers(make)


def test_the_check_finds_a_bit_that_does_not_do_as_declared() -> None:
    class Sticky(RegisterFile, size=4, widths=(1, 2, 4)):
        word = Register(0, 4, RW)

        @word.on_write
        def _keeps_bit_9(self, old: int, _new: int) -> None:
            self.word |= old & 0x200

    with pytest.raises(AssertionError, match=r"Sticky\.word: 0x0 written to 1 bytes at 0x1"):
        check_registers(Sticky)


class Leaky(RegisterFile, size=8):
    one = Register(0, 4, RW)
    two = Register(4, 4, RW)

    @one.on_write
    def _spills(self, _old: int, new: int) -> None:
        self.two = new


def test_the_check_finds_a_write_that_reaches_another_register() -> None:
    with pytest.raises(AssertionError, match="another register has changed"):
        check_registers(Leaky)
    check_registers(Leaky, behaving=[Leaky.one])


# --- random accesses

values = st.integers(0, (1 << 64) - 1)
anywhere = st.tuples(st.integers(-9, 0x50), st.sampled_from((1, 2, 4, 8)), values)
inside = st.tuples(st.integers(0, 0x3F), st.sampled_from((1, 2, 3, 4, 5, 8)), values)


@given(st.lists(anywhere), st.booleans())
def test_no_access_raises_and_no_read_is_wider_than_asked(
    accesses: list[tuple[int, int, int]], lenient: bool
) -> None:
    mixed = Mixed()
    mixed.lenient = lenient
    for offset, size, value in accesses:
        mixed.write(offset, size, value)
        assert 0 <= mixed.read(offset, size) < 1 << 8 * size


@given(st.lists(inside))
def test_a_lenient_access_is_the_same_as_its_bytes(accesses: list[tuple[int, int, int]]) -> None:
    whole, bytewise = Mixed(), Mixed()
    whole.lenient = bytewise.lenient = True
    for offset, size, value in accesses:
        whole.write(offset, size, value)
        for at in range(size):
            bytewise.write(offset + at, 1, value >> 8 * at & 0xFF)
        parts = [bytewise.read(offset + at, 1) << 8 * at for at in range(size)]
        assert whole.read(offset, size) == sum(parts)
    assert whole.save() == bytewise.save()


@given(st.lists(anywhere))
def test_bits_that_a_guest_cannot_write_never_change(accesses: list[tuple[int, int, int]]) -> None:
    mixed = Mixed()
    for offset, size, value in accesses:
        mixed.write(offset, size, value)
    assert mixed.model == 0xA
    assert mixed.both_read == 0x1234
    assert mixed.read(0x00, 4) & ~0xF000_7BCF == 0


@given(st.lists(anywhere), st.lists(anywhere))
def test_a_restored_file_goes_on_like_the_one_saved(
    before: list[tuple[int, int, int]], after: list[tuple[int, int, int]]
) -> None:
    first, second = Mixed(), Mixed()
    for offset, size, value in before:
        first.write(offset, size, value)
    second.restore(first.save())
    for offset, size, value in after:
        first.write(offset, size, value)
        second.write(offset, size, value)
        assert first.read(offset, size) == second.read(offset, size)
    assert first.save() == second.save()
