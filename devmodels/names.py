"""What is made of a name where a user has given no number."""

from __future__ import annotations


def number_of(name: str) -> int:
    """32 bits for a serial number, or a part of a world wide name: the same for a name each time."""
    from binascii import crc32  # a shared library of its own, and not wanted by each start

    return crc32(name.encode())
