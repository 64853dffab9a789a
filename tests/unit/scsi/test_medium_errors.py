"""Blocks that cannot be read: the initiator is told the first of them, and has what is before it (SBC-4 §4.18.1)."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend import Op, open_node
from devmodels.iocontext import IoContext
from devmodels.scsi import Function, Outcome, Response, Status
from tests.unit.scsi.initiator import SIZE, World
from tests.unit.scsi.slowdisk import SlowWorld

MEDIUM_ERROR = 3
UNREAD, UNWRITTEN = 0x1100, 0x0C00
ILLEGAL_REQUEST, OUT_OF_RANGE = 5, 0x2100


class BadWorld(World):
    """A disk with blocks that cannot be read (or `iotype`)."""

    def __init__(self, bad: set[int], iotype: str = "read", *, once: bool = False) -> None:
        context = IoContext.virtual()
        rules = [
            {"event": "none", "errno": 5, "sector": each, "iotype": iotype, "once": once}
            for each in sorted(bad)
        ]
        image = {"driver": "memory", "size": SIZE}
        super().__init__(open_node({"driver": "blkdebug", "inject-error": rules, "image": image}, context))


def read_10(lba: int, blocks: int) -> bytes:
    return struct.pack(">BBIBHB", 0x28, 0, lba, 0, blocks, 0)


def write_10(lba: int, blocks: int) -> bytes:
    return struct.pack(">BBIBHB", 0x2A, 0, lba, 0, blocks, 0)


@given(st.sets(st.integers(0, 63), min_size=1), st.integers(0, 63), st.integers(1, 64), st.integers(1, 5))
def test_the_first_block_that_cannot_be_read(bad: set[int], lba: int, blocks: int, pieces: int) -> None:
    world = BadWorld(bad)
    for each in range(64):
        world.first.good(write_10(each, 1), out=bytes((each + 1,)) * 512)
    answer = world.first.do(read_10(lba, blocks), room=blocks * 512, pieces=pieces)
    first = min((each for each in bad if lba <= each < lba + blocks), default=None)
    if first is None:
        assert answer.status is Status.GOOD
    else:
        assert (answer.key, answer.code, answer.information) == (MEDIUM_ERROR, UNREAD, first)
        assert answer.data == b"".join(bytes((each + 1,)) * 512 for each in range(lba, first))
        # And nothing else that was in the buffer, or was read into it, is left there.
        rest = answer.buffer[16 + answer.task.sent : 16 + blocks * 512]
        assert rest == bytes(len(rest))
    world.close()


def test_a_block_that_can_be_read_after_all_is_not_blamed() -> None:
    world = BadWorld({5}, once=True)
    answer = world.first.do(read_10(0, 16), room=16 * 512)
    assert (answer.key, answer.code, answer.information) == (MEDIUM_ERROR, UNREAD, None)
    assert answer.task.sent == 0
    assert world.first.do(read_10(0, 16), room=16 * 512).status is Status.GOOD
    world.close()


def test_less_room_than_a_block() -> None:
    world = BadWorld({3})
    answer = world.first.do(read_10(2, 2), room=700)
    assert (answer.key, answer.information, answer.task.sent) == (MEDIUM_ERROR, 3, 512)
    world.close()


@pytest.mark.parametrize("flags", [0, 2], ids=["readable", "each byte"])
def test_verify_points_at_the_block(flags: int) -> None:
    world = BadWorld({9})
    cdb = struct.pack(">BBIBHB", 0x2F, flags, 4, 0, 16, 0)
    answer = world.first.do(cdb, out=bytes(16 * 512 if flags else 0))
    assert (answer.key, answer.code, answer.information) == (MEDIUM_ERROR, UNREAD, 9)
    world.close()


def test_a_single_block_that_cannot_be_written() -> None:
    world = BadWorld({9}, "write")
    answer = world.first.do(write_10(9, 1), out=bytes(512))
    assert (answer.key, answer.code, answer.information) == (MEDIUM_ERROR, UNWRITTEN, 9)
    # Of several nobody knows which it was.
    answer = world.first.do(write_10(8, 2), out=bytes(1024))
    assert (answer.key, answer.code, answer.information) == (MEDIUM_ERROR, UNWRITTEN, None)
    world.close()


@pytest.mark.parametrize("readable", [True, False])
def test_the_search_ends_where_the_command_is_aborted(readable: bool) -> None:
    world = SlowWorld()
    world.watched.errors[Op.READ, 9 * 512] = OSError(errno.EIO, "as told")
    task = world.first.send(struct.pack(">BBIBHB", 0x2F, 0, 0, 0, 16, 0), tag=7)
    world.release()
    assert world.watched.log()[1:] == [(Op.READ, 0, 8 * 512)]
    if not readable:
        world.watched.errors[Op.READ, 0] = OSError(errno.EIO, "as told")
    answers = world.first.manage(Function.ABORT_TASK, tag=7)
    assert answers == []
    world.release()
    assert (answers, task.outcome) == ([Response.COMPLETE], Outcome.ABORTED)
    assert len(world.watched.log()) == 2
    world.close()


@pytest.mark.parametrize(
    "cdb",
    [read_10(0, 1024), write_10(0, 1024), bytes.fromhex("9e 12") + bytes(8) + bytes((0, 0, 2, 0, 0, 0))],
)
def test_blocks_that_the_disk_has_lost_meanwhile_are_no_defects(cdb: bytes) -> None:
    world = World()
    world.run_state.stop("paused")
    answer = world.first.send(cdb, out=bytes(SIZE) * (cdb[0] == 0x2A), room=SIZE * (cdb[0] != 0x2A))
    world.context.start(world.backend.resize(SIZE // 2), lambda _result, _error: None)
    world.run_state.cont()
    world.context.run_until_idle()
    assert (answer.key, answer.code, answer.information) == (ILLEGAL_REQUEST, OUT_OF_RANGE, 512)
    world.close()
