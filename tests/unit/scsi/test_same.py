"""WRITE SAME (10) and (16)."""

from __future__ import annotations

import struct

import pytest

from devmodels.blockbackend import Flags, Op
from devmodels.scsi import Function, Status
from devmodels.scsi.disk.blocks import PIECE
from tests.unit.scsi.initiator import BLOCKS, World
from tests.unit.scsi.slowdisk import SlowWorld

GOOD = Status.GOOD
UNMAP, ANCHOR, NDOB = 0x08, 0x10, 0x01


def ten(lba: int, blocks: int, flags: int = 0) -> bytes:
    return struct.pack(">BBIBHB", 0x41, flags, lba, 0, blocks, 0)


def sixteen(lba: int, blocks: int, flags: int = 0) -> bytes:
    return struct.pack(">BBQIBB", 0x93, flags, lba, blocks, 0, 0)


def read(world: World, lba: int, blocks: int) -> bytes:
    return world.first.good(struct.pack(">BBIBHB", 0x28, 0, lba, 0, blocks, 0), room=blocks * 512)


@pytest.mark.parametrize("cdb", [ten, sixteen])
def test_one_block_everywhere(world: World, cdb: object) -> None:
    assert callable(cdb)
    block = bytes(range(256)) * 2
    answer = world.first.do(cdb(2, 3), out=block)
    assert (answer.status, answer.task.wanted, answer.task.received) == (GOOD, 512, 512)
    assert read(world, 1, 5) == bytes(512) + block * 3 + bytes(512)


def test_zeroes_go_the_quick_way_and_may_free_space() -> None:
    world = SlowWorld()
    world.watched.held = False
    world.watched.seen.clear()
    world.first.good(sixteen(0, 8), out=bytes(512))
    world.first.good(sixteen(0, 8, UNMAP), out=bytes(512))
    world.first.good(sixteen(0, 8, NDOB))
    assert [(request.op, request.flags) for request in world.watched.seen] == [
        (Op.WRITE_ZEROES, Flags.NONE),
        (Op.WRITE_ZEROES, Flags.MAY_UNMAP),
        (Op.WRITE_ZEROES, Flags.NONE),
    ]
    world.close()


def test_unmapping_something_else_than_zeroes_is_writing(world: World) -> None:
    world.first.good(sixteen(0, 2, UNMAP), out=b"x" * 512)
    assert read(world, 0, 2) == b"x" * 1024


def test_unmapping_without_data_is_unmapping(world: World) -> None:
    world.first.good(sixteen(0, 2), out=b"x" * 512)
    assert world.first.do(sixteen(0, 2, UNMAP)).code == 0x2400, "it must say that none is given (NDOB)"
    assert read(world, 0, 2) == b"x" * 1024
    world.first.good(sixteen(0, 2, UNMAP | 1))
    assert read(world, 0, 2) == bytes(1024)


@pytest.mark.parametrize("cdb", [ten, sixteen])
def test_anchored_blocks_do_not_exist(world: World, cdb: object) -> None:
    assert callable(cdb)
    for flags in (ANCHOR, ANCHOR | UNMAP):
        answer = world.first.do(cdb(0, 1, flags), out=bytes(512))
        assert (answer.code, answer.field) == (0x2400, (1, 4))


def test_no_blocks_are_refused_as_block_limits_say(world: World) -> None:
    assert world.first.do(sixteen(0, 0), out=bytes(512)).field == (10, None)
    assert world.first.do(ten(0, 0), out=bytes(512)).field == (7, None)


def test_one_block_must_be_given(world: World) -> None:
    for size in (0, 511, 513, 1024):
        assert world.first.do(sixteen(0, 1), out=b"x" * size).code == 0x2400
    assert read(world, 0, 1) == bytes(512)


def test_beyond_the_end(world: World) -> None:
    for lba, told in ((BLOCKS - 1, BLOCKS), (BLOCKS + 3, BLOCKS + 3), (2**64 - 2, None)):
        answer = world.first.do(sixteen(lba, 2), out=b"x" * 512)
        assert (answer.code, answer.information) == (0x2100, told)
    assert read(world, BLOCKS - 1, 1) == bytes(512)
    assert [each.clause for each in world.violations.recent] == ["SBC-4 §4.5"] * 3


def test_a_long_pattern_goes_piece_by_piece_and_can_be_aborted() -> None:
    world = World({"driver": "delay", "latency-ns": 10, "file": {"driver": "memory", "size": 8 * PIECE}})
    answer = world.first.send(sixteen(0, 8 * PIECE // 512), out=b"ab" * 256, tag=7)
    world.context.run_once()
    world.context.run_once()
    world.first.manage(Function.ABORT_TASK, tag=7)
    world.context.run_until_idle()
    assert answer.ended
    assert world.backend.stats.wr_operations < 8
    again = world.first.do(sixteen(0, 8 * PIECE // 512), out=b"ab" * 256)
    assert again.status is GOOD
    assert read(world, 8 * PIECE // 512 - 1, 1) == b"ab" * 256
    world.close()
