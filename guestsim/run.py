"""`guestsim run` and `guestsim demo`: scripts on any target, and what came of them.

Exit status: 0 where everything was as expected, 1 where it was not, 2 where a script or an option is wrong.
"""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from guestsim.choices import MemoryChoice, RingChoice, TransportChoice
from guestsim.progress import Bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guestsim.script.perform import StepReport
    from guestsim.script.recording import Recording
    from guestsim.script.run import Options, Runnable, ScriptReport
    from guestsim.script.ways import Way


def run_command(
    scripts: Annotated[
        list[Path], typer.Argument(help="Scripts (*.guest.yaml, *.guest.py), or folders of them.")
    ],
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TARGET",
            help="Where to run them; may be given several times: devmodels, qemu, qemu-storage-daemon, vhost-user or "
            "vfio-user, the last three with :SOCKET where somebody listens already. [default: devmodels]",
        ),
    ] = None,
    memory: Annotated[
        MemoryChoice, typer.Option(help="How devices reach memory, where a script leaves it open.")
    ] = MemoryChoice.SHARED,
    ring: Annotated[
        RingChoice | None, typer.Option(help="Which rings devices have, where a script leaves it open.")
    ] = None,
    transport: Annotated[
        TransportChoice | None,
        typer.Option(help="How devices are reached, where a script leaves it open."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    junit: Annotated[Path | None, typer.Option(help="Write the report to this file as JUnit XML.")] = None,
    trace: Annotated[
        bool, typer.Option("--trace", help="Print every access of the guest to stderr.")
    ] = False,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Write a trace of our devices at work: a file, or for several scripts or targets a folder.",
        ),
    ] = None,
    record_limit: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Stop recording before a trace is longer than this: 64M, say."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="One line for each script.")] = False,
) -> None:
    """Run scripts on our devices in this process, on a real QEMU, at a vhost-user or vfio-user socket."""
    # What reads and runs scripts is not for every start of the command.
    from guestsim.script.load import ScriptError
    from guestsim.script.needs import TargetSpecError, parse_target
    from guestsim.script.recording import RecordOptionError, plan
    from guestsim.script.run import read_scripts
    from guestsim.script.ways import Way
    from guestsim.targets import RecordError

    try:
        if record is None and record_limit is not None:
            raise RecordOptionError(f"--record-limit: {record_limit} is given, expected --record with it")
        targets = [str(parse_target(text)) for text in target or ["devmodels"]]
        runnables = [runnable for path in _files(scripts) for runnable in read_scripts(path)]
        printer = _Printer(steps=not quiet and not as_json, results=not as_json, trace=trace)
        way = Way(
            ring.value if ring is not None else None, transport.value if transport is not None else None
        )
        runs = [(runnable, target) for target in targets for runnable in runnables]
        recordings = [None] * len(runs) if record is None else plan(record, record_limit, runs)
        reports = _run_all(runs, recordings, memory, way, printer)
    except ScriptError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    except RecordOptionError as error:
        typer.echo(f"guestsim: {error}", err=True)
        raise typer.Exit(2) from None
    except RecordError as error:
        typer.echo(f"guestsim: --record: {error}", err=True)
        raise typer.Exit(2) from None
    except TargetSpecError as error:
        typer.echo(f"guestsim: --target: {error}", err=True)
        raise typer.Exit(2) from None
    if as_json:
        typer.echo(json.dumps([to_json(report) for report in reports], indent=2))
    else:
        printer.summary(reports)
    if junit is not None:
        _write_junit(junit, reports)
    if any(report.wrong for report in reports):
        raise typer.Exit(2)
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


def demo_command() -> None:
    """Run the built-in script: a guest with two disks, and what the devices answer."""
    script = files("guestsim.script").joinpath("demo.guest.yaml")
    with as_file(script) as path:
        run_command([path])


def _write_junit(path: Path, reports: Sequence[ScriptReport]) -> None:
    from guestsim.script.junit import to_xml

    try:
        path.write_text(to_xml(reports), encoding="utf-8")
    except OSError as error:
        typer.echo(f"{path}: cannot be written: {error.strerror}", err=True)
        raise typer.Exit(2) from None


def _files(paths: Sequence[Path]) -> list[Path]:
    """The scripts that a user named, those of folders included, in order."""
    from guestsim.script.load import ScriptError

    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted((*path.rglob("*.guest.yaml"), *path.rglob("*.guest.py")))
            if not inside:
                raise ScriptError(
                    str(path), 1, "", "a folder without scripts, expected *.guest.yaml or *.guest.py"
                )
            found += inside
        else:
            found.append(path)
    return found


def _run_all(
    runs: Sequence[tuple[Runnable, str]],
    recordings: Sequence[Recording | None],
    memory: MemoryChoice,
    way: Way,
    printer: _Printer,
) -> list[ScriptReport]:
    from guestsim.script.run import Options

    reports = []
    with printer.progress(len(runs)) as bar:
        for (runnable, target), recording in zip(runs, recordings, strict=True):
            printer.begin(runnable, target)
            options = Options(target, memory.value, way, printer.step, printer.on_access, recording)
            report = _run_one(runnable, options)
            printer.end(report)
            reports.append(report)
            bar.more()
    return reports


def _run_one(runnable: Runnable, options: Options) -> ScriptReport:
    """Run a script; a mistake of its own that shows only now ends it, not the others."""
    from guestsim.script.load import ScriptError
    from guestsim.script.run import ScriptReport

    try:
        return runnable.run(options)
    except ScriptError as error:
        source, script = runnable.source, runnable.script
        typer.echo(str(error), err=True)
        return ScriptReport(source.file, script.name, options.target, "", error=str(error), wrong=True)


class _Printer:
    """Tells a person how it goes: steps as they end, a line for each script, a summary."""

    def __init__(self, *, steps: bool, results: bool, trace: bool) -> None:
        self.console = Console(highlight=False)
        self._errors = Console(stderr=True, highlight=False)
        self._steps = steps
        self._results = results
        self.on_access = self._access if trace else None

    def progress(self, total: int) -> Bar:
        """A bar where somebody watches, and more than one script runs."""
        shown = self._results and total > 1
        return Bar("scripts", total, shown=shown, counted=True, console=self.console)

    def begin(self, runnable: Runnable, target: str) -> None:
        """A script starts."""
        if self._steps:
            self.console.print(
                f"[bold]{escape(runnable.script.name)}[/] on {target} ({escape(runnable.source.file)})"
            )

    def step(self, report: StepReport) -> None:
        """A step has ended."""
        if not self._steps:
            return
        if report.note is not None:
            self.console.print(f"  [italic]{escape(report.note)}[/]", soft_wrap=True)
        mark = "[green]✓[/]" if report.ok else "[red]✗[/]"
        if report.skipped is not None:
            mark = "[yellow]-[/]"
        cpu = f"[cyan]cpu{report.cpu}[/] " if report.cpu else ""
        answer = f" [dim]→[/] {escape(report.answered)}" if report.answered else ""
        self.console.print(
            f"  {mark} [dim]{report.line:>4}[/] {cpu}{escape(report.did)}{answer}", soft_wrap=True
        )
        if report.difference is not None:
            said = "does not differ here" if report.same else "differs here"
            self.console.print(f"         [yellow]{said}:[/] {escape(report.difference)}", soft_wrap=True)

    def end(self, report: ScriptReport) -> None:
        """A script has ended."""
        if not self._results:
            return
        for failure in report.failures if not report.wrong else ():
            self.console.print(f"  [red]{escape(failure)}[/]", soft_wrap=True)
        if report.trace is not None:
            self._recorded(report.trace)
        if self._steps and report.skipped is None:
            self.console.print()
        elif report.skipped is None:
            mark = "[green]ok  [/]" if report.ok else "[red]FAIL[/]"
            where = report.where
            text = f"{mark} {escape(report.file)}: {escape(report.name)} ({where}, {report.seconds:.2f} s)"
            self.console.print(text, soft_wrap=True)
        else:
            self.console.print(
                f"[yellow]skip[/] {escape(report.file)}: {escape(report.skipped)}", soft_wrap=True
            )

    def _recorded(self, path: str) -> None:
        """What there is in a trace."""
        from devmodels.tracefile import TraceReader
        from guestsim.script.requests import bytes_text

        with TraceReader(Path(path)) as reader:
            events, ending = reader.count(), reader.ending
        size = bytes_text(Path(path).stat().st_size)
        more = f"; {ending.text}" if ending is not None and ending.text else ""
        self.console.print(
            f"  recorded in {escape(path)}: {events} events, {size}{escape(more)}", soft_wrap=True
        )

    def summary(self, reports: Sequence[ScriptReport]) -> None:
        """What came of all of them."""
        run = [report for report in reports if report.skipped is None]
        failed = [report for report in run if not report.ok]
        steps = sum(len(report.steps) for report in run)
        seconds = sum(report.seconds for report in run)
        skipped = f", {len(reports) - len(run)} skipped" if len(run) < len(reports) else ""
        if left_out := sum(step.skipped is not None for report in run for step in report.steps):
            skipped += f", {left_out} steps left out"
        colour = "red" if failed else "green"
        text = f"{len(run) - len(failed)} of {len(run)} scripts as expected{skipped}; {steps} steps in {seconds:.2f} s"
        self.console.print(f"[bold {colour}]{text}[/]")

    def _access(self, line: str) -> None:
        self._errors.print(f"         {line}", markup=False, soft_wrap=True)


def to_json(report: ScriptReport) -> dict[str, object]:
    """A report as plain values."""
    return {
        "file": report.file,
        "name": report.name,
        "target": report.target,
        "memory": report.memory or None,
        "way": report.way or None,
        "ok": report.ok,
        "skipped": report.skipped,
        "error": report.error,
        "seconds": round(report.seconds, 6),
        "trace": report.trace,
        "steps": [
            {
                "path": step.path,
                "line": step.line,
                "did": step.did,
                "answered": step.answered,
                "ok": step.ok,
                "failures": list(step.failures),
                "difference": step.difference,
                "same": step.same,
                "cpu": step.cpu,
                "skipped": step.skipped,
            }
            for step in report.steps
        ],
    }
