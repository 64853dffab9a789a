"""`devmodels stats`: a daemon's figures as a table that goes on, from its telemetry socket."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table

from devmodels.options import OptionError, one_line
from devmodels.telemetry.rates import Entry, Line, Rates, rates

MAX_LINE = 1 << 24
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_COLUMNS = (
    "read/s",
    "write/s",
    "flush/s",
    "unmap/s",
    "read B/s",
    "written B/s",
    "read ms",
    "write ms",
    "depth",
    "in flight",
    "throttled",
    "failed",
)


def show_stats(path: str, *, as_json: bool, count: int) -> None:
    """Show what comes from the socket at `path` until it ends, or until `count` lines (0: all of them) have come.

    OptionError where it cannot be reached, or what comes is no telemetry.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(path)
        except OSError as error:
            raise OptionError(f"{path}: cannot connect: {error.strerror or error}") from None
        found = _lines(sock, count)
        if as_json:
            for text in found:
                sys.stdout.write(text.decode() + "\n")
                sys.stdout.flush()
        else:
            _show(decoded(path, found))


def _lines(sock: socket.socket, count: int) -> Iterator[bytes]:
    """Whole lines, as they come."""
    data = bytearray()
    taken = 0
    while chunk := sock.recv(1 << 16):
        data += chunk
        while (at := data.find(b"\n")) >= 0:
            yield bytes(data[:at])
            del data[: at + 1]
            taken += 1
            if taken == count:
                return
        if len(data) > MAX_LINE:
            return


def decoded(path: str, texts: Iterator[bytes]) -> Iterator[Line]:
    """The lines of a stream; OptionError where one is none."""
    decoder = msgspec.json.Decoder(Line)
    for text in texts:
        try:
            yield decoder.decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise OptionError(f"{path}: what comes is no telemetry: {one_line(str(error))}") from None


def _show(lines: Iterator[Line]) -> None:
    console = Console()
    before: Line | None = None
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            for line in lines:
                live.update(table(before, line), refresh=True)
                before = line
    else:
        console = Console(width=160, highlight=False)
        for line in lines:
            console.print(table(before, line))
            before = line


def table(before: Line | None, line: Line) -> Table:
    """What has happened between two lines; dashes where there is only one."""
    dropped = f", {line.dropped} lines missed" if line.dropped else ""
    out = Table(title=f"{line.status}{dropped}", title_justify="left", box=None, pad_edge=False)
    out.add_column("")
    for name in _COLUMNS:
        out.add_column(name, justify="right", no_wrap=True)
    elapsed = 0 if before is None else line.time_ns - before.time_ns
    old = {} if before is None else {_key(each): each for each in (*before.backends, *before.nodes)}
    for each in (*line.backends, *line.nodes):
        earlier = old.get(_key(each))
        found = None if earlier is None else rates(earlier, each, elapsed)
        waiting = None
        if earlier is not None and elapsed > 0 and each.throttled_ns is not None:
            waiting = (each.throttled_ns - (earlier.throttled_ns or 0)) / elapsed
        out.add_row(_name(each), *_cells(each, found, waiting))
    return out


def _key(entry: Entry) -> tuple[str | None, str]:
    return entry.device, "" if entry.device is not None else entry.node_name


def _name(entry: Entry) -> str:
    from rich.markup import escape

    if entry.device is not None:
        return f"[bold]{escape(entry.device)}[/bold] on {escape(entry.node_name)}"
    return f"  {escape(entry.node_name)} [dim]{escape(entry.driver)}[/dim]"


def _cells(entry: Entry, found: Rates | None, waiting: float | None) -> list[str]:
    in_flight = "-" if entry.in_flight is None else str(entry.in_flight)
    throttled = "-" if waiting is None else f"{waiting:.1f}"
    failed = "-" if entry.stats is None else str(entry.stats.failed)
    if found is None:
        return ["-"] * 9 + [in_flight, throttled, failed]
    return [
        in_words(found.reads),
        in_words(found.writes),
        in_words(found.flushes),
        in_words(found.unmaps),
        in_words(found.read_bytes),
        in_words(found.written_bytes),
        "-" if found.read_ms is None else f"{found.read_ms:.3f}",
        "-" if found.write_ms is None else f"{found.write_ms:.3f}",
        f"{found.depth:.1f}",
        in_flight,
        throttled,
        failed,
    ]


def in_words(value: float) -> str:
    """Three digits or so, with k, M or G for powers of a thousand."""
    for unit, name in _UNITS:
        if value >= unit:
            return f"{value / unit:.3g}{name}" if value < 999.5 * unit else f"{value / unit:.0f}{name}"
    return f"{value:.3g}"
