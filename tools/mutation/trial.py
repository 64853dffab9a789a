"""Tests run against a mutant, in a forked process to whose import system the mutant is the module.

pytest, Hypothesis and the libraries are imported once, before any fork; our own packages by each fork
anew.  Whatever a mutant does ends with its process group: it has so much CPU time and so much memory.  How long it
takes by the clock says nothing: the machine may be busy.
"""

from __future__ import annotations

import gc
import importlib
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec
import pytest

from tools.mutation.mutants import Mutant
from tools.replaced import Replaced

_OURS = ("devmodels", "guestsim")
_LIBRARIES = (
    "hypothesis.stateful",
    "construct",
    "msgspec",
    "typer.testing",
    "rich.progress",
    "qemu.qmp",
    "ruamel.yaml",
)
_MEMORY = 4 << 30
QUIET = 60.0
"""Seconds without any use of a processor, after which a process is said to sleep for ever."""
_NOTHING = 0.05
"""Seconds of a processor that are no use of it."""
_OPTIONS = (
    "-x",
    "-q",
    "--tb=no",
    "-p",
    "no:cacheprovider",
    "--no-header",
    "--no-summary",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
    "-m",
    "not guest and not qemu and not slow and not browser",
)


class How(StrEnum):
    """What becomes of tests on a mutant: it survives those that pass."""

    PASSED = "passed"
    TEST = "test"
    IMPORT = "import"
    """No test ran: the mutant, or what uses it, cannot be imported."""
    LOOP = "loop"
    """It used all of the CPU time it had."""
    SLEEP = "sleep"
    """It waits for what never comes."""
    CRASH = "crash"
    """Its process ended before the tests did."""


class Result(msgspec.Struct, frozen=True):
    """Of one run; `seconds` of CPU time."""

    how: How
    test: str = ""
    """The first that failed."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Job:
    """Tests to run on a mutant, or on the code as it is; `limit` in seconds of CPU time."""

    mutant: Mutant | None
    tests: tuple[str, ...]
    limit: float


@dataclass(slots=True, eq=False)
class _First:
    """A pytest plugin: which test failed first, and which was running."""

    running: str = ""
    failed: str = ""

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.running = nodeid

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid


def prepare() -> None:
    """Import what all forks share."""
    for name in _LIBRARIES:
        importlib.import_module(name)
    gc.freeze()


def run(jobs: Iterable[Job], at_once: int) -> Iterator[tuple[Job, Result]]:
    """The results as they come, of so many processes `at_once`."""
    waiting = iter(jobs)
    running: list[_Trial] = []
    try:
        while True:
            while len(running) < at_once and (job := next(waiting, None)) is not None:
                running.append(_Trial(job))
            if not running:
                return
            ready = select.select(running, [], [], 1.0)[0]
            for each in list(running):
                if (each in ready and each.read()) or each.sleeps():
                    running.remove(each)
                    yield each.job, each.end()
    finally:
        for each in running:
            each.end()


class _Trial:
    """One forked process, and what it has said."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._reading, writing = os.pipe()
        self._answer = b""
        self._asleep = False
        self._child = os.fork()
        if self._child == 0:
            os.close(self._reading)
            _child(job.mutant, job.tests, job.limit, writing)
        os.close(writing)
        self._since = time.monotonic()
        self._busy = 0.0

    def fileno(self) -> int:
        """What can be read when the process has said something or is gone."""
        return self._reading

    def read(self) -> bool:
        """Take what it says; whether that is all."""
        more = os.read(self._reading, 65536)
        self._answer += more
        return not more or self._answer.endswith(b"\n")

    def sleeps(self) -> bool:
        """Whether it wanted no processor for a minute; one that waits for it on a busy machine does not sleep."""
        now, busy = time.monotonic(), _busy(self._child)
        if abs(busy - self._busy) > _NOTHING:
            self._since, self._busy = now, busy
        self._asleep = now - self._since > QUIET
        return self._asleep

    def end(self) -> Result:
        """End the process, with all that it has begun."""
        os.close(self._reading)
        for process in (-self._child, self._child):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        _, status, used = os.wait4(self._child, 0)
        seconds = used.ru_utime + used.ru_stime
        if self._answer:
            return msgspec.structs.replace(msgspec.json.decode(self._answer, type=Result), seconds=seconds)
        if self._asleep:
            return Result(How.SLEEP, seconds=seconds)
        # What reaches its limit of CPU time is killed.
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        return Result(How.LOOP if killed else How.CRASH, seconds=seconds)


def _busy(process: int) -> float:
    """Seconds that its threads have run or have waited for a processor."""
    total = 0
    for path in Path(f"/proc/{process}/task").glob("*/schedstat"):
        with suppress(OSError):
            ran, waited, _ = path.read_text(encoding="ascii").split()
            total += int(ran) + int(waited)
    return total / 1e9


def _child(mutant: Mutant | None, tests: Sequence[str], limit: float, writing: int) -> None:
    """Run the tests and tell; does not return."""
    status = 1
    try:
        os.setsid()
        quiet = os.open(os.devnull, os.O_RDWR)
        for each in (0, 1, 2):
            os.dup2(quiet, each)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, int(limit) + 1))
        os.environ["HYPOTHESIS_PROFILE"] = "mutation"
        for name in [name for name in sys.modules if name.partition(".")[0] in _OURS]:
            del sys.modules[name]
        if mutant is not None:
            sys.meta_path.insert(0, Replaced({mutant.module: mutant.source}))
        os.write(writing, msgspec.json.encode(_tested(tests)) + b"\n")
        status = 0
    finally:
        os._exit(status)


def _tested(tests: Sequence[str]) -> Result:
    first = _First()
    try:
        code = pytest.main([*_OPTIONS, *tests], plugins=[first])
    except Exception:  # of a plugin's import: ours is one
        return Result(How.IMPORT)
    if code == 0:
        return Result(How.PASSED)
    test = first.failed or first.running
    return Result(How.TEST if test else How.IMPORT, test)
