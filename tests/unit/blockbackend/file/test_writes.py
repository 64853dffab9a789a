"""Who writes into a file: the context's own thread as long as writes are short, workers where they are not."""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest

from devmodels.blockbackend import Op, Request
from devmodels.blockbackend.drivers import file_writes
from devmodels.blockbackend.drivers.file import FileNode
from devmodels.blockbackend.drivers.file_writes import LONGEST_PAUSE_NS, MOST_BYTES, SHORT_NS, WriteQueue
from devmodels.blockbackend.errorpolicy import ErrorPolicy
from devmodels.iocontext import IoContext, standin
from devmodels.runstate import RunState
from tests.unit.blockbackend.support import SIZE, Disk

TIMEOUT = 20.0


class Kernel:
    """A file system without RWF_NOWAIT for writes; each write is noted and does what `writes` says first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.writes: Callable[[int], None] = lambda _offset: None
        self.threads: list[int] = []
        self._real = os.pwritev
        monkeypatch.setattr(os, "pwritev", self)

    def __call__(self, fd: int, vectors: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        if flags & os.RWF_NOWAIT:
            raise OSError(errno.EOPNOTSUPP, "not for writes")
        self.threads.append(threading.get_ident())
        self.writes(offset)
        return self._real(fd, vectors, offset, flags)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setattr("devmodels.blockbackend.drivers.linux.in_memory", lambda _fd: False)
    monkeypatch.setattr(standin, "LONGEST_NS", int(TIMEOUT * 1e9))  # However busy the host is.
    monkeypatch.setattr(file_writes, "FIRST_PAUSE_NS", 0)
    return Kernel(monkeypatch)


@pytest.fixture
def disk(tmp_path: Path, kernel: Kernel) -> Iterator[Disk]:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(SIZE))
    disk = Disk({"driver": "file", "filename": str(image)}, context=IoContext.wall())
    disk.context.have_stand_in()
    disk.context.assert_owner()
    write(disk, 0)  # Which finds out what the file system can do.
    kernel.threads.clear()
    yield disk
    disk.close()
    disk.context.close()


def write(disk: Disk, *offsets: int, length: int = 512, batch: bool = False) -> list[int]:
    """Writes that a guest makes in one turn, perhaps as a batch; their errors when all are over."""
    done: list[Request] = []
    requests = [
        Request(Op.WRITE, at, length, [memoryview(bytearray(b"\xa5" * length))], done=done.append)
        for at in offsets
    ]

    def turn() -> None:
        with disk.backend.batch() if batch else nullcontext():
            for request in requests:
                disk.backend.submit(request)

    disk.context.call_soon(turn)
    deadline = disk.context.now_ns() + int(TIMEOUT * 1e9)
    while len(done) < len(requests):
        assert disk.context.now_ns() < deadline, "writes that never end"
        disk.context.run_once()
    return [request.error for request in requests]


def queue(disk: Disk) -> WriteQueue:
    assert isinstance(disk.node, FileNode)
    assert disk.node._writes is not None
    return disk.node._writes


def test_short_writes_are_done_by_the_thread_of_the_loop(disk: Disk, kernel: Kernel) -> None:
    assert write(disk, 512, 2048, 8192) == [0, 0, 0]
    assert kernel.threads == [threading.get_ident()] * 3
    assert disk.read(2048, 512) == b"\xa5" * 512
    assert not disk.backend.in_flight
    assert disk.backend.stats.wr_operations == 4


def test_what_the_file_system_cannot_do_is_not_tried_again(disk: Disk) -> None:
    """The write that the fixture has made was refused."""
    assert disk.backend.edge.write_now is None
    assert not disk.backend.writes_now


def test_neighbours_are_written_together(disk: Disk, kernel: Kernel) -> None:
    assert write(disk, 1024, 512, 4096, 1536, batch=True) == [0] * 4
    assert kernel.threads == [threading.get_ident()] * 2
    assert disk.read(512, 1536) == b"\xa5" * 1536
    assert disk.backend.stats.wr_merged == 2
    assert not disk.backend.in_flight


def test_of_a_batch_apart_the_one_that_is_no_write_of_the_disk_fails_alone(
    disk: Disk, kernel: Kernel
) -> None:
    assert write(disk, 512, SIZE, 4096, batch=True) == [0, errno.EIO, 0]
    assert kernel.threads == [threading.get_ident()] * 2
    assert not disk.backend.in_flight


def test_of_neighbours_only_the_one_fails_that_cannot_be_written(disk: Disk, kernel: Kernel) -> None:
    calls: list[int] = []

    def bad_block(offset: int) -> None:
        calls.append(offset)
        if offset == 1024 or len(calls) == 1:
            raise OSError(errno.EIO, "a bad block")

    kernel.writes = bad_block
    assert write(disk, 512, 1024, 1536, batch=True) == [0, errno.EIO, 0]
    assert calls == [512, 512, 1024, 1536]
    assert disk.backend.stats.wr_merged == 0


def test_who_is_told_of_a_failure_may_write_again(disk: Disk, kernel: Kernel) -> None:
    """A chain of writes is a loop: nobody is told of the end of one before `submit` has returned."""
    disk.node.close()
    ended: list[int] = []
    submitting = False

    def submit(left: int) -> None:
        nonlocal submitting
        assert not submitting
        submitting = True
        done = partial(again, left)
        disk.backend.submit(Request(Op.WRITE, 0, 512, [memoryview(bytearray(512))], done=done))
        submitting = False

    def again(left: int, request: Request) -> None:
        ended.append(request.error)
        if left:
            submit(left - 1)

    submit(3)
    disk.context.run_until_idle()
    assert ended == [errno.EBADF] * 4


def test_one_that_blocks_delays_neither_the_loop_nor_writes_behind_it(disk: Disk, kernel: Kernel) -> None:
    goes_on = threading.Event()

    def writes(offset: int) -> None:
        if offset == 512:
            assert goes_on.wait(TIMEOUT), "nobody else has written"
        else:
            goes_on.set()

    kernel.writes = writes
    assert write(disk, 512, 2048) == [0, 0]
    here = threading.get_ident()
    assert [thread == here for thread in kernel.threads] == [True, False]


def test_after_one_that_blocked_workers_write_for_a_while(
    disk: Disk, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_writes, "FIRST_PAUSE_NS", int(TIMEOUT * 1e9))
    goes_on = threading.Event()

    def writes(_offset: int) -> None:
        disk.context.post(lambda: disk.context.call_soon(goes_on.set))
        assert goes_on.wait(TIMEOUT), "nobody has gone on with the loop"

    kernel.writes = writes
    write(disk, 512)
    write(disk, 2048)
    assert kernel.threads[0] == threading.get_ident() != kernel.threads[1]
    queue(disk)._not_before_ns = 0
    write(disk, 4096)
    assert kernel.threads[2] == threading.get_ident()


def test_writes_that_are_long_on_the_average_are_for_workers(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_writes, "FIRST_PAUSE_NS", LONGEST_PAUSE_NS // 4)
    writes = queue(disk)
    for _ in range(3):
        writes._learn(SHORT_NS // 2)
    assert not writes._not_before_ns
    for _ in range(6):
        writes._learn(2 * SHORT_NS)
    pause = writes._pause_ns
    assert writes._not_before_ns
    for _ in range(6):
        writes._learn(2 * SHORT_NS)
    assert writes._pause_ns > pause, "soon again: a longer one"


def test_one_write_on_a_busy_host_says_little(disk: Disk) -> None:
    writes = queue(disk)
    writes._learn(10**9)
    assert not writes._not_before_ns


def test_many_bytes_are_for_workers(disk: Disk, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_writes, "MOST_BYTES", 1024)
    assert write(disk, 8192, length=2048) == [0]
    assert kernel.threads.pop() != threading.get_ident()
    disk.context.run_until_idle()  # The worker would take more as long as it is there.
    # As many as a turn may write, then as many again.
    assert write(disk, 0, 1024, 2048) == [0, 0, 0]
    assert kernel.threads == [threading.get_ident()] * 3
    assert MOST_BYTES == 256 << 10


def test_what_is_wrong_with_a_write_is_for_the_error_policy(disk: Disk, kernel: Kernel) -> None:
    def full(_offset: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    kernel.writes = full
    assert write(disk, 0) == [errno.ENOSPC]
    disk.backend.error_policy = ErrorPolicy(werror="ignore")
    assert write(disk, 0) == [0]


def test_a_machine_that_stops_for_an_error_writes_again_when_it_goes_on(
    tmp_path: Path, kernel: Kernel
) -> None:
    image = tmp_path / "other.img"
    image.write_bytes(bytes(SIZE))
    run_state = RunState()
    disk = Disk({"driver": "file", "filename": str(image)}, context=IoContext.wall(), run_state=run_state)
    disk.context.have_stand_in()
    disk.backend.error_policy = ErrorPolicy(werror="stop")
    write(disk, 0)

    def full_once(_offset: int) -> None:
        kernel.writes = lambda _offset: None
        disk.context.call_at(disk.context.now_ns(), run_state.cont)
        raise OSError(errno.ENOSPC, "full")

    kernel.writes = full_once
    assert write(disk, 2048) == [0]
    assert disk.read(2048, 512) == b"\xa5" * 512
    disk.close()
    disk.context.close()


def test_a_window_and_what_looks_at_writes(disk: Disk, kernel: Kernel) -> None:
    assert disk.backend.edge.begin_write is not None
    disk.backend.write_cache = False
    assert write(disk, 0) == [0], "made stable: a request of its own kind"
    assert kernel.threads.pop() != threading.get_ident()
    disk.backend.write_cache = True
    assert write(disk, 0) == [0]
    assert kernel.threads.pop() == threading.get_ident()


def test_a_file_that_is_closed_takes_no_write(disk: Disk) -> None:
    disk.node.close()
    errors: list[BaseException | None] = []
    request = Request(Op.WRITE, 0, 512)
    queue(disk).put(
        [memoryview(bytearray(512))], 0, 512, request, lambda _request, error: errors.append(error)
    )
    disk.context.run_until_idle()
    assert isinstance(errors[0], OSError)
    assert errors[0].errno == errno.EBADF


def test_vectors_are_not_looked_at_once_their_write_is_over(disk: Disk) -> None:
    """The loop may hand a result back, and release the vectors, before the worker goes on."""
    vectors = [memoryview(bytearray(512))]

    class TakenAtOnce(deque[object]):
        def append(self, item: object, /) -> None:
            vectors[0].release()
            super().append(item)

    queue(disk)._done = TakenAtOnce()  # type: ignore[assignment]
    disk.context.run(queue(disk).write(Request(Op.WRITE, 0, 512), vectors, 0))
    assert not queue(disk)._done
