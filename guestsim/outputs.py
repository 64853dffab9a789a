"""What commands put out: whether a file can be written, before the work begins; numbers in words."""

from __future__ import annotations

from pathlib import Path


def check_writable(path: Path) -> None:
    """OSError where no file can be written there; what is there stays as it is."""
    there = path.exists()
    path.open("ab").close()
    if not there:
        path.unlink()


def counted(number: int, what: str) -> str:
    """So many of them: "1 step", "2 steps"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
