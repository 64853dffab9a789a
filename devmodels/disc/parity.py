"""Error detection and correction codes of CD-ROM sectors (ECMA-130 §14.3, §14.5, Annex A).

EDC is a CRC of 32 bits.  ECC is two Reed-Solomon codes over GF(256) with x^8 + x^4 + x^3 + x^2 + 1: P in columns of
24 + 2 bytes, Q in diagonals of 43 + 2.  All columns are calculated together, as one long number: multiplying each byte
by the field's generator is a `translate`, adding is an exclusive or.
"""

from __future__ import annotations

from operator import itemgetter

_CRC = 0xD801_8001
"""(x^16 + x^15 + x^2 + 1) (x^16 + x^2 + x + 1), bits in reverse order."""
_FIELD = 0x11D

_P_COLUMNS, _P_ROWS = 86, 24
_Q_DIAGONALS, _Q_ROWS = 52, 43
_COVERED_BY_P = _P_COLUMNS * _P_ROWS
_COVERED_BY_Q = _Q_DIAGONALS * _Q_ROWS


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_CRC if value & 1 else 0)
        table.append(value)
    return tuple(table)


def _times(value: int, factor: int) -> int:
    """A product in GF(256)."""
    out = 0
    while factor:
        if factor & 1:
            out ^= value
        value = value << 1 ^ (_FIELD if value & 0x80 else 0)
        factor >>= 1
    return out


_TABLE = _crc_table()
_DOUBLE = bytes(_times(value, 2) for value in range(256))
_INVERSE_OF_3 = next(value for value in range(256) if _times(value, 3) == 1)
_BY_INVERSE_OF_3 = bytes(_times(value, _INVERSE_OF_3) for value in range(256))

_diagonals = itemgetter(
    *(
        ((diagonal >> 1) * _P_COLUMNS + (diagonal & 1) + row * (_P_COLUMNS + 2)) % _COVERED_BY_Q
        for row in range(_Q_ROWS)
        for diagonal in range(_Q_DIAGONALS)
    )
)
"""The bytes that Q covers, row by row of its diagonals."""


def edc(data: bytes) -> bytes:
    """The four bytes of EDC of `data`."""
    value = 0
    table = _TABLE
    for byte in data:
        value = value >> 8 ^ table[(value ^ byte) & 0xFF]
    return value.to_bytes(4, "little")


def _code(data: bytes, columns: int, rows: int) -> bytes:
    """Two rows of parity for `rows` rows of `columns` bytes: of each column, the sum is 0, and so is the sum of each
    byte times the generator to the power of its place from the end."""
    weighted = plain = 0
    for row in range(rows):
        part = int.from_bytes(data[row * columns : (row + 1) * columns], "big")
        plain ^= part
        weighted = int.from_bytes((weighted ^ part).to_bytes(columns, "big").translate(_DOUBLE), "big")
    # With a, b for the two parity bytes: a + b = plain, 2a + b = 2 * weighted.
    doubled = int.from_bytes(weighted.to_bytes(columns, "big").translate(_DOUBLE), "big")
    first = (doubled ^ plain).to_bytes(columns, "big").translate(_BY_INVERSE_OF_3)
    second = (int.from_bytes(first, "big") ^ plain).to_bytes(columns, "big")
    return first + second


def parity(covered: bytes) -> bytes:
    """The 276 bytes of ECC of the 2064 bytes from header to EDC (and zeroes)."""
    p = _code(covered, _P_COLUMNS, _P_ROWS)
    q = _code(bytes(_diagonals(covered + p)), _Q_DIAGONALS, _Q_ROWS)
    return p + q
