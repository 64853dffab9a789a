"""`guestsim inspect`: what is in flight in the virtqueues of a core, and what is broken.

Exit status: 0 where nothing is broken, 1 where something is, 2 where the core or an option is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console

from guestsim.errors import GuestError

if TYPE_CHECKING:
    from guestsim.inspect.image import MemoryImage
    from guestsim.inspect.plausible import Candidate
    from guestsim.inspect.state import QueueState


def inspect_command(
    core: Annotated[Path, typer.Argument(help="An ELF core, as QEMU's dump-guest-memory writes it.")],
    vq: Annotated[
        list[str] | None,
        typer.Option(
            "--vq",
            metavar="desc=0x…,driver=0x…,device=0x…,size=N[,features=NAME+…][,type=blk|other][,packed]",
            help="A virtqueue to show; may be given several times.",
        ),
    ] = None,
    find: Annotated[
        bool, typer.Option("--find", help="Search memory for virtqueues, and show them.")
    ] = False,
    step: Annotated[
        int,
        typer.Option(help="How the rings that --find looks for are aligned, in bytes; 16 finds all, slowly."),
    ] = 4096,
    as_json: Annotated[bool, typer.Option("--json", help="Print the state as JSON.")] = False,
) -> None:
    """Show the virtqueues in a core: what is in flight, and what is broken."""
    # What parses ELF files and rings is not for every start of the command.
    from guestsim.inspect.core import open_core
    from guestsim.inspect.find import STEPS
    from guestsim.inspect.queue import inspect_queue
    from guestsim.inspect.spec import parse_virtqueue

    try:
        queues = [parse_virtqueue(text) for text in vq or ()]
        if not queues and not find:
            raise GuestError("no virtqueue is named, expected --vq or --find")
        if step not in STEPS:
            raise GuestError(f"--step {step}, expected a power of two from {STEPS[0]} to {STEPS[-1]}")
        image = open_core(core)
    except GuestError as error:
        typer.echo(f"guestsim inspect: {error}", err=True)
        raise typer.Exit(2) from None
    states = [inspect_queue(image, queue) for queue in queues]
    if find:
        states += _find(image, step)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(states)).decode())
    else:
        _show(states)
    if any(state.problems for state in states):
        raise typer.Exit(1)


def _find(image: MemoryImage, step: int) -> list[QueueState]:
    from guestsim.inspect.find import TooMuchError, find_queues

    try:
        found = find_queues(image, step=step)
    except TooMuchError as error:
        typer.echo(f"guestsim inspect: {error}", err=True)
        found = error.found
    return [_found(image, candidate) for candidate in found]


def _found(image: MemoryImage, candidate: Candidate) -> QueueState:
    from guestsim.inspect.queue import inspect_queue

    state = inspect_queue(image, candidate.queue)
    state.score = candidate.score
    state.why = list(candidate.why)
    return state


def _show(states: list[QueueState]) -> None:
    from guestsim.inspect.show import show_queue

    console = Console(highlight=False)
    if not states:
        console.print("no virtqueue was found")
    for number, state in enumerate(states):
        if number:
            console.print()
        show_queue(console, state, f"virtqueue {number}")
