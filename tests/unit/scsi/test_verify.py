"""VERIFY and WRITE AND VERIFY (10), (12) and (16)."""

from __future__ import annotations

import errno
import struct

import pytest

from devmodels.blockbackend import Op
from devmodels.scsi import Status, Task
from devmodels.scsi.disk.blocks import PIECE
from tests.unit.scsi.initiator import BLOCKS, World
from tests.unit.scsi.slowdisk import SlowWorld

GOOD = Status.GOOD
VERIFIES, WRITES = (0x2F, 0xAF, 0x8F), (0x2E, 0xAE, 0x8E)
EACH, ONE = 2, 6


def cdb(opcode: int, lba: int, blocks: int, flags: int = 0) -> bytes:
    group = opcode >> 5
    if group == 1:
        return struct.pack(">BBIBHB", opcode, flags, lba, 0, blocks, 0)
    if group == 5:
        return struct.pack(">BBIIBB", opcode, flags, lba, blocks, 0, 0)
    return struct.pack(">BBQIBB", opcode, flags, lba, blocks, 0, 0)


def fill(world: World, data: bytes) -> None:
    world.first.good(struct.pack(">BBIBHB", 0x2A, 0, 0, 0, len(data) // 512, 0), out=data)


@pytest.mark.parametrize("opcode", VERIFIES)
def test_each_byte(world: World, opcode: int) -> None:
    data = bytes(range(256)) * 4
    fill(world, data)
    answer = world.first.do(cdb(opcode, 0, 2, EACH), out=data)
    assert (answer.status, answer.task.wanted, answer.task.received) == (GOOD, 1024, 1024)
    answer = world.first.do(cdb(opcode, 0, 2, EACH), out=data[:-1] + b"x")
    assert (answer.key, answer.code) == (0xE, 0x1D00)


def test_nothing_but_that_it_can_be_read(world: World) -> None:
    answer = world.first.do(cdb(0x2F, 0, 2), out=b"different" * 10)
    assert (answer.status, answer.task.wanted, answer.task.received) == (GOOD, 0, 0)
    slow = SlowWorld()
    slow.watched.held = False
    slow.watched.errors[Op.READ, 512] = OSError(errno.EIO, "as told")
    answer = slow.first.do(cdb(0x2F, 0, 2))
    assert (answer.key, answer.code) == (3, 0x1100)
    slow.close()


def test_one_block_against_all(world: World) -> None:
    fill(world, b"ab" * 256 * 3)
    assert world.first.do(cdb(0x2F, 0, 3, ONE), out=b"ab" * 256).status is GOOD
    assert world.first.do(cdb(0x2F, 0, 4, ONE), out=b"ab" * 256).code == 0x1D00
    assert world.first.do(cdb(0x2F, 0, 3, ONE), out=b"ab" * 255).code == 0x2400
    assert world.first.do(cdb(0x2F, 0, 0, ONE)).status is GOOD


def test_what_is_given_short_is_compared_as_far_as_it_goes(world: World) -> None:
    answer = world.first.do(cdb(0x2F, 0, 2, EACH), out=bytes(600))
    assert (answer.status, answer.task.received, answer.task.wanted) == (GOOD, 600, 1024)


@pytest.mark.parametrize("opcode", VERIFIES + WRITES)
def test_reserved_checks_and_ranges(world: World, opcode: int) -> None:
    answer = world.first.do(cdb(opcode, 0, 1, 4), out=bytes(512))
    assert (answer.code, answer.field) == (0x2400, (1, 2))
    assert world.first.do(cdb(opcode, BLOCKS, 1, EACH), out=bytes(512)).code == 0x2100
    assert world.first.do(cdb(opcode, BLOCKS + 1, 0)).code == 0x2100


@pytest.mark.parametrize("opcode", WRITES)
@pytest.mark.parametrize("flags", [0, EACH])
def test_writing_and_verifying(world: World, opcode: int, flags: int) -> None:
    answer = world.first.do(cdb(opcode, 3, 2, flags), out=b"v" * 1024)
    assert (answer.status, answer.task.received, answer.task.wanted) == (GOOD, 1024, 1024)
    assert world.first.good("28 00 00 00 00 03 00 00 02 00", room=1024) == b"v" * 1024
    assert world.first.do(cdb(opcode, 3, 2, flags), out=b"u" * 700).task.received == 512
    assert world.first.good("28 00 00 00 00 03 00 00 02 00", room=1024) == b"u" * 512 + b"v" * 512
    assert world.first.do(cdb(opcode, 3, 0, flags)).status is GOOD


def test_what_was_written_is_not_what_is_read() -> None:
    world = SlowWorld()
    answer = world.first.send(cdb(0x2E, 0, 1, EACH), out=b"v" * 512)
    world.watched.release()
    world.context.turn()
    world.watched._view[0:1] = b"x"
    world.watched.held = False
    world.release()
    assert (answer.key, answer.code) == (0xE, 0x1D00)
    world.close()


def test_a_long_one_goes_piece_by_piece(make: object) -> None:
    world = World({"driver": "memory", "size": 4 * PIECE})
    blocks = (2 * PIECE + 512) // 512
    assert world.first.do(cdb(0x8F, 0, blocks, EACH), out=bytes(blocks * 512)).status is GOOD
    assert world.first.do(cdb(0x8F, 0, blocks, ONE), out=bytes(512)).status is GOOD
    assert world.first.do(cdb(0x8F, 0, blocks)).status is GOOD
    assert world.first.do(cdb(0x8F, 0, blocks, EACH), out=bytes(blocks * 512 - 1) + b"x").code == 0x1D00
    world.close()


def test_what_is_verified_is_what_was_written() -> None:
    """The initiator's memory is read once: what it does to it meanwhile is no miscompare."""
    world = SlowWorld()
    buffer = bytearray(b"A" * 512)
    ended: list[Task] = []
    task = Task(world.first.nexus, 0, 77, cdb(0x2E, 0, 1, EACH), ended.append, data_out=[memoryview(buffer)])
    world.target.submit(task)
    world.context.run_until_idle()
    world.release()
    buffer[:] = b"B" * 512
    world.watched.held = False
    world.release()
    assert ended[0].status is GOOD
    world.close()
