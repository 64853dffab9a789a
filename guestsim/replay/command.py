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

from guestsim.choices import MemoryChoice, RingChoice, TransportChoice
from guestsim.outputs import check_writable, counted
from guestsim.portable.command import replay_on_target, wrong
from guestsim.portable.shrink.command import shrink_trace
from guestsim.progress import TraceBar

if TYPE_CHECKING:
    from guestsim.replay import Replayed

REPRODUCER = ".qtest"
"""What a reproducer's name ends in."""


def replay_command(
    trace: Annotated[
        Path,
        typer.Argument(
            help="A trace, as --record writes it, or the text of a bug report with a qtest reproducer."
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET",
            help="Feed its requests to devmodels, qemu, qemu-storage-daemon, vhost-user or vfio-user, the last three "
            "with :SOCKET where a back end listens already, and compare the answers.",
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
    stop_at: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Stop before the event with this number.")
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --stop-at: save a snapshot there, or before the next event where that can be.",
        ),
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Begin from a snapshot of this trace.")
    ] = None,
    with_traceback: Annotated[
        bool, typer.Option("--traceback", help="Where the device raises an exception, show where.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Replay a trace on the devices that it was recorded from, without guest and image, and compare."""
    if _is_report(trace):
        options = {
            "target": target,
            "shrink": shrink or None,
            "output": output,
            "stop-at": stop_at,
            "save": save,
            "from": start,
        }
        for name, given_value in options.items():
            if given_value is not None:
                wrong(f"guestsim replay: {_named(name, given_value)}, expected none with a reproducer")
        _reproduce(trace, as_json=as_json)
        return
    if shrink or target is not None:
        ours = {"stop-at": stop_at, "save": save, "from": start, "traceback": with_traceback or None}
        for name, mine in ours.items():
            if mine is not None:
                other = "--shrink" if shrink else "--target"
                wrong(f"guestsim replay: {_named(name, mine)}, expected none with {other}")
    if shrink:
        place = {"target": target, "ring": ring, "transport": transport, "memory": memory}
        for name, choice in place.items():
            if choice is not None:
                wrong(f"guestsim replay: --{name}: {choice} is given, expected none with --shrink")
        shrink_trace(trace, output, device=device, as_json=as_json)
        return
    if output is not None:
        wrong(f"guestsim replay: --output: {output} is given, expected --shrink with it")
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
            wrong(f"guestsim replay: --{name}: {value} is given, expected --target with it")
    if save is not None and stop_at is None:
        wrong(f"guestsim replay: --save: {save} is given, expected --stop-at with it")
    _exactly(trace, start, stop_at, save, with_traceback=with_traceback, as_json=as_json)


def _named(name: str, value: object) -> str:
    """An option that is given, with its value where it has one."""
    return f"--{name} is given" if value is True else f"--{name}: {value} is given"


def _is_report(path: Path) -> bool:
    """Whether it is a bug report's text: it has qtest requests, or is called so."""
    from devmodels.options import OptionError
    from devmodels.tracefile import MAGIC
    from guestsim.replay.report import is_report

    try:
        return path.suffix == REPRODUCER or is_report(path)
    except OSError as error:
        wrong(f"{path}: {error.strerror or error}")
    except OptionError as error:
        wrong(
            f"{path}: not a trace, expected {MAGIC.decode().strip()!r} at its beginning; no report: {error}"
        )


def _reproduce(path: Path, *, as_json: bool) -> None:
    """Do what a bug report's reproducer does on a machine of ours."""
    from devmodels.options import OptionError
    from guestsim.replay.reproducer import reproduce

    try:
        result = reproduce(path)
    except OSError as error:
        wrong(f"{error.filename or path}: {error.strerror or error}")
    except OptionError as error:
        wrong(str(error))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(result)).decode())
        return
    console = Console(highlight=False)
    where = (
        "the usual one: no command line was found"
        if result.command_line is None
        else f"the command line is in line {result.command_line}"
    )
    _line(console, f"on a {result.machine} machine, {where}")
    devices = ", ".join(f"{name}: {many}" for name, many in result.reached.items())
    reach = f"{result.in_reach} of them to a device" + (f" ({devices})" if devices else "")
    _line(
        console, f"{counted(result.requests, 'request')}, {reach}; {counted(result.interrupts, 'interrupt')}"
    )
    if result.not_modelled:
        _line(console, f"not modelled, left out: {', '.join(result.not_modelled)}", style="yellow")
    if not result.in_reach:
        _line(console, "no request reached a device", style="bold yellow")
    if result.moved:
        text = f"{counted(result.moved, 'request')} moved before the access that the log has them behind"
        if result.fetched_again:
            text += f"; {result.fetched_again} of memory that the device had read already: it now finds that at first"
        _line(console, text, style="yellow")
    if result.left:
        more = counted(result.left, "request")
        _line(console, f"{more} more left out: a log of them, or behind the reproducer's end", style="yellow")
    if result.others:
        number, line = result.others[0]
        many = counted(len(result.others), "line")
        _line(console, f"{many} left out, as no request: {path}:{number}: {line[:80]}", style="yellow")
    for number, request, answer in result.refused:
        _line(console, f"{path}:{number}: {request[:80]}: {answer}", style="yellow")
    for clause, count, newest in result.violations:
        _line(console, f"{count} × {clause}: {newest}")


def _line(console: Console, text: str, *, style: str | None = None) -> None:
    """One line, as long as it is."""
    console.print(text, soft_wrap=True, markup=False, style=style)


def _exactly(
    trace: Path,
    start: Path | None,
    stop_at: int | None,
    save: Path | None,
    *,
    with_traceback: bool,
    as_json: bool,
) -> None:
    """Replay on the devices of the trace."""
    # What has devices in it is not for every start of the command.
    from devmodels.options import OptionError
    from devmodels.tracefile import TraceFileError
    from guestsim.replay.snapshot import SnapshotError

    for path in (trace, start):
        if save is not None and path is not None and save.exists() and path.exists() and save.samefile(path):
            wrong(f"guestsim replay: --save: {save} is what is read, expected another file")
    try:
        if save is not None:
            check_writable(save)
        result = _replay(trace, start, stop_at, save, shown=not as_json)
    except OSError as error:
        wrong(f"{error.filename or trace}: {error.strerror or error}")
    except (TraceFileError, OptionError, SnapshotError) as error:
        wrong(str(error))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(_report(result))).decode())
    else:
        _show(result, stop_at, save, with_traceback=with_traceback)
    if not result.ok:
        raise typer.Exit(1)


def _replay(
    trace: Path, start: Path | None, stop_at: int | None, save: Path | None, *, shown: bool
) -> Replayed:
    from guestsim.replay import replay

    with TraceBar(trace, shown=shown) as bar:
        return replay(trace, start=start, stop_at=stop_at, save=save, progress=bar)


def _show(result: Replayed, stop_at: int | None, save: Path | None, *, with_traceback: bool) -> None:
    console = Console(highlight=False)
    guest = result.guest_ns / 1e9
    text = f"{result.events} events, {result.requests} requests; {guest:.2f} s of the guest in {result.seconds:.2f} s"
    console.print(text, soft_wrap=True, markup=False)
    if result.difference is not None:
        first, *rest = result.difference.words().lines()
        console.print(first, soft_wrap=True, markup=False, style="bold red")
        for line in rest:
            console.print(line, soft_wrap=True, markup=False)
        if with_traceback and result.difference.error is not None:
            traceback.print_exception(result.difference.error)
        return
    console.print("[bold green]no difference[/]")
    if result.short:
        console.print(result.short, soft_wrap=True, markup=False, style="yellow")
    if result.stopped is None:
        if stop_at is not None:
            console.print(f"the trace ends before event {stop_at}")
        return
    where = f"stopped before event {result.stopped}"
    if result.stopped != stop_at:
        why = (
            "its state could not be saved" if save is not None else "a device was in the middle of something"
        )
        where += f": up to there {why}"
    console.print(where, soft_wrap=True, markup=False)


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
        "stopped": result.stopped,
        "short": result.short or None,
        "difference": None if difference is None else difference.words(),
    }
