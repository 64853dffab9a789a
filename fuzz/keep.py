"""Choose which inputs are kept: the few that reach most lines together, and that are soon run.

python -m fuzz.keep TARGET CORPUS
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from fuzz import corpus
from fuzz.findings import ROOT
from fuzz.target import Run
from fuzz.targets import TARGETS
from fuzz.watch import watched

FEW = 12
"""Inputs of a target, at most."""
BYTES = 3000
"""Of them together, at most."""
SOON = 0.05
"""Seconds that they take together, at most."""
LOOK_AT = 150
"""Inputs, at most: those that were found last."""

Line = tuple[CodeType, int]


def reached(run: Run, data: bytes, folders: tuple[str, ...]) -> set[Line]:
    """The lines of code below `folders` that an input reaches; none where it goes wrong."""
    seen: set[Line] = set()

    def within(frame: FrameType, _event: str, _argument: Any) -> Callable[..., Any]:
        seen.add((frame.f_code, frame.f_lineno))
        return within

    def entered(frame: FrameType, _event: str, _argument: Any) -> Callable[..., Any] | None:
        return within if frame.f_code.co_filename.startswith(folders) else None

    sys.settrace(entered)
    try:
        run(data)
    except Exception:
        return set()
    finally:
        sys.settrace(None)
    return seen


def choose(run: Run, inputs: Iterable[bytes], folders: tuple[str, ...]) -> list[bytes]:
    """Of `inputs`, one after the other the one that adds most lines for its length."""
    lines = {data: reached(run, data, folders) for data in inputs}
    chosen: list[bytes] = []
    known: set[Line] = set()
    taken, room = 0.0, BYTES
    while lines and len(chosen) < FEW:
        best = max(lines, key=lambda data: (len(lines[data] - known) / (32 + len(data)), data))
        new = lines.pop(best) - known
        if not new:
            break
        begun = time.process_time()
        run(best)
        cost = time.process_time() - begun
        if taken + cost > SOON or len(best) > room:
            continue
        chosen.append(best)
        known |= new
        taken, room = taken + cost, room - len(best)
    return chosen


def main(arguments: list[str]) -> None:
    """Write the file of a target."""
    name, folder = arguments
    target = TARGETS[name]
    run = watched(target.load(), one_of=1 << 32)
    run(b"")
    newest = sorted(Path(folder).iterdir(), key=lambda path: -path.stat().st_mtime)
    inputs = dict.fromkeys([*corpus.kept(name), *(path.read_bytes() for path in newest[:LOOK_AT])])
    chosen = choose(run, inputs, tuple(str(ROOT / each) for each in target.packages))
    corpus.keep(name, chosen)


if __name__ == "__main__":
    main(sys.argv[1:])
