"""The disk in a file: what the guest writes is in the file afterwards, however long it is."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from devmodels.blockbackend import Op
from devmodels.blockbackend.drivers.file import FileNode
from tests.unit.blockbackend.file.conftest import SIZE, Opener
from tests.unit.blockbackend.support import payload


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
