"""The disk in a file: which requests are done inline, and which by workers."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from devmodels.blockbackend import Op
from devmodels.blockbackend.drivers.file import INLINE_MAX
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.file.conftest import SIZE
from tests.unit.blockbackend.support import Disk, payload

# --- where it is done


def test_cached_reads_are_inline_and_writes_are_not(image: Path) -> None:
    disk = Disk({"driver": "file", "filename": str(image)}, context=IoContext.wall())
    read = disk.submit(Op.READ, 0, 4096)
    assert disk.ends[read] == 1
    write = disk.submit(Op.WRITE, 0, data=b"x")
    flush = disk.submit(Op.FLUSH)
    assert (disk.ends[write], disk.ends[flush]) == (0, 0)
    disk.context.run_until_idle()
    assert (disk.ends[write], disk.ends[flush]) == (1, 1)
    disk.close()


def test_a_long_read_is_a_workers_however_warm_its_pages(image: Path) -> None:
    """A gigabyte from the page cache takes a fifth of a second."""
    os.truncate(image, 64 << 20)
    disk = Disk({"driver": "file", "filename": str(image)}, context=IoContext.wall())
    longest = disk.submit(Op.READ, 0, INLINE_MAX)
    longer = disk.submit(Op.READ, 0, INLINE_MAX + 1)
    assert (disk.ends[longest], disk.ends[longer]) == (1, 0)
    assert disk.wait(longer) == 0
    assert payload(longer) == b"\xaa" * SIZE + bytes(INLINE_MAX + 1 - SIZE)
    disk.close()


def test_with_aio_sync_all_is_inline(image: Path) -> None:
    disk = Disk({"driver": "file", "filename": str(image), "aio": "sync"}, context=IoContext.wall())
    for op, data in ((Op.READ, None), (Op.WRITE, b"x"), (Op.FLUSH, None), (Op.WRITE_ZEROES, None)):
        request = disk.submit(op, 0, 0 if op is Op.FLUSH else 1, data)
        assert disk.ends[request] == 1
    disk.close()


class ColdCache:
    """Makes RWF_NOWAIT reads return `warm` bytes, or fail with `code`, as a page that is not cached does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, warm: int = 0, code: int = errno.EAGAIN) -> None:
        self.real = os.preadv
        self.warm = warm
        self.code = code
        self.threads: list[int] = []
        self.offsets: list[int] = []
        monkeypatch.setattr(os, "preadv", self)

    def __call__(self, fd: int, vectors: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        self.offsets.append(offset)
        if flags & os.RWF_NOWAIT:
            if not self.warm:
                raise OSError(self.code, "would block")
            return self.real(fd, [vectors[0][: self.warm]], offset, flags)
        self.threads.append(threading.get_ident())
        return self.real(fd, vectors, offset, flags)


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EOPNOTSUPP])
def test_a_cold_page_is_read_by_a_worker(image: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    image.write_bytes(os.urandom(SIZE))
    disk = Disk({"driver": "file", "filename": str(image)}, context=IoContext.wall())
    cache = ColdCache(monkeypatch, code=code)
    assert disk.read(512, 4096) == image.read_bytes()[512:4608]
    assert len(cache.threads) == 1
    assert cache.threads != [threading.get_ident()]
    disk.close()


def test_what_is_cached_is_not_read_again(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image.write_bytes(os.urandom(SIZE))
    disk = Disk({"driver": "file", "filename": str(image)}, context=IoContext.wall())
    cache = ColdCache(monkeypatch, warm=1000)
    assert disk.read(512, 4096) == image.read_bytes()[512:4608]
    assert cache.offsets == [512, 1512]
    disk.close()


# --- closing


def test_a_worker_keeps_its_descriptor_until_it_is_done(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node closed under a running write must not give its descriptor's number to somebody else's file."""
    disk = Disk({"driver": "file", "filename": str(image)}, context=IoContext.wall())
    begun, go_on = threading.Event(), threading.Event()
    real = os.pwritev

    def slow(fd: int, vectors: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        if flags & os.RWF_NOWAIT:
            raise BlockingIOError
        begun.set()
        assert go_on.wait(20)
        return real(fd, vectors, offset, flags)

    monkeypatch.setattr(os, "pwritev", slow)
    request = disk.submit(Op.WRITE, 0, data=b"late")
    assert begun.wait(20)

    def is_open() -> bool:
        links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
        return any(link.is_symlink() and os.readlink(link) == str(image) for link in links)

    disk.node.close()
    disk.node.close()
    assert is_open()
    go_on.set()
    assert disk.wait(request) == 0
    assert not is_open()
    assert image.read_bytes()[:4] == b"late"
    disk.close()
