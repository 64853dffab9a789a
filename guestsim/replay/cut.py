"""`guestsim cut`: the beginning of a trace, as a trace: a piece of what a guest did, small enough to be kept as a test.

Exit status: 0, or 2 where the trace or an option is wrong.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guestsim.outputs import check_writable
from guestsim.portable.command import wrong
from guestsim.progress import TraceBar

if TYPE_CHECKING:
    from collections.abc import Callable

LEVEL = 19
"""How much is done to make the new trace short (zstd)."""


def cut_command(
    trace: Annotated[Path, typer.Argument(help="A trace, as --record writes it.")],
    to: Annotated[int, typer.Option("--to", min=1, metavar="N", help="How many of its events are kept.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The new trace, well compressed.")
    ],
) -> None:
    """Keep the beginning of a trace."""
    # What reads and writes traces is not for every start of the command.
    from devmodels.tracefile import TraceFileError

    if output.exists() and trace.exists() and output.samefile(trace):
        wrong(f"guestsim cut: --output: {output} is what is read, expected another file")
    try:
        check_writable(output)
        with TraceBar(trace) as bar:
            events = cut(trace, to, output, bar)
    except OSError as error:
        wrong(f"{error.filename or output}: {error.strerror or error}")
    except TraceFileError as error:
        wrong(str(error))
    typer.echo(f"{output}: {events} events, {output.stat().st_size} bytes")


def cut(trace: Path, to: int, output: Path, progress: Callable[[int], None] | None = None) -> int:
    """Write the first `to` events of `trace` to `output`; returns how many they are.

    OSError or TraceFileError where that cannot be.
    """
    from devmodels.tracefile import TraceReader, TraceWriter

    with TraceReader(trace) as reader:
        writer = TraceWriter(output, reader.header.again(), level=LEVEL)
        try:
            for event in islice(reader, to):
                writer(event)
                if progress is not None and not event.number % 4096:
                    progress(event.number)
        finally:
            writer.close()
    if writer.ending is not None and writer.ending.reason != "closed":
        raise OSError(0, writer.ending.text, str(output))
    return writer.events
