"""docs/mutation.md: the figures of all recorded runs, and each survivor with its judgement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tools.mutation.judgements import Judgements, equivalent, judged
from tools.mutation.modules import PARTS, ROOT
from tools.mutation.records import Record, Survivor
from tools.mutation.trial import How

PAGE = ROOT / "docs" / "mutation.md"
COLUMNS = ("module", "mutants", "killed", "survivors", "killed of all")
_RUNS = (
    "seed",
    "at commit",
    "mutants",
    "killed",
    "killed of all",
    "survivors",
    "equivalent",
    "killed since",
    "left",
)

HEAD = """# Mutation score of the rings and the register code

Written by [tools/mutation](../tools/mutation). A mutant is the code with one small change (another operator, a constant
one more or less, a condition turned round, a loop not run), made by
[cosmic-ray](https://cosmic-ray.readthedocs.io). Each is run against the tests that concern its module, near ones first;
it is killed where one of them fails, where it cannot be imported, where it uses more than three times their CPU time,
or where it sleeps for a minute. Places are drawn by the seed, one mutant for each, from all of the modules named below,
where annotations do not count. Hypothesis draws the same ten examples each time. Tests that start other processes do
not count: the mutant is not in them.

`make mutation SAMPLE=320 SEED=2 MUTATION=--write` is one run, which goes on where it was when it was interrupted;
`make mutation MUTATION=--again` tries the survivors of all runs once more.

## Runs

Each is all of a sample at one commit, and its figures are those of the first pass: before anything was done about its
survivors. These were then looked at one by one. `equivalent` ones can be seen by nobody: neither by a guest nor by an
embedder through what is public. For others tests were added, which kill them since. Lines are those of the commit.
"""


def rows(record: Record) -> list[tuple[str, ...]]:
    """The rows of a run's table, with one for everything at the end."""
    modules = [module for part in PARTS for module in part.modules if module in record.modules]
    table = [_row(_short(module), record.modules[module]) for module in modules]
    return [*table, _row("all", {how: record.total(how) for how in How})]


def _row(name: str, fates: dict[How, int]) -> tuple[str, ...]:
    mutants, survivors = sum(fates.values()), fates.get(How.PASSED, 0)
    return name, str(mutants), str(mutants - survivors), str(survivors), _share(mutants - survivors, mutants)


def markdown(records: Sequence[Record], given: Judgements) -> str:
    """The page."""
    lines = [HEAD, *_table(_RUNS, [_run(record, given) for record in records])]
    for record in records:
        lines += _section(record, given)
    return "\n".join(lines) + "\n"


def _run(record: Record, given: Judgements) -> tuple[str, ...]:
    mutants, survivors = record.total(), len(record.survivors)
    same = sum(equivalent(given, each) for each in record.survivors)
    since = sum(bool(each.by) for each in record.survivors)
    killed = mutants - survivors
    figures = (mutants, killed, _share(killed, mutants), survivors, same, since, survivors - same - since)
    return str(record.seed), record.commit, *map(str, figures)


def _section(record: Record, given: Judgements) -> Iterator[str]:
    of = f", of {' and '.join(record.only)}" if record.only else ""
    yield f"\n## Seed {record.seed}{of}\n"
    if record.had_tests:
        yield f"{record.had_tests} of those killed were survivors of earlier runs, for which tests had been added.\n"
    else:
        yield "No test had been added for any of these mutants.\n"
    yield from _table(COLUMNS, rows(record))
    yield (
        f"\nOf those killed, {record.total(How.TEST)} were killed by a test, {record.total(How.IMPORT)} as they "
        f"cannot be imported, {record.total(How.LOOP)} as they use too much CPU time, "
        f"{record.total(How.SLEEP)} as they sleep, {record.total(How.CRASH)} as they end the process.\n"
    )
    yield f"### Survivors of seed {record.seed}\n"
    ordered = sorted(record.survivors, key=lambda each: (each.module, each.line))
    columns = "Where", "Was", "Becomes", "Judgement"
    yield from _table(columns, [_survivor(each, given) for each in ordered], figures=False)


def _survivor(each: Survivor, given: Judgements) -> tuple[str, ...]:
    said = judged(given, each)
    words = f"{said.verdict}: {said.why}" if said else "not yet looked at"
    if said is not None and said.verdict == "test" and not each.by:
        words += ", which does not kill it"
    return f"{_short(each.module)}:{each.line}", _code(each.was), _code(each.becomes), words


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, figures: bool = True) -> list[str]:
    ruler = "|---|" + ("---:|" if figures else "---|") * (len(columns) - 1)
    return [f"| {' | '.join(columns)} |", ruler, *(f"| {' | '.join(row)} |" for row in rows)]


def _share(part: int, of: int) -> str:
    return f"{100 * part / of:.1f} %" if of else ""


def _short(module: str) -> str:
    return module.removeprefix("devmodels/")


def _code(text: str) -> str:
    return "`` " + text.replace("|", "\\|") + " ``"
