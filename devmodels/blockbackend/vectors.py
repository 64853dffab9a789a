"""Lists of memoryviews as one payload: what is left of it, copies, zeroes."""

from __future__ import annotations

from collections.abc import Sequence

ZEROES = bytes(1 << 16)


def window(vectors: Sequence[memoryview], start: int, length: int) -> list[memoryview]:
    """The `length` bytes of a payload from `start` on."""
    out = []
    for vector in vectors:
        size = len(vector)
        if start >= size:
            start -= size
            continue
        part = vector[start : start + length] if start or length < size else vector
        start = 0
        length -= len(part)
        out.append(part)
        if not length:
            break
    return out


def gather(vectors: Sequence[memoryview]) -> bytes:
    """The payload as one copy."""
    return b"".join(vectors)


def scatter(vectors: Sequence[memoryview], data: bytes | bytearray | memoryview) -> None:
    """Fill the payload with `data`, which is as long."""
    source = memoryview(data)
    at = 0
    for vector in vectors:
        size = len(vector)
        vector[:] = source[at : at + size]
        at += size


def clear(vectors: Sequence[memoryview]) -> None:
    """Fill the payload with zeroes."""
    for vector in vectors:
        for at in range(0, len(vector), len(ZEROES)):
            part = vector[at : at + len(ZEROES)]
            part[:] = ZEROES[: len(part)]


def is_zero(vectors: Sequence[memoryview]) -> bool:
    """Whether the payload is nothing but zero bytes."""
    for vector in vectors:
        if len(vector) and (vector[0] or vector[-1]):
            return False
    for vector in vectors:
        for at in range(0, len(vector), len(ZEROES)):
            # A copy and one memcmp: comparing memoryviews goes item by item.
            part = bytes(vector[at : at + len(ZEROES)])
            if part != ZEROES[: len(part)]:
                return False
    return True
