"""Files that a command writes when its work is done: whether they can be written, before it begins."""

from __future__ import annotations

from pathlib import Path


def check_writable(path: Path) -> None:
    """OSError where no file can be written there; what is there stays as it is."""
    there = path.exists()
    path.open("ab").close()
    if not there:
        path.unlink()
