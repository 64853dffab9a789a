"""`preallocate` against QEMU's: an image below it is as long while it grows, and afterwards."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.unit.blockbackend.qemuio import need
from tests.unit.blockbackend.test_preallocate import MIB, World

pytestmark = pytest.mark.qemu


@pytest.fixture(autouse=True)
def _tools() -> None:
    need("qemu-img", "qemu-io")


def qemus_lengths(image: Path, options: dict[str, object]) -> list[int]:
    """How long a new qcow2 image is after its first write, after one more, and when it has been closed."""
    create = ["qemu-img", "create", "-q", "-f", "qcow2", str(image), "64M"]
    subprocess.run(create, check=True, capture_output=True, timeout=60)
    file = {"driver": "preallocate", **options, "file": {"driver": "file", "filename": str(image)}}
    command = ["qemu-io", "json:" + json.dumps({"driver": "qcow2", "file": file})]
    lengths = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for text in ("write -P 1 0 64k", "write -P 1 64k 4M"):
            process.stdin.write(text + "\n")
            process.stdin.flush()
            while "ops/sec" not in process.stdout.readline():
                pass
            lengths.append(image.stat().st_size)
        process.stdin.write("quit\n")
        process.stdin.flush()
        process.wait(timeout=60)
    return [*lengths, image.stat().st_size]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prealloc-size": 3 * MIB},
        {"prealloc-size": 0, "prealloc-align": 8 * MIB},
        {"prealloc-size": 100, "prealloc-align": 512 << 10},
    ],
)
def test_the_file_is_as_long_as_qemus(tmp_path: Path, options: dict[str, object]) -> None:
    theirs = qemus_lengths(tmp_path / "qcow2", options)
    world = World(tmp_path / "ours", options)
    world.context.run(world.backend.resize(256 << 10))  # qcow2's own, before it has any data.
    with world.format():
        # A table, and then data: as qcow2 does it.
        world.put(256 << 10, b"t" * (64 << 10))
        world.put(320 << 10, b"d" * (64 << 10))
        lengths = [world.length]
        world.put(384 << 10, b"d" * 4 * MIB)
        lengths.append(world.length)
    assert [*lengths, world.length] == theirs
    world.close()
