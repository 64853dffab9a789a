"""`guestsim powercut`: cut the power under a working guest, again and again, and see whether anything is lost.

Exit status: 0 where nothing is, 1 where something is, 2 where an option is wrong.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from guestsim.powercut.stacks import DEVICES, STACKS, WriteCache
from guestsim.progress import Bar

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from guestsim.powercut.simulate import Loss, Result, Run

DEFAULT_CUTS = 2_000


def powercut_command(
    device: Annotated[
        list[str] | None,
        typer.Option(metavar="DEVICE", help=f"One or more of {', '.join(DEVICES)}. [default: all]"),
    ] = None,
    stack: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STACK",
            help=f"What is between device and disk, one or more of {', '.join(STACKS)}. [default: all]",
        ),
    ] = None,
    write_cache: Annotated[
        list[WriteCache] | None,
        typer.Option(
            help="The write cache as the device is configured (on, off), switched by the guest (toggled), or "
            "unknown to it; may be given several times. [default: all]"
        ),
    ] = None,
    cuts: Annotated[int, typer.Option(min=1, help="How many cuts to make.")] = DEFAULT_CUTS,
    seed: Annotated[int, typer.Option(min=0, help="The seed of the first runs.")] = 0,
    requests: Annotated[int, typer.Option(min=1, help="How many requests a guest makes on each queue.")] = 40,
    cut: Annotated[
        str | None,
        typer.Option(
            metavar="N:OUTCOME",
            help="Make this one cut: its number, and what is left of what is volatile: none, all, but-K, random-K.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Cut the power under a working guest and check that everything is there that it was told is stable."""
    # What has devices in it is not for every start of the command.
    from guestsim.powercut.simulate import Run, cut_again, earliest
    from guestsim.powercut.sweep import Sweep, sweep

    devices = _known("--device", device, DEVICES)
    stacks = _known("--stack", stack, STACKS)
    modes = list(dict.fromkeys(write_cache or WriteCache))
    # Errors that are injected are no news.
    logging.getLogger("devmodels").addHandler(logging.NullHandler())
    begun = time.monotonic()
    if cut is not None:
        number, outcome = _cut(cut)
        if len(devices) * len(stacks) * len(modes) > 1:
            _wrong("--cut: one cut is of one run, expected with it one --device, --stack and --write-cache")
        results = [cut_again(Run(devices[0], stacks[0], modes[0], seed, requests), number, outcome)]
        if not results[0].cuts and results[0].loss is None:
            _wrong(f"--cut: {number} is given; the run has {results[0].moments} moments")
    else:
        work = Sweep(devices, stacks, modes, cuts, seed, requests)
        with Bar("cuts", work.cuts, shown=not as_json, counted=True) as bar:
            results = sweep(work, lambda result: bar.more(result.cuts))
    loss = results[-1].loss
    if loss is not None and cut is None and loss.choice:
        loss = earliest(loss)
    seconds = time.monotonic() - begun
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(_report(results, loss, seconds))).decode())
    else:
        _show(results, loss, seconds)
    if loss is not None:
        raise typer.Exit(1)


def _known(option: str, given: Sequence[str] | None, known: Collection[str]) -> list[str]:
    for name in given or ():
        if name not in known:
            _wrong(f"{option}: {name!r} is given, expected one of {', '.join(known)}")
    return list(dict.fromkeys(given or known))


def _cut(text: str) -> tuple[int, str]:
    number, _, outcome = text.partition(":")
    kind, _, which = outcome.partition("-")
    plain = outcome in ("none", "all")
    if not number.isdecimal() or not (plain or (kind in ("but", "random") and which.isdecimal())):
        _wrong(f"--cut: {text!r} is given, expected a number, a colon, and none, all, but-K or random-K")
    return int(number), outcome


def _wrong(text: str) -> None:
    typer.echo(f"guestsim powercut: {text}", err=True)
    raise typer.Exit(2)


def _show(results: Sequence[Result], loss: Loss | None, seconds: float) -> None:
    console = Console(highlight=False)
    if len(results) > 1:
        console.print(_table(results))
    cuts = sum(result.cuts for result in results)
    outcomes: Counter[str] = sum((result.outcomes for result in results), Counter())
    kinds = ", ".join(f"{name} {count}" for name, count in sorted(outcomes.items()))
    rate = f", {cuts / seconds:.0f} a second" if seconds > 1 else ""
    if cuts:
        text = f"{cuts} cuts in {len(results)} runs ({kinds}) in {seconds:.1f} s{rate}"
        console.print(text, soft_wrap=True)
    if loss is None:
        console.print("[bold green]nothing is lost[/]")
        return
    what = loss.problem or f"{len(loss.findings)} sectors are wrong"
    console.print(f"[bold red]LOST[/]  {escape(what)}", soft_wrap=True)
    for finding in loss.findings[:4]:
        console.print(f"      {escape(str(finding))}", soft_wrap=True)
    if loss.story:
        console.print("what the guest did there:")
    for line in loss.story[-24:]:
        console.print(f"  {line}", markup=False, soft_wrap=True)
    console.print(f"         cut {loss.cut}, {loss.choice or 'before any outcome'}", markup=False)
    console.print(f"again:   {loss.command}", markup=False, soft_wrap=True)


def _table(results: Sequence[Result]) -> Table:
    """Cuts by stack and device."""
    counts: Counter[tuple[str, str]] = Counter()
    lost = {(result.run.stack, result.run.device) for result in results if result.loss is not None}
    for result in results:
        counts[result.run.stack, result.run.device] += result.cuts
    devices = [name for name in DEVICES if any(device == name for _, device in counts)]
    table = Table("stack", *devices, box=SIMPLE, padding=(0, 1, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    for stack in (name for name in STACKS if any(stack == name for stack, _ in counts)):
        cells = (
            f"[red]LOST[/] {counts[stack, device]}" if (stack, device) in lost else str(counts[stack, device])
            for device in devices
        )
        table.add_row(stack, *cells)
    return table


def _report(results: Sequence[Result], loss: Loss | None, seconds: float) -> dict[str, object]:
    """Everything as plain values."""
    return {
        "ok": loss is None,
        "cuts": sum(result.cuts for result in results),
        "seconds": round(seconds, 3),
        "runs": [
            {
                **_run(result.run),
                "moments": result.moments,
                "cuts": result.cuts,
                "outcomes": dict(result.outcomes),
            }
            for result in results
        ],
        "loss": None
        if loss is None
        else {
            **_run(loss.run),
            "cut": loss.cut,
            "outcome": loss.choice,
            "problem": loss.problem,
            "findings": [
                {"sector": one.sector, "found": one.found, "expected": one.expected} for one in loss.findings
            ],
            "story": loss.story,
            "again": loss.command,
        },
    }


def _run(run: Run) -> dict[str, object]:
    return {
        "device": run.device,
        "stack": run.stack,
        "write-cache": run.write_cache,
        "seed": run.seed,
        "requests": run.requests,
    }
