"""One target's process: started, listened to, started again where it died before its time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

from fuzz import corpus
from fuzz.findings import ROOT

PULSE = re.compile(r"^#(\d+)\s+\w+ .*?\bcov: (\d+) ft: (\d+) corp: (\d+)/")
EXECUTED = re.compile(r"^stat::number_of_executed_units: (\d+)")
LAST_WORDS = 40
"""Lines that are kept of what a process said."""
LEAST = 2.0
"""Seconds that are worth another start."""


@dataclass
class Progress:
    """How far a target is.  `coverage`: branches and comparisons that were seen; `inputs`: how many it takes."""

    name: str
    state: str = "waits"
    executions: int = 0
    seconds: float = 0.0
    coverage: int = 0
    inputs: int = 0
    findings: int = 0
    words: list[str] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Executions per second of fuzzing."""
        return self.executions / self.seconds if self.seconds else 0.0


class Worker:
    """Fuzzes a target for some seconds, in a process, with a thread that listens to it."""

    def __init__(self, progress: Progress, *, seconds: int, seed: int, work: Path, findings: Path) -> None:
        self.progress = progress
        self._seconds = seconds
        self._seed = seed
        self._corpus = (work / progress.name).resolve()
        self._findings = findings.resolve()
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False
        corpus.spread(corpus.kept(progress.name), self._corpus)
        findings.mkdir(parents=True, exist_ok=True)
        self._thread = Thread(target=self._work, name=progress.name, daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """End the process, and wait for it."""
        self._stopped = True
        if self._process is not None:
            self._process.terminate()
        self._thread.join()

    def _work(self) -> None:
        left, before, start = float(self._seconds), 0, 0
        while not self._stopped and (not start or left > LEAST):
            begun = self._once(max(1, round(left)), before, start)
            if begun is None:
                break
            left -= time.monotonic() - begun
            before, start = self.progress.executions, start + 1
        self._count()
        self.progress.state = "done" if self.progress.executions else "failed"

    def _once(self, seconds: int, before: int, start: int) -> float | None:
        """One process; when it began to execute, or None where it never did, or came to its end."""
        progress = self.progress
        progress.state = "starts"
        arguments = [progress.name, str(self._seed + start), str(seconds)]
        arguments += [str(self._corpus), str(self._findings)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.worker", *arguments],
            cwd=self._corpus.parent,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        assert self._process.stderr is not None
        begun, already = None, progress.seconds
        for line in self._process.stderr:
            progress.words = [*progress.words[1 - LAST_WORDS :], line.rstrip()]
            if found := PULSE.match(line):
                begun = begun or time.monotonic()
                progress.state = "runs"
                executions, progress.coverage, _, progress.inputs = map(int, found.groups())
                progress.executions = before + executions
            elif found := EXECUTED.match(line):
                progress.executions = before + int(found[1])
            if begun is not None:
                progress.seconds = already + time.monotonic() - begun
            self._count()
        return begun if self._process.wait() else None

    def _count(self) -> None:
        # The name of a target may begin as another's does.
        named = re.compile(
            rf"{re.escape(self.progress.name)}-((crash|leak|oom|slow-unit|timeout)-)?[0-9a-f]+(\.input)?"
        )
        self.progress.findings = sum(
            named.fullmatch(path.name) is not None for path in self._findings.iterdir()
        )
