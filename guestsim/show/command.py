"""`guestsim show`: a trace as text, and as other programs' pictures.

Exit status: 0, or 2 where the trace or an option is wrong.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from devmodels.tracefile import TraceReader
    from guestsim.show.filters import Filter


def show_command(
    trace: Annotated[Path, typer.Argument(help="A trace, as --record writes it.")],
    requests: Annotated[
        bool, typer.Option("--requests", help="One line for each request, with the time each station took.")
    ] = False,
    device: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="What concerns this device; may be given several times."),
    ] = None,
    queue: Annotated[
        list[int] | None,
        typer.Option(min=0, help="What concerns this queue; may be given several times."),
    ] = None,
    request: Annotated[
        int | None,
        typer.Option(
            min=0, help="All that belongs to the request with this number, from notification to interrupt."
        ),
    ] = None,
    register: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Accesses to registers, configuration fields included, whose name or last part of it matches, such "
            "as device_status, 'common.queue_*' or config.capacity; may be given several times.",
        ),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND", help="Events of this kind, such as kick or 'dma-*'; may be given several times."
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            metavar="FROM..TO", help="Times since the beginning, in s or with ns, us, ms: 1.5..2, 300us.."
        ),
    ] = None,
    events: Annotated[
        str | None, typer.Option(metavar="FROM..TO", help="Events with these numbers: 100..200, 5000..")
    ] = None,
    grep: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Events whose words have a match for this.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write one page for a browser, of the whole trace or its --time and --events; - for standard output.",
        ),
    ] = None,
    perfetto: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the whole trace to this file, for ui.perfetto.dev."),
    ] = None,
    payload: Annotated[
        int, typer.Option(min=0, metavar="BYTES", help="How many bytes of each request's data the page has.")
    ] = 256,
) -> None:
    """Look into a trace: its events in words, its requests, or a picture of it."""
    # What reads and decodes traces is not for every start of the command.
    from devmodels.tracefile import TraceFileError, TraceReader
    from guestsim.show.filters import Filter, QueryError, Range, event_range, kinds, pattern, time_range
    from guestsim.show.page.command import show_page
    from guestsim.show.perfetto import write_perfetto

    try:
        wanted = Filter(
            devices=device or (),
            queues=queue or (),
            registers=register or (),
            kinds=kinds(kind or ()),
            times=Range() if time is None else time_range(time),
            events=Range() if events is None else event_range(events),
            grep=None if grep is None else pattern(grep),
            request=request,
        )
        if requests and (kind or register):
            raise QueryError("--requests is given with --kind or --register; expected one of them")
        with TraceReader(trace) as reader:
            if html is not None:
                if requests or as_json or perfetto is not None or not wanted.is_range:
                    raise QueryError("--html goes with --time, --events and --payload only")
                show_page(reader, html, wanted, payload)
            elif perfetto is not None:
                if requests or as_json or time or events or not wanted.is_range:
                    raise QueryError("--perfetto is of the whole trace, expected no other option with it")
                write_perfetto(reader, perfetto)
            else:
                _print(reader, wanted, requests=requests, as_json=as_json)
    except BrokenPipeError:
        _leave_pipe()
    except OSError as error:
        typer.echo(f"{trace}: cannot be read: {error.strerror}", err=True)
        raise typer.Exit(2) from None
    except TraceFileError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    except QueryError as error:
        typer.echo(f"guestsim show: {error}", err=True)
        raise typer.Exit(2) from None


def _print(reader: TraceReader, wanted: Filter, *, requests: bool, as_json: bool) -> None:
    """Print the events or the requests that are wanted."""
    from guestsim.progress import TraceBar
    from guestsim.show.filters import QueryError
    from guestsim.show.listing import print_events, print_requests, printable
    from guestsim.show.progress import Watched, writes_a_file

    show = print_requests if requests else print_events
    # For one request's events the trace is read up to it, and once more.
    passes = 1 if requests or wanted.request is None else 2
    with TraceBar(reader.path, shown=writes_a_file(), passes=passes) as bar:
        watched = Watched(reader, bar)
        show(watched, wanted, as_json=as_json)
    sys.stdout.flush()
    if watched.over:
        for name in wanted.devices:
            if name not in watched.sources:
                known = ", ".join(map(printable, sorted(watched.sources)[:20])) or "none"
                raise QueryError(f"--device {name} is given; the trace has {known}")
    if watched.cut:
        typer.echo(f"{reader.path}: cut short; what is whole was shown", err=True)


def _leave_pipe() -> None:
    """Whoever read our output has gone, and wants no more: end, without a word."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(0)
