"""Whole runs, one file each in records/: their first pass as it was, and what kills its survivors today."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tools.commits import current
from tools.mutation.judgements import Judgements, judged
from tools.mutation.kept import Found
from tools.mutation.trial import How

FOLDER = Path(__file__).with_name("records")


class Survivor(msgspec.Struct):
    """A mutant that no test saw in the first pass; `by` says what sees it today, if anything."""

    module: str
    line: int
    was: str
    becomes: str
    nth: int
    by: str = ""


class Record(msgspec.Struct):
    """A run of all of a sample at one commit; `modules` have the number of mutants of each fate."""

    seed: int
    commit: str
    only: list[str]
    """The sample is of modules with one of these words in their paths; of all where there is none."""
    had_tests: int
    """How many were killed that had been survivors of an earlier run, and got tests."""
    modules: dict[str, dict[How, int]]
    survivors: list[Survivor]

    def total(self, *hows: How) -> int:
        """Mutants of these fates; of all where none is named."""
        return sum(sum(fates.get(how, 0) for how in hows or How) for fates in self.modules.values())


def made(found: Sequence[Found], seed: int, only: Sequence[str], given: Judgements) -> Record:
    """The record of a run."""
    modules: dict[str, Counter[How]] = {}
    for each in found:
        modules.setdefault(each.module, Counter())[each.how] += 1
    return Record(
        seed,
        current("devmodels", "guestsim", "tests"),
        list(only),
        sum(each.killed and judged(given, each) is not None for each in found),
        {module: dict(fates) for module, fates in modules.items()},
        [
            Survivor(each.module, each.line, each.was, each.becomes, each.nth)
            for each in found
            if not each.killed
        ],
    )


def read() -> list[Record]:
    """All of them, by seed."""
    paths = FOLDER.glob("seed-*.json")
    return sorted(
        (msgspec.json.decode(path.read_bytes(), type=Record) for path in paths), key=lambda each: each.seed
    )


def write(record: Record) -> None:
    """Keep it in place of an earlier one of its seed."""
    FOLDER.mkdir(exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(record), indent=1)
    Path(FOLDER, f"seed-{record.seed}.json").write_bytes(text + b"\n")
