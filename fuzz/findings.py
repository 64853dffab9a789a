"""What was found: an input, and where it went wrong; each place once."""

from __future__ import annotations

import hashlib
import traceback
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOT_OURS = ("site-packages", "/lib/python", "<frozen")
DEEPEST = 3
"""Frames that tell one finding from another."""


@dataclass(frozen=True)
class Finding:
    """`where`: the innermost frames of the project."""

    target: str
    kind: str
    message: str
    where: tuple[str, ...]
    data: bytes
    report: str

    @property
    def name(self) -> str:
        """Short, the same for all inputs that go wrong there."""
        return hashlib.sha256("\n".join((self.kind, *self.where)).encode()).hexdigest()[:10]


def of_exception(target: str, error: BaseException, data: bytes) -> Finding:
    """The finding of an exception, which has a cause below it or not."""
    deepest = error
    while deepest.__cause__ is not None:
        deepest = deepest.__cause__
    frames = [
        f"{_short(frame.filename)}:{frame.name}"
        for frame in traceback.extract_tb(deepest.__traceback__)
        if not any(part in frame.filename for part in NOT_OURS)
    ]
    lines = str(error).splitlines() or [""]
    report = "".join(traceback.format_exception(error))
    return Finding(target, type(deepest).__name__, lines[0], tuple(frames[-DEEPEST:]), data, report)


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


class Findings:
    """The findings of one run of a target, in files of a folder: `NAME.input` and `NAME.txt`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: set[str] = set()

    def add(self, finding: Finding) -> None:
        """Keep it, if nothing is known yet that went wrong there."""
        if finding.name in self._known:
            return
        self._known.add(finding.name)
        self._folder.mkdir(parents=True, exist_ok=True)
        stem = f"{finding.target}-{finding.name}"
        (self._folder / f"{stem}.input").write_bytes(finding.data)
        text = f"{finding.kind}: {finding.message}\n\n{finding.report}"
        (self._folder / f"{stem}.txt").write_text(text)
