"""The examples run, and say what their documentation says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_an_embedder_finds_the_disk_and_reads_its_size() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "embed.py")], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == [
        "virtio-blk in slot 4",
        "capacity 16384 sectors of 512 bytes",
        "device_status 1",
    ]
