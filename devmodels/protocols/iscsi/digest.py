"""CRC32C over headers and data, RFC 7143 §13.1: four bytes, the lowest first."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from crc32c import crc32c

_pack = Struct("<I").pack

ZEROES = (b"", b"\0\0\0", b"\0\0", b"\0")
"""Padding of data, by its length modulo four."""


def digest(data: bytes | bytearray | memoryview) -> bytes:
    """The digest of `data`, padding included."""
    return _pack(crc32c(data))


def digest_of(parts: Iterable[bytes | bytearray | memoryview]) -> bytes:
    """The digest of what `parts` are together."""
    value = 0
    for part in parts:
        value = crc32c(part, value)
    return _pack(value)
