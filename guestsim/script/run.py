"""Running a script on a target: from a file to a `ScriptReport`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from guestsim.errors import GuestError
from guestsim.script.load import ScriptError
from guestsim.script.perform import Performer, StepFailedError, StepReport
from guestsim.script.world import World
from guestsim.targets import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from guestsim.script.load import Source
    from guestsim.script.schema import Script, TargetName


@dataclass(slots=True)
class ScriptReport:
    """How a script went on one target.

    `skipped` says why it was not run; `error` what went wrong outside any step (a machine that didn't start).
    """

    file: str
    name: str
    target: str
    memory: str
    steps: list[StepReport] = field(default_factory=list)
    skipped: str | None = None
    error: str | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether everything was as expected."""
        return self.error is None and all(step.ok for step in self.steps)

    @property
    def failures(self) -> list[str]:
        """Everything that was not as expected, with file and line."""
        found = [
            f"{self.file}:{step.line}: {step.path}: {failure}" for step in self.steps for failure in step.failures
        ]
        if self.error is not None:
            found.append(f"{self.file}: {self.error}")
        return found


def run(
    script: Script,
    source: Source,
    target: TargetName,
    memory: str = "shared",
    on_step: Callable[[StepReport], None] | None = None,
) -> ScriptReport:
    """Run a script; `on_step` hears of every step as it ends.

    Raises `ScriptError` where the script has something wrong that only shows now (a drive's options).
    """
    used_memory = script.machine.memory or memory
    report = ScriptReport(source.file, script.name, target, used_memory if target == "devmodels" else "")
    if target not in script.targets:
        report.skipped = f"the script is for {', '.join(script.targets)}"
        return report

    def on_report(step: StepReport) -> None:
        report.steps.append(step)
        if on_step is not None:
            on_step(step)

    start = time.perf_counter()
    try:
        with World(script, source, target, memory) as world:
            world.guest.run(Performer(world, on_report).perform(script.steps, "steps"))
    except StepFailedError:
        pass
    except (TargetError, GuestError) as error:
        report.error = str(error)
    report.seconds = time.perf_counter() - start
    return report


__all__ = ["ScriptError", "ScriptReport", "run"]
