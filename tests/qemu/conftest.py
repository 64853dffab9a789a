"""What the tests with a live QEMU need: QEMU itself, and an image."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

from .machines import sector_pattern

QEMU = "qemu-system-x86_64"


def missing_tools() -> list[str]:
    """What of QEMU and the client for its monitor isn't installed."""
    missing = [QEMU] if shutil.which(QEMU) is None else []
    if importlib.util.find_spec("qemu") is None or importlib.util.find_spec("qemu.qmp") is None:
        missing.append("the package qemu.qmp")
    return missing


@pytest.fixture
def qemu() -> None:
    """Skip the test where there is no QEMU; in CI, which sets `CI=true`, that is a failure."""
    if missing := missing_tools():
        reason = f"needs {' and '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A raw image of 1 MiB in which every sector holds its own number."""
    path = tmp_path / "disk.img"
    path.write_bytes(b"".join(sector_pattern(sector) for sector in range(2048)))
    return path
