"""The disk in a file: discards and zeroes, and the space that they free."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

import pytest

from devmodels.blockbackend import Flags, Op
from devmodels.blockbackend.drivers import linux
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.file.conftest import SIZE, Opener, blocks
from tests.unit.blockbackend.support import Disk


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
