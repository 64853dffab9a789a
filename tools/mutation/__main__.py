"""The command: `python -m tools.mutation`, which `make mutation` runs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from tools.mutation import judgements, page, records, trial
from tools.mutation.kept import Found, Kept
from tools.mutation.modules import PARTS
from tools.mutation.mutants import Mutant, named, sample
from tools.progress import Progress

USAGE = 2
BASELINE = 600.0
"""Seconds of CPU time that all tests of a part may take on the code as it is."""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def run(
    size: Annotated[int, typer.Option("--sample", min=1, help="So many mutants.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Another one is another sample.")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="Modules whose path has this in it.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="So many at once.")] = os.cpu_count() or 1,
    as_json: Annotated[bool, typer.Option("--json", help="The results for a program.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not go on with an earlier run.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Record the run; write docs/mutation.md.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="The survivors of recorded runs instead; write docs/mutation.md.")
    ] = False,
) -> None:
    """Run a sample of mutants against their tests; exit status 1 where a survivor has no judgement."""
    try:
        given = judgements.read()
    except judgements.JudgementError as error:
        raise _fail(str(error)) from None
    # What runs is ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(USAGE))
    runner = Runner(jobs, fresh=fresh)
    if again:
        _again(runner, given)
        return
    words = only or []
    modules = [module for part in PARTS for module in part.modules]
    modules = [each for each in modules if not words or any(word in each for word in words)]
    if not modules:
        raise _fail(f"no module of the table has {' or '.join(words)!r} in its path")
    found = runner.run(sample(modules, size, seed))
    record = records.made(found, seed, words, given)
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    else:
        _print(record, given)
    if write:
        records.write(record)
        _page(given)
    if any(not each.killed and judgements.judged(given, each) is None for each in found):
        raise typer.Exit(1)


def _again(runner: Runner, given: judgements.Judgements) -> None:
    runs = records.read()
    pairs = [
        (each, mutant)
        for record in runs
        for each in record.survivors
        if not each.by and not judgements.equivalent(given, each)
        if (mutant := named(each.module, each.was, each.becomes, each.nth)) is not None
    ]
    for (each, _), found in zip(pairs, runner.run([mutant for _, mutant in pairs]), strict=True):
        each.by = found.test or (found.how if found.killed else "")
    for record in runs:
        records.write(record)
    _page(given)
    still = [each for each, _ in pairs if not each.by]
    for each in still:
        typer.echo(f"{each.module}:{each.line}: {each.was}\n    -> {each.becomes}")
    if still:
        raise typer.Exit(1)


class Runner:
    """Runs mutants against the tests of their parts, which must pass without a mutant."""

    def __init__(self, jobs: int, *, fresh: bool) -> None:
        self._jobs = jobs
        self._parts = {module: part for part in PARTS for module in part.modules}
        self._near = Kept("near", fresh=fresh)
        self._far = Kept("far", fresh=fresh)
        self._limits: dict[tuple[str, ...], float] = {}
        trial.prepare()

    def run(self, mutants: Sequence[Mutant]) -> list[Found]:
        """What became of them, in order: first by the near tests, then of survivors by those further away."""
        near = self._stage("near tests", mutants, self._near, near=True)
        left = [each for each, found in zip(mutants, near, strict=True) if not found.killed]
        far = iter(self._stage("tests further away", left, self._far, near=False))
        return [found if found.killed else next(far) for found in near]

    def _stage(self, what: str, mutants: Sequence[Mutant], kept: Kept, *, near: bool) -> list[Found]:
        new = [each for each in mutants if kept.known(each) is None]
        jobs = [(self._parts[each.module].tests(near=near), each) for each in new]
        self._measure({tests for tests, _ in jobs})
        todo = (trial.Job(mutant, tests, self._limits[tests]) for tests, mutant in jobs)
        survivors = 0
        with Progress("mutation", what, len(new)) as progress:
            for job, result in trial.run(todo, self._jobs):
                if job.mutant is not None:
                    survivors += not kept.add(job.mutant, result).killed
                progress.more(f"{survivors} not killed")
        return [found for each in mutants if (found := kept.known(each)) is not None]

    def _measure(self, several: set[tuple[str, ...]]) -> None:
        """Seconds of CPU time after which a mutant is said to loop, for each set of tests."""
        todo = [trial.Job(None, tests, BASELINE) for tests in sorted(several - set(self._limits))]
        with Progress("mutation", "the code as it is", len(todo)) as progress:
            for job, result in trial.run(todo, self._jobs):
                if result.how is not trial.How.PASSED:
                    which = result.test or f"{job.tests[0]} and others: {result.how}"
                    raise _fail(f"tests fail on the code as it is: {which}")
                self._limits[job.tests] = 3 + 3 * result.seconds
                progress.more()


def _page(given: judgements.Judgements) -> None:
    page.PAGE.write_text(page.markdown(records.read(), given), encoding="utf-8")


def _print(record: records.Record, given: judgements.Judgements) -> None:
    table = Table(title=f"Mutants of seed {record.seed} at {record.commit}", title_justify="left")
    for heading in page.COLUMNS:
        table.add_column(heading, justify="left" if heading == "module" else "right")
    for row in page.rows(record):
        table.add_row(*row)
    console = Console()
    console.print(table)
    for each in record.survivors:
        said = judgements.judged(given, each)
        verdict = said.verdict if said else "new"
        text = f"{each.module}:{each.line}: {verdict}: {each.was}\n    -> {each.becomes}"
        console.print(text, markup=False, soft_wrap=True)


def _fail(message: str) -> typer.Exit:
    typer.echo(f"mutation: {message}", err=True)
    return typer.Exit(USAGE)


if __name__ == "__main__":
    app(prog_name="mutation")
