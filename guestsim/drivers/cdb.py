"""SCSI commands as an initiator builds them: CDBs, with the room for their data (SPC-4, SBC-4).

`COMMANDS` has them by name for scripts, with the numbers that each takes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

BLOCK = 512


@dataclass(frozen=True, slots=True)
class Cdb:
    """A command: its bytes, how many bytes it returns at most, and how many it is given."""

    data: bytes
    room: int = 0
    out: int = 0


def test_unit_ready() -> Cdb:
    """SPC-4 §6.47."""
    return Cdb(bytes(6))


def request_sense(*, descriptors: int = 0, allocation: int = 252) -> Cdb:
    """SPC-4 §6.39."""
    return Cdb(struct.pack(">BBxxBx", 0x03, descriptors, allocation), allocation)


def inquiry(*, page: int | None = None, allocation: int = 252) -> Cdb:
    """Standard data, or a page of vital product data (SPC-4 §6.6)."""
    return Cdb(struct.pack(">BBBHx", 0x12, page is not None, page or 0, allocation), allocation)


def report_luns(*, select: int = 0, allocation: int = 4096) -> Cdb:
    """SPC-4 §6.33."""
    return Cdb(struct.pack(">BxB3xIxx", 0xA0, select, allocation), allocation)


def mode_sense_6(
    *, page: int, subpage: int = 0, control: int = 0, dbd: int = 0, allocation: int = 255
) -> Cdb:
    """SPC-4 §6.14."""
    cdb = struct.pack(">BBBBBx", 0x1A, dbd << 3, control << 6 | page, subpage, allocation)
    return Cdb(cdb, allocation)


def mode_sense_10(
    *, page: int, subpage: int = 0, control: int = 0, dbd: int = 0, allocation: int = 512
) -> Cdb:
    """SPC-4 §6.15."""
    cdb = struct.pack(">BBBB3xHx", 0x5A, dbd << 3, control << 6 | page, subpage, allocation)
    return Cdb(cdb, allocation)


def mode_select_6(*, length: int, save: int = 0) -> Cdb:
    """SPC-4 §6.12."""
    return Cdb(struct.pack(">BBxxBx", 0x15, 0x10 | save, length), out=length)


def mode_select_10(*, length: int, save: int = 0) -> Cdb:
    """SPC-4 §6.13."""
    return Cdb(struct.pack(">BB5xHx", 0x55, 0x10 | save, length), out=length)


def read_capacity_10() -> Cdb:
    """SBC-4 §5.20."""
    return Cdb(struct.pack(">B9x", 0x25), 8)


def read_capacity_16(*, allocation: int = 32) -> Cdb:
    """SBC-4 §5.21."""
    return Cdb(struct.pack(">BB8xIxx", 0x9E, 0x10, allocation), allocation)


def read_6(*, lba: int, blocks: int, block: int = BLOCK) -> Cdb:
    """SBC-4 §5.15; 0 blocks are 256."""
    return Cdb(_six(0x08, lba, blocks), (blocks or 256) * block)


def read_10(*, lba: int, blocks: int, flags: int = 0, block: int = BLOCK) -> Cdb:
    """SBC-4 §5.16."""
    return Cdb(_ten(0x28, lba, blocks, flags), blocks * block)


def read_12(*, lba: int, blocks: int, flags: int = 0, block: int = BLOCK) -> Cdb:
    """SBC-4 §5.17."""
    return Cdb(_twelve(0xA8, lba, blocks, flags), blocks * block)


def read_16(*, lba: int, blocks: int, flags: int = 0, block: int = BLOCK) -> Cdb:
    """SBC-4 §5.18."""
    return Cdb(_sixteen(0x88, lba, blocks, flags), blocks * block)


def write_6(*, lba: int, blocks: int, block: int = BLOCK) -> Cdb:
    """SBC-4 §5.40."""
    return Cdb(_six(0x0A, lba, blocks), out=(blocks or 256) * block)


def write_10(*, lba: int, blocks: int, flags: int = 0, block: int = BLOCK) -> Cdb:
    """SBC-4 §5.41."""
    return Cdb(_ten(0x2A, lba, blocks, flags), out=blocks * block)


def write_12(*, lba: int, blocks: int, flags: int = 0, block: int = BLOCK) -> Cdb:
    """SBC-4 §5.42."""
    return Cdb(_twelve(0xAA, lba, blocks, flags), out=blocks * block)


def write_16(*, lba: int, blocks: int, flags: int = 0, block: int = BLOCK) -> Cdb:
    """SBC-4 §5.43."""
    return Cdb(_sixteen(0x8A, lba, blocks, flags), out=blocks * block)


def verify_10(*, lba: int, blocks: int, bytchk: int = 0, block: int = BLOCK) -> Cdb:
    """SBC-4 §5.36; with BYTCHK the data to compare with is given, of one block where it is 3."""
    out = (0, blocks, 0, min(1, blocks))[bytchk] * block
    return Cdb(_ten(0x2F, lba, blocks, bytchk << 1), out=out)


def synchronize_cache_10(*, lba: int = 0, blocks: int = 0) -> Cdb:
    """SBC-4 §5.32; 0 blocks are all from `lba` on."""
    return Cdb(_ten(0x35, lba, blocks, 0))


def synchronize_cache_16(*, lba: int = 0, blocks: int = 0) -> Cdb:
    """SBC-4 §5.33."""
    return Cdb(_sixteen(0x91, lba, blocks, 0))


def write_same_10(*, lba: int, blocks: int, unmap: int = 0, block: int = BLOCK) -> Cdb:
    """SBC-4 §5.48."""
    return Cdb(_ten(0x41, lba, blocks, unmap << 3), out=block)


def write_same_16(*, lba: int, blocks: int, unmap: int = 0, ndob: int = 0, block: int = BLOCK) -> Cdb:
    """SBC-4 §5.49; with NDOB no data is given."""
    return Cdb(_sixteen(0x93, lba, blocks, unmap << 3 | ndob), out=0 if ndob else block)


def unmap(*, length: int) -> Cdb:
    """SBC-4 §5.35: a parameter list of `length` bytes."""
    return Cdb(struct.pack(">B6xHx", 0x42, length), out=length)


def compare_and_write(*, lba: int, blocks: int, block: int = BLOCK) -> Cdb:
    """SBC-4 §5.3: what is to be there, then what is to be written."""
    return Cdb(struct.pack(">BxQ3xBxx", 0x89, lba, blocks), out=2 * blocks * block)


def start_stop_unit(*, start: int, loej: int = 0, immed: int = 0) -> Cdb:
    """SBC-4 §5.31."""
    return Cdb(struct.pack(">BBxxBx", 0x1B, immed, loej << 1 | start))


def prevent_allow(*, prevent: int) -> Cdb:
    """SBC-4 §5.15."""
    return Cdb(struct.pack(">B3xBx", 0x1E, prevent))


def reserve_6() -> Cdb:
    """SPC-2 §7.21."""
    return Cdb(struct.pack(">B5x", 0x16))


def release_6() -> Cdb:
    """SPC-2 §7.16."""
    return Cdb(struct.pack(">B5x", 0x17))


def persistent_reserve_in(*, action: int, allocation: int = 512) -> Cdb:
    """SPC-4 §6.15."""
    return Cdb(struct.pack(">BB5xHx", 0x5E, action, allocation), allocation)


def persistent_reserve_out(*, action: int, type: int = 0, length: int = 24) -> Cdb:  # noqa: A002
    """SPC-4 §6.16."""
    return Cdb(struct.pack(">BBBxxIx", 0x5F, action, type, length), out=length)


def report_supported_operation_codes(*, options: int = 0, opcode: int = 0, action: int = 0) -> Cdb:
    """SPC-4 §6.35."""
    return Cdb(struct.pack(">BBBBHIxx", 0xA3, 0x0C, options, opcode, action, 4096), 4096)


def _six(opcode: int, lba: int, blocks: int) -> bytes:
    return struct.pack(">IBx", opcode << 24 | lba, blocks & 0xFF)


def _ten(opcode: int, lba: int, blocks: int, flags: int) -> bytes:
    return struct.pack(">BBIxHx", opcode, flags, lba, blocks)


def _twelve(opcode: int, lba: int, blocks: int, flags: int) -> bytes:
    return struct.pack(">BBIIxx", opcode, flags, lba, blocks)


def _sixteen(opcode: int, lba: int, blocks: int, flags: int) -> bytes:
    return struct.pack(">BBQIxx", opcode, flags, lba, blocks)


COMMANDS: dict[str, Callable[..., Cdb]] = {
    builder.__name__.replace("_", "-"): builder
    for builder in (
        test_unit_ready,
        request_sense,
        inquiry,
        report_luns,
        mode_sense_6,
        mode_sense_10,
        mode_select_6,
        mode_select_10,
        read_capacity_10,
        read_capacity_16,
        read_6,
        read_10,
        read_12,
        read_16,
        write_6,
        write_10,
        write_12,
        write_16,
        verify_10,
        synchronize_cache_10,
        synchronize_cache_16,
        write_same_10,
        write_same_16,
        unmap,
        compare_and_write,
        start_stop_unit,
        prevent_allow,
        reserve_6,
        release_6,
        persistent_reserve_in,
        persistent_reserve_out,
        report_supported_operation_codes,
    )
}


NAMES = {
    0x00: "TEST UNIT READY",
    0x03: "REQUEST SENSE",
    0x08: "READ(6)",
    0x0A: "WRITE(6)",
    0x12: "INQUIRY",
    0x15: "MODE SELECT(6)",
    0x1A: "MODE SENSE(6)",
    0x1B: "START STOP UNIT",
    0x25: "READ CAPACITY(10)",
    0x28: "READ(10)",
    0x2A: "WRITE(10)",
    0x2F: "VERIFY(10)",
    0x35: "SYNCHRONIZE CACHE(10)",
    0x41: "WRITE SAME(10)",
    0x42: "UNMAP",
    0x55: "MODE SELECT(10)",
    0x5A: "MODE SENSE(10)",
    0x5E: "PERSISTENT RESERVE IN",
    0x5F: "PERSISTENT RESERVE OUT",
    0x88: "READ(16)",
    0x89: "COMPARE AND WRITE",
    0x8A: "WRITE(16)",
    0x91: "SYNCHRONIZE CACHE(16)",
    0x93: "WRITE SAME(16)",
    0xA0: "REPORT LUNS",
    0xA8: "READ(12)",
    0xAA: "WRITE(12)",
}
