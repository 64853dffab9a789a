"""The disk in a file: what is in the file afterwards, where it was done, and what becomes of errors."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from devmodels.blockbackend import BlockOptionError, Flags, Graph, Op
from devmodels.blockbackend.drivers import linux
from devmodels.blockbackend.drivers.file import INLINE_MAX, FileNode
from devmodels.iocontext import IoContext, uring
from devmodels.iocontext.uring import Uring
from tests.host import needs_uring
from tests.unit.blockbackend.support import Disk, payload

KIB = 1024
SIZE = 256 * KIB

Opener = Callable[..., Disk]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"\xaa" * SIZE)
    return path


@pytest.fixture(params=["threads", "sync", pytest.param("io_uring", marks=needs_uring), "virtual"])
def opened(request: pytest.FixtureRequest, image: Path) -> Iterator[Opener]:
    """Opens the image on workers, inline, by io_uring, and on a virtual clock: a guest must see no difference."""
    disks: list[Disk] = []

    def opener(**options: object) -> Disk:
        context = IoContext.virtual() if request.param == "virtual" else IoContext.wall()
        aio = "threads" if request.param == "virtual" else request.param
        disk = Disk({"driver": "file", "filename": str(image), "aio": aio, **options}, context=context)
        disks.append(disk)
        return disk

    yield opener
    for disk in disks:
        disk.close()


@pytest.fixture
def disk(image: Path) -> Iterator[Disk]:
    """The image, worked on inline."""
    disk = Disk({"driver": "file", "filename": str(image), "discard": "unmap"})
    yield disk
    disk.close()


def blocks(path: Path) -> int:
    """How many bytes of the host's disk the file takes."""
    return path.stat().st_blocks * 512


# --- data


def test_what_the_guest_writes_is_in_the_file(opened: Opener, image: Path) -> None:
    disk = opened()
    assert disk.write(1000, b"hello") == 0
    assert disk.read(998, 9) == b"\xaa\xaahello\xaa\xaa"
    assert disk.do(Op.FLUSH) == 0
    assert image.read_bytes()[998:1007] == b"\xaa\xaahello\xaa\xaa"


def test_thousands_of_vectors_are_one_request(opened: Opener) -> None:
    disk = opened()
    data = os.urandom(5000)
    assert disk.wait(disk.submit(Op.WRITE, 3, data=data, cut=1)) == 0
    request = disk.submit(Op.READ, 3, len(data), cut=2)
    assert disk.wait(request) == 0
    assert payload(request) == data


def test_a_last_sector_in_part_ends_in_zeroes(image: Path, opened: Opener) -> None:
    image.write_bytes(b"\xaa" * 700)
    disk = opened()
    assert disk.backend.size == 1024
    assert disk.read(0, 1024) == b"\xaa" * 700 + bytes(324)
    assert disk.write(1020, b"last") == 0
    assert disk.read(696, 328) == b"\xaa" * 4 + bytes(320) + b"last"
    assert image.stat().st_size == 1024


def test_an_empty_file_is_an_empty_disk(image: Path, opened: Opener) -> None:
    image.write_bytes(b"")
    disk = opened()
    assert disk.backend.size == 0
    assert disk.do(Op.READ, 0, 1) == errno.EIO
    assert disk.do(Op.FLUSH) == 0


def test_the_file_grows_and_shrinks_with_the_disk(opened: Opener, image: Path) -> None:
    disk = opened()
    disk.context.run(disk.backend.resize(2 * SIZE))
    assert image.stat().st_size == 2 * SIZE
    assert disk.read(SIZE - 1, 2) == b"\xaa\0"
    disk.context.run(disk.backend.resize(512))
    assert image.read_bytes() == b"\xaa" * 512


def test_a_file_cut_off_behind_our_back_reads_as_zeroes(opened: Opener, image: Path) -> None:
    disk = opened()
    os.truncate(image, 600)
    assert disk.read(0, 1024) == b"\xaa" * 600 + bytes(424)
    assert disk.read(SIZE - 512, 512) == bytes(512)


def test_a_read_only_image_is_opened_for_reading_alone(opened: Opener, image: Path) -> None:
    image.chmod(0o444)
    disk = opened(**{"read-only": True})
    assert disk.read(0, 4) == b"\xaa" * 4
    assert disk.write(0, b"x") == errno.EPERM
    assert isinstance(disk.node, FileNode)
    assert fcntl.fcntl(disk.node._fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY


# --- allocation


def test_a_discard_gives_space_back_only_when_asked_to(opened: Opener, image: Path) -> None:
    before = blocks(image)
    disk = opened()
    assert disk.do(Op.DISCARD, 0, SIZE) == 0
    assert blocks(image) == before
    assert image.read_bytes() == b"\xaa" * SIZE
    disk.close()
    disk = opened(discard="unmap")
    assert disk.do(Op.DISCARD, 0, SIZE // 2) == 0
    assert blocks(image) == before // 2
    assert disk.read(0, SIZE) == bytes(SIZE // 2) + b"\xaa" * (SIZE // 2)
    assert image.stat().st_size == SIZE


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"driver": "file", "discard": "unmap"}, True),
        ({"driver": "file"}, False),
        ({"driver": "memory", "size": SIZE}, True),
        ({"driver": "null-co"}, False),
    ],
)
def test_a_node_says_whether_it_can_free_space(
    image: Path, options: dict[str, object], expected: bool
) -> None:
    if options["driver"] == "file":
        options = {**options, "filename": str(image)}
    disk = Disk(options)
    assert disk.node.can_unmap is expected
    disk.close()


@pytest.mark.parametrize(
    ("flags", "discard", "freed"),
    [
        (Flags.NONE, "unmap", False),
        (Flags.MAY_UNMAP, "ignore", False),
        (Flags.MAY_UNMAP, "unmap", True),
        (Flags.MAY_UNMAP | Flags.FUA, "unmap", True),
    ],
)
def test_zeroes_free_space_only_where_guest_and_user_agree(
    opened: Opener, image: Path, flags: Flags, discard: str, freed: bool
) -> None:
    before = blocks(image)
    disk = opened(discard=discard)
    assert disk.do(Op.WRITE_ZEROES, 0, SIZE // 2, flags=flags) == 0
    assert blocks(image) == (before // 2 if freed else before)
    assert disk.read(0, SIZE) == bytes(SIZE // 2) + b"\xaa" * (SIZE // 2)


@pytest.mark.parametrize(
    ("start", "end"), [(5, 6), (100, 70_001), (4096, 8192), (0, SIZE), (SIZE - 1, SIZE), (9, 9)]
)
@pytest.mark.parametrize("op", [Op.WRITE_ZEROES, Op.SECURE_ERASE])
def test_zeroes_are_exact(disk: Disk, image: Path, op: Op, start: int, end: int) -> None:
    assert disk.do(op, start, end - start, flags=Flags.MAY_UNMAP) == 0
    assert image.read_bytes() == b"\xaa" * start + bytes(end - start) + b"\xaa" * (SIZE - end)


def test_secure_erase_leaves_no_hole(disk: Disk, image: Path) -> None:
    before = blocks(image)
    assert disk.do(Op.SECURE_ERASE, 0, SIZE) == 0
    assert blocks(image) == before
    assert image.read_bytes() == bytes(SIZE)


@pytest.mark.parametrize(("mode", "freed"), [("off", False), ("on", False), ("unmap", True)])
def test_detected_zeroes(opened: Opener, image: Path, mode: str, freed: bool) -> None:
    before = blocks(image)
    disk = opened(**{"discard": "unmap", "detect-zeroes": mode})
    assert disk.write(0, bytes(SIZE // 2)) == 0
    assert disk.write(SIZE // 2, bytes(4095) + b"x") == 0
    assert (blocks(image) < before) is freed
    assert disk.read(0, SIZE // 2 + 4096) == bytes(SIZE // 2 + 4095) + b"x"


def test_where_a_file_system_cannot_zero_ranges_zeroes_are_written(
    disk: Disk, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(fd: int, mode: int, offset: int, length: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(linux, "fallocate", unsupported)
    assert disk.do(Op.WRITE_ZEROES, 77, 100_000, flags=Flags.MAY_UNMAP) == 0
    assert image.read_bytes() == b"\xaa" * 77 + bytes(100_000) + b"\xaa" * (SIZE - 100_077)
    assert disk.do(Op.WRITE_ZEROES, 0, 77, flags=Flags.NO_FALLBACK) == errno.ENOTSUP
    assert disk.do(Op.DISCARD, 0, SIZE) == 0, "a discard is advice"
    assert image.read_bytes()[:77] == b"\xaa" * 77


def test_a_real_failure_of_allocation_is_reported(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, mode: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(linux, "fallocate", full)
    assert disk.do(Op.WRITE_ZEROES, 0, 512) == errno.ENOSPC
    assert disk.do(Op.DISCARD, 0, 512) == errno.ENOSPC


def test_fallocate_tells_its_errno(image: Path) -> None:
    with image.open("rb") as file, pytest.raises(OSError) as caught:
        linux.fallocate(file.fileno(), linux.FALLOC_ZERO_RANGE, 0, 512)
    assert caught.value.errno == errno.EBADF


def test_on_a_tmpfs_everything_works_without_its_missing_calls() -> None:
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        if not linux.in_memory(file.fileno()):
            pytest.skip("/dev/shm is no tmpfs")
        path = Path(file.name)
        path.write_bytes(b"\xaa" * SIZE)
        disk = Disk({"driver": "file", "filename": str(path), "discard": "unmap"}, context=IoContext.wall())
        request = disk.submit(Op.READ, 0, 512)
        assert disk.ends[request] == 1, "read inline: there is no device to wait for"
        assert disk.do(Op.WRITE_ZEROES, 10, 100_000) == 0
        assert disk.do(Op.WRITE_ZEROES, 131_072, 65_536, flags=Flags.MAY_UNMAP) == 0
        expected = b"\xaa" * 10 + bytes(100_000) + b"\xaa" * (131_072 - 100_010) + bytes(65_536)
        assert disk.read(0, 196_608) == expected
        disk.close()


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


# --- errors and stability


def test_errors_of_the_host_are_the_requests(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = opened()

    def broken(*args: object) -> int:
        raise OSError(errno.EIO, "bad disk")

    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    def transfer(*_args: object, write: bool, flags: int = 0) -> int:
        return full() if write else broken()

    monkeypatch.setattr(os, "preadv", broken)
    monkeypatch.setattr(os, "pwritev", full)
    monkeypatch.setattr(Uring, "transfer", transfer)
    assert disk.do(Op.READ, 0, 512) == errno.EIO
    assert disk.write(0, b"x") == errno.ENOSPC


def test_short_writes_are_gone_on_with(disk: Disk, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, v, offset, flags: real(fd, [v[0][:100]], offset, flags))
    data = os.urandom(1000)
    assert disk.wait(disk.submit(Op.WRITE, 50, data=data, cut=333)) == 0
    assert image.read_bytes()[50:1050] == data


def flags_of_writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []
    real = os.pwritev

    def spy(fd: int, vectors: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        seen.append(flags)
        return real(fd, vectors, offset, flags)

    monkeypatch.setattr(os, "pwritev", spy)
    return seen


def test_what_a_short_write_leaves_is_written_as_stably(
    disk: Disk, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = os.pwritev, []

    def short(fd: int, vectors: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        seen.append(flags)
        return real(fd, [vectors[0][:2]], offset, flags)

    monkeypatch.setattr(os, "pwritev", short)
    assert disk.write(0, b"stable", Flags.FUA) == 0
    assert image.read_bytes()[:6] == b"stable"
    assert seen == [os.RWF_DSYNC] * 3


DATASYNC = 1
"""IORING_FSYNC_DATASYNC of linux/io_uring.h."""


def count_syncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []
    real = os.fdatasync

    def spy(fd: int) -> None:
        seen.append(fd)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", spy)
    return seen


def test_fua_is_a_synchronous_write_and_a_flush_is_fdatasync(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes, syncs = flags_of_writes(monkeypatch), count_syncs(monkeypatch)
    disk.write(0, b"x")
    disk.write(0, b"x", Flags.FUA)
    assert writes == [0, os.RWF_DSYNC]
    assert syncs == []
    disk.do(Op.FLUSH)
    assert len(syncs) == 1
    disk.do(Op.WRITE_ZEROES, 0, 512, flags=Flags.FUA)
    assert len(syncs) == 2
    disk.do(Op.SECURE_ERASE, 0, 512)
    assert len(syncs) == 3


@needs_uring
def test_io_uring_makes_stable_what_workers_do(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of the kernel: a write with FUA is a synchronous one, a flush is an fdatasync."""
    asked: list[tuple[int, int]] = []
    add = Uring._add

    def spy(
        ring: Uring, opcode: int, fd: int, offset: int, address: int, length: int, flags: int, held: object
    ) -> object:
        asked.append((opcode, flags))
        return add(ring, opcode, fd, offset, address, length, flags, held)

    disk = Disk({"driver": "file", "filename": str(image), "aio": "io_uring"}, context=IoContext.wall())
    monkeypatch.setattr(Uring, "_add", spy)
    disk.write(0, b"x")
    assert asked == [(uring.WRITE, 0)]
    disk.write(0, b"x", Flags.FUA)
    disk.do(Op.FLUSH)
    assert asked[1:] == [(uring.WRITE, os.RWF_DSYNC), (uring.FSYNC, DATASYNC)]
    del asked[:]
    disk.do(Op.WRITE_ZEROES, 0, 512, flags=Flags.FUA)
    disk.do(Op.SECURE_ERASE, 0, 512)
    assert asked == [(uring.FSYNC, DATASYNC)] * 2
    disk.close()


def test_no_flush_flushes_nothing(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk({"driver": "file", "filename": str(image), "cache": {"no-flush": True}})
    writes, syncs = flags_of_writes(monkeypatch), count_syncs(monkeypatch)
    disk.write(0, b"x", Flags.FUA)
    disk.do(Op.WRITE_ZEROES, 0, 512, flags=Flags.FUA)
    disk.do(Op.SECURE_ERASE, 0, 512)
    assert disk.do(Op.FLUSH) == 0
    assert syncs == []
    assert not any(writes)
    disk.close()


def test_after_a_failed_flush_no_flush_succeeds(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host may have dropped what it could not write and marked it clean; a later success would be a lie."""

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "write-back failed")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        assert disk.do(Op.FLUSH) == errno.EIO
    assert disk.do(Op.FLUSH) == errno.EIO
    assert disk.do(Op.WRITE_ZEROES, 0, 512, flags=Flags.FUA) == errno.EIO
    assert disk.write(0, b"x") == 0


@pytest.mark.parametrize(
    ("code", "lost"), [(errno.EIO, True), (errno.ENOSPC, False), (errno.EPERM, False), (errno.EBADF, False)]
)
def test_a_failed_synchronous_write_may_have_lost_more_than_itself(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, code: int, lost: bool
) -> None:
    def fail(*args: object) -> int:
        raise OSError(code, "failed")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", fail)
        assert disk.write(0, b"x", Flags.FUA) == code
    assert (disk.do(Op.FLUSH) != 0) is lost


def without_dsync(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """A host that knows no RWF_DSYNC."""
    real = os.pwritev

    def refusing(fd: int, vectors: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        if flags & os.RWF_DSYNC:
            raise OSError(code, "not here")
        return real(fd, vectors, offset, flags)

    monkeypatch.setattr(os, "pwritev", refusing)


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL])
def test_without_synchronous_writes_fua_is_a_write_and_a_sync(
    image: Path, monkeypatch: pytest.MonkeyPatch, code: int, direct: bool
) -> None:
    disk = Disk({"driver": "file", "filename": str(image), "cache": {"direct": direct}})
    without_dsync(monkeypatch, code)
    syncs = count_syncs(monkeypatch)
    assert disk.write(4096, b"stable" * 1000, Flags.FUA) == 0
    assert image.read_bytes()[4096:10096] == b"stable" * 1000
    assert len(syncs) == 1
    assert disk.do(Op.FLUSH) == 0
    disk.close()


def test_a_sync_that_fails_after_such_a_write_is_remembered(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "write-back failed")

    without_dsync(monkeypatch, errno.EOPNOTSUPP)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        assert disk.write(0, b"x", Flags.FUA) == errno.EIO
    assert disk.do(Op.FLUSH) == errno.EIO


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


def test_requests_to_a_closed_node_fail(opened: Opener) -> None:
    disk = opened()
    disk.node.close()
    assert disk.do(Op.READ, 0, 512) == errno.EBADF
    assert disk.write(0, b"x") == errno.EBADF
    assert disk.do(Op.FLUSH) == errno.EBADF


# --- auto-read-only


@pytest.fixture
def unwritable(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No file can be opened for writing, until `undo`."""
    really_open = os.open

    def refuse(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return really_open(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    return monkeypatch


def test_an_image_that_cannot_be_written_is_read_only(image: Path, unwritable: pytest.MonkeyPatch) -> None:
    graph = Graph(IoContext.virtual())
    file = {"driver": "file", "node-name": "f0", "filename": str(image)}
    with pytest.raises(BlockOptionError, match="Permission denied"):
        graph.add(file)
    # A child's is as its parent's.
    node = graph.add({"driver": "raw", "node-name": "r0", "auto-read-only": True, "file": file})
    assert node.read_only
    disk = Disk(node)
    assert disk.read(0, 1) == b"\xaa"
    assert disk.write(0, b"x") == errno.EPERM
    disk.backend.close()
    again = {**file, "auto-read-only": True, "discard": "unmap"}
    graph.context.run(graph.reopen(again))
    assert node.read_only
    with pytest.raises(BlockOptionError, match="cannot open"):
        graph.context.run(graph.reopen({**file, "discard": "unmap"}))
    unwritable.undo()
    graph.context.run(graph.reopen(again))
    assert not node.read_only
    assert Disk(node).write(0, b"x") == 0
    graph.close()
    assert image.read_bytes()[:1] == b"x"


@pytest.mark.parametrize("offset", [0, 512])
def test_a_disk_larger_than_there_can_be(image: Path, offset: int) -> None:
    file = {"driver": "file", "filename": str(image)}
    disk = Disk({"driver": "raw", "offset": offset, "file": file})
    for size in ((1 << 63) - 512, 1 << 70):
        with pytest.raises(OSError) as caught:
            disk.context.run(disk.backend.resize(size))
        assert caught.value.errno in (errno.EFBIG, errno.EINVAL), "whoever of us or the host says so"
    assert disk.read(0, 1) == b"\xaa"
    assert image.stat().st_size == SIZE
    disk.close()
