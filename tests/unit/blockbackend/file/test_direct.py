"""cache.direct: past the page cache, with the guest's odd offsets, lengths and addresses."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devmodels.blockbackend import BlockOptionError, Flags, Op, open_node
from devmodels.blockbackend.drivers import direct
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import Disk, payload

SIZE = 20 * 4096 + 512 + 100
WHOLE = 20 * 4096 + 1024


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"\xaa" * SIZE)
    return path


def open_direct(image: Path, context: IoContext | None = None) -> Disk:
    options: dict[str, object] = {"driver": "file", "filename": str(image), "cache": {"direct": True}}
    try:
        return Disk(options, context=context)
    except BlockOptionError as error:
        if "has no O_DIRECT" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture
def disk(image: Path) -> Iterator[Disk]:
    disk = open_direct(image)
    yield disk
    disk.close()


def content() -> bytearray:
    return bytearray(b"\xaa" * SIZE + bytes(WHOLE - SIZE))


def test_the_alignment_is_found_by_trying(disk: Disk) -> None:
    assert disk.node.limits.request_alignment in (512, 1024, 2048, 4096)


@pytest.mark.parametrize(
    ("start", "length"), [(0, 4096), (1, 1), (4095, 2), (3, 9000), (SIZE - 50, 100), (WHOLE - 1, 1)]
)
def test_odd_writes_and_reads(disk: Disk, image: Path, start: int, length: int) -> None:
    model = content()
    data = os.urandom(length)
    assert disk.write(start, data) == 0
    model[start : start + length] = data
    first, last = max(start - 7, 0), min(start + length + 7, WHOLE)
    assert disk.read(first, last - first) == model[first:last]
    assert disk.read(0, WHOLE) == model
    assert image.stat().st_size <= WHOLE, "the last block must not make the file grow"


@pytest.mark.parametrize("op", [Op.WRITE_ZEROES, Op.SECURE_ERASE])
def test_zeroes(disk: Disk, op: Op) -> None:
    model = content()
    for start, end in ((5, 6), (4096, 8192), (10_000, 50_001), (SIZE - 3, WHOLE)):
        assert disk.do(op, start, end - start) == 0
        model[start:end] = bytes(end - start)
    assert disk.read(0, WHOLE) == model


def test_memory_that_the_kernel_refuses_goes_through_a_buffer(
    disk: Disk, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels and devices differ in what they refuse: here everything that is not a page of its own."""
    real_read, real_write = os.preadv, os.pwritev

    def picky(call: Callable[..., int]) -> Callable[..., int]:
        def wrapped(fd: int, vectors: list[memoryview], offset: int, flags: int = 0) -> int:
            if len(vectors) != 1 or not isinstance(vectors[0].obj, mmap.mmap):
                raise OSError(errno.EINVAL, "not aligned")
            return call(fd, vectors, offset, flags)

        return wrapped

    monkeypatch.setattr(os, "preadv", picky(real_read))
    monkeypatch.setattr(os, "pwritev", picky(real_write))
    monkeypatch.setattr(direct, "BOUNCE_SIZE", 8192)
    data = os.urandom(50_000)
    assert disk.wait(disk.submit(Op.WRITE, 777, data=data, cut=999)) == 0
    model = content()
    model[777:50_777] = data
    assert disk.read(0, WHOLE) == model


def test_on_workers_too(image: Path) -> None:
    disk = open_direct(image, IoContext.wall())
    request = disk.submit(Op.READ, 0, 512)
    assert disk.ends[request] == 0, "a direct read waits for the device: never inline"
    assert disk.wait(request) == 0
    assert disk.write(100, b"x" * 5000, Flags.FUA) == 0
    assert disk.read(98, 4) == b"\xaa\xaaxx"
    disk.close()


def test_a_failed_flush_is_not_remembered(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes have reached the device; no page cache can have forgotten them."""

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "failed")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        assert disk.do(Op.FLUSH) == errno.EIO
    assert disk.do(Op.FLUSH) == 0


@pytest.mark.parametrize("aligned_to", [1, 512, 4096])
def test_a_file_whose_alignment_cannot_be_found_is_refused_or_gets_the_safe_one(
    image: Path, monkeypatch: pytest.MonkeyPatch, aligned_to: int
) -> None:
    def read(fd: int, vectors: list[memoryview], offset: int, flags: int = 0) -> int:
        if len(vectors[0]) % aligned_to:
            raise OSError(errno.EINVAL, "not aligned")
        return 0

    monkeypatch.setattr(os, "preadv", read)
    disk = open_direct(image)
    assert disk.node.limits.request_alignment == {1: 4096, 512: 512, 4096: 4096}[aligned_to]
    disk.close()


def test_a_last_block_that_reaches_beyond_the_disk_does_not_make_the_file_grow(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "probe_alignment", lambda fd: 4096)
    disk = open_direct(image)
    model = content()
    for start, data in ((WHOLE - 4, b"last"), (WHOLE - 600, b"y" * 10)):
        assert disk.write(start, data) == 0
        model[start : start + len(data)] = data
        assert image.stat().st_size == WHOLE
    assert disk.do(Op.WRITE_ZEROES, WHOLE - 900, 300) == 0
    model[WHOLE - 900 : WHOLE - 600] = bytes(300)
    assert disk.read(0, WHOLE) == model
    disk.close()
    assert image.read_bytes() == model


def test_an_image_that_cannot_be_read_at_all_is_refused(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_direct(image).close()

    def read(fd: int, vectors: list[memoryview], offset: int, flags: int = 0) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", read)
    context = IoContext.virtual()
    with pytest.raises(BlockOptionError, match=r"cannot be read that way: Input/output error"):
        open_node({"driver": "file", "filename": str(image), "cache": {"direct": True}}, context)
    context.close()


CHANGE = st.tuples(
    st.sampled_from([Op.WRITE, Op.WRITE_ZEROES, Op.READ]), st.integers(0, WHOLE), st.integers(0, 9000)
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=settings().max_examples // 3
)
@given(st.lists(CHANGE, max_size=8), st.randoms(use_true_random=False))
def test_any_sequence_leaves_what_was_written(
    image: Path, changes: list[tuple[Op, int, int]], random: object
) -> None:
    image.write_bytes(b"\xaa" * SIZE)
    model = content()
    with closing(open_direct(image)) as disk:
        for op, start, length in changes:
            end = min(start + length, WHOLE)
            data = random.randbytes(end - start) if op is Op.WRITE else None  # type: ignore[attr-defined]
            request = disk.submit(op, start, end - start, data)
            assert disk.wait(request) == 0
            if op is Op.READ:
                assert payload(request) == model[start:end]
            else:
                model[start:end] = bytes(end - start) if data is None else data
        assert disk.read(0, WHOLE) == model
    assert (image.read_bytes() + bytes(WHOLE))[:WHOLE] == model
