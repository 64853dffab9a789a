"""The `guestsim` command: its subcommands, each of which is in a module of its own.

Those are read at every start, so they import what they need when they run.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

from guestsim.blocklog.convert import convert_command
from guestsim.blocklog.io import io_command
from guestsim.diff.command import diff_command
from guestsim.inspect.command import inspect_command
from guestsim.lint.command import lint_command
from guestsim.powercut.command import powercut_command
from guestsim.replay.command import replay_command
from guestsim.replay.cut import cut_command
from guestsim.run import demo_command, run_command
from guestsim.show.command import show_command

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A scripted guest that drives storage devices through registers, rings and memory.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # slow to import, and seldom wanted

        sys.stdout.write(f"guestsim {version('devmodels')}\n")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and end."),
    ] = False,
) -> None:
    """A scripted guest that drives storage devices through registers, rings and memory."""


app.command("run")(run_command)
app.command("cut")(cut_command)
app.command("demo")(demo_command)
app.command("convert")(convert_command)
app.command("diff")(diff_command)
app.command("inspect")(inspect_command)
app.command("io")(io_command)
app.command("lint")(lint_command)
app.command("powercut")(powercut_command)
app.command("replay")(replay_command)
app.command("show")(show_command)


def main() -> None:
    """Entry point of the `guestsim` command."""
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        if text := " ".join(error.format_message().split()):
            sys.stderr.write(f"guestsim: {text}\n")
        status = 2
    except (typer.Abort, KeyboardInterrupt):
        status = 130
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT):
            raise
        if error.errno != errno.EPIPE:  # Else whoever reads has seen enough.
            sys.stderr.write(f"guestsim: standard output: {error.strerror}\n")
        status = 0 if error.errno == errno.EPIPE else 2
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)
