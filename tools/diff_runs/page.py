"""docs/diff-runs.md: the figures of all recorded runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter

from guestsim.outputs import counted
from tools.diff_runs.records import Run

HEAD = """# Whole runs of `guestsim diff --random`

Written by [tools/diff_runs](../tools/diff_runs) from [diff-runs.json](diff-runs.json), which the same run writes:

```
python -m tools.diff_runs --steps 200000 --seed 100 --jobs 2
```

What is compared, and how, is in [diff.md](diff.md); what the names of known differences and of masks stand for in
[qemu-differences.md](qemu-differences.md). A known difference ends its sequence; a mask is counted each time that it
has hidden something. Requests held are those that a break point has held at the drive of both. The time is that of the
machine of the day, with what else ran on it.
"""

_COLUMNS = (
    *("device", "commit", "steps", "accesses", "sequences", "compared", "requests held", "known", "masked"),
    *("unexplained", "seconds"),
)


def page(runs: Sequence[Run]) -> str:
    """The page."""
    return "\n".join((HEAD, *_sections(runs)))


def _sections(runs: Sequence[Run]) -> Iterator[str]:
    for (profile, seed, asked), group in groupby(runs, attrgetter("group")):
        some = list(group)
        yield f"## Profile `{profile}`, seed {seed}, {asked:,} steps"
        yield ""
        yield from _table(_COLUMNS, (_figures(run) for run in some))
        yield ""
        yield from _unexplained(some)
        yield "### Known differences"
        yield ""
        yield from _counts(some, [run.known for run in some])
        yield ""
        yield "### Masks"
        yield ""
        yield from _counts(some, [run.masks for run in some])
        yield ""


def _figures(run: Run) -> tuple[str, ...]:
    figures = (
        *(run.steps, run.accesses, run.sequences, run.comparisons, run.held),
        *(sum(run.known.values()), sum(run.masks.values()), len(run.unexplained), round(run.seconds)),
    )
    return f"`{run.device}`", run.commit, *(f"{figure:,}" for figure in figures)


def _unexplained(runs: Iterable[Run]) -> Iterator[str]:
    for run in runs:
        if run.overtaken:
            yield (
                f"- `{run.device}`: {counted(run.overtaken, 'sequence')} ended early, "
                "as QEMU may have gone on before a reset came"
            )
            yield ""
        for one in run.unexplained:
            again = "" if one.seen_again else ", not seen again"
            yield (
                f"- `{run.device}`, sequence {one.sequence}, {one.count}×{again}: "
                f"{one.kind} {one.place}: ours {one.ours}, {one.theirs} there"
            )
            yield ""


def _counts(runs: Sequence[Run], counted: Sequence[dict[str, int]]) -> Iterator[str]:
    """A row for each name, a column for each device."""
    names = dict.fromkeys(name for one in counted for name in one)
    rows = ((name, *(f"{one[name]:,}" if name in one else "" for one in counted)) for name in names)
    yield from _table(("", *(f"`{run.device}`" for run in runs)), rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|---|{'---:|' * (len(heads) - 1)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
