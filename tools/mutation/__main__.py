"""The command: `python -m tools.mutation`, which `make mutation` runs."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from guestsim.progress import Bar
from tools.mutation import page, trial
from tools.mutation.kept import Found, Kept
from tools.mutation.modules import PARTS, Part
from tools.mutation.mutants import Mutant, sample

USAGE = 2
BASELINE = 120.0
"""Seconds of CPU time that all tests of a part may take on the code as it is."""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def run(
    size: Annotated[int, typer.Option("--sample", min=1, help="So many mutants.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Another one is another sample.")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="Modules whose path has this in it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The results for a program.")] = False,
    fresh: Annotated[bool, typer.Option(help="Do not believe what an earlier run has found.")] = False,
    write: Annotated[bool, typer.Option(help="Write docs/mutation.md, of all samples so far.")] = True,
) -> None:
    """Run a sample of mutants against their tests; exit status 1 where a survivor has no judgement."""
    parts = {
        module: part
        for part in PARTS
        for module in part.modules
        if not only or any(word in module for word in only)
    }
    if not parts:
        raise _fail(f"no module of the table has {' or '.join(only or [])!r} in its path")
    try:
        judgements = page.judgements()
    except page.JudgementError as error:
        raise _fail(str(error)) from None
    mutants = sample(parts, size, seed)
    kept = Kept(fresh=fresh)
    mutants.sort(key=lambda each: list(parts).index(each.module))
    runner = Runner(parts, kept, judgements)
    for near in (True, False):
        left = [each for each in mutants if runner.wants(each, near=near)]
        # Survivors of earlier runs come last: new mutants tell more.
        left.sort(key=lambda each: kept.known(each) is not None)
        with Bar("mutants" if near else "survivors, and tests further away", len(left), counted=True) as bar:
            for mutant in left:
                runner.run(mutant, near=near)
                bar.more()
    found = [known for each in mutants if (known := kept.known(each)) is not None]
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    else:
        _print(found, judgements)
    if write and not only:
        page.PAGE.write_text(page.markdown(found, judgements, size, seed), encoding="utf-8")
    if any(not each.killed and page.judged(judgements, each) is None for each in found):
        raise typer.Exit(1)


class Runner:
    """Runs mutants against the tests of their parts, which must pass without a mutant."""

    def __init__(self, parts: dict[str, Part], kept: Kept, judgements: page.Judgements) -> None:
        self._parts = parts
        self._kept = kept
        self._judgements = judgements
        self._limits: dict[tuple[str, ...], float] = {}
        trial.prepare()

    def wants(self, mutant: Mutant, *, near: bool) -> bool:
        """Whether these tests may tell more of it than is known."""
        known = self._kept.known(mutant)
        if known is None:
            return near
        return not known.killed and not page.settled(self._judgements, known)

    def run(self, mutant: Mutant, *, near: bool) -> None:
        """Run and keep the result."""
        part = self._parts[mutant.module]
        tests = part.near if near else part.far
        if tests not in self._limits:
            self._limits[tests] = _limit(part, tests)
        self._kept.add(mutant, trial.run(mutant, tests, self._limits[tests]))


def _limit(part: Part, tests: tuple[str, ...]) -> float:
    """Seconds of CPU time after which a mutant is said to loop."""
    result = trial.run(None, tests, BASELINE)
    if not result.passed:
        raise _fail(f"{part.name}: its tests fail on the code as it is: {result.test or ' '.join(tests)}")
    return 3 + 3 * result.seconds


def _print(found: list[Found], judgements: page.Judgements) -> None:
    table = Table(title="Mutants", title_justify="left")
    for heading in page.COLUMNS:
        table.add_column(heading, justify="left" if heading == "module" else "right")
    for row in page.rows(found, judgements):
        table.add_row(*row)
    console = Console()
    console.print(table)
    for each in found:
        if not each.killed and page.judged(judgements, each) is None:
            console.print(f"{each.module}:{each.line}: {each.was}\n    -> {each.becomes}", markup=False)


def _fail(message: str) -> typer.Exit:
    typer.echo(f"mutation: {message}", err=True)
    return typer.Exit(USAGE)


if __name__ == "__main__":
    app(prog_name="mutation")
