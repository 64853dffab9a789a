"""Logical unit numbers: the eight bytes of SAM-5 §4.7 as a number, and back.

A number below 16384 is what virtio, iSCSI and operating systems mean by "LUN 5", by whichever addressing method it
comes; `WELL_KNOWN` and above are well known logical units.  Units behind other units (buses, second levels) do not
exist here.
"""

from __future__ import annotations

LUN_BYTES = 8
PERIPHERAL_LIMIT = 1 << 8
FLAT_LIMIT = 1 << 14
EXTENDED_LIMIT = 1 << 24
WELL_KNOWN = 1 << 48
REPORT_LUNS = WELL_KNOWN | 0x01
"""The REPORT LUNS well known logical unit, SPC-4 §8.2."""

_PERIPHERAL, _FLAT, _EXTENDED = 0b00, 0b01, 0b11


def parse_lun(data: bytes) -> int | None:
    """The number in the eight bytes of a single-level LUN; None where they name no unit that could be here."""
    first, second = data[0], data[1]
    method, rest = first >> 6, first & 0x3F
    if method == _PERIPHERAL:
        number, used = (None if rest else second), 2
    elif method == _FLAT:
        number, used = rest << 8 | second, 2
    elif method == _EXTENDED:
        number, used = _parse_extended(data, rest)
    else:
        return None
    return None if any(data[used:LUN_BYTES]) else number


def _parse_extended(data: bytes, kind: int) -> tuple[int | None, int]:
    """Extended logical unit addressing (SAM-5 §4.7.7.5): the number, and how many bytes it takes."""
    if kind == 0x01:
        return WELL_KNOWN | data[1], 2
    if kind == 0x12:
        return int.from_bytes(data[1:4], "big"), 4
    if kind == 0x22:
        return int.from_bytes(data[1:6], "big"), 6
    return None, LUN_BYTES


def format_lun(lun: int) -> bytes:
    """The eight bytes by which REPORT LUNS names `lun`: the shortest addressing method (SAM-5 §4.7.4)."""
    if lun >= WELL_KNOWN:
        return bytes((0xC1, lun & 0xFF)).ljust(LUN_BYTES, b"\0")
    if lun < PERIPHERAL_LIMIT:
        return bytes((0, lun)).ljust(LUN_BYTES, b"\0")
    if lun < FLAT_LIMIT:
        return (_FLAT << 14 | lun).to_bytes(2, "big").ljust(LUN_BYTES, b"\0")
    if lun < EXTENDED_LIMIT:
        return (b"\xd2" + lun.to_bytes(3, "big")).ljust(LUN_BYTES, b"\0")
    raise ValueError(f"LUN {lun}, expected at most {EXTENDED_LIMIT - 1}")
