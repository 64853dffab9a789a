"""blkverify against QEMU's: what it says of a difference, and that both write the same."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.unit.blockbackend.qemuio import do, need
from tests.unit.blockbackend.support import Disk

pytestmark = pytest.mark.qemu

SIZE = 1 << 20


@pytest.mark.parametrize(
    "command",
    ["read 0 4k", "read 512 1k", "read 1k 512", "read 0 512", "write 0 64k", "flush"],
)
@pytest.mark.parametrize("at", [0, 511, 512, 1535, 4095, 70000])
def test_it_says_what_qemus_says(tmp_path: Path, command: str, at: int) -> None:
    need("qemu-io")
    test, raw = tmp_path / "test.img", tmp_path / "raw.img"

    def write() -> None:
        raw.write_bytes(bytes(SIZE))
        test.write_bytes(bytes(at) + b"!" + bytes(SIZE - at - 1))

    options: dict[str, object] = {
        "driver": "blkverify",
        "test": {"driver": "file", "filename": str(test)},
        "raw": {"driver": "file", "filename": str(raw)},
    }
    write()
    answer = subprocess.run(
        ["qemu-io", "-c", command, "json:" + json.dumps(options)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    left = test.read_bytes(), raw.read_bytes()
    write()
    disk = Disk(options)
    failed = do(disk, command)
    said = disk.node.last_mismatch  # type: ignore[attr-defined]
    disk.close()
    assert (bool(failed), said) == (answer.returncode != 0, answer.stderr.strip())
    assert (test.read_bytes(), raw.read_bytes()) == left
