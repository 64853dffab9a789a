"""A write whose data follows from what is there, and reads and writes that wait for it."""

from __future__ import annotations

import errno

from devmodels.blockbackend import BlockLimits, Flags, Op
from devmodels.blockbackend.request import UPDATE_PIECE, UpdateRequest
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import Disk, WatchedNode


def serialised(size: int = 64 << 10, limits: BlockLimits | None = None) -> Disk:
    disk = Disk(WatchedNode(IoContext.virtual(), size, limits))
    disk.backend.serialise()
    disk.context.run_until_idle()
    return disk


def update(disk: Disk, request: UpdateRequest) -> int:
    disk.ends[request] = 0

    def ended(each: object) -> None:
        disk.ends[request] += 1

    request.done = ended
    disk.backend.submit(request)
    return disk.wait(request)


def test_what_is_there_is_handed_over_and_replaced() -> None:
    disk = serialised()
    disk.write(512, b"a" * 512)
    seen = []

    def change(at: int, old: bytearray) -> bytes:
        seen.append((at, bytes(old)))
        return b"b" * len(old)

    assert update(disk, UpdateRequest(512, 512, change)) == 0
    assert seen == [(0, b"a" * 512)]
    assert disk.read(0, 1536) == bytes(512) + b"b" * 512 + bytes(512)
    assert disk.backend.stats.wr_operations == 2
    disk.close()


def test_nothing_is_written_where_there_is_nothing_to_write() -> None:
    disk = serialised()
    assert update(disk, UpdateRequest(0, 512, lambda _at, _old: None)) == 0
    assert [request.op for request in disk.node.seen] == [Op.READ]  # type: ignore[attr-defined]
    disk.close()


def test_a_long_one_goes_piece_by_piece() -> None:
    disk = serialised(4 * UPDATE_PIECE)
    lengths = []

    def change(at: int, old: bytearray) -> bytearray:
        lengths.append((at, len(old)))
        old[0] = 1
        return old

    assert update(disk, UpdateRequest(512, UPDATE_PIECE + 512, change)) == 0
    assert lengths == [(0, UPDATE_PIECE), (UPDATE_PIECE, 512)]
    assert disk.read(512, 1) == disk.read(512 + UPDATE_PIECE, 1) == b"\1"
    disk.close()


def test_others_in_its_range_wait_until_it_is_over() -> None:
    disk = serialised()
    node = disk.node
    assert isinstance(node, WatchedNode)
    node.held = True
    updating = UpdateRequest(0, 1024, lambda _at, old: b"u" * len(old))
    disk.ends[updating] = 0
    updating.done = lambda request: disk.ends.__setitem__(request, 1)
    disk.backend.submit(updating)
    write = disk.submit(Op.WRITE, 512, data=b"w" * 512)
    read = disk.submit(Op.READ, 512, 512)
    away = disk.submit(Op.READ, 2048, 512)
    assert [request.op for request in node.waiting] == [Op.READ, Op.READ]
    node.held = False
    node.release()
    for each in (write, read, away, updating):
        assert disk.wait(each) == 0
    assert b"".join(read.vectors) in (b"u" * 512, b"w" * 512)
    assert disk.read(0, 1024) == b"u" * 512 + b"w" * 512
    disk.close()


def test_reads_are_done_at_once_as_long_as_nobody_must_be_alone() -> None:
    disk = Disk({"driver": "memory", "size": 4096})
    disk.backend.serialise()
    disk.context.run_until_idle()
    buffer = memoryview(bytearray(512))
    assert disk.backend.read_now([(0, [buffer], 512)]) == 1
    disk.close()


def test_it_keeps_to_a_nodes_blocks_and_to_write_through() -> None:
    disk = serialised(limits=BlockLimits(request_alignment=4096))
    disk.backend.write_cache = False
    disk.write(0, b"a" * 8192)
    disk.node.seen.clear()  # type: ignore[attr-defined]
    assert update(disk, UpdateRequest(512, 512, lambda _at, old: b"b" * len(old))) == 0
    last = disk.node.seen[-1]  # type: ignore[attr-defined]
    assert (last.op, last.offset, last.length, last.flags) == (Op.WRITE, 0, 4096, Flags.FUA)
    assert disk.read(0, 1536) == b"a" * 512 + b"b" * 512 + b"a" * 512
    disk.close()


def test_its_errors_are_those_of_reading_and_of_writing() -> None:
    disk = serialised()
    node = disk.node
    assert isinstance(node, WatchedNode)
    node.errors[Op.WRITE, 0] = OSError(errno.ENOSPC, "full")
    assert update(disk, UpdateRequest(0, 512, lambda _at, old: bytes(old))) == errno.ENOSPC
    disk.close()


def test_detecting_zeroes_leaves_it_alone() -> None:
    disk = Disk({"driver": "memory", "size": 4096, "detect-zeroes": "on"})
    disk.backend.serialise()
    disk.context.run_until_idle()
    assert update(disk, UpdateRequest(0, 512, lambda _at, old: b"x" * len(old))) == 0
    assert disk.read(0, 512) == b"x" * 512
    disk.close()
