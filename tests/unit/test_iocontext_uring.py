"""io_uring under a context: what the kernel does with our buffers, and that it has let them go."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from devmodels.iocontext import IoContext
from devmodels.iocontext.uring import ENTRIES, Uring
from tests.host import needs_uring

pytestmark = needs_uring

BLOCK = 512


@pytest.fixture
def context() -> Iterator[IoContext]:
    context = IoContext.wall()
    yield context
    context.close()


@pytest.fixture
def uring(context: IoContext) -> Uring:
    return context.uring()


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "disk"
    path.write_bytes(bytes(range(256)) * 64)
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


async def transfer(uring: Uring, fd: int, *buffers: bytearray, offset: int = 0, write: bool = False) -> int:
    return await uring.transfer(fd, [memoryview(buffer) for buffer in buffers], offset, write=write)


def test_a_read_fills_its_buffer(context: IoContext, uring: Uring, fd: int) -> None:
    buffer = bytearray(16)
    assert context.run(transfer(uring, fd, buffer, offset=32)) == 16
    assert buffer == bytes(range(32, 48))


def test_several_buffers_are_filled_in_order(context: IoContext, uring: Uring, fd: int) -> None:
    first, nothing, second = bytearray(3), bytearray(0), bytearray(5)
    assert context.run(transfer(uring, fd, first, nothing, second, offset=8)) == 8
    assert first + second == bytes(range(8, 16))


def test_a_read_ends_with_the_file(context: IoContext, uring: Uring, fd: int) -> None:
    assert context.run(transfer(uring, fd, bytearray(64), offset=256 * 64 - 16)) == 16


def test_what_is_written_is_there(context: IoContext, uring: Uring, fd: int) -> None:
    assert context.run(transfer(uring, fd, bytearray(b"ab"), bytearray(b"cde"), offset=4, write=True)) == 5

    async def constant() -> int:
        return await uring.transfer(fd, [memoryview(b"fixed")], 100, write=True)

    assert context.run(constant()) == 5
    assert (os.pread(fd, 5, 4), os.pread(fd, 5, 100)) == (b"abcde", b"fixed")


def test_a_sync_ends(context: IoContext, uring: Uring, fd: int) -> None:
    async def sync() -> int:
        return await uring.datasync(fd)

    assert context.run(sync()) == 0


def test_errors_are_the_kernels(context: IoContext, uring: Uring, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.touch()
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match=r"\[Errno 9\]") as caught:
            context.run(transfer(uring, fd, bytearray(1), write=True))
        assert caught.value.errno == errno.EBADF
    finally:
        os.close(fd)


def test_more_than_the_ring_holds_go_in_one_turn(context: IoContext, uring: Uring, fd: int) -> None:
    buffers = [bytearray(BLOCK) for _ in range(3 * ENTRIES)]
    for number, buffer in enumerate(buffers):
        context.start(transfer(uring, fd, buffer, offset=number * 16))
    context.run_until_idle()
    assert uring.busy == 0
    whole = bytes(range(256)) * 64
    assert buffers == [whole[at * 16 : at * 16 + BLOCK].ljust(BLOCK, b"\0") for at in range(len(buffers))]


def test_buffers_are_free_before_anybody_hears_of_it(context: IoContext, uring: Uring, fd: int) -> None:
    """A memoryview with an export cannot be released, and guest memory is released at once."""
    buffer = bytearray(8)

    async def one(write: bool, at: int) -> None:
        view = memoryview(buffer)
        try:
            await uring.transfer(at, [view], 0, write=write)
        finally:
            view.release()
            buffer.append(0)

    context.run(one(write=True, at=fd))
    with pytest.raises(OSError, match="Bad file descriptor"):
        context.run(one(write=False, at=1 << 20))


def test_closing_waits_for_the_kernel(fd: int) -> None:
    context = IoContext.wall()
    uring = context.uring()
    buffers = [bytearray(4096) for _ in range(64)]
    for buffer in buffers:
        context.start(transfer(uring, fd, buffer))
    context.close()
    assert uring.busy == 0
    assert all(bytes(buffer[:256]) == bytes(range(256)) for buffer in buffers)
