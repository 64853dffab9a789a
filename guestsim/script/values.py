"""The small values of scripts: sizes, durations, patterns of data. Each says what it expects when it is wrong."""

from __future__ import annotations

import random
import re
import sys
from array import array
from functools import lru_cache

import msgspec

_SIZE = re.compile(r"(\d+)([kMGT]?)")
_UNITS = {"": 1, "k": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
MAX_SIZE = (1 << 63) - 1
_LONGEST = 200
MAX_AMOUNT = 1 << 30
_ADDRESS = re.compile(r"\s*([^+\s][^+]*?)\s*(?:\+\s*(0x[0-9a-fA-F]+|\d+)\s*)?")
_SHOWN = 32
"""How many bytes of a pattern are told."""
_DURATION = re.compile(r"(\d+) ?(ns|us|ms|s)")
_NANOSECONDS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}


class Size(int):
    """A number of bytes: an integer, or with a unit as QEMU's tools take it (512, 4k, 1M, 2G)."""

    __slots__ = ()


class Amount(Size):
    """A number of bytes that are held in memory: at most `MAX_AMOUNT`."""

    __slots__ = ()


class Duration(int):
    """A time in nanoseconds, always written with its unit (10ms)."""

    __slots__ = ()


class HexBytes(bytes):
    """Bytes written as hexadecimal digits, spaces allowed."""

    __slots__ = ()


def parse_size(value: object) -> Size:
    """A size from what a script says; ValueError with what was expected."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) and len(value) < _LONGEST else None
    if type(value) is int and value >= 0:
        size = value
    elif match is not None:
        size = int(match[1]) * _UNITS[match[2]]
    else:
        raise ValueError(f"{value!r}, expected a number of bytes such as 4096, 4k or 1M")
    if size > MAX_SIZE:
        raise ValueError(f"{value!r}, expected a number of bytes below 2**63")
    return Size(size)


def parse_amount(value: object) -> Amount:
    """As `parse_size`, for what is held in memory."""
    size = parse_size(value)
    if size > MAX_AMOUNT:
        raise ValueError(f"{value!r}, expected a number of bytes up to 1G")
    return Amount(size)


def parse_address(place: str | int) -> tuple[str, int]:
    """The name ("" where it is a number) and the number in `place`; ValueError with what was expected."""
    if isinstance(place, int):
        if not 0 <= place < 1 << 64:
            raise ValueError(f"at {place}, expected 64 bits")
        return "", place
    match = _ADDRESS.fullmatch(place) if len(place) < _LONGEST else None
    if match is None:
        raise ValueError(f"at {place!r}, expected an address, a name, or name+number")
    number = match[2] or "0"
    return match[1], int(number, 16 if number.startswith("0x") else 10)


def parse_duration(value: object) -> Duration:
    """A duration from what a script says; ValueError with what was expected."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) and len(value) < _LONGEST else None
    if match is None:
        raise ValueError(f"{value!r}, expected a time such as 500us, 10ms or 1s")
    return Duration(int(match[1]) * _NANOSECONDS[match[2]])


def parse_hex(value: object) -> HexBytes:
    """Bytes from hexadecimal digits; ValueError with what was expected."""
    try:
        if isinstance(value, str):
            return HexBytes(bytes.fromhex(value))
    except ValueError:
        pass
    raise ValueError(f"{value!r}, expected hexadecimal digits in pairs such as '00 ff'")


def decode_hook(kind: type, value: object) -> object:
    """How msgspec makes the types of this module."""
    if kind is Size:
        return parse_size(value)
    if kind is Amount:
        return parse_amount(value)
    if kind is Duration:
        return parse_duration(value)
    if kind is HexBytes:
        return parse_hex(value)
    if kind is object:
        return value
    raise NotImplementedError(kind)


class Pattern(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Data that a script names instead of spelling it out; exactly one of the fields is given.

    `pattern`: one byte, repeated (as qemu-io's -P).  `counting`: 32-bit little-endian numbers from this one on, so
    that data in a wrong place is seen.  `random`: bytes from a generator with this seed.  `hex`: these bytes, repeated.
    """

    pattern: int | None = None
    counting: int | None = None
    random: int | None = None
    hex: HexBytes | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("pattern", "counting", "random", "hex") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"{' and '.join(given) or 'no data'}, expected one of pattern, counting, random, hex"
            )
        if self.pattern is not None and not 0 <= self.pattern <= 0xFF:
            raise ValueError(f"pattern {self.pattern:#x}, expected 0 to 0xff")
        if self.hex is not None and not self.hex:
            raise ValueError("hex '', expected at least one byte")

    def data(self, length: int) -> bytes:
        """`length` bytes of it."""
        if self.pattern is not None:
            return bytes([self.pattern]) * length
        if self.counting is not None:
            count = _counting if length <= _KEPT else _numbers
            return count(self.counting & 0xFFFF_FFFF, length)
        if self.random is not None:
            return random.Random(self.random).randbytes(length)
        assert self.hex is not None
        return (bytes(self.hex) * (length // len(self.hex) + 1))[:length]

    def __str__(self) -> str:
        if self.pattern is not None:
            return f"pattern {self.pattern:#04x}"
        if self.counting is not None:
            return f"counting from {self.counting}"
        if self.random is not None:
            return f"random data of seed {self.random}"
        assert self.hex is not None
        more = f" … {len(self.hex)} bytes" if len(self.hex) > _SHOWN else ""
        return f"bytes {self.hex[:_SHOWN].hex(' ')}{more}"


def _numbers(first: int, length: int) -> bytes:
    """Numbers of 32 bits from `first` on, in `length` bytes."""
    numbers = array("I", range(first, min(first + -(-length // 4), 1 << 32)))
    if sys.byteorder == "big":
        numbers.byteswap()
    data = numbers.tobytes()
    return data[:length] if len(data) >= length else data + _numbers(0, length - len(data))


_counting = lru_cache(maxsize=8)(_numbers)
_KEPT = 1 << 20
"""Scripts of one file begin with the same content of a drive: up to so many bytes are kept."""


def difference(found: bytes, expected: bytes) -> str | None:
    """Where two runs of bytes first differ, for a person; None where they are equal."""
    if found == expected:
        return None
    if len(found) != len(expected):
        return f"{len(found)} bytes, expected {len(expected)}"
    at = next(index for index, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1])
    here, there = found[at : at + 8].hex(" "), expected[at : at + 8].hex(" ")
    return f"at byte {at}: {here}, expected {there}"
