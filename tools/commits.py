"""Which commit a recorded run is of."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def current(*folders: str) -> str:
    """The commit that is checked out; with a note where one of these folders has been changed since."""
    changed = _git("status", "--porcelain", "--", *folders)
    return _git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
