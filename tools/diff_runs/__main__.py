"""The command: `python -m tools.diff_runs`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from guestsim.diff.devices import DEVICES
from guestsim.diff.profiles import PROFILES
from guestsim.outputs import check_writable
from guestsim.targets import TargetError
from tools.commits import ROOT, current
from tools.diff_runs import page, records
from tools.diff_runs.records import RECORD
from tools.diff_runs.workers import USAGE, Task, together
from tools.progress import Progress

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def run(
    steps: Annotated[int, typer.Option(min=1, help="So many for each device.")] = 200_000,
    seed: Annotated[int, typer.Option(min=0, help="The seed of random sequences.")] = 100,
    device: Annotated[list[str] | None, typer.Option(help="Only this one; may be given again.")] = None,
    profile: Annotated[str, typer.Option(help="What our devices go by: strict or qemu.")] = "strict",
    jobs: Annotated[int, typer.Option(min=1, help="So many devices at once.")] = 1,
    output: Annotated[Path, typer.Option(help="The folder for sequences of unexplained differences.")] = ROOT
    / ".cache"
    / "diff",
    record: Annotated[Path, typer.Option(help="The record; its page is beside it, as .md.")] = RECORD,
) -> None:
    """Run `guestsim diff --random` for each device, and record what came of it as each ends.

    Exit status 1 where a difference is unexplained, 2 where an option is wrong or QEMU cannot be started.
    """
    names = device or list(DEVICES)
    wrong = [name for name in names if name not in DEVICES]
    if wrong:
        raise _fail(f"--device: {wrong[0]} is given, expected one of {', '.join(DEVICES)}")
    chosen = next((one for one in PROFILES if one == profile), None)
    if chosen is None:
        raise _fail(f"--profile: {profile} is given, expected one of {', '.join(PROFILES)}")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _fail(f"--output: {output} cannot be made: {error.strerror}") from None
    try:
        check_writable(record)
    except OSError as error:
        raise _fail(f"--record: {record} cannot be written: {error.strerror}") from None
    commit = current("devmodels", "guestsim")
    tasks = [Task(name, chosen, seed, steps, output, commit) for name in names]
    # What runs is ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(USAGE))
    unexplained = 0
    try:
        with Progress("diff_runs", "steps", steps * len(tasks), counted=False) as progress:
            for one in together(tasks, jobs, progress):
                runs = records.write(one, record)
                record.with_suffix(".md").write_text(page.page(runs), encoding="utf-8")
                unexplained += len(one.unexplained)
                said = f"{one.device}: {one.steps} steps in {one.seconds:.0f} s, {len(one.unexplained)} unexplained"
                typer.echo(said)
    except TargetError as error:
        raise _fail(str(error)) from None
    except KeyboardInterrupt:
        raise _fail("stopped; what had ended before is recorded") from None
    if unexplained:
        raise typer.Exit(1)


def _fail(message: str) -> typer.Exit:
    typer.echo(f"diff_runs: {message}", err=True)
    return typer.Exit(USAGE)


if __name__ == "__main__":
    app(prog_name="diff_runs")
