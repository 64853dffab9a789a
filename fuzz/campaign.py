"""All targets in turn, so many at a time; a table that tells how far they are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

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
        self.length = self.each * -(-len(names) // jobs)
        """Seconds that all take, starting apart."""
        self.stopped = False
        self._jobs = jobs
        self._work = work

    def run(self, console: Console) -> None:
        """Until all have ended, or somebody interrupts it: `stopped` then.

        At a terminal what runs is shown as it goes, elsewhere each target gets a line when it is over.
        """
        workers = list[Worker]()
        try:
            self._run(console, workers)
        except KeyboardInterrupt:
            self.stopped = True
        finally:
            for worker in workers:
                worker.stop()
            for worker in workers:
                worker.wait()

    def _run(self, console: Console, workers: list[Worker]) -> None:
        begun = time.monotonic()
        if console.is_terminal:
            with Live(self._view(0), console=console, transient=True) as live:
                for _ in self._rounds(workers):
                    live.update(self._view(time.monotonic() - begun))
            return
        told: set[str] = set()
        for _ in self._rounds(workers):
            for each in self.all:
                if each.over and each.name not in told:
                    told.add(each.name)
                    console.print(f"{len(told)}/{len(self.all)} {_line(each)}", highlight=False)

    def _rounds(self, workers: list[Worker]) -> Iterator[None]:
        """Start what may start, look, wait; once more when all is over."""
        waiting = list(self.all)
        while waiting or not all(worker.done for worker in workers):
            while waiting and sum(not worker.done for worker in workers) < self._jobs:
                workers.append(self._start(waiting.pop(0)))
            yield
            time.sleep(LOOK_EVERY)
        yield

    def _start(self, progress: Progress) -> Worker:
        return Worker(progress, seconds=self.each, seed=self.seed, work=self._work, findings=self.findings)

    @property
    def findings_in_all(self) -> int:
        """Places that go wrong: one that several targets find is one."""
        return len(frozenset[str]().union(*(each.findings for each in self.all)))

    def table(self) -> Table:
        """One row for each target, and their sums."""
        table = _table(self.all)
        executions = sum(each.executions for each in self.all)
        table.add_section()
        most = max(each.memory for each in self.all)
        table.add_row(
            "all", f"{executions:,}", "", "", "", str(most), str(self.findings_in_all), "", style="bold"
        )
        return table

    def _view(self, seconds: float) -> Group:
        """What runs and what went wrong, which fits a terminal, and how far all are."""
        shown = [each for each in self.all if each.state in ("starts", "runs") or each.wrong]
        over = sum(each.over for each in self.all)
        spent, whole = (timedelta(seconds=int(each)) for each in (seconds, self.length))
        told = f"{over} of {len(self.all)} targets, {spent} of {whole} and what starting costs"
        return Group(_table(shown), Text(told, style="dim"))

    def plain(self) -> dict[str, object]:
        """The same for a program."""
        return {
            "seed": self.seed,
            "seconds-each": self.each,
            "executions": sum(each.executions for each in self.all),
            "findings": self.findings_in_all,
            "stopped": self.stopped,
            "targets": [
                {
                    "name": each.name,
                    "state": each.state,
                    "executions": each.executions,
                    "seconds": round(each.seconds, 1),
                    "per-second": round(each.per_second, 1),
                    "coverage": each.coverage,
                    "inputs": each.inputs,
                    "starting": round(each.starting, 1),
                    "memory-mib": each.memory,
                    "findings": sorted(each.findings),
                }
                for each in self.all
            ],
        }


def _table(rows: Sequence[Progress]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("target", no_wrap=True)
    for heading in ("executions", "a second", "coverage", "inputs", "MiB", "findings"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for each in rows:
        table.add_row(*_cells(each), style="red" if each.wrong else None)
    return table


def _cells(each: Progress) -> tuple[str, ...]:
    return (
        each.name,
        f"{each.executions:,}",
        f"{each.per_second:.0f}",
        f"{each.coverage:,}",
        str(each.inputs),
        str(each.memory),
        str(len(each.findings)),
        "" if each.state == "done" else each.state,
    )


def _line(each: Progress) -> str:
    name, executions, rate, coverage, inputs, memory, findings, _ = _cells(each)
    if each.state == "failed":
        return "\n".join([f"{name}: the engine did not start", *each.words])
    found = f"coverage {coverage}, {inputs} inputs, {memory} MiB, {findings} findings"
    return f"{name}: {executions} executions, {rate}/s, {found}"
