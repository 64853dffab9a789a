"""What a power cut leaves of the writes of a SCSI disk that has a volatile write cache."""

from __future__ import annotations

import struct

import pytest

from tests.unit.powercut import cut, volatile
from tests.unit.scsi.initiator import SIZE, World

DATA = bytes(range(256)) * 4
AT = 7 * 512
FUA = 0x08
CACHING_OFF = "08 12 00" + " 00" * 17


def command(opcode: int, flags: int) -> bytes:
    """Two blocks from block 7 on."""
    if opcode == 0x89:
        return struct.pack(">BBQ3xBBB", opcode, flags, 7, 2, 0, 0)
    if opcode == 0x9C:
        return struct.pack(">BBQHHBB", opcode, flags, 7, 0, 2, 0, 0)
    if opcode >> 5 == 1:
        return struct.pack(">BBIBHB", opcode, flags, 7, 0, 2, 0)
    if opcode >> 5 == 5:
        return struct.pack(">BBIIBB", opcode, flags, 7, 2, 0, 0)
    return struct.pack(">BBQIBB", opcode, flags, 7, 2, 0, 0)


def write(world: World, opcode: int, flags: int) -> None:
    """With COMPARE AND WRITE, what it compares with comes first."""
    world.first.good(command(opcode, flags), out=bytes(1024) * (opcode == 0x89) + DATA)


def left(world: World) -> bytes:
    return cut(world.node)[AT : AT + len(DATA)]


@pytest.fixture
def disk() -> World:
    """With a volatile cache, closed by whoever cuts its power."""
    return World(volatile(SIZE))


@pytest.mark.parametrize("opcode", [0x2A, 0xAA, 0x8A, 0x89, 0x8B, 0x9C])
def test_what_was_written_with_fua_is_stable_when_the_command_ends(disk: World, opcode: int) -> None:
    """WRITE (10), (12), (16), COMPARE AND WRITE, ORWRITE (16), WRITE ATOMIC (16): FUA (SBC-4)."""
    write(disk, opcode, FUA)
    assert left(disk) == DATA
    disk.close()


@pytest.mark.parametrize("opcode", [0x2E, 0xAE, 0x8E])
@pytest.mark.parametrize("bytchk", [0, 2])
def test_what_was_written_and_verified_is_stable_when_the_command_ends(
    disk: World, opcode: int, bytchk: int
) -> None:
    """WRITE AND VERIFY (10), (12), (16): what is verified is the medium (SBC-4)."""
    write(disk, opcode, bytchk)
    assert left(disk) == DATA
    disk.close()


@pytest.mark.parametrize("opcode", [0x2A, 0xAA, 0x8A, 0x89, 0x8B, 0x9C])
def test_what_was_written_without_may_be_lost(disk: World, opcode: int) -> None:
    write(disk, opcode, 0)
    assert left(disk) == bytes(len(DATA))
    disk.close()


@pytest.mark.parametrize("cdb", ["35" + " 00" * 9, "91" + " 00" * 15])
def test_what_was_written_before_a_flush_is_stable_when_that_ends(disk: World, cdb: str) -> None:
    """SYNCHRONIZE CACHE (10), (16) (SBC-4)."""
    write(disk, 0x2A, 0)
    disk.first.good(cdb)
    assert left(disk) == DATA
    disk.close()


@pytest.mark.parametrize("before", [True, False])
def test_a_write_cache_that_is_off_keeps_nothing(disk: World, before: bool) -> None:
    """MODE SELECT (6) with WCE 0 (SBC-4 §6.5.6): of writes `before` it nor of those after it."""
    if before:
        write(disk, 0x2A, 0)
    page = bytes(4) + bytes.fromhex(CACHING_OFF)
    disk.first.good(f"15 10 00 00 {len(page):02x} 00", out=page)
    if not before:
        write(disk, 0x2A, 0)
    assert left(disk) == DATA
    disk.close()
