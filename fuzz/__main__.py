"""The command: `python -m fuzz`, which `make fuzz` runs."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fuzz.campaign import Campaign
from fuzz.findings import ROOT, of_exception
from fuzz.target import Target
from fuzz.targets import TARGETS
from fuzz.watch import watched
from guestsim.progress import Bar

WORK = ROOT / ".cache" / "fuzz"
WRONG, USAGE = 1, 2

app = typer.Typer(add_completion=False, rich_markup_mode=None)


def _fail(message: str) -> typer.Exit:
    typer.echo(f"fuzz: {message}", err=True)
    return typer.Exit(USAGE)


def _chosen(names: list[str]) -> list[Target]:
    for name in names:
        if name not in TARGETS:
            raise _fail(f"no target {name!r}; there are {', '.join(TARGETS)}")
    return [TARGETS[name] for name in names or TARGETS]


@app.command()
def run(
    seconds: Annotated[int, typer.Option(min=1, help="Of fuzzing, for all targets together.")] = 60,
    target: Annotated[list[str] | None, typer.Option(help="This one only; may be given again.")] = None,
    seed: Annotated[int | None, typer.Option(min=1, max=(1 << 32) - 1, help="Of the engine's.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at a time.")] = len(os.sched_getaffinity(0)),
    as_json: Annotated[bool, typer.Option("--json", help="The table for a program.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Which targets there are.")] = False,
    reproduce: Annotated[Path | None, typer.Option(help="Run one input of one target again.")] = None,
    keep: Annotated[bool, typer.Option(help="Keep the best of the inputs in the repository.")] = False,
    work: Annotated[Path, typer.Option(help="Where inputs and findings are.")] = WORK,
) -> None:
    """Fuzz the targets; exit status 1 where something was found."""
    targets = _chosen(target or [])
    if listed:
        for each in targets:
            typer.echo(f"{each.name:24}{each.about}")
        return
    if reproduce is not None:
        _reproduce(targets, reproduce)
        return
    if keep:
        _keep(targets, work / "inputs")
        return
    if find_spec("atheris") is None:
        raise _fail("the engine is not installed: pip install 'devmodels[fuzz]'")
    try:
        (work / "inputs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _fail(f"--work: {work} cannot be made: {error.strerror}") from None
    campaign = Campaign(
        [each.name for each in targets],
        seconds=seconds,
        jobs=jobs,
        seed=seed or 1 + secrets.randbits(31),
        work=work / "inputs",
        findings=work / "findings" / str(os.getpid()),
    )
    # Workers end with it, however it is told to end.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    campaign.run(Console(stderr=True, soft_wrap=True))
    if as_json:
        typer.echo(json.dumps(campaign.plain(), indent=2))
    else:
        console = Console()
        console.print(campaign.table())
        told = ", stopped before its end" if campaign.stopped else ""
        console.print(f"{campaign.each} s for each target, seed {campaign.seed}{told}", highlight=False)
    _tell(campaign)


def _tell(campaign: Campaign) -> None:
    if campaign.findings.is_dir():
        for path in sorted(campaign.findings.glob("*.txt")):
            first = path.read_text().partition("\n")[0]
            typer.echo(f"{path.with_suffix('.input')}: {first}", err=True)
        if not any(campaign.findings.iterdir()):
            campaign.findings.rmdir()
    if any(each.wrong for each in campaign.all):
        raise typer.Exit(WRONG)


def _keep(targets: list[Target], inputs: Path) -> None:
    with Bar("targets", len(targets), counted=True) as bar:
        for target in targets:
            if (inputs / target.name).is_dir():
                arguments = [
                    sys.executable,
                    "-m",
                    "fuzz.keep",
                    target.name,
                    str((inputs / target.name).resolve()),
                ]
                subprocess.run(arguments, cwd=inputs, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
            bar.more()


def _reproduce(targets: list[Target], path: Path) -> None:
    if len(targets) != 1:
        raise _fail("--reproduce wants one --target")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _fail(f"{path}: {error.strerror}") from None
    try:
        watched(targets[0].load(), one_of=1)(data)
    except Exception as error:
        typer.echo(of_exception(targets[0].name, error, data).report)
        raise typer.Exit(WRONG) from None
    typer.echo("nothing went wrong")


if __name__ == "__main__":
    app(prog_name="fuzz")
