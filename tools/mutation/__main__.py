"""The command: `python -m tools.mutation`, which `make mutation` runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
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
    found = []
    with Bar("mutants", len(mutants), counted=True) as bar:
        for each in _results(mutants, parts, kept, judgements):
            found.append(each)
            bar.more()
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    else:
        _print(found, judgements)
    if write and not only:
        page.PAGE.write_text(page.markdown(found, judgements, size, seed), encoding="utf-8")
    if any(not each.killed and page.judged(judgements, each) is None for each in found):
        raise typer.Exit(1)


def _results(
    mutants: list[Mutant], parts: dict[str, Part], kept: Kept, judgements: page.Judgements
) -> Iterator[Found]:
    """What becomes of each mutant, part by part; the tests of a part must pass without a mutant."""
    trial.prepare()
    limits: dict[tuple[str, ...], float] = {}
    order = list(parts)
    # Survivors of earlier runs come last: new mutants tell more.
    for mutant in sorted(mutants, key=lambda each: (kept.known(each) is not None, order.index(each.module))):
        known = kept.known(mutant)
        if known is not None and (known.killed or page.settled(judgements, known)):
            yield known
            continue
        part = parts[mutant.module]
        for tests in (part.near, part.far):
            if tests not in limits:
                limits[tests] = _limit(part, tests)
            result = trial.run(mutant, tests, limits[tests])
            if not result.passed:
                break
        yield kept.add(mutant, result)


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
