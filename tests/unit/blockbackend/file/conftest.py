"""A disk in a file, opened in every way there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devmodels.iocontext import IoContext
from tests.host import needs_uring
from tests.unit.blockbackend.support import Disk

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
