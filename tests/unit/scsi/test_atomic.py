"""COMPARE AND WRITE, ORWRITE (16) and WRITE ATOMIC (16)."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.scsi import Status
from tests.unit.scsi.initiator import BLOCKS, Answer, World
from tests.unit.scsi.slowdisk import SlowWorld

GOOD = Status.GOOD


def compare(lba: int, blocks: int, flags: int = 0) -> bytes:
    return struct.pack(">BBQ3xBBB", 0x89, flags, lba, blocks, 0, 0)


def orwrite(lba: int, blocks: int, flags: int = 0) -> bytes:
    return struct.pack(">BBQIBB", 0x8B, flags, lba, blocks, 0, 0)


def atomic(lba: int, blocks: int, boundary: int = 0) -> bytes:
    return struct.pack(">BBQHHBB", 0x9C, 0, lba, boundary, blocks, 0, 0)


def read(world: World, lba: int, blocks: int) -> bytes:
    return world.first.good(struct.pack(">BBIBHB", 0x28, 0, lba, 0, blocks, 0), room=512 * blocks)


def test_what_is_as_expected_is_replaced(world: World) -> None:
    answer = world.first.do(compare(3, 2), out=bytes(1024) + b"n" * 1024)
    assert (answer.status, answer.task.wanted, answer.task.received) == (GOOD, 2048, 2048)
    assert read(world, 2, 4) == bytes(512) + b"n" * 1024 + bytes(512)


@given(st.integers(0, 1023))
def test_what_is_not_says_where(offset: int) -> None:
    world = World()
    expected = bytearray(1024)
    expected[offset] = 1
    answer = world.first.do(compare(0, 2), out=bytes(expected) + b"n" * 1024)
    assert (answer.key, answer.code, answer.information) == (0xE, 0x1D00, offset)
    assert read(world, 0, 2) == bytes(1024)
    world.close()


@pytest.mark.parametrize("size", [0, 512, 1023, 1025, 2048])
def test_both_halves_must_be_there(world: World, size: int) -> None:
    answer = world.first.do(compare(0, 1), out=bytes(size))
    assert (answer.code, answer.field) == (0x2400, (13, None))


def test_nothing_to_compare(world: World) -> None:
    assert world.first.do(compare(0, 0)).status is GOOD
    assert world.first.do(compare(BLOCKS + 1, 0)).code == 0x2100


def test_of_two_at_once_one_wins() -> None:
    world = SlowWorld()
    first = world.first.send(compare(0, 1), out=bytes(512) + b"1" * 512)
    second = world.second.send(compare(0, 1), out=bytes(512) + b"2" * 512)
    late = world.first.send("2a 00 00 00 00 00 00 00 01 00", out=b"w" * 512)
    world.watched.held = False
    world.release()
    assert sorted([first.status, second.status]) == [Status.GOOD, Status.CHECK_CONDITION]
    assert late.status is GOOD
    assert read(world, 0, 1) == b"w" * 512
    world.close()


def test_an_orwrite_loses_nothing_that_is_written_meanwhile() -> None:
    world = SlowWorld()
    world.first.send(orwrite(0, 1), out=b"\x08" * 512)
    late = world.second.send("2a 00 00 00 00 00 00 00 01 00", out=b"w" * 512)
    assert len(world.watched.waiting) == 1, "the write waits until the other is over"
    world.watched.held = False
    world.release()
    assert late.status is GOOD
    assert read(world, 0, 1) == b"w" * 512
    world.close()


def test_bits_are_set(world: World) -> None:
    world.first.good("2a 00 00 00 00 00 00 00 02 00", out=b"\xa0" * 1024)
    answer = world.first.do(orwrite(0, 2), out=b"\x05" * 512 + b"\xff" * 512)
    assert (answer.status, answer.task.received) == (GOOD, 1024)
    assert read(world, 0, 3) == b"\xa5" * 512 + b"\xff" * 512 + bytes(512)
    assert world.first.do(orwrite(0, 2), out=b"\x10" * 700).task.received == 512
    assert read(world, 0, 2) == b"\xb5" * 512 + b"\xff" * 512
    assert world.first.do(orwrite(0, 0)).status is GOOD


def test_an_atomic_write(world: World) -> None:
    assert world.first.do(atomic(0, 2), out=b"a" * 1024).status is GOOD
    assert read(world, 0, 2) == b"a" * 1024
    assert world.first.do(atomic(0, 0)).status is GOOD


@pytest.mark.parametrize("begun", ["write", "read"])
def test_nobody_reads_half_of_an_atomic_write(begun: str) -> None:
    """The one that comes second waits until the first is over."""
    world = SlowWorld()
    answers: dict[str, Answer] = {}
    for name in (begun, "read" if begun == "write" else "write"):
        if name == "write":
            answers[name] = world.first.send(atomic(0, 2), out=b"a" * 1024)
        else:
            answers[name] = world.second.send("28 00 00 00 00 00 00 00 02 00", room=1024)
    assert len(world.watched.waiting) == 1
    world.watched.held = False
    world.release()
    assert answers["write"].status is GOOD
    assert answers["read"].data == (b"a" * 1024 if begun == "write" else bytes(1024))
    world.close()


@pytest.mark.parametrize(
    ("cdb", "size", "field"),
    [(atomic(0, 1, 1), 512, (10, None)), (atomic(0, 2), 512, (12, None)), (atomic(0, 1), 1024, (12, None))],
)
def test_an_atomic_write_that_is_none(
    world: World, cdb: bytes, size: int, field: tuple[int, int | None]
) -> None:
    answer = world.first.do(cdb, out=b"a" * size)
    assert (answer.code, answer.field) == (0x2400, field)


def test_an_atomic_write_that_is_too_long() -> None:
    world = World({"driver": "memory", "size": 4 << 20})
    assert world.first.do(atomic(0, 2048), out=bytes(1 << 20)).status is GOOD
    assert world.first.do(atomic(0, 2049), out=bytes((1 << 20) + 512)).field == (12, None)
    world.close()


@pytest.mark.parametrize("cdb", [compare, orwrite, atomic])
def test_ranges_protection_and_write_protection(
    world: World, make: Callable[..., World], cdb: Callable[[int, int], bytes]
) -> None:
    def do(world: World, command: bytes) -> Answer:
        return world.first.do(command, out=bytes(1024 if cdb is compare else 512))

    assert do(world, cdb(BLOCKS, 1)).code == 0x2100
    protected = bytearray(cdb(0, 1))
    protected[1] = 0x20
    assert do(world, bytes(protected)).field == (1, 5)
    # Though nothing would be written, as the first half is not what is there.
    answer = make(read_only=True).first.do(cdb(0, 1), out=b"x" * (1024 if cdb is compare else 512))
    assert (answer.key, answer.code) == (7, 0x2700)
    world.first.good("15 10 00 00 10 00", out=bytes(4) + bytes.fromhex("0a 0a 00 10 08") + bytes(7))
    answer = do(world, cdb(0, 1))
    assert (answer.key, answer.code) == (7, 0x2702)


@pytest.mark.parametrize("cdb", [compare, orwrite, atomic])
@pytest.mark.parametrize(("lba", "first"), [(BLOCKS - 1, BLOCKS), (BLOCKS + 3, BLOCKS + 3)])
def test_ranges_name_the_first_block_that_is_not_there(
    world: World, cdb: Callable[[int, int], bytes], lba: int, first: int
) -> None:
    answer = world.first.do(cdb(lba, 2), out=bytes(1024 if cdb is compare else 0) + b"x" * 1024)
    assert (answer.code, answer.information) == (0x2100, first)
    assert read(world, BLOCKS - 1, 1) == bytes(512)
    assert [each.clause for each in world.violations.recent] == ["SBC-4 §4.5"]


@pytest.mark.parametrize(("cdb", "field"), [(compare, 13), (orwrite, 10), (atomic, 12)])
def test_more_blocks_than_one_command_may_move(
    make: Callable[..., World], cdb: Callable[[int, int], bytes], field: int
) -> None:
    world = make(max_io_size=8 * 512)
    size = 1024 if cdb is compare else 512
    assert world.first.do(cdb(0, 8), out=bytes(8 * size)).status is GOOD
    answer = world.first.do(cdb(0, 9), out=bytes(9 * size))
    assert (answer.code, answer.field) == (0x2400, (field, None))
