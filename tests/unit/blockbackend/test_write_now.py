"""Writes without a request: what needs no waiting is done and accounted, everything else is left for `submit`."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from devmodels.blockbackend import Flags, Op, open_node
from devmodels.blockbackend.accounting import Counted, NodeStats
from devmodels.blockbackend.accounting.histogram import Histogram
from devmodels.blockbackend.accounting.stats import Kind
from devmodels.blockbackend.node import BlockLimits
from devmodels.blockbackend.throttling.group import ThrottleGroup
from devmodels.iocontext import IoContext
from devmodels.runstate import RunState
from devmodels.trace import Tracer
from tests.unit.blockbackend.support import SIZE, Disk, WatchedNode

DATA = b"\xa5" * 512


def write(disk: Disk, offset: int = 0, data: bytes = DATA) -> bool:
    return disk.backend.write_now(offset, (memoryview(bytearray(data)),), len(data))


class QuickNode(WatchedNode):
    """Writes need no waiting."""

    @property
    def writes_now(self) -> bool:
        return True

    def write_now(self, offset: int, vectors: Sequence[memoryview], length: int) -> bool:
        self._view[offset : offset + length] = b"".join(vectors)
        return True


@pytest.fixture
def node() -> QuickNode:
    return QuickNode(IoContext.virtual())


@pytest.fixture
def disk(node: QuickNode) -> Iterator[Disk]:
    disk = Disk(node)
    yield disk
    disk.close()


def test_a_write_is_done_and_accounted(disk: Disk) -> None:
    disk.backend.stats.set_histogram(Kind.WR, [1000])
    assert write(disk, 1024)
    assert disk.read(512, 1536) == bytes(512) + DATA + bytes(512)
    stats = disk.backend.stats
    assert (stats.wr_operations, stats.wr_bytes, stats.wr_highest_offset) == (1, 512, 1536)
    assert not disk.backend.in_flight
    histogram = stats.histograms[Kind.WR]
    assert isinstance(histogram, Histogram)
    assert sum(histogram.as_dict()["bins"]) == 1


@pytest.mark.parametrize("offset", [-512, SIZE, SIZE - 256])
def test_a_write_out_of_bounds_is_left(disk: Disk, offset: int) -> None:
    assert not write(disk, offset)
    assert disk.backend.stats.wr_operations == 0


def test_a_stopped_machine_writes_nothing(node: QuickNode) -> None:
    run_state = RunState()
    disk = Disk(node, run_state=run_state)
    run_state.stop()
    assert not write(disk)
    run_state.cont()
    assert write(disk)


def test_nothing_is_written_inside_a_batch(disk: Disk) -> None:
    with disk.backend.batch():
        assert not write(disk)


def test_a_disk_that_may_not_be_written_is_not(node: QuickNode) -> None:
    assert not write(Disk(node, read_only=True))


def test_without_a_write_cache_a_write_has_to_be_made_stable(disk: Disk) -> None:
    disk.backend.write_cache = False
    assert not write(disk)
    disk.backend.write_cache = True
    assert write(disk)


def test_a_trace_sees_requests_only(disk: Disk) -> None:
    disk.backend.trace = Tracer(disk.context.now_ns)
    assert not write(disk)


def test_limits_are_kept(disk: Disk) -> None:
    disk.backend.set_throttle_group(ThrottleGroup("g"))
    assert not write(disk)


def test_while_somebody_is_to_be_alone_nobody_writes_past_him(disk: Disk) -> None:
    disk.backend.serialise()
    assert not write(disk)


def test_a_node_with_limits_gets_requests_made_to_fit(node: QuickNode) -> None:
    node.limits = BlockLimits(request_alignment=4096)
    assert not write(Disk(node))


@pytest.mark.parametrize("option", [{"detect_zeroes": "on"}, {"accounting": True}])
def test_what_looks_at_writes_or_counts_them_sees_requests(
    node: QuickNode, option: dict[str, object]
) -> None:
    node.options = msgspec.structs.replace(node.options, **option)
    node.counted = Counted(node, NodeStats(), node.context) if "accounting" in option else None
    assert not write(Disk(node))


def test_a_node_need_not_know_of_it() -> None:
    disk = Disk()
    assert not disk.backend.writes_now
    assert not write(disk)


# --- files


class Kernel:
    """What pwritev2(2) makes of RWF_NOWAIT: an errno, or so many bytes at most."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refuses = 0
        self.most = 1 << 30
        self.flags: list[int] = []
        self.threads: list[bool] = []
        self._real = os.pwritev
        monkeypatch.setattr(os, "pwritev", self)

    def __call__(self, fd: int, vectors: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        self.flags.append(flags)
        self.threads.append(threading.current_thread() is threading.main_thread())
        if not flags & os.RWF_NOWAIT:
            return self._real(fd, vectors, offset, flags)
        if self.refuses:
            raise OSError(self.refuses, "it would wait")
        return self._real(fd, [vectors[0][: self.most]], offset)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Disk]]:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(SIZE))
    disks: list[Disk] = []
    monkeypatch.setattr("devmodels.blockbackend.drivers.linux.in_memory", lambda _fd: False)

    def make(**options: object) -> Disk:
        disks.append(Disk({"driver": "file", "filename": str(image), **options}, context=IoContext.wall()))
        return disks[-1]

    yield make
    for disk in disks:
        disk.close()
        disk.context.close()


def test_a_file_system_that_need_not_wait_is_written_at_once(
    file: Callable[..., Disk], kernel: Kernel
) -> None:
    disk = file()
    assert write(disk, 512)
    assert disk.write(0, DATA) == 0
    assert disk.read(0, 1024) == DATA * 2
    assert (kernel.flags, kernel.threads) == ([os.RWF_NOWAIT] * 2, [True, True])


def test_what_would_wait_is_written_by_a_worker(file: Callable[..., Disk], kernel: Kernel) -> None:
    disk = file()
    kernel.refuses = errno.EAGAIN
    assert not write(disk)
    assert disk.write(0, DATA) == 0
    assert disk.backend.writes_now
    assert kernel.flags == [os.RWF_NOWAIT, os.RWF_NOWAIT, 0]
    assert kernel.threads[-1] is False


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_that_knows_no_such_thing_is_asked_once(
    file: Callable[..., Disk], kernel: Kernel, code: int
) -> None:
    disk = file()
    kernel.refuses = code
    for _ in range(3):
        assert disk.write(0, DATA) == 0
    assert kernel.flags == [os.RWF_NOWAIT, 0, 0, 0]
    assert not disk.backend.writes_now
    assert not write(disk)


def test_what_is_left_of_a_short_write_is_written_by_a_worker(
    file: Callable[..., Disk], kernel: Kernel
) -> None:
    disk = file()
    kernel.most = 100
    assert not write(disk)
    assert disk.write(0, bytes(range(250))) == 0
    assert disk.read(0, 250) == bytes(range(250))
    assert kernel.threads[-2:] == [True, False]


def test_long_writes_are_not_tried(file: Callable[..., Disk], kernel: Kernel) -> None:
    disk = file()
    disk.do(Op.WRITE_ZEROES, 0, SIZE)
    assert not disk.backend.write_now(0, (memoryview(bytearray(SIZE)),) * 8, 8 * SIZE)
    assert kernel.flags == []


def test_a_write_that_is_to_be_stable_is_not_tried(file: Callable[..., Disk], kernel: Kernel) -> None:
    assert file().write(0, DATA, Flags.FUA) == 0
    assert kernel.flags == [os.RWF_DSYNC]


def test_an_error_is_told_when_it_comes_again(file: Callable[..., Disk], kernel: Kernel) -> None:
    disk = file()
    kernel.refuses = errno.ENOSPC
    assert not write(disk)
    assert disk.write(0, DATA) == errno.ENOSPC


def test_each_write_has_its_own_result(file: Callable[..., Disk], monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of writes that a worker did in one go come together, right and wrong ones."""
    real = os.pwritev

    def picky(fd: int, vectors: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        if flags:
            raise OSError(errno.EOPNOTSUPP, "not here")
        if offset % 8192:
            raise OSError(errno.EIO, "bad place")
        return real(fd, vectors, offset)

    monkeypatch.setattr(os, "pwritev", picky)
    disk = file()
    requests = [disk.submit(Op.WRITE, at, data=DATA) for at in range(0, SIZE, 4096)]
    assert [disk.wait(request) for request in requests] == [0, errno.EIO] * (len(requests) // 2)
    assert set(disk.ends.values()) == {1}


def test_a_file_that_is_closed_takes_no_write(file: Callable[..., Disk], kernel: Kernel) -> None:
    disk = file()
    kernel.refuses = errno.EAGAIN
    disk.node.close()
    assert not write(disk)
    assert disk.write(0, DATA) == errno.EBADF


def test_a_file_opened_anew_is_written_by_its_new_descriptor(tmp_path: Path, kernel: Kernel) -> None:
    kernel.refuses = errno.EOPNOTSUPP
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(SIZE))
    node = open_node({"driver": "file", "filename": str(image)}, IoContext.wall())
    for read_only in (True, False):
        node.reopen(msgspec.structs.replace(node.options, read_only=read_only))
    disk = Disk(node)
    assert disk.write(0, DATA) == 0
    assert disk.read(0, 512) == DATA
    disk.close()


def test_a_window_writes_where_it_is(tmp_path: Path, kernel: Kernel) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(SIZE))
    options: dict[str, object] = {
        "driver": "raw",
        "offset": 4096,
        "file": {"driver": "file", "filename": str(image)},
    }
    disk = Disk(options, context=IoContext.wall())
    assert disk.backend.writes_now
    assert write(disk, 512)
    assert image.read_bytes()[4608:5120] == DATA
    disk.close()


def test_a_filter_sees_each_write(tmp_path: Path, kernel: Kernel) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(SIZE))
    options: dict[str, object] = {"driver": "delay", "file": {"driver": "file", "filename": str(image)}}
    disk = Disk(options, context=IoContext.wall())
    assert not write(disk)
    disk.close()
