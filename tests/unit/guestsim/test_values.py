"""Sizes, durations and patterns of scripts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestsim.script.values import HexBytes, Pattern, difference, parse_duration, parse_hex, parse_size


@pytest.mark.parametrize(
    ("text", "size"), [(0, 0), (4096, 4096), ("512", 512), ("4k", 4096), ("1M", 1 << 20), ("2G", 2 << 30)]
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("wrong", [-1, 1.5, "", "4q", "k", "4 k", "0x10", True, None, []])
def test_wrong_sizes(wrong: object) -> None:
    with pytest.raises(ValueError, match="expected a number of bytes"):
        parse_size(wrong)


@pytest.mark.parametrize(
    ("text", "ns"), [("5ns", 5), ("3us", 3000), ("10ms", 10_000_000), ("1s", 1_000_000_000)]
)
def test_durations(text: str, ns: int) -> None:
    assert parse_duration(text) == ns


@pytest.mark.parametrize("wrong", [5, "5", "ms", "1h", None])
def test_wrong_durations(wrong: object) -> None:
    with pytest.raises(ValueError, match="expected a time"):
        parse_duration(wrong)


def test_hex() -> None:
    assert parse_hex("00 ff 1A") == b"\x00\xff\x1a"
    for wrong in ("0", "zz", 5):
        with pytest.raises(ValueError, match="expected hexadecimal digits"):
            parse_hex(wrong)


def test_patterns() -> None:
    assert Pattern(pattern=0xA5).data(3) == b"\xa5\xa5\xa5"
    assert Pattern(counting=0xFFFFFFFF).data(9) == b"\xff\xff\xff\xff\x00\x00\x00\x00\x01"
    assert Pattern(hex=HexBytes(b"\x01\x02\x03")).data(7) == b"\x01\x02\x03\x01\x02\x03\x01"
    assert Pattern(random=3).data(100) == Pattern(random=3).data(100)
    assert Pattern(random=3).data(100) != Pattern(random=4).data(100)


@given(length=st.integers(0, 2000), seed=st.integers(0, 5))
def test_a_pattern_is_as_long_as_asked(length: int, seed: int) -> None:
    for one in (
        Pattern(pattern=1),
        Pattern(counting=seed),
        Pattern(random=seed),
        Pattern(hex=HexBytes(b"abc")),
    ):
        assert len(one.data(length)) == length


def test_a_pattern_is_one_thing() -> None:
    with pytest.raises(ValueError, match="no data, expected one of"):
        Pattern()
    with pytest.raises(ValueError, match="pattern and random"):
        Pattern(pattern=1, random=2)
    with pytest.raises(ValueError, match="expected 0 to 0xff"):
        Pattern(pattern=256)


def test_the_difference_names_the_place() -> None:
    assert difference(b"abc", b"abc") is None
    assert difference(b"abc", b"abd") == "at byte 2: 63, expected 64"
    assert difference(b"ab", b"abc") == "2 bytes, expected 3"
