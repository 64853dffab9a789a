"""All targets in turn, so many at a time; a table that tells how far they are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from fuzz.engine import Progress, Worker

LOOK_EVERY = 0.25
"""Seconds."""


class Campaign:
    """`seconds` of fuzzing over `jobs` processes, shared evenly among targets: at least one second each."""

    def __init__(
        self, names: Sequence[str], *, seconds: int, jobs: int, seed: int, work: Path, findings: Path
    ) -> None:
        self.all = [Progress(name) for name in names]
        self.seed = seed
        self.findings = findings
        self.each = max(1, seconds * min(jobs, len(names)) // len(names))
        self._jobs = jobs
        self._work = work

    def run(self, console: Console) -> None:
        """Until all have ended, or somebody interrupts it; a table at a terminal, a line for each target elsewhere."""
        if console.is_terminal:
            with Live(self.table(), console=console, transient=True) as live:
                for _ in self._rounds():
                    live.update(self.table())
            return
        told: set[str] = set()
        for _ in self._rounds():
            for each in self.all:
                if each.state in ("done", "failed") and each.name not in told:
                    told.add(each.name)
                    console.print(_line(each), highlight=False)

    def _rounds(self) -> Iterator[None]:
        """Start what may start, look, wait; once more when all is over."""
        waiting, workers = list(self.all), list[Worker]()
        try:
            while waiting or not all(worker.done for worker in workers):
                while waiting and sum(not worker.done for worker in workers) < self._jobs:
                    workers.append(self._start(waiting.pop(0)))
                yield
                time.sleep(LOOK_EVERY)
            yield
        except KeyboardInterrupt:
            pass
        finally:
            for worker in workers:
                worker.stop()

    def _start(self, progress: Progress) -> Worker:
        return Worker(progress, seconds=self.each, seed=self.seed, work=self._work, findings=self.findings)

    def table(self) -> Table:
        """One row for each target, and their sums."""
        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column("target", no_wrap=True)
        for heading in ("executions", "a second", "coverage", "inputs", "findings"):
            table.add_column(heading, justify="right")
        table.add_column("")
        for each in self.all:
            table.add_row(*_cells(each), style="red" if each.findings or each.state == "failed" else None)
        executions = sum(each.executions for each in self.all)
        findings = sum(each.findings for each in self.all)
        table.add_section()
        table.add_row("all", f"{executions:,}", "", "", "", str(findings), "", style="bold")
        return table

    def plain(self) -> dict[str, object]:
        """The same for a program."""
        return {
            "seed": self.seed,
            "seconds-each": self.each,
            "executions": sum(each.executions for each in self.all),
            "findings": sum(each.findings for each in self.all),
            "targets": [
                {
                    "name": each.name,
                    "state": each.state,
                    "executions": each.executions,
                    "seconds": round(each.seconds, 1),
                    "per-second": round(each.per_second, 1),
                    "coverage": each.coverage,
                    "inputs": each.inputs,
                    "findings": each.findings,
                }
                for each in self.all
            ],
        }


def _cells(each: Progress) -> tuple[str, ...]:
    return (
        each.name,
        f"{each.executions:,}",
        f"{each.per_second:.0f}",
        f"{each.coverage:,}",
        str(each.inputs),
        str(each.findings),
        "" if each.state == "done" else each.state,
    )


def _line(each: Progress) -> str:
    name, executions, rate, coverage, inputs, findings, state = _cells(each)
    if state:
        return "\n".join([f"{name}: the engine did not start", *each.words])
    return f"{name}: {executions} executions, {rate}/s, coverage {coverage}, {inputs} inputs, {findings} findings"
