"""Tests run against a mutant, in a forked process to whose import system the mutant is the module.

pytest, Hypothesis and the libraries are imported once, before any fork; our own packages by each fork
anew.  Whatever a mutant does ends with its process group: it has so much CPU time, so much time and so much memory.
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
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

import msgspec
import pytest

from tools.mutation.modules import ROOT
from tools.mutation.mutants import Mutant

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
)


class Result(msgspec.Struct, frozen=True):
    """Of one run; `seconds` of CPU time."""

    passed: bool
    test: str
    """The first that failed; empty where none ran, as a mutant that cannot be imported has it."""
    seconds: float = 0.0
    timeout: bool = False


@dataclass(slots=True)
class _First:
    """A pytest plugin: which test failed first, and which was running."""

    running: str = ""
    failed: str = ""
    ran: int = field(default=0)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.running = nodeid
        self.ran += 1

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid


def prepare() -> None:
    """Import what all forks share."""
    for name in _LIBRARIES:
        importlib.import_module(name)
    gc.freeze()


def run(mutant: Mutant | None, tests: Sequence[str], limit: float) -> Result:
    """The tests' result on the mutant, or on the code as it is; `limit` in seconds of CPU time, of all time ten."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(mutant, tests, limit, writing)
    os.close(writing)
    try:
        answer = _answer(reading, time.monotonic() + 10 * limit)
    finally:
        os.close(reading)
        for process in (-child, child):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        used = os.wait4(child, 0)[2]
    seconds = used.ru_utime + used.ru_stime
    if answer is None:
        return Result(passed=False, test="", seconds=seconds, timeout=True)
    return msgspec.structs.replace(msgspec.json.decode(answer, type=Result), seconds=seconds)


def _answer(reading: int, until: float) -> bytes | None:
    """What the child says until it ends; None where it says nothing, or not in time."""
    answer = b""
    while (left := until - time.monotonic()) > 0:
        if not select.select([reading], [], [], left)[0]:
            return None
        if not (more := os.read(reading, 65536)):
            return answer or None
        answer += more
        if answer.endswith(b"\n"):
            return answer
    return None


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
            sys.meta_path.insert(0, _Finder(mutant))
        os.write(writing, msgspec.json.encode(_tested(tests)) + b"\n")
        status = 0
    finally:
        os._exit(status)


def _tested(tests: Sequence[str]) -> Result:
    first = _First()
    try:
        code = pytest.main([*_OPTIONS, *tests], plugins=[first])
    except Exception:  # of a plugin's import: ours is one
        return Result(passed=False, test="")
    return Result(passed=code == 0, test=first.failed or (first.running if code else ""))


class _Finder(MetaPathFinder, InspectLoader):
    """Finds one module, whose source is a mutant's."""

    def __init__(self, mutant: Mutant) -> None:
        self._name = mutant.module.removesuffix(".py").replace("/", ".")
        self._path = str(Path(ROOT, mutant.module))
        self._mutant = mutant

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        """The module's specification, with this as its loader."""
        if fullname != self._name:
            return None
        return spec_from_file_location(fullname, self._path, loader=self)

    def get_source(self, _: str) -> str:
        """The mutant's."""
        return self._mutant.source
