"""`guestsim show`: a trace as text, and as other programs' pictures.

Exit status: 0, or 2 where the trace or an option is wrong.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer


def show_command(
    trace: Annotated[Path, typer.Argument(help="A trace, as --record writes it.")],
) -> None:
    """Look into a trace."""
    # What reads and decodes traces is not for every start of the command.
    from devmodels.tracefile import TraceFileError, TraceReader
    from guestsim.show.listing import print_events

    try:
        with TraceReader(trace) as reader:
            print_events(reader)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            _leave_pipe()
        typer.echo(f"{trace}: cannot be read: {error.strerror}", err=True)
        raise typer.Exit(2) from None
    except TraceFileError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None


def _leave_pipe() -> None:
    """Whoever read our output has gone, and wants no more: end, without a word."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(0)
