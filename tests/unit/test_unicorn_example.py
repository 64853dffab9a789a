"""`examples/unicorn`: a program on bare metal in Unicorn, with our disk."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "examples" / "unicorn" / "run.py"
PATTERN = bytes((at * 7 + at // 256) & 0xFF for at in range(4096))


@pytest.fixture(autouse=True)
def _tools() -> None:
    """Skip where gcc or unicorn is missing; in CI, which sets `CI=true`, that is a failure."""
    missing = ["gcc"] if shutil.which("gcc") is None else []
    missing += ["the package unicorn"] if importlib.util.find_spec("unicorn") is None else []
    if missing:
        reason = f"needs {' and '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.mark.long
@pytest.mark.parametrize(
    "memory",
    [pytest.param([], id="bounced"), pytest.param(["--shared"], id="shared", marks=pytest.mark.slow)],
)
def test_the_program_finds_its_disk_writes_and_verifies(tmp_path: Path, memory: list[str]) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    command = [sys.executable, "-W", "error", str(RUN), "--image", str(image), *memory]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "disk of 2048 sectors, serial unicorn",
        "wrote 4096 bytes at sector 100",
        "read them back: all as written",
    ]
    assert image.read_bytes()[51200 : 51200 + 4096] == PATTERN


@pytest.mark.long
def test_a_program_whose_disk_fails_says_so(tmp_path: Path) -> None:
    """Sector 100 lies beyond the end of this image."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(512 * 100))
    command = [sys.executable, str(RUN), "--image", str(image)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "failed: write"
    assert "VIRTIO 1.4 §5.2.6.1" in done.stderr
