"""The pytest plugin: a machine, a guest and a disk as fixtures, and scripts (`*.guest.yaml`, `*.guest.py`) as tests.

Fixtures, each on the one before: `guest_memory` (`shared` or `bounced`; a test runs with each that `--guest-memory`
says), `machine` (an `InProcessTarget` with one virtio-blk disk in memory), `guest` (a `Guest` on it), `disk` (a
`Disk`, probed).  The marker `disk` sets the disk's `size` and the device's options:
`@pytest.mark.disk(size="4M", num_queues=4)`.  With `--guest-record` each test with a machine of ours leaves a trace.

This module is loaded in every run of pytest: it imports nothing of guestsim's before it is needed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from guestsim.disk import Disk
    from guestsim.guest import Guest
    from guestsim.script.run import Runnable, ScriptReport
    from guestsim.targets.inprocess import InProcessTarget

SUFFIXES = (".guest.yaml", ".guest.py")
_MEMORY = {"shared": ("shared",), "bounced": ("bounced",), "both": ("shared", "bounced")}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the plugin."""
    group = parser.getgroup("guestsim", "scripted guests")
    group.addoption(
        "--guest-memory",
        choices=tuple(_MEMORY),
        default="both",
        help="how devices reach guest memory: views of it, copies, or each in turn (default)",
    )
    group.addoption(
        "--guest-target",
        action="append",
        type=_target,
        metavar="TARGET",
        help="where *.guest.yaml and *.guest.py run, as guestsim run --target has it; may be given several times "
        "(default: devmodels)",
    )
    group.addoption(
        "--guest-record",
        metavar="FOLDER",
        help="write a trace of our devices into this folder, for each test that has a machine",
    )


def _target(text: str) -> str:
    """A target that exists."""
    from argparse import ArgumentTypeError

    from guestsim.script.needs import TargetSpecError, parse_target

    try:
        return str(parse_target(text))
    except TargetSpecError as error:
        raise ArgumentTypeError(str(error)) from None


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and the folder for traces."""
    config.addinivalue_line(
        "markers", "disk(size, **options): size and device options of the virtio-blk disk behind the fixtures"
    )
    folder = config.getoption("guest_record")
    if folder is not None:
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise pytest.UsageError(f"--guest-record: {folder} cannot be made: {error.strerror}") from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that has a machine once for each kind of memory."""
    if "guest_memory" in metafunc.fixturenames:
        metafunc.parametrize("guest_memory", _MEMORY[metafunc.config.getoption("guest_memory")])


@pytest.fixture
def guest_memory() -> str:
    """`shared` or `bounced`: how the machine's devices reach guest memory."""
    raise NotImplementedError("pytest_generate_tests gives it a value")


@pytest.fixture
def machine(request: pytest.FixtureRequest, guest_memory: str) -> Iterator[InProcessTarget]:
    """A machine in this process with one virtio-blk disk of 16 MiB in memory, or as the marker `disk` says."""
    from guestsim.quick import disk_machine
    from guestsim.script.values import parse_size
    from guestsim.targets import TargetError

    marker = request.node.get_closest_marker("disk")
    options = dict(marker.kwargs) if marker is not None else {}
    try:
        size = parse_size(options.pop("size", "16M"))
        found = disk_machine(size, shared=guest_memory == "shared", **options)
    except (ValueError, TypeError, TargetError) as error:
        pytest.fail(f"marker disk of {request.node.nodeid}: {error}", pytrace=False)
    with found:
        if (path := _trace_of(request.node)) is not None:
            found.record(path)
        yield found


def _trace_of(item: pytest.Item) -> Path | None:
    """Where the trace of a test goes, if one is wanted."""
    from pathlib import Path

    from guestsim.script.recording import SUFFIX, file_name

    folder = item.config.getoption("guest_record")
    if folder is None:
        return None
    return Path(folder, file_name(item.nodeid) + SUFFIX)


@pytest.fixture
def guest(machine: InProcessTarget) -> Iterator[Guest]:
    """A guest on the machine."""
    from guestsim.guest import Guest

    found = Guest(machine)
    yield found
    found.close()


@pytest.fixture
def disk(guest: Guest) -> Disk:
    """The machine's disk, probed by the guest."""
    from guestsim.disk import boot

    return boot(guest)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Take scripts for test files."""
    if file_path.name.endswith(SUFFIXES):
        return ScriptFile.from_parent(parent, path=file_path)
    return None


class ScriptFile(pytest.File):
    """A file of scripts; one item for each script, target and kind of memory."""

    def collect(self) -> Iterable[pytest.Item]:
        """Read the file; what is wrong with it is one line."""
        from guestsim.script.load import ScriptError
        from guestsim.script.needs import parse_target, why_not
        from guestsim.script.run import read_scripts

        try:
            scripts = read_scripts(self.path)
        except ScriptError as error:
            raise self.CollectError(str(error)) from None
        targets = [parse_target(text) for text in self.config.getoption("guest_target") or ["devmodels"]]
        kinds = _MEMORY[self.config.getoption("guest_memory")]
        for runnable in scripts:
            for target in targets:
                if why_not(target, runnable.script) is not None:
                    continue
                own = runnable.script.machine.memory
                memories = ("",) if target.name != "devmodels" else (own,) if own is not None else kinds
                for memory in memories:
                    where = f"{target}-{memory}" if memory else target
                    name = f"{runnable.script.name}[{where}]"
                    yield ScriptItem.from_parent(self, name=name, script=(runnable, str(target), memory))


class ScriptFailed(Exception):
    """A script did not go as expected."""

    def __init__(self, report: ScriptReport) -> None:
        super().__init__("\n".join(report.failures))
        self.report = report


class ScriptItem(pytest.Item):
    """One script on one target with one kind of memory."""

    def __init__(self, *, script: tuple[Runnable, str, str], **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._script, self._target, self._memory = script

    def runtest(self) -> None:
        """Run the script."""
        from guestsim.script.needs import parse_target
        from guestsim.script.recording import Recording, can_record
        from guestsim.script.run import Options

        path = _trace_of(self) if can_record(parse_target(self._target)) else None
        recording = None if path is None else Recording(path)
        report = self._script.run(Options(self._target, self._memory or "shared", recording=recording))
        if report.skipped is not None:
            pytest.skip(report.skipped)
        if not report.ok:
            raise ScriptFailed(report)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: str | None = None) -> str:  # noqa: ARG002
        """What the guest did up to the failure, for a script that failed."""
        from guestsim.script.load import ScriptError

        error = excinfo.value
        if isinstance(error, ScriptError):
            return str(error)
        if not isinstance(error, ScriptFailed):
            return str(super().repr_failure(excinfo))
        lines = list(error.report.failures)
        for step in error.report.steps:
            answer = f" -> {step.answered}" if step.answered else ""
            lines.append(f"{'ok  ' if step.ok else 'FAIL'} {step.line:>4}  {step.did}{answer}")
        return "\n".join(lines)

    def reportinfo(self) -> tuple[Path, int, str]:
        """File, line and name for reports."""
        return self.path, 0, self.name
