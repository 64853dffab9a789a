"""A file that is cut off while it is mapped kills nobody: its mapping is zeroes from then on."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from mmap import PAGESIZE
from threading import Thread

import pytest

from devmodels.exports.mapped_file import map_part

SIZE = 4 * PAGESIZE


@pytest.fixture
def file() -> Iterator[int]:
    fd = os.memfd_create("cut", os.MFD_CLOEXEC)
    os.write(fd, b"\xa5" * SIZE)
    yield fd
    os.close(fd)


def mapped(file: int, told: list[str], *, writable: bool = True) -> memoryview:
    return map_part(file, 0, SIZE, lambda: told.append("lost"), writable=writable)


@pytest.mark.parametrize("writable", [True, False])
def test_what_is_read_is_zeroes(file: int, writable: bool) -> None:
    told: list[str] = []
    view = mapped(file, told, writable=writable)
    words = view.cast("H")
    assert words[0] == 0xA5A5
    os.ftruncate(file, 0)
    assert words[PAGESIZE] == 0
    assert bytes(view) == bytes(SIZE)
    assert told == ["lost"]


def test_what_is_written_is_ours_alone(file: int) -> None:
    told: list[str] = []
    view = mapped(file, told)
    os.ftruncate(file, PAGESIZE)
    view[PAGESIZE - 4 : PAGESIZE + 4] = b"12345678"
    assert bytes(view[PAGESIZE : PAGESIZE + 4]) == b"5678"
    assert told == ["lost"]
    os.lseek(file, PAGESIZE - 4, os.SEEK_SET)
    assert os.read(file, 100) in (b"1234", b"\xa5" * 4)


def test_a_system_call_fails(file: int) -> None:
    """And the next look is one at zeroes."""
    told: list[str] = []
    view = mapped(file, told)
    os.ftruncate(file, 0)
    with open("/dev/zero", "rb") as zero, pytest.raises(OSError, match="Bad address"):
        os.preadv(zero.fileno(), [view], 0)
    assert told == []
    assert view[0] == 0
    assert told == ["lost"]


def test_on_another_thread(file: int) -> None:
    told: list[str] = []
    view = mapped(file, told)
    os.ftruncate(file, 0)
    found: list[bytes] = []
    thread = Thread(target=lambda: found.append(bytes(view)))
    thread.start()
    thread.join()
    assert found == [bytes(SIZE)]


@pytest.mark.long
def test_others_are_not_touched(file: int) -> None:
    told: list[str] = []
    first, second = mapped(file, told), map_part(file, 0, PAGESIZE, lambda: told.append("wrong"))
    other = os.memfd_create("other")
    os.ftruncate(other, SIZE)
    whole = map_part(other, 0, SIZE, lambda: told.append("wrong"))
    whole[:3] = b"abc"
    os.ftruncate(file, PAGESIZE)
    assert first[PAGESIZE] == 0
    assert (second[0], bytes(whole[:3])) == (0xA5, b"abc")
    assert told == ["lost"]
    del first, second, whole
    gc.collect()
    os.close(other)


def test_what_is_nobodys_is_left_to_whoever_had_it() -> None:
    """Here to the kernel: the process dies, as it would have without us."""
    program = (
        "import mmap, os\n"
        "from devmodels.exports.mapped_file import map_part\n"
        "fd = os.memfd_create('x'); os.ftruncate(fd, 4096)\n"
        "view = map_part(fd, 0, 4096, lambda: None)\n"
        "mine = mmap.mmap(fd, 4096)\n"
        "os.ftruncate(fd, 0)\n"
        "assert view[0] == 0\n"
        "mine[0]\n"
    )
    run = subprocess.run([sys.executable, "-c", program], check=False)
    assert run.returncode == -signal.SIGBUS
