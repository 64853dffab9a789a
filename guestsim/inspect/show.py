"""A virtqueue's state for a person: its indices, a drawing of the ring, a table of its buffers, what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

    from guestsim.inspect.state import Buffer, QueueState

SHOWN_BUFFERS = 32
SHOWN_PROBLEMS = 32
_CELLS = 64
_STYLES = {"F": "[bold cyan]F[/]", "A": "[yellow]A[/]", ".": "[dim].[/]"}


def show_queue(console: Console, state: QueueState, title: str) -> None:
    """Print one virtqueue."""
    kind = "packed" if state.packed else "split"
    console.print(
        f"[bold]{escape(title)}[/]: {kind}, {state.size} entries, {escape(_places(state))}", soft_wrap=True
    )
    if state.score is not None:
        console.print(
            f"  [dim]found, {state.score} of 100: {escape('; '.join(state.why))}[/]", soft_wrap=True
        )
    if state.indices:
        console.print(
            "  " + ", ".join(f"{name} {value}" for name, value in state.indices.items()), soft_wrap=True
        )
    if state.slots:
        _show_ring(console, state)
    _show_buffers(console, state)
    for note in state.notes:
        console.print(f"  [italic]{escape(note)}[/]", soft_wrap=True)
    for problem in state.problems[:SHOWN_PROBLEMS]:
        console.print(f"  [red]✗[/] {escape(problem.text)} ({escape(problem.clause)})", soft_wrap=True)
    if len(state.problems) > SHOWN_PROBLEMS:
        console.print(f"  [red]✗[/] and {len(state.problems) - SHOWN_PROBLEMS} more")
    if not state.problems:
        console.print("  [green]✓[/] nothing that the specification forbids")


def _places(state: QueueState) -> str:
    names = (
        ("descriptors", "driver event", "device event")
        if state.packed
        else ("descriptors", "available", "used")
    )
    places = zip(names, (state.desc, state.driver, state.device), strict=True)
    return ", ".join(f"{name} {place:#x}" for name, place in places if place is not None)


def _show_ring(console: Console, state: QueueState) -> None:
    """The ring as one line; in a large one, a cell stands for several entries, and shows the busiest of them."""
    width = -(-state.size // _CELLS)
    cells = [state.slots[at : at + width] for at in range(0, state.size, width)]
    drawn = "".join(_STYLES[next(letter for letter in "FA." if letter in cell)] for cell in cells)
    each = f", {width} entries a cell" if width > 1 else ""
    console.print(f"  0 {drawn} {state.size - 1}  [dim](F in flight, A available{each})[/]", soft_wrap=True)


def _show_buffers(console: Console, state: QueueState) -> None:
    if not state.buffers:
        console.print("  no buffer is with the device")
        return
    one = state.outstanding == 1
    console.print(f"  {state.outstanding} {'buffer is' if one else 'buffers are'} with the device")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for column in ("id" if state.packed else "head", "slot"):
        table.add_column(column, justify="right")
    for column in ("state", "request"):
        table.add_column(column, no_wrap=True)
    for column in ("sector", "bytes", "segments"):
        table.add_column(column, justify="right")
    table.add_column("status byte", no_wrap=True)
    for buffer in state.buffers[:SHOWN_BUFFERS]:
        table.add_row(*map(escape, _row(buffer)))
    console.print(table)
    if len(state.buffers) > SHOWN_BUFFERS:
        console.print(f"  and {len(state.buffers) - SHOWN_BUFFERS} more")


def _row(buffer: Buffer) -> tuple[str, ...]:
    place = (str(buffer.id), str(buffer.slot), buffer.placement)
    request = buffer.request
    if request is None:
        total = sum(part.length for part in buffer.parts)
        return (*place, "not a block device's", "", str(total), str(len(buffer.parts)), "")
    status = "" if request.status_at is None else f"{request.status_at:#x}"
    if request.status is not None:
        status += f" = {request.status:#04x}"
    name = request.type_name or f"type {request.type}"
    return (*place, name, str(request.sector), str(request.length), str(request.segments), status)
