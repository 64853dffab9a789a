"""The part of `guestsim replay` that shrinks: `--shrink`.

Exit status: 0 where the device does not fail on the trace, 1 where it does, 2 where the trace or an option is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from guestsim.outputs import counted
from guestsim.portable.command import wrong
from guestsim.progress import Bar

if TYPE_CHECKING:
    from guestsim.portable.shrink.shrink import Shrunk


def shrink_trace(trace: Path, output: Path | None, *, device: str | None, as_json: bool) -> None:
    """Shrink a trace and print what was saved; typer.Exit where the device fails on it."""
    from devmodels.options import OptionError
    from devmodels.tracefile import TraceFileError
    from guestsim.portable.shrink.shrink import shrink
    from guestsim.targets import TargetError

    out = output or Path(trace.name).with_suffix(".guest.yaml")
    if not out.parent.is_dir():
        wrong(f"{out}: cannot be written: there is no {out.parent}")
    try:
        with Bar("", shown=not as_json) as bar:
            shrunk = shrink(trace, out, device=device, watch=lambda what, number: bar.say(f"{what} {number}"))
    except (TraceFileError, OptionError, TargetError) as error:
        wrong(str(error))
    except OSError as error:
        wrong(f"{error.filename or out}: {error.strerror or error}")
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(_to_json(shrunk))).decode())
    else:
        _show(shrunk, str(trace), Console(highlight=False))
    if shrunk.first:
        raise typer.Exit(1)


def _show(shrunk: Shrunk, trace: str, console: Console) -> None:
    say = console.print
    if not shrunk.first:
        say("[bold green]nothing fails: there is nothing to shrink[/]")
        return
    say(f"{escape(trace)}: {escape(shrunk.first)}", soft_wrap=True)
    if shrunk.seen and (shrunk.path is None or shrunk.events):
        say(
            "[bold]No script of the requests before it fails: it is not their content that matters.[/]",
            soft_wrap=True,
        )
    if shrunk.path is None:
        say("The exact replay of the trace does not fail either: nothing was saved.")
        return
    path = escape(str(shrunk.path))
    if shrunk.events:
        if not shrunk.seen:
            say(
                "[bold]No driver can see it, only the exact replay does: no script shows it.[/]",
                soft_wrap=True,
            )
        say(f"{path}: the trace up to there, {shrunk.events} events", soft_wrap=True)
    else:
        say(
            f"[bold]{path}: {counted(shrunk.requests, 'request')} in {counted(shrunk.steps, 'step')}[/], "
            f"{shrunk.lines} lines; {shrunk.runs} scripts were run for it",
            soft_wrap=True,
        )
    say(f"  [red]{escape(shrunk.failure)}[/]", soft_wrap=True)


def _to_json(shrunk: Shrunk) -> dict[str, object]:
    return {
        "fails": bool(shrunk.first),
        "file": None if shrunk.path is None else str(shrunk.path),
        "kind": None if shrunk.path is None else "trace" if shrunk.events else "script",
        "in-trace": shrunk.first or None,
        "failure": shrunk.failure or None,
        "requests": shrunk.requests,
        "steps": shrunk.steps,
        "lines": shrunk.lines,
        "runs": shrunk.runs,
        "events": shrunk.events,
    }
