"""How long a CDB is, how much data a command has, and which way it goes, as QEMU reads it from the CDB alone."""

from __future__ import annotations

from collections.abc import Callable

SIZES = {0: 6, 1: 10, 2: 10, 4: 16, 5: 12}
"""Of CDBs, by the group of their operation code."""
LONGEST = 16
SMALLEST_BLOCK, LARGEST_BLOCK = 0x200, 0xFE00
"""Blocks have a multiple of the one, as far as the other, in bytes."""

_NOTHING = frozenset(
    (
        *(0x00, 0x01, 0x0B, 0x10, 0x11, 0x16, 0x17, 0x19, 0x1B, 0x1E),
        *(0x2B, 0x33, 0x34, 0x35, 0x36, 0x3D, 0x3F, 0x53),
        *(0x80, 0x82, 0x90, 0x91, 0x92, 0xA7, 0xBB),
    )
)
"""Operation codes that have no data."""
READS = frozenset((0x08, 0x28, 0xA8, 0x88))
VERIFYING = frozenset((0x2E, 0xAE, 0x8E))
"""WRITE AND VERIFY."""
WRITES = frozenset((0x0A, 0x2A, 0xAA, 0x8A)) | VERIFYING
_BLOCKS = READS | WRITES | {0x0F}
VERIFIES = frozenset((0x2F, 0xAF, 0x8F))
_TO_DEVICE = (
    WRITES
    | VERIFIES
    | frozenset(
        (
            *(0x04, 0x07, 0x15, 0x18, 0x1B, 0x1D, 0x24, 0x30, 0x31, 0x32, 0x38, 0x39, 0x3A, 0x3B, 0x3D, 0x3F),
            *(0x40, 0x41, 0x42, 0x4C, 0x55, 0x5D, 0x5F, 0x93, 0xA4, 0xB0, 0xB1, 0xB2, 0xB6, 0xBF),
        )
    )
)
_PASSED_ON = (0xA1, 0x85)
"""ATA PASS-THROUGH (12) and (16)."""

Length = Callable[[bytes, bool, int], int]
"""Of a CDB, of a CD drive's or not, in bytes with blocks of so many."""


def _big(cdb: bytes, at: int, size: int) -> int:
    return int.from_bytes(cdb[at : at + size], "big")


def field(cdb: bytes) -> int:
    """The length field of the group."""
    match cdb[0] >> 5:
        case 0:
            return cdb[4]
        case 1 | 2:
            return _big(cdb, 7, 2)
        case 4:
            return _big(cdb, 10, 4)
    return _big(cdb, 6, 4)


def address(cdb: bytes) -> int:
    """The address of the group."""
    match cdb[0] >> 5:
        case 0:
            return _big(cdb, 0, 4) & 0x1F_FFFF
        case 4:
            return _big(cdb, 2, 8)
    return _big(cdb, 2, 4)


def blocks(cdb: bytes) -> int:
    """How many: 0 are 256 in the shortest CDBs."""
    if cdb[0] >> 5 == 0 and not cdb[4]:
        return 256
    return field(cdb)


def _verify(cdb: bytes, _drive: bool, block: int) -> int:
    if not cdb[1] & 2:
        return 0
    return block if cdb[1] & 4 else field(cdb) * block


def _same(cdb: bytes, _drive: bool, block: int) -> int:
    return 0 if cdb[1] & 1 else block


def _format(cdb: bytes, drive: bool, _block: int) -> int:
    if not cdb[1] & 0x10:
        return 0
    if drive:
        return 12
    return 8 if cdb[1] & 0x20 else 4


def _performance(cdb: bytes, drive: bool, _block: int) -> int:
    """GET PERFORMANCE (MMC-6 §6.8)."""
    if not drive:
        return field(cdb)
    each = {0: 6 if cdb[1] & 3 else 16, 1: 8, 2: 2048, 3: 16, 4: 8, 5: 8}.get(cdb[10], 0)
    return each * _big(cdb, 8, 2) + 8


def _of_drive(cdb: bytes, drive: bool, _block: int) -> int:
    return _big(cdb, 8, 2) if drive else field(cdb)


def _streaming(cdb: bytes, drive: bool, _block: int) -> int:
    """SET STREAMING (MMC-6 §6.39)."""
    return _big(cdb, 9, 2) if drive else _big(cdb, 8, 2)


def _passed_on(cdb: bytes, drive: bool, block: int) -> int:
    """ATA PASS-THROUGH (SAT-2 §12.2); BLANK of a CD drive has no data."""
    long = cdb[0] == _PASSED_ON[1]
    if drive and not long:
        return 0
    unit = (block if cdb[2] & 0x10 else 512) if cdb[2] & 4 else 1
    at = {1: 4 if long else 3, 2: 6 if long else 4}.get(cdb[2] & 3)
    if at is None:
        return 0
    return (_big(cdb, at - 1, 2) if long and cdb[1] & 1 else cdb[at]) * unit


def _at(at: int, size: int) -> Length:
    return lambda cdb, _drive, _block: _big(cdb, at, size)


def _always(size: int) -> Length:
    return lambda _cdb, _drive, _block: size


_LENGTHS: dict[int, Length] = {
    **dict.fromkeys(_NOTHING, _always(0)),
    **dict.fromkeys(_BLOCKS, lambda cdb, _, block: blocks(cdb) * block),
    **dict.fromkeys(VERIFIES, _verify),
    **dict.fromkeys((0x41, 0x93), _same),
    **dict.fromkeys((0x12, 0x1C, 0x1D), _at(3, 2)),
    **dict.fromkeys((0x3B, 0x3C, 0x5D, 0xBE), _at(6, 3)),
    **dict.fromkeys((0xA3, 0xA4, 0xAD, 0xBD, 0xBF), _of_drive),
    **dict.fromkeys(_PASSED_ON, _passed_on),
    0x04: _format,
    0x05: _always(6),
    0x25: _always(8),
    0x5F: _at(5, 4),
    0xAC: _performance,
    0xB6: _streaming,
}
"""Where it is not the field of the group."""


def read(cdb: bytes, *, drive: bool, block: int) -> tuple[bytes, int, bool] | None:
    """The CDB as long as the longest, how many bytes of data there are, and whether the initiator gives them.

    None where there is no such group, or the CDB is shorter than its group's.
    """
    size = SIZES.get(cdb[0] >> 5) if cdb else None
    if size is None or size > len(cdb):
        return None
    cdb = cdb[:size].ljust(LONGEST, b"\0")
    length = _LENGTHS.get(cdb[0])
    wanted = field(cdb) if length is None else length(cdb, drive, block)
    if cdb[0] in _PASSED_ON:
        return cdb, wanted, not cdb[2] & 8
    return cdb, wanted, cdb[0] in _TO_DEVICE
