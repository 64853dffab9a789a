"""`guestsim replay`: what a guest did is done again, and everything that comes out is compared.

Exit status: 0 where it is the same, 1 where it is not, 2 where the trace or an option is wrong.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from guestsim.choices import MemoryChoice, RingChoice, TransportChoice
from guestsim.portable.command import replay_on_target
from guestsim.portable.shrink.command import shrink_trace

if TYPE_CHECKING:
    from guestsim.replay import Replayed


def replay_command(
    trace: Annotated[Path, typer.Argument(help="A trace, as --record writes it.")],
    target: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET",
            help="Feed its requests to devmodels, qemu, qemu-storage-daemon or vhost-user, the last two with :SOCKET "
            "where a back end listens already, and compare the answers.",
        ),
    ] = None,
    ring: Annotated[
        RingChoice | None,
        typer.Option(help="With --target: which rings its device has. [default: as recorded]"),
    ] = None,
    transport: Annotated[
        TransportChoice | None,
        typer.Option(help="With --target: how its device is reached. [default: as recorded]"),
    ] = None,
    memory: Annotated[
        MemoryChoice | None,
        typer.Option(help="With --target: how its devices reach memory. [default: shared]"),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="With --target or --shrink: which device of the trace. [default: the only one]"),
    ] = None,
    qtest_log: Annotated[
        Path | None, typer.Option(help="With --target qemu: write all that is sent over qtest to this file.")
    ] = None,
    shrink: Annotated[
        bool,
        typer.Option(
            "--shrink", help="Where our device fails, save the shortest script on which it still does."
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="With --shrink: the script. [default: the trace's name .guest.yaml]"
        ),
    ] = None,
    with_traceback: Annotated[
        bool, typer.Option("--traceback", help="Where the device raises an exception, show where.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Replay a trace on the devices that it was recorded from, without guest and image, and compare."""
    if shrink:
        place = {"target": target, "ring": ring, "transport": transport, "memory": memory}
        for name, choice in place.items():
            if choice is not None:
                _wrong(f"guestsim replay: --{name}: {choice} is given, expected none with --shrink")
        shrink_trace(trace, output, device=device, as_json=as_json)
        return
    if output is not None:
        _wrong(f"guestsim replay: --output: {output} is given, expected --shrink with it")
    if target is not None:
        replay_on_target(
            trace,
            target,
            ring=ring.value if ring is not None else None,
            transport=transport.value if transport is not None else None,
            memory=memory.value if memory is not None else "shared",
            device=device,
            qtest_log=qtest_log,
            as_json=as_json,
        )
        return
    given = {"ring": ring, "transport": transport, "memory": memory, "device": device, "qtest-log": qtest_log}
    for name, value in given.items():
        if value is not None:
            _wrong(f"guestsim replay: --{name}: {value} is given, expected --target with it")
    # What has devices in it is not for every start of the command.
    from devmodels.options import OptionError
    from devmodels.tracefile import TraceFileError

    try:
        result = _replay(trace, shown=not as_json)
    except OSError as error:
        _wrong(f"{trace}: cannot be read: {error.strerror or error}")
    except (TraceFileError, OptionError) as error:
        _wrong(str(error))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(_report(result))).decode())
    else:
        _show(result, with_traceback=with_traceback)
    if not result.ok:
        raise typer.Exit(1)


def _wrong(text: str) -> None:
    typer.echo(text, err=True)
    raise typer.Exit(2)


def _replay(trace: Path, *, shown: bool) -> Replayed:
    from devmodels.tracefile import TraceReader
    from guestsim.replay import replay

    console = Console(stderr=True)
    columns = (TextColumn("events"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    if not (shown and console.is_terminal):
        return replay(trace)
    with TraceReader(trace) as reader:
        total = reader.count()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("events", total=total)
        return replay(trace, progress=lambda done: bar.update(task, completed=done))


def _show(result: Replayed, *, with_traceback: bool) -> None:
    console = Console(highlight=False)
    guest = result.guest_ns / 1e9
    text = f"{result.events} events, {result.requests} requests; {guest:.2f} s of the guest in {result.seconds:.2f} s"
    console.print(text, soft_wrap=True, markup=False)
    if result.difference is None:
        console.print("[bold green]no difference[/]")
        return
    first, *rest = result.difference.words().lines()
    console.print(first, soft_wrap=True, markup=False, style="bold red")
    for line in rest:
        console.print(line, soft_wrap=True, markup=False)
    if with_traceback and result.difference.error is not None:
        traceback.print_exception(result.difference.error)


def _report(result: Replayed) -> dict[str, object]:
    """Everything as plain values."""
    difference = result.difference
    return {
        "ok": result.ok,
        "events": result.events,
        "requests": result.requests,
        "differences": 0 if result.ok else 1,
        "seconds": round(result.seconds, 6),
        "guest-seconds": result.guest_ns / 1e9,
        "ratio": round(result.ratio, 6),
        "difference": None if difference is None else difference.words(),
    }
