"""The figures of a replay for a person: a table, and a chart of the depth over time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from guestsim.blocklog.figures import PERCENTILES, Figures, error_name

if TYPE_CHECKING:
    from guestsim.blocklog.figures import OpFigures

_ROWS = 6
_BLOCKS = " ▁▂▃▄▅▆▇█"
_SHOWN_LATE_NS = 1_000_000


def show(figures: Figures, console: Console | None = None) -> None:
    """Print everything."""
    console = Console(highlight=False) if console is None else console
    if not figures.count:
        console.print("no requests")
        return
    console.print(_table(figures))
    seconds = figures.duration_ns / 1e9
    timeline = figures.timeline
    area = sum(slot.area for slot in timeline.slots)
    mean = area / figures.duration_ns if figures.duration_ns else 0.0
    greatest = max(slot.greatest for slot in timeline.slots)
    console.print(
        f"{figures.count} requests in {seconds:.3f} s, {figures.per_second(figures.count):.0f} a second; "
        f"depth {mean:.2f} on average, {greatest} at most",
        soft_wrap=True,
    )
    if figures.late.greatest > _SHOWN_LATE_NS:
        late = figures.late
        text = f"requests began late: {time_text(late.mean)} on average, {time_text(late.greatest)} at most"
        console.print(f"[yellow]{text}[/]", soft_wrap=True)
    if figures.duration_ns:
        for line in chart(timeline.depths(), min(60, max(20, console.width - 20))):
            console.print(line, markup=False)
        console.print(f"      0 s{'':<{max(1, min(60, console.width - 20) - 12)}}{seconds:.3f} s")
    _tell(figures, console)


def _tell(figures: Figures, console: Console) -> None:
    """What went otherwise than in the log."""
    for op, of_op in sorted(figures.ops.items()):
        for error, count in sorted(of_op.errors.items()):
            console.print(f"[red]{count} of {op.name} failed: {error_name(error)}[/]", soft_wrap=True)
    if figures.otherwise:
        text = f"{figures.otherwise} requests ended otherwise than in the log: well, or with an error"
        console.print(f"[yellow]{text}[/]", soft_wrap=True)
    if figures.differences:
        text = f"{figures.differences} of {figures.checked} reads found something else than expected"
        console.print(f"[bold red]{text}[/]", soft_wrap=True)
        for line in figures.different:
            console.print(f"  {escape(line)}", soft_wrap=True)
    elif figures.checked:
        console.print(f"[green]{figures.checked} reads found what was expected[/]", soft_wrap=True)


def _table(figures: Figures) -> Table:
    """A column for each operation."""
    ops = sorted(figures.ops.items())
    names = [op.name.lower().replace("_", " ") for op, _ in ops]
    table = Table("", *names, box=SIMPLE, padding=(0, 1, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    columns = [_cells(figures, of_op) for _, of_op in ops]
    for name in columns[0]:
        table.add_row(name, *(cells[name] for cells in columns), end_section=name == "MB/s")
    return table


def _cells(figures: Figures, of_op: OpFigures) -> dict[str, str]:
    latencies = of_op.latencies
    times = {"least": latencies.least, "mean": latencies.mean}
    times |= {f"p{percent:g}": latencies.percentile(percent) for percent in PERCENTILES}
    return {
        "requests": str(of_op.count),
        "MiB": f"{of_op.nbytes / (1 << 20):.1f}",
        "IOPS": f"{figures.per_second(of_op.count):.0f}",
        "MB/s": f"{figures.per_second(of_op.nbytes) / 1e6:.1f}",
        **{name: time_text(ns) for name, ns in (*times.items(), ("most", latencies.greatest))},
    }


def time_text(ns: float) -> str:
    """`250 ns`, `12.3 µs`, `4.56 ms`, `1.20 s`."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= size:
            value = ns / size
            return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"
    return f"{ns:.0f} ns"


def chart(values: Sequence[float], width: int) -> list[str]:
    """Columns of at most `_ROWS` rows, in as many columns as there are values, or `width`; the scale to the left."""
    columns = _squeezed(values, width)
    top = max(columns, default=0.0) or 1.0
    lines = []
    for row in reversed(range(_ROWS)):
        cells = (max(0, min(8, round((value / top * _ROWS - row) * 8))) for value in columns)
        label = f"{top * (row + 1) / _ROWS:5.1f}" if row in (_ROWS - 1, _ROWS // 2 - 1) else " " * 5
        lines.append(f"{label} {''.join(_BLOCKS[cell] for cell in cells)}".rstrip())
    return lines


def _squeezed(values: Sequence[float], width: int) -> list[float]:
    """Means of neighbours, so that no more than `width` are left."""
    if len(values) <= width:
        return list(values)
    edges = [len(values) * n // width for n in range(width + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
