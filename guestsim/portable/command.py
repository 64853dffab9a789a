"""The part of `guestsim replay` that feeds a trace's requests to a target: `--target`.

Exit status: 0 where every answer is as recorded, 1 where one is not, 2 where the trace or an option is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec
import typer
from rich.console import Console

from guestsim.progress import TraceBar

if TYPE_CHECKING:
    from guestsim.script.schema import RingName, TransportName


def replay_on_target(
    trace: Path,
    target: str,
    *,
    ring: RingName | None,
    transport: TransportName | None,
    memory: str,
    device: str | None,
    qtest_log: Path | None,
    as_json: bool,
) -> None:
    """Feed a trace to a target and print what came of it; typer.Exit unless all was equal."""
    from devmodels.tracefile import TraceFileError
    from guestsim.portable.machine import Place
    from guestsim.portable.report import show, to_json
    from guestsim.portable.run import replay
    from guestsim.script.load import ScriptError
    from guestsim.script.needs import TargetSpecError, parse_target
    from guestsim.targets import TargetError

    try:
        place = Place(parse_target(target), ring, transport, memory)
        with TraceBar(trace, shown=not as_json, passes=2) as progress:
            replayed = replay(trace, place, device=device, qtest_log=qtest_log, progress=progress)
    except TargetSpecError as error:
        wrong(f"guestsim replay: --target: {error}")
    except (TraceFileError, ScriptError, TargetError) as error:
        wrong(str(error))
    except OSError as error:
        wrong(f"{error.filename or trace}: {error.strerror or error}")
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(to_json(replayed))).decode())
    else:
        show(replayed, str(trace), Console(highlight=False))
    if not replayed.tally.ok:
        raise typer.Exit(1)


def wrong(text: str) -> NoReturn:
    """One line, and exit status 2."""
    typer.echo(text, err=True)
    raise typer.Exit(2)
