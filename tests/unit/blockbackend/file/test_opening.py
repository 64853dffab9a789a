"""The disk in a file: closed, opened for reading alone, or too large."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from devmodels.blockbackend import BlockOptionError, Graph, Op
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.file.conftest import SIZE, Opener
from tests.unit.blockbackend.support import Disk


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
