"""One target's process: started, listened to, started again where it died before its time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from fuzz import corpus
from fuzz.findings import ROOT

PULSE = re.compile(r"^#(\d+)\s+\w+ .*?\bcov: (\d+) ft: (\d+) corp: (\d+)/.*?(?:rss: (\d+)Mb|$)")
EXECUTED = re.compile(r"^stat::number_of_executed_units: (\d+)")
MEMORY = re.compile(r"^stat::peak_rss_mb: +(\d+)")
LAST_WORDS = 40
"""Lines that are kept of what a process said."""
ENGINE = (sys.executable, "-m", "fuzz.worker")
LEAST = 2.0
"""Seconds that are worth another start."""


@dataclass
class Progress:
    """How far a target is.  `coverage`: branches and comparisons that were seen; `inputs`: how many it takes.

    `starting`: seconds until the first execution, `memory`: MiB of the process at its largest.
    """

    name: str
    state: str = "waits"
    executions: int = 0
    seconds: float = 0.0
    coverage: int = 0
    inputs: int = 0
    starting: float = 0.0
    memory: int = 0
    findings: frozenset[str] = frozenset()
    """Their names, which are the same for what goes wrong at the same place."""
    words: list[str] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Executions per second of fuzzing."""
        return self.executions / self.seconds if self.seconds else 0.0

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in ("done", "stopped", "failed")

    @property
    def wrong(self) -> bool:
        """Whether something was found, or the engine did not start."""
        return bool(self.findings) or self.state == "failed"


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
        """End the process soon."""
        self._stopped = True
        if self._process is not None:
            self._process.terminate()

    def wait(self) -> None:
        """Until it has ended."""
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
        if self._stopped:
            self.progress.state = "stopped"
        else:
            self.progress.state = "done" if self.progress.executions else "failed"

    def _once(self, seconds: int, before: int, start: int) -> float | None:
        """One process; when it began to execute, or None where it never did, or came to its end."""
        progress = self.progress
        progress.state = "starts"
        arguments = [progress.name, str(self._seed + start), str(seconds)]
        arguments += [str(self._corpus), str(self._findings)]
        started, begun, already = time.monotonic(), None, progress.seconds
        # The engine ends at once, and leaves what the target has there.
        with TemporaryDirectory(prefix="fuzz-") as folder, self._started(arguments, folder) as process:
            self._process = process
            if self._stopped:
                process.terminate()
            assert process.stderr is not None
            for line in process.stderr:
                progress.words = [*progress.words[1 - LAST_WORDS :], line.rstrip()]
                if found := PULSE.match(line):
                    if begun is None:
                        begun = time.monotonic()
                        progress.starting += begun - started
                    progress.state = "runs"
                    executions, progress.coverage, _, progress.inputs = map(int, found.groups()[:4])
                    progress.executions = before + executions
                    progress.memory = max(progress.memory, int(found[5] or 0))
                elif found := EXECUTED.match(line):
                    progress.executions = before + int(found[1])
                elif found := MEMORY.match(line):
                    progress.memory = max(progress.memory, int(found[1]))
                if begun is not None:
                    progress.seconds = already + time.monotonic() - begun
                self._count()
            return begun if process.wait() else None

    def _started(self, arguments: list[str], folder: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*ENGINE, *arguments],
            cwd=self._corpus.parent,
            env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": folder},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=0,  # Who interrupts the campaign has it end its workers, in order.
        )

    def _count(self) -> None:
        # The name of a target may begin as another's does.
        named = re.compile(
            rf"{re.escape(self.progress.name)}-((?:(?:crash|leak|oom|slow-unit|timeout)-)?[0-9a-f]+)(\.input)?"
        )
        found = map(named.fullmatch, (path.name for path in self._findings.iterdir()))
        self.progress.findings = frozenset(match[1] for match in found if match is not None)
