"""The disk in a file: what becomes of the host's errors, and what is stable when."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from devmodels.blockbackend import Flags, Op
from devmodels.iocontext import IoContext, uring
from devmodels.iocontext.uring import Uring
from tests.host import needs_uring
from tests.unit.blockbackend.file.conftest import Opener
from tests.unit.blockbackend.support import Disk


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
