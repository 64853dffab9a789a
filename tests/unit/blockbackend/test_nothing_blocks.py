"""One slow request never delays another."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from devmodels.blockbackend import Op, Request
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import SIZE, Disk, WatchedNode

SECOND = 10**9


class HoldingNode(WatchedNode):
    """Holds requests for block 0 for a second; all others end at once."""

    async def read(self, request: Request) -> None:
        if request.offset == 0:
            await self.context.sleep(SECOND)
        await super().read(request)


def test_while_one_request_is_held_for_a_second_others_end_at_once() -> None:
    context = IoContext.virtual()
    disk = Disk(HoldingNode(context))
    ended: list[tuple[int, int]] = []

    def note(request: Request) -> None:
        ended.append((request.offset, context.now_ns()))

    disk.submit(Op.READ, 0, 512, done=note)
    for at in range(512, SIZE, 512):
        disk.submit(Op.READ, at, 512, done=note)
    assert ended == [(at, 0) for at in range(512, SIZE, 512)]
    context.run_until_idle()
    assert ended[-1] == (0, SECOND)
    disk.close()


def test_neither_in_one_batch() -> None:
    """Not merged with it (a gap lies between): the others are not taken along."""
    context = IoContext.virtual()
    disk = Disk(HoldingNode(context))
    with disk.backend.batch():
        slow = disk.submit(Op.READ, 0, 512)
        others = [disk.submit(Op.READ, at, 512) for at in range(1024, SIZE, 1024)]
    assert [disk.ends[request] for request in others] == [1] * len(others)
    assert disk.ends[slow] == 0
    context.run_until_idle()
    assert disk.ends[slow] == 1
    disk.close()


class OneColdPage:
    """The page cache lacks the page at offset 0; reading it from the disk lasts until the test lets it go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go_on = threading.Event()
        self._real = os.preadv
        monkeypatch.setattr(os, "preadv", self)

    def __call__(self, fd: int, vectors: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        if offset == 0:
            if flags & os.RWF_NOWAIT:
                raise OSError(errno.EAGAIN, "not cached")
            assert self.go_on.wait(20)
        return self._real(fd, vectors, offset, flags)


@pytest.mark.parametrize("batched", [False, True])
def test_others_are_served_while_a_cold_page_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batched: bool
) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(os.urandom(SIZE))
    disk = Disk({"driver": "file", "filename": str(image)}, context=IoContext.wall())
    cold = OneColdPage(monkeypatch)

    def submit() -> list[Request]:
        return [disk.submit(Op.READ, at, 512) for at in range(0, SIZE, 1024)]

    if batched:
        with disk.backend.batch():
            first, *others = submit()
    else:
        first, *others = submit()
    assert [disk.ends[request] for request in others] == [1] * len(others)
    write = disk.submit(Op.WRITE, 4096, data=b"also on a worker")
    assert disk.wait(write) == 0
    assert disk.ends[first] == 0
    cold.go_on.set()
    assert disk.wait(first) == 0
    disk.close()


def test_slow_writes_do_not_delay_a_quick_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes share workers while they are quick; a few slow ones among them hold up nobody."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(SIZE))
    disk = Disk({"driver": "file", "filename": str(image)}, context=IoContext.wall())
    for _ in range(50):
        assert disk.write(0, b"x") == 0
    go_on = threading.Event()
    real = os.pwritev

    def one_slow_place(fd: int, vectors: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        if offset < 4096:
            assert go_on.wait(20)
        return real(fd, vectors, offset, flags)

    monkeypatch.setattr(os, "pwritev", one_slow_place)

    async def main() -> None:
        slow = [disk.submit(Op.WRITE, at, data=b"slow") for at in range(0, 4096, 1024)]
        quick = [disk.submit(Op.WRITE, at, data=b"quick") for at in range(4096, SIZE, 4096)]
        while not all(disk.ends[request] for request in quick):
            await disk.context.sleep(100_000)
        assert not any(disk.ends[request] for request in slow)
        go_on.set()

    disk.context.run(disk.context.wait_for(main(), 15 * SECOND))
    disk.context.run_until_idle()
    assert set(disk.ends.values()) == {1}
    disk.close()


def test_a_really_cold_page_reads_right(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    data = os.urandom(1 << 20)
    image.write_bytes(data)
    with image.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    disk = Disk({"driver": "file", "filename": str(image)}, context=IoContext.wall())
    requests = [disk.submit(Op.READ, at, 4096) for at in range(0, 1 << 20, 1 << 16)]
    for request in requests:
        assert disk.wait(request) == 0
        assert b"".join(request.vectors) == data[request.offset : request.offset + 4096]
    disk.close()
