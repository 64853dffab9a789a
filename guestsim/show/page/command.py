"""`guestsim show --html`: from a trace to the file with its page."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from devmodels.tracefile import TraceReader
from guestsim.outputs import check_writable
from guestsim.progress import TraceBar
from guestsim.show import names
from guestsim.show.filters import Filter, QueryError
from guestsim.show.page.build import page_of

_STDOUT = Path("-")


def show_page(reader: TraceReader, path: Path, wanted: Filter, payload: int) -> None:
    """Write the page of a trace, with a progress bar where somebody watches; `-` is standard output.

    QueryError where it cannot be written, or where there is more in it than a page can have.
    """
    if path == _STDOUT:
        sys.stdout.write(_page(reader, wanted, payload))
        return
    if path.exists() and path.samefile(reader.path):
        raise QueryError(f"--html {path} is given, which is the trace; expected another file")
    try:
        check_writable(path)
        page = _page(reader, wanted, payload)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise QueryError(f"--html {path} cannot be written: {error.strerror or error}") from None
    typer.echo(f"{path}: {names.size(len(page) // 1024 * 1024)}")


def _page(reader: TraceReader, wanted: Filter, payload: int) -> str:
    with TraceBar(reader.path) as bar:
        return page_of(reader, times=wanted.times, events=wanted.events, payload=payload, progress=bar)
