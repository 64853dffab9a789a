"""Data of 256 words, as IDENTIFY DEVICE gives it: little-endian words, strings with their bytes swapped, a checksum."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache

WORDS = 256
SIGNATURE = 0xA5
"""Low byte of the last word: the checksum is there (ACS-3 §7.12.7, word 255)."""


class Words:
    """The words, all 0 at first."""

    __slots__ = ("_words",)

    def __init__(self) -> None:
        self._words = [0] * WORDS

    def __getitem__(self, word: int) -> int:
        return self._words[word]

    def __setitem__(self, word: int, value: int) -> None:
        self._words[word] = value & 0xFFFF

    def set_bit(self, word: int, bit: int) -> None:
        """Set one bit."""
        self._words[word] |= 1 << bit

    def number(self, word: int, count: int, value: int) -> None:
        """A number of `count` words, the least significant one first."""
        for at in range(count):
            self[word + at] = value >> 16 * at

    def text(self, word: int, count: int, text: str) -> None:
        """A string of `count` words, padded with spaces; the first one of two characters is in the high byte."""
        self._words[word : word + count] = _text(text, count)

    def plain(self) -> bytes:
        """All of them, without a checksum."""
        return struct.pack(f"<{WORDS}H", *self._words)

    def pack(self) -> bytes:
        """All of them, with the checksum: the sum of all bytes is 0."""
        self[WORDS - 1] = SIGNATURE
        return _pack(tuple(self._words))


@lru_cache
def _text(text: str, count: int) -> tuple[int, ...]:
    return struct.unpack_from(f">{count}H", text.encode("ascii").ljust(2 * count))


@lru_cache
def _pack(words: tuple[int, ...]) -> bytes:
    """A device that is asked again says the same, mostly."""
    return checksummed(struct.pack(f"<{WORDS}H", *words))


def checksummed(page: bytes) -> bytes:
    """A page of 512 bytes, the last of which makes their sum 0."""
    body = page[: 2 * WORDS - 1].ljust(2 * WORDS - 1, b"\0")
    return body + bytes((-sum(body) & 0xFF,))


def altered(data: bytes, words: Mapping[int, int]) -> bytes:
    """The same data with other words."""
    made = bytearray(data)
    for word, value in words.items():
        struct.pack_into("<H", made, 2 * word, value & 0xFFFF)
    return bytes(made)


def reset_result(unit: int) -> int:
    """Word 93 of a device on a cable with 80 wires: a jumper says which one it is, and it has passed its tests."""
    return 0x6000 | (0x0B00 if unit else 0x000B)
