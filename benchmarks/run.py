"""`python -m benchmarks.run`: our exports beside `qemu-storage-daemon` and `tgtd`, and start-up beside QEMU.

Figures compare only within one run on one machine. Every row names the peer's aio mode.
"""

from __future__ import annotations

import os
import statistics
import sys
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import check as checking
from benchmarks import compare as comparing
from benchmarks import iscsi, scripted, startup
from benchmarks.compare import Comparison, Spread
from benchmarks.frontend import FrontendError
from benchmarks.peers import ServerError
from benchmarks.startup import Starts
from guestsim.targets import TargetError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
progress_console = Console(stderr=True)


@app.command()
def main(
    seconds: Annotated[float, typer.Option(min=0.01, help="How long each measurement takes.")] = 0.5,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is repeated, in turn.")] = 9,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only try the whole path; no figures.")] = False,
) -> None:
    """Compare vhost-user-blk with qemu-storage-daemon's, iSCSI with tgtd's, ATA commands and start-up with QEMU's."""
    try:
        if check:
            _check()
        else:
            _measure(seconds, rounds, as_json)
    except (FrontendError, ServerError, TargetError, startup.StartupError) as error:
        sys.exit(f"benchmarks: {error}")


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=progress_console, transient=True)


def _check() -> None:
    with _progress() as progress:
        task = progress.add_task("check", total=None)
        report = checking.check(lambda what: progress.update(task, description=what, advance=1))
    for server, reason in report.absent.items():
        print(f"{server}: left out: {reason}")
    if not report.served:
        sys.exit("benchmarks: no server could be started, so nothing was checked")
    print(
        f"{report.runs} runs, {report.verified} reads compared, on {', '.join(report.served)}: as specified"
    )


def _measure(seconds: float, rounds: int, as_json: bool) -> None:
    load_before = os.getloadavg()[0]
    groups = comparing.standard_groups()
    probes = startup.probes()
    comparisons: list[Comparison] = []
    with _progress() as progress:
        total = (
            comparing.steps(groups, rounds)
            + iscsi.steps(rounds)
            + scripted.steps(rounds)
            + len(probes) * rounds
        )
        task = progress.add_task("", total=total)

        def step(what: str) -> None:
            progress.update(task, description=what, advance=1)

        for group in groups:
            comparisons += comparing.compare(group, rounds, seconds, step)
        over_tcp = list(iscsi.compare(rounds, seconds, step))
        commands = list(scripted.compare(rounds, seconds, step))
        starts = startup.measure(probes, rounds, step)
    load_after = os.getloadavg()[0]
    machine = f"{os.cpu_count()} CPUs; load average {load_before:.1f} before, {load_after:.1f} after"
    if as_json:
        print(_as_json(machine, comparisons, over_tcp, commands, starts))
        return
    console = Console(width=None if sys.stdout.isatty() else 140)  # a pipe has no width of its own
    for comparison in comparisons:
        console.print(_load_table(comparison))
    for each in over_tcp:
        console.print(iscsi.table(each))
    for load in commands:
        console.print(scripted.table(load))
    console.print(_startup_table(starts))
    console.print(machine, highlight=False)


def _spread(spread: Spread, digits: int = 0) -> str:
    return f"{spread.median:,.{digits}f} ({spread.low:,.{digits}f}–{spread.high:,.{digits}f})"


def _load_table(comparison: Comparison) -> Table:
    rounds = max((len(results) for results in comparison.results.values()), default=0)
    table = Table(title=f"{comparison.name}: medians (ranges) of {rounds} rounds", title_justify="left")
    for heading in ("server", "requests/s", "mean µs", "p50 µs", "p99 µs", "CPU µs/request", "ours/this"):
        table.add_column(heading, justify="left" if heading == "server" else "right", no_wrap=True)
    for name, results in comparison.results.items():
        latencies = [result.latency_us for result in results]
        ratio = comparison.ratio(name)
        table.add_row(
            name,
            _spread(comparison.iops(name)),
            f"{statistics.median(latency.mean for latency in latencies):.1f}",
            f"{statistics.median(latency.p50 for latency in latencies):.1f}",
            f"{statistics.median(latency.p99 for latency in latencies):.1f}",
            f"{statistics.median(comparison.cpu_us[name]):.1f}",
            _spread(ratio, 2) if ratio else "",
        )
    for name, reason in comparison.absent.items():
        table.add_row(name, f"[dim]{escape(reason)}[/dim]")
    return table


def _startup_table(starts: Starts) -> Table:
    table = Table(title="fresh machine with its disk: medians (ranges)", title_justify="left")
    table.add_column("way", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column("QEMU takes, times as long", justify="right")
    peer = starts.peer()
    for name, seconds in starts.seconds.items():
        own = Spread.of(seconds)
        faster = f"{peer / own.median:.1f}" if peer else ""
        table.add_row(name, _spread(Spread(own.median * 1e3, own.low * 1e3, own.high * 1e3), 2), faster)
    for name, reason in starts.absent.items():
        table.add_row(name, f"[dim]{escape(reason)}[/dim]")
    return table


def _as_json(
    machine: str,
    comparisons: list[Comparison],
    over_tcp: list[iscsi.IscsiComparison],
    commands: list[scripted.ScriptedComparison],
    starts: Starts,
) -> str:
    loads = [
        {
            "name": comparison.name,
            "results": comparison.results,
            "server_cpu_us_per_request": comparison.cpu_us,
            "absent": comparison.absent,
            "ours_over_peer": {
                name: ratio for name in comparison.results if (ratio := comparison.ratio(name)) is not None
            },
        }
        for comparison in comparisons
    ]
    tcp = [
        {"name": each.name, "iops": each.iops, "server_cpu_us_per_request": each.cpu_us} for each in over_tcp
    ]
    ata = [
        {"name": each.name, "commands_per_second": each.rates, "cpu_us_per_command": each.cpu_us}
        for each in commands
    ]
    return msgspec.json.encode(
        {"machine": machine, "loads": loads, "iscsi": tcp, "ata": ata, "startup": starts}
    ).decode()


if __name__ == "__main__":
    app()
