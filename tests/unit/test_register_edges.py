"""The borders of register files: what can be declared, what a device may store, where an access is legal."""

from __future__ import annotations

import pytest

from devmodels.registers import RO, RW, WO, Bank, Blocks, IllegalAccess, Port, Register, RegisterFile


class Pair(RegisterFile, size=8, widths=(1, 2, 4, 8)):
    low = Register(0, 4, RW)
    top = low.bits(31, 31, RW)
    middle = low.bits(15, 8, RW)
    high = Register(4, 2, RW)


class Element(RegisterFile, size=2, widths=(1, 2)):
    value = Register(0, 2, RW)


class Arrays(RegisterFile, size=0x20, widths=(1, 2, 4), fill=0xFF, closed=True):
    select = Register(0, 1, RW)
    told = Register(1, 1, RO, reset=0x5A)
    order = Register(2, 1, WO)
    bank = Bank(Element, 4, select=select, count=3)
    blocks = Blocks(Element, 8, count=3, stride=4)
    port = Port(0x18, widths=(2,))

    def __init__(self) -> None:
        super().__init__()
        self.illegal: list[IllegalAccess] = []
        self.on_illegal = self.illegal.append
        self.sent: list[tuple[int, int]] = []

    @port.on_read
    def _receive(self, size: int) -> int:
        return 0x1_2345_6789 >> size

    @port.on_write
    def _send(self, size: int, value: int) -> None:
        self.sent.append((size, value))


@pytest.mark.parametrize(
    ("offset", "width"), [(0, 0), (0, 3), (0, 5), (0, 16), (-4, 4), (-1, 1), (1, 2), (2, 4), (2, 8), (6, 8)]
)
def test_a_register_that_cannot_lie_there_is_refused(offset: int, width: int) -> None:
    with pytest.raises(TypeError, match=f"a register of {width} bytes cannot lie at offset"):
        Register(offset, width, RW)


@pytest.mark.parametrize(("offset", "width"), [(0, 1), (3, 1), (2, 2), (4, 4), (4, 8)])
def test_a_register_may_lie_where_its_words_are_aligned(offset: int, width: int) -> None:
    register = Register(offset, width, RW)
    assert (register.offset, register.end) == (offset, offset + width)


@pytest.mark.parametrize(("high", "low"), [(8, 8), (8, 0), (3, 4), (0, -1), (-1, -1)])
def test_a_field_outside_its_register_is_refused(high: int, low: int) -> None:
    with pytest.raises(TypeError, match=f"no bits {high}:{low}"):
        Register(0, 1).bits(high, low, RW)


@pytest.mark.parametrize(("high", "low"), [(4, 4), (7, 4), (4, 0), (5, 5), (7, 0), (6, 6)])
def test_a_field_over_another_is_refused(high: int, low: int) -> None:
    register = Register(0, 1)
    register.bits(6, 4, RW)
    with pytest.raises(TypeError, match="overlap"):
        register.bits(high, low, RW)


@pytest.mark.parametrize("offset", [4, 5, 7, 11])
def test_a_register_inside_an_array_is_refused(offset: int) -> None:
    class Element(RegisterFile, size=4, widths=(1,)):
        byte = Register(3, 1, RW)

    with pytest.raises(TypeError, match="byte lies inside an array"):

        class Outer(RegisterFile, size=16, widths=(1,)):
            byte = Register(offset, 1, RW)
            each = Blocks(Element, 4, count=2)


@pytest.mark.parametrize("offset", [3, 12])
def test_a_register_may_lie_beside_an_array(offset: int) -> None:
    class Element(RegisterFile, size=4, widths=(1,)):
        byte = Register(3, 1, RW)

    class Outer(RegisterFile, size=16, widths=(1,)):
        byte = Register(offset, 1, RW, reset=0x5A)
        each = Blocks(Element, 4, count=2)

    assert Outer().read(offset, 1) == 0x5A


def test_fields_may_fill_a_register() -> None:
    register = Register(0, 1)
    assert [register.bits(*each, RW).mask for each in ((7, 7), (6, 4), (3, 0))] == [1, 7, 15]


def test_what_a_device_stores_is_cut_to_the_width() -> None:
    pair = Pair()
    pair.low = 0x1_FFFF_FFFF
    pair.high = -1
    assert (pair.low, pair.high) == (0xFFFF_FFFF, 0xFFFF)
    assert (pair.value_of(Pair.low), pair.value_of(Pair.high)) == (0xFFFF_FFFF, 0xFFFF)
    pair.low = 0
    pair.middle = 0x1FF
    pair.top = 3
    assert (pair.low, pair.middle, pair.top) == (0x8000_FF00, 0xFF, 1)
    pair.middle = 0x100
    assert (pair.low, pair.middle, pair.top) == (0x8000_0000, 0, 1)


def test_one_access_over_two_registers_and_what_is_behind_them() -> None:
    pair = Pair()
    pair.write(0, 8, 0x1122_3344_5566_7788)
    assert (pair.low, pair.high) == (0x5566_7788, 0x3344)
    assert pair.read(0, 8) == 0x3344_5566_7788
    assert [pair.read(at, 1) for at in range(8)] == [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0, 0]
    assert [pair.read(at, 2) for at in range(0, 8, 2)] == [0x7788, 0x5566, 0x3344, 0]
    pair.write(2, 2, 0xABCD_EF01)
    pair.write(5, 1, 0x1FE)
    assert (pair.low, pair.high) == (0xEF01_7788, 0xFE44)


def test_the_selected_element_answers() -> None:
    arrays = Arrays()
    for index in range(3):
        arrays.write(0, 1, index)
        arrays.write(4, 2, 0x1110 + index)
    for index in range(3):
        arrays.write(0, 1, index)
        assert arrays.read(4, 2) == 0x1110 + index
        assert (arrays.read(4, 1), arrays.read(5, 1)) == (0x10 + index, 0x11)
    for index in (3, 255):
        arrays.write(0, 1, index)
        arrays.write(4, 2, 0xFFFF)
        assert arrays.read(4, 2) == 0
    assert not arrays.illegal


def test_elements_lie_a_stride_apart_and_between_them_is_nothing() -> None:
    arrays = Arrays()
    for index in range(3):
        arrays.write(8 + 4 * index, 2, 0x2220 + index)
    assert [arrays.read(8 + 4 * index, 2) for index in range(3)] == [0x2220, 0x2221, 0x2222]
    assert [arrays.blocks[index].value for index in range(3)] == [0x2220, 0x2221, 0x2222]
    assert not arrays.illegal
    for offset in (10, 11, 14, 0x14):
        assert arrays.read(offset, 1) == 0xFF
    assert [each.reason for each in arrays.illegal] == [
        f"there is no register at {offset:#x}" for offset in (10, 11, 14, 0x14)
    ]


def test_an_access_over_an_elements_end_is_refused() -> None:
    arrays = Arrays()
    assert arrays.read(8, 4) == 0xFFFF_FFFF
    arrays.write(8, 4, 0x1234_5678)
    assert arrays.blocks[0].value == 0
    assert [each.reason for each in arrays.illegal] == ["reaches over an array's element"] * 2


@pytest.mark.parametrize(
    ("offset", "size", "reason"),
    [
        (0, 3, "no such access size"),
        (0, 0, "no such access size"),
        (0, 16, "no such access size"),
        (-1, 1, "outside the registers"),
        (-4, 4, "outside the registers"),
        (0x20, 1, "outside the registers"),
        (0x1E, 4, "outside the registers"),
        (0x1D, 2, "not aligned"),
        (1, 2, "not aligned"),
    ],
)
def test_an_access_that_is_none_reads_the_fill_and_is_told(offset: int, size: int, reason: str) -> None:
    arrays = Arrays()
    assert arrays.read(offset, size) == (1 << 8 * size) - 1
    arrays.write(offset, size, 0)
    assert [(each.offset, each.size, each.value, each.reason) for each in arrays.illegal] == [
        (offset, size, None, reason),
        (offset, size, 0, reason),
    ]
    assert not any(each.wrong_way for each in arrays.illegal)


def test_what_is_for_one_direction_is_told_of_the_other() -> None:
    arrays = Arrays()
    arrays.write(1, 1, 0)
    assert arrays.read(2, 1) == 0xFF
    assert [(each.reason, each.wrong_way) for each in arrays.illegal] == [
        ("told is read only", True),
        ("order is write only", True),
    ]
    assert arrays.read(1, 1) == 0x5A


def test_a_port_takes_its_own_width_and_keeps_to_it() -> None:
    arrays = Arrays()
    assert arrays.read(0x18, 2) == 0x1_2345_6789 >> 2 & 0xFFFF
    arrays.write(0x18, 2, 0x12_3456)
    assert arrays.sent == [(2, 0x3456)]
    assert arrays.read(0x18, 1) == 0xFF
    assert [each.reason for each in arrays.illegal] == ["there is no register at 0x18"]


def test_a_lenient_file_takes_up_to_8_bytes_anywhere() -> None:
    pair = Pair()
    pair.lenient = True
    told: list[IllegalAccess] = []
    pair.on_illegal = told.append
    pair.write(1, 5, 0x55_4433_2211)
    assert (pair.low, pair.high) == (0x3322_1100, 0x5544)
    assert pair.read(3, 3) == 0x55_4433
    assert pair.read(4, 8) == 0x5544
    assert not told
    for offset, size in ((0, 9), (0, 0), (-1, 1)):
        assert pair.read(offset, size) == 0
    assert [each.size for each in told] == [9, 0, 1]


def test_what_is_strapped_stays() -> None:
    pair = Pair()
    pair.hardwire(Pair.low, 0x1234_5678, writable=0xFF)
    assert pair.hardwired(Pair.low) == 0xFFFF_FF00
    assert pair.hardwired(Pair.high) == 0
    assert pair.low == 0x1234_5600
    pair.write(0, 4, 0xFFFF_FFFF)
    assert pair.low == 0x1234_56FF
    pair.reset()
    assert pair.low == 0x1234_5600
    pair.hardwire(Pair.high, 0x1_5554)
    pair.write(4, 2, 0xFFFF)
    assert (pair.high, pair.hardwired(Pair.high)) == (0x5554, 0xFFFF)
    with pytest.raises(ValueError, match="no reset domain 'warm'"):
        pair.reset("warm")


def test_what_was_saved_is_all_that_differs() -> None:
    arrays = Arrays()
    assert arrays.save() == {}
    arrays.write(0, 1, 2)
    arrays.write(4, 2, 7)
    arrays.write(12, 2, 9)
    state = arrays.save()
    assert state == {"select": 2, "bank[2].value": 7, "blocks[1].value": 9}
    other = Arrays()
    other.write(8, 2, 0xDEAD)
    other.judge(state)
    other.restore(state)
    assert other.save() == state
    assert (other.read(8, 2), other.read(12, 2)) == (0, 9)


@pytest.mark.parametrize(
    "state",
    [
        {"nothing": 1},
        {"select": 256},
        {"select": 257},
        {"select": -1},
        {"blocks[3].value": 1},
        {"blocks[0].other": 1},
    ],
)
def test_a_state_that_is_none_of_this_file_is_refused(state: dict[str, int]) -> None:
    arrays = Arrays()
    for take in (arrays.judge, arrays.restore):
        with pytest.raises(ValueError, match=r"\w"):
            take(state)
    assert arrays.save() == {}


@pytest.mark.parametrize("size", [1, 2, 4])
def test_bits_of_a_write_beyond_its_size_are_lost(size: int) -> None:
    pair = Pair()
    pair.write(0, size, 0xFFFF_FFFF_FFFF_FFFF)
    assert pair.read(0, 4) == (1 << 8 * size) - 1
    assert pair.save() == {"low": (1 << 8 * size) - 1}
