"""Running a script on a target: from a file to a `ScriptReport`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from guestsim.errors import GuestError, raised
from guestsim.script import load as yaml
from guestsim.script.load import ScriptError
from guestsim.script.machine import Opener, open_target
from guestsim.script.needs import parse_target, why_not
from guestsim.script.perform import Performer, StepFailedError, StepReport
from guestsim.script.ways import Way, vary
from guestsim.script.world import World
from guestsim.targets import LacksError, RecordError, TargetError

if TYPE_CHECKING:
    from pathlib import Path

    from guestsim.script.load import Source
    from guestsim.script.recording import Recording
    from guestsim.script.schema import Script


@dataclass(frozen=True, slots=True)
class Options:
    """How scripts are run: the target, the kind of memory where a script leaves it open, and who listens.

    `target` is what `parse_target` takes; `way` are ring and transport, where the script leaves them open.  `on_step`
    hears of every step as it ends, `on_access` of every access of the guest, as text.  `recording` is the trace of our
    devices to be written; `opener` is what starts the machine.
    """

    target: str = "devmodels"
    memory: str = "shared"
    way: Way = field(default_factory=Way)
    on_step: Callable[[StepReport], None] | None = None
    on_access: Callable[[str], None] | None = None
    recording: Recording | None = None
    opener: Opener = open_target


@dataclass(slots=True)
class ScriptReport:
    """How a script went on one target.

    `memory` is empty where the target has one kind only, `way` where it was left to the script; `skipped` says why the
    script was not run; `error` what went wrong outside any step (a machine that didn't start); `wrong` says that it is
    the script's own mistake, told with file and line.  `trace` is the file with what was recorded.
    """

    file: str
    name: str
    target: str
    memory: str
    way: str = ""
    steps: list[StepReport] = field(default_factory=list)
    skipped: str | None = None
    error: str | None = None
    wrong: bool = False
    seconds: float = 0.0
    trace: str | None = None

    @property
    def where(self) -> str:
        """Target, memory and way, for people."""
        return ", ".join(part for part in (self.target, self.memory, self.way) if part)

    @property
    def ok(self) -> bool:
        """Whether everything was as expected."""
        return self.error is None and all(step.ok for step in self.steps)

    @property
    def failures(self) -> list[str]:
        """Everything that was not as expected, with file and line."""
        found = [
            f"{self.file}:{step.line}: {step.path}: {failure}"
            for step in self.steps
            for failure in step.failures
        ]
        if self.error is not None:
            found.append(self.error if self.wrong else f"{self.file}: {self.error}")
        return found


class Runnable(Protocol):
    """A script that has been read and checked, in whatever language."""

    @property
    def script(self) -> Script:
        """Its machine, drives, devices and targets."""
        ...

    @property
    def source(self) -> Source:
        """Where it was read from."""
        ...

    def run(self, options: Options) -> ScriptReport:
        """Run it. Raises `ScriptError` for what only shows now (a drive's options)."""
        ...


@dataclass(frozen=True, slots=True)
class YamlScript:
    """A script of steps."""

    script: Script
    source: Source

    def run(self, options: Options) -> ScriptReport:
        """Run it. Raises `ScriptError` for what only shows now (a drive's options)."""

        def body(world: World, on_report: Callable[[StepReport], None]) -> None:
            performer = Performer(world, on_report)
            try:
                world.guest.run(performer.perform(self.script.steps, "steps"))
            except (StepFailedError, GuestError, TargetError):
                raise
            except Exception as error:
                performer.give_up(error)

        return run_on(self.script, self.source, options, body)


def run_on(
    script: Script,
    source: Source,
    options: Options,
    body: Callable[[World, Callable[[StepReport], None]], None],
) -> ScriptReport:
    """Open a script's world, run `body(world, on_report)` in it, and report.

    Raises `ScriptError` for what only shows now, and `RecordError` where the trace cannot be written.
    """
    spec = parse_target(options.target)
    memory = (script.machine.memory or options.memory) if spec.name in ("devmodels", "vfio-user") else ""
    report = ScriptReport(source.file, script.name, str(spec), memory, str(options.way))
    report.skipped = why_not(spec, script)
    varied = vary(script, options.way)
    if isinstance(varied, str):
        report.skipped = report.skipped or varied
    if report.skipped is not None or isinstance(varied, str):
        return report

    def on_report(step: StepReport) -> None:
        report.steps.append(step)
        if options.on_step is not None:
            options.on_step(step)

    start = time.perf_counter()
    try:
        with World(
            varied, source, spec, options.memory, options.on_access, options.recording, options.opener
        ) as world:
            if options.recording is not None:
                report.trace = str(options.recording.path)
            body(world, on_report)
    except StepFailedError:
        pass
    except LacksError as error:
        if report.steps:
            report.error = f"needs {error}"
        else:
            report.skipped = f"needs {error}"
    except (ScriptError, RecordError):
        raise
    except (TargetError, GuestError) as error:
        report.error = str(error)
    except Exception as error:
        report.error = f"the machine raised {raised(error)}"
    report.seconds = time.perf_counter() - start
    return report


def read_scripts(path: Path) -> list[Runnable]:
    """The scripts in a file: one in YAML, or one a row, or those of Python. ScriptError where something is wrong."""
    if path.suffix == ".py":
        from guestsim.script.python import load as load_python

        return list(load_python(path))
    return [YamlScript(*each) for each in yaml.load_all(path)]
