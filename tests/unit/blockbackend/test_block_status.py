"""BLOCK_STATUS: what a range is, seen by a device, on every disk and through nodes over it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend import BlockLimits, BlockNode, Graph, Op, Request, open_node
from devmodels.blockbackend.drivers.memory import CHUNK_SHIFT
from devmodels.blockbackend.options import NodeOptions
from devmodels.blockbackend.status import BlockStatus, Status
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import SIZE, Disk, WatchedNode

DATA = Status.DATA | Status.ALLOCATED
ZERO = Status.ZERO | Status.ALLOCATED
HERE = Status.OFFSET_VALID
END = Status.EOF
CHUNK = 1 << CHUNK_SHIFT


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(64 << 10)
        os.pwrite(file.fileno(), b"x" * 4096, 16 << 10)
    return path


def status(disk: Disk, offset: int, length: int) -> tuple[Status, int, int]:
    """One answer: what, how long, where."""
    request = disk.submit(Op.BLOCK_STATUS, offset, length)
    assert disk.wait(request) == 0
    return request.status[:3]


def whole(disk: Disk) -> list[tuple[Status, int]]:
    """What and how long, for the whole disk."""
    found, at = [], 0
    while at < disk.backend.size:
        flags, pnum, _ = status(disk, at, disk.backend.size - at)
        assert pnum > 0
        found.append((flags, pnum))
        at += pnum
    return found


def test_memory_tells_what_has_been_written() -> None:
    disk = Disk({"driver": "memory", "size": 4 * CHUNK})
    disk.write(CHUNK + 5, b"x")
    assert whole(disk) == [(ZERO | HERE, CHUNK), (DATA | HERE, CHUNK), (ZERO | HERE | END, 2 * CHUNK)]
    assert status(disk, CHUNK + 512, 1024) == (DATA | HERE, 1024, CHUNK + 512)
    assert status(disk, 512, 2 * CHUNK) == (ZERO | HERE, CHUNK - 512, 512)
    disk.do(Op.WRITE_ZEROES, 0, 4 * CHUNK)
    assert whole(disk) == [(ZERO | HERE | END, 4 * CHUNK)]
    disk.close()


def test_memory_written_up_to_the_end_of_a_piece_is_that_piece() -> None:
    disk = Disk({"driver": "memory", "size": 4 * CHUNK})
    disk.write(CHUNK, b"x" * CHUNK)
    disk.write(0, b"")
    assert whole(disk) == [(ZERO | HERE, CHUNK), (DATA | HERE, CHUNK), (ZERO | HERE | END, 2 * CHUNK)]
    disk.close()


@pytest.mark.parametrize(
    ("options", "flags"),
    [({"read-zeroes": True}, ZERO | HERE | END), ({}, END), ({"latency-ns": 5}, END)],
)
def test_null_knows_zeroes_or_nothing(options: dict[str, object], flags: Status) -> None:
    disk = Disk({"driver": "null-co", "size": SIZE, **options})
    assert whole(disk) == [(flags, SIZE)]
    disk.close()


@pytest.mark.parametrize("aio", ["threads", "sync"])
def test_a_file_tells_its_holes(image: Path, aio: str) -> None:
    disk = Disk({"driver": "file", "filename": str(image), "aio": aio})
    assert whole(disk) == [(ZERO | HERE, 16 << 10), (DATA | HERE, 4096), (ZERO | HERE | END, 44 << 10)]
    assert status(disk, (16 << 10) + 512, 512) == (DATA | HERE, 512, (16 << 10) + 512)
    disk.close()


def test_a_file_that_ends_within_a_sector(image: Path) -> None:
    image.write_bytes(b"x" * 1000)
    disk = Disk({"driver": "file", "filename": str(image)})
    assert whole(disk) == [(DATA | HERE, 1000), (ZERO | HERE | END, 24)]
    disk.close()


def test_a_file_on_a_disk_that_was_cut_meanwhile_has_zeroes(image: Path) -> None:
    disk = Disk({"driver": "file", "filename": str(image)})
    os.truncate(image, 4096)
    assert status(disk, 8192, 4096) == (ZERO | HERE, 4096, 8192)
    disk.close()


def test_where_the_file_system_cannot_tell_everything_is_data(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int, _offset: int, _whence: int) -> int:
        raise OSError(errno.EINVAL, "no such thing")

    disk = Disk({"driver": "file", "filename": str(image)})
    monkeypatch.setattr(os, "lseek", refuse)
    assert whole(disk) == [(DATA | HERE | END, 64 << 10)]
    disk.close()


def test_a_file_is_asked_by_a_worker(image: Path) -> None:
    context = IoContext.wall()
    disk = Disk({"driver": "file", "filename": str(image)}, context=context)
    request = disk.submit(Op.BLOCK_STATUS, 0, 512)
    assert not disk.ends[request]
    assert disk.wait(request) == 0
    disk.close()


def test_filters_and_windows_show_what_is_below(image: Path) -> None:
    nested = {"driver": "delay", "latency-ns": 10, "file": {"driver": "file", "filename": str(image)}}
    disk = Disk({"driver": "raw", "offset": 16 << 10, "size": 8192, "file": nested})
    assert whole(disk) == [(DATA | HERE, 4096), (ZERO | HERE | END, 4096)]
    flags, pnum, where = status(disk, 512, 512)
    assert (flags, pnum, where) == (DATA | HERE, 512, (16 << 10) + 512)
    assert disk.context.now_ns() == 30
    disk.close()


def test_with_o_direct_whole_blocks_are_asked_for_and_the_range_is_answered(image: Path) -> None:
    disk = Disk({"driver": "file", "filename": str(image), "cache": {"direct": True}})
    assert status(disk, 513, 100) == (ZERO | HERE, 100, 513)
    assert status(disk, (16 << 10) + 1, 8192) == (DATA | HERE, 4095, (16 << 10) + 1)
    disk.close()


def test_a_driver_that_says_nothing_has_data() -> None:
    class Plain(BlockNode):
        pass

    context = IoContext.virtual()
    disk = Disk(Plain(NodeOptions(driver="plain"), context, SIZE))
    assert whole(disk) == [(DATA | END, SIZE)]
    disk.close()


def test_a_range_beyond_the_end_is_refused_and_nothing_is_counted() -> None:
    disk = Disk(read_only=True)
    assert disk.do(Op.BLOCK_STATUS, SIZE, 512) == errno.EIO
    assert disk.do(Op.BLOCK_STATUS, 0, 512) == 0
    disk.backend.account_invalid(Op.BLOCK_STATUS)
    assert not any(disk.backend.stats.as_dict().values())
    disk.close()


def test_what_a_driver_raises_is_the_requests_error() -> None:
    class Broken(WatchedNode):
        async def block_status(self, request: Request) -> BlockStatus:
            raise OSError(errno.ENOSPC, "as told")

    disk = Disk(Broken(IoContext.virtual()))
    request = disk.submit(Op.BLOCK_STATUS, 0, 512)
    assert disk.wait(request) == errno.ENOSPC
    assert not hasattr(request, "status")
    disk.close()


def test_a_driver_that_says_nothing_at_all_is_an_error() -> None:
    class Mute(WatchedNode):
        async def block_status(self, request: Request) -> BlockStatus:
            return BlockStatus(Status.DATA, 0)

    disk = Disk(Mute(IoContext.virtual()))
    assert disk.do(Op.BLOCK_STATUS, 0, 512) == errno.EIO
    disk.close()


def test_it_is_held_while_stopped_and_stands_in_a_batch_by_itself() -> None:
    disk = Disk(WatchedNode(IoContext.virtual()))
    with disk.backend.batch():
        requests = [disk.submit(Op.BLOCK_STATUS, at, 512) for at in (0, 512)]
        assert list(disk.backend.in_flight) == requests
    assert [request.status.pnum for request in requests] == [512, 512]
    disk.close()


def test_a_disk_that_was_closed_by_force_has_no_status() -> None:
    context = IoContext.virtual()
    graph = Graph(context)
    disk = Disk(graph.add({"driver": "memory", "size": SIZE, "node-name": "m0"}))
    graph.delete("m0", force=True)
    assert disk.do(Op.BLOCK_STATUS, 0, 512) == errno.ENOMEDIUM
    disk.backend.close()
    context.close()


class Pieces(WatchedNode):
    """Blocks of 4096 bytes, every second one is data; says one block at a time."""

    def __init__(self, context: IoContext) -> None:
        super().__init__(context, limits=BlockLimits(request_alignment=4096))

    async def block_status(self, request: Request) -> BlockStatus:
        assert request.offset % 4096 == request.length % 4096 == 0
        odd = request.offset // 4096 % 2
        return BlockStatus(Status.DATA if odd else Status.ZERO, 4096)


@given(st.integers(0, SIZE - 1), st.integers(1, SIZE), st.integers(0, 3))
def test_every_byte_gets_the_answer_of_its_block(offset: int, length: int, sectors: int) -> None:
    context = IoContext.virtual()
    disk = Disk(Pieces(context))
    node = open_node(
        {"driver": "raw", "offset": sectors * 512, "file": disk.node.node_name},
        context,
        {disk.node.node_name: disk.node},
    )
    window = Disk(node)
    offset = min(offset, node.size - 1)
    length = min(length, node.size - offset)
    flags, pnum, _ = status(window, offset, length)
    at = offset + sectors * 512
    assert pnum == min(length, 4096 - at % 4096)
    assert flags & ~END == (DATA if at // 4096 % 2 else ZERO)
    assert bool(flags & END) == (offset + pnum == node.size)
    window.backend.close()
    node.close()
    disk.close()
