"""READ and WRITE in all their lengths, with residuals, FUA, errors, and with the disk stopped or slow."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend import Flags, Op
from devmodels.iocontext import IoContext
from devmodels.scsi import Status
from tests.unit.blockbackend.support import WatchedNode
from tests.unit.scsi.initiator import BLOCKS, SIZE, Answer, World
from tests.unit.scsi.slowdisk import SlowWorld

GOOD = Status.GOOD


def cdb(opcode: int, lba: int, blocks: int, flags: int = 0) -> bytes:
    """READ or WRITE by its operation code."""
    group = opcode >> 5
    if group == 0:
        return bytes((opcode, lba >> 16 & 0x1F, lba >> 8 & 0xFF, lba & 0xFF, blocks & 0xFF, 0))
    if group == 1:
        return struct.pack(">BBIBHB", opcode, flags, lba, 0, blocks, 0)
    if group == 5:
        return struct.pack(">BBIIBB", opcode, flags, lba, blocks, 0, 0)
    return struct.pack(">BBQIBB", opcode, flags, lba, blocks, 0, 0)


READS, WRITES = (0x08, 0x28, 0xA8, 0x88), (0x0A, 0x2A, 0xAA, 0x8A)


@pytest.mark.parametrize(("read", "write"), list(zip(READS, WRITES, strict=True)))
def test_what_was_written_is_read_back(world: World, read: int, write: int) -> None:
    data = bytes(range(256)) * 6
    answer = world.first.do(cdb(write, 5, 3), out=data)
    assert (answer.status, answer.task.received, answer.task.wanted) == (GOOD, 1536, 1536)
    answer = world.first.do(cdb(read, 5, 3), room=1536, pieces=3)
    assert (answer.data, answer.task.wanted) == (data, 1536)


@pytest.mark.parametrize(
    ("read", "write", "lba"),
    [
        (0x08, 0x0A, 0x15_4321),
        (0x28, 0x2A, 0x8765_4321),
        (0xA8, 0xAA, 0x8765_4321),
        (0x88, 0x8A, 0x2_8765_4321),
    ],
)
def test_every_bit_of_an_address_counts(make: Callable[..., World], read: int, write: int, lba: int) -> None:
    world = make({"driver": "memory", "size": 8 << 40})
    world.first.good(cdb(write, lba, 1), out=b"x" * 512)
    assert world.first.good(cdb(0x88, lba, 1), room=512) == b"x" * 512
    assert world.first.good(cdb(read, lba, 1), room=512) == b"x" * 512
    for bit in range(lba.bit_length()):
        assert world.first.good(cdb(read, lba ^ 1 << bit, 1), room=512) == bytes(512)


@pytest.mark.parametrize("opcode", READS + WRITES)
def test_the_last_block_and_the_one_after_it(world: World, opcode: int) -> None:
    buffers: Any = {"out": bytes(1024)} if opcode in WRITES else {"room": 1024}
    assert world.first.do(cdb(opcode, BLOCKS - 1, 1), **buffers).status is GOOD
    answer = world.first.do(cdb(opcode, BLOCKS - 1, 2), **buffers)
    assert (answer.key, answer.code, answer.information) == (5, 0x2100, BLOCKS)
    assert answer.task.sent == answer.task.received == 0


@pytest.mark.parametrize("opcode", [0x28, 0xA8, 0x88, 0x2A, 0xAA, 0x8A])
def test_no_blocks(world: World, opcode: int) -> None:
    assert world.first.do(cdb(opcode, 0, 0)).status is GOOD
    assert world.first.do(cdb(opcode, BLOCKS, 0)).status is GOOD
    assert world.first.do(cdb(opcode, BLOCKS + 1, 0)).code == 0x2100


def test_no_blocks_are_256_to_the_short_ones(make: Callable[..., World]) -> None:
    world = make()
    answer = world.first.do(cdb(0x08, 0, 0), room=256 * 512)
    assert answer.task.sent == 256 * 512
    assert world.first.do(cdb(0x0A, 0, 0), out=b"x" * 256 * 512).task.received == 256 * 512


@pytest.mark.parametrize(("room", "sent"), [(0, 0), (200, 200), (1024, 1024), (3000, 1024)])
def test_residuals_of_a_read(world: World, room: int, sent: int) -> None:
    answer = world.first.do(cdb(0x28, 0, 2), room=room)
    assert (answer.status, answer.task.sent, answer.task.wanted) == (GOOD, sent, 1024)
    assert answer.buffer[16 + sent : 16 + room] == b"\x55" * (room - sent)


@pytest.mark.parametrize(("given", "received"), [(0, 0), (200, 0), (700, 512), (1024, 1024), (3000, 1024)])
def test_residuals_of_a_write(world: World, given: int, received: int) -> None:
    answer = world.first.do(cdb(0x2A, 0, 2), out=b"w" * given)
    assert (answer.status, answer.task.received, answer.task.wanted) == (GOOD, received, 1024)
    assert world.first.good(cdb(0x28, 0, 4), room=2048) == (b"w" * received).ljust(2048, b"\0")


def test_protection_is_refused(world: World) -> None:
    for opcode in (0x28, 0x2A):
        answer = world.first.do(cdb(opcode, 0, 1, flags=0x20), room=512, out=bytes(512))
        assert (answer.code, answer.field) == (0x2400, (1, 5))


def test_a_transfer_that_is_too_long(make: Callable[..., World]) -> None:
    world = make(max_io_size=8 * 512)
    assert world.first.do(cdb(0x28, 0, 8), room=4096).status is GOOD
    answer = world.first.do(cdb(0x28, 0, 9), room=4608)
    assert (answer.code, answer.field) == (0x2400, (7, None))


def watched() -> SlowWorld:
    world = SlowWorld()
    world.watched.held = False
    world.watched.seen.clear()
    return world


def test_fua_makes_a_write_stable() -> None:
    world = watched()
    world.first.good(cdb(0x2A, 0, 1, flags=8), out=bytes(512))
    world.first.good(cdb(0x2A, 0, 1), out=bytes(512))
    assert [request.flags for request in world.watched.seen] == [Flags.FUA, Flags.NONE]
    world.close()


def test_fua_reads_what_is_stable() -> None:
    world = watched()
    world.first.good(cdb(0x28, 0, 1, flags=8), room=512)
    assert world.watched.seen[0].op is Op.FLUSH
    world.backend.write_cache = False
    world.watched.seen.clear()
    world.first.good(cdb(0x28, 0, 1, flags=8), room=512)
    assert Op.FLUSH not in [request.op for request in world.watched.seen]
    world.close()


def failing(op: Op, number: int) -> Answer:
    world = watched()
    world.watched.errors[op, 0] = OSError(number, "as told")
    world.backend._read_now = None
    if op is Op.WRITE:
        answer = world.first.do(cdb(0x2A, 0, 1), out=bytes(512))
    else:
        answer = world.first.do(cdb(0x28, 0, 1), room=512)
    world.close()
    return answer


@pytest.mark.parametrize(
    ("op", "number", "key", "code"),
    [
        (Op.READ, errno.EIO, 3, 0x1100),
        (Op.WRITE, errno.EIO, 3, 0x0C00),
        (Op.WRITE, errno.ENOSPC, 7, 0x2707),
        (Op.WRITE, errno.EPERM, 7, 0x2700),
        (Op.READ, errno.ENOMEDIUM, 2, 0x3A00),
        (Op.READ, errno.ENOMEM, 5, 0x5503),
        (Op.READ, errno.ECANCELED, 0xB, 0x0000),
    ],
)
def test_errors_of_the_disk(op: Op, number: int, key: int, code: int) -> None:
    answer = failing(op, number)
    assert (answer.status, answer.key, answer.code) == (Status.CHECK_CONDITION, key, code)


def test_a_read_that_failed_shows_nothing() -> None:
    answer = failing(Op.READ, errno.EIO)
    assert answer.task.sent == 0
    assert answer.buffer[16:-16] == bytes(512)


def test_a_stopped_machine_holds_commands(world: World) -> None:
    world.run_state.stop()
    answer = world.first.send(cdb(0x28, 0, 1), room=512)
    assert not answer.count
    world.run_state.cont()
    assert answer.status is GOOD


@pytest.mark.parametrize("size", [512, 1024, 2048, 4096])
def test_block_sizes(make: Callable[..., World], size: int) -> None:
    world = make(logical_block_size=size, physical_block_size=4096)
    last = BLOCKS * 512 // size - 1
    assert world.first.good("25" + " 00" * 9, room=8) == struct.pack(">II", last, size)
    world.first.good(cdb(0x2A, last, 1), out=b"e" * size)
    assert world.first.good(cdb(0x28, last, 1), room=size) == b"e" * size
    assert world.first.do(cdb(0x28, last, 2), room=2 * size).code == 0x2100


@given(
    st.lists(
        st.tuples(
            st.sampled_from(READS + WRITES),
            st.integers(0, 40),
            st.integers(0, 6),
            st.integers(0, 6 * 512),
            st.integers(1, 4),
        ),
        max_size=12,
    )
)
def test_a_disk_is_an_array_of_bytes(script: list[tuple[int, int, int, int, int]]) -> None:
    world = World()
    model = bytearray(64 * 512 + 256 * 512)
    for count, (opcode, lba, blocks, length, pieces) in enumerate(script):
        asked = (blocks or (256 if opcode in (0x08, 0x0A) else 0)) * 512
        done = min(asked, length)
        if opcode in READS:
            answer = world.first.do(cdb(opcode, lba, blocks), room=length, pieces=pieces)
            assert answer.data == model[lba * 512 : lba * 512 + done]
        else:
            done -= done % 512
            data = bytes((count + 1,)) * length
            answer = world.first.do(cdb(opcode, lba, blocks), out=data)
            assert answer.task.received == done
            model[lba * 512 : lba * 512 + done] = data[:done]
        assert (answer.status, answer.task.wanted) == (GOOD, asked)
    world.close()


class QuickNode(WatchedNode):
    """Writes need no waiting, unless they are to be stable."""

    writes_now = True

    def write_now(self, offset: int, vectors: Sequence[memoryview], length: int) -> bool:
        self._view[offset : offset + length] = b"".join(vectors)
        return True


@pytest.mark.parametrize("opcode", WRITES)
def test_a_write_that_needs_no_waiting_is_no_request(opcode: int) -> None:
    node = QuickNode(IoContext.virtual(), SIZE)
    world = World(node)
    data = bytes(range(256)) * 4
    answer = world.first.do(cdb(opcode, 7, 2), out=data)
    assert (answer.status, answer.task.received, answer.task.wanted) == (GOOD, 1024, 1024)
    assert node.seen == []
    assert world.first.do(cdb(0x28, 7, 2), room=1024).data == data
    assert world.backend.stats.wr_bytes == 1024
    if opcode != 0x0A:
        assert world.first.do(cdb(opcode, 7, 2, 0x08), out=data).status is GOOD
        assert [request.flags & Flags.FUA for request in node.seen if request.op is Op.WRITE] == [Flags.FUA]
    world.close()


@pytest.mark.parametrize(
    "cdb",
    [
        "2a 00 00 00 00 00 00 00 02 00",
        "2e 00 00 00 00 00 00 00 02 00",
        "8b 00" + " 00" * 8 + " 00 00 00 02 00 00",
    ],
)
def test_what_is_given_of_a_block_is_not_written(world: World, cdb: str) -> None:
    answer = world.first.do(cdb, out=b"N" * 700)
    assert (answer.task.wanted, answer.task.received) == (1024, 512)
    assert world.first.good("28 00 00 00 00 00 00 00 02 00", room=1024) == b"N" * 512 + bytes(512)
