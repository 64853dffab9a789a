"""The record: a run of each device, with what was counted.  A run of the same device, seed, steps and profile takes
the place of the one before it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from guestsim.diff.command import to_json
from guestsim.diff.devices import DEVICES
from guestsim.diff.run import Report
from tools.commits import ROOT

RECORD = ROOT / "docs" / "diff-runs.json"


class Unexplained(msgspec.Struct, rename="kebab"):
    """A difference that no table names; `seen_again`: when its sequence was played once more."""

    kind: str
    place: str
    ours: str
    theirs: str
    count: int
    sequence: int
    seen_again: bool


class Run(msgspec.Struct):
    """One device at one commit.  `asked` are the steps that it was to do; `seconds` are those it took."""

    device: str
    profile: str
    seed: int
    asked: int
    commit: str
    steps: int
    accesses: int
    sequences: int
    comparisons: int
    held: int
    seconds: float
    known: dict[str, int]
    masks: dict[str, int]
    unexplained: list[Unexplained]
    overtaken: int = 0

    @property
    def group(self) -> tuple[str, int, int]:
        """What runs of several devices have in common."""
        return self.profile, self.seed, self.asked


def made(report: Report, commit: str, asked: int) -> Run:
    """The record of a run."""
    plain = to_json(report)
    for name in ("known", "masks"):
        rows = plain[name]
        assert isinstance(rows, list)
        plain[name] = {row["name"]: row["count"] for row in rows}
    return msgspec.convert({**plain, "commit": commit, "asked": asked}, Run)


def read(path: Path = RECORD) -> list[Run]:
    """All of them; none where there is no record yet."""
    return msgspec.json.decode(path.read_bytes(), type=list[Run]) if path.exists() else []


def write(run: Run, path: Path = RECORD) -> list[Run]:
    """Keep one more; all that there are then, those that belong together in the order of devices."""
    key = run.group, run.device
    runs = [one for one in read(path) if (one.group, one.device) != key]
    groups = list(dict.fromkeys(one.group for one in (*runs, run)))
    runs = sorted((*runs, run), key=lambda one: (groups.index(one.group), list(DEVICES).index(one.device)))
    path.write_bytes(msgspec.json.format(msgspec.json.encode(runs), indent=1) + b"\n")
    return runs
