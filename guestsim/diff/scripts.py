"""A script of the guest's language on both sides at once, and what came of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from guestsim.diff.access import FormError
from guestsim.diff.devices import DEVICES
from guestsim.diff.script_judge import Judge
from guestsim.diff.script_masks import REASONS
from guestsim.diff.script_save import Saved, save
from guestsim.diff.script_steps import why_not_both
from guestsim.script.run import Options, YamlScript, run_on
from guestsim.targets import TargetError

if TYPE_CHECKING:
    from guestsim.diff.play import Difference
    from guestsim.diff.profiles import Profile


@dataclass(slots=True)
class ScriptDiff:
    """What came of one script: what was known or masked is counted by its name.

    `said` counts what the script itself says of QEMU, by its reason.  `skipped` says why it cannot run on both;
    `failures` are what was not as the script expects of ours.
    """

    file: str
    name: str
    profile: Profile = "strict"
    """What our side goes by."""
    devices: tuple[str, ...] = ()
    steps: int = 0
    accesses: int = 0
    compared: int = 0
    disks: int = 0
    """Images whose content was compared."""
    seconds: float = 0.0
    known: Counter[str] = field(default_factory=Counter)
    said: Counter[str] = field(default_factory=Counter)
    masked: Counter[str] = field(default_factory=Counter)
    unexplained: Difference | None = None
    place: str = ""
    """File, line and step of it."""

    @property
    def ok(self) -> bool:
        """Whether nothing is unexplained, and all is as the script expects."""
        return self.unexplained is None and not self.failures

    @property
    def reasons(self) -> Iterator[tuple[str, str, int]]:
        """Name, reason and how often it hid something, of each mask that did."""
        found = {mask.name: mask.reason for name in self.devices for mask in DEVICES[name].masks} | REASONS
        for name, count in self.masked.most_common():
            yield name, found[name], count

    saved: Saved | None = None
    unsaved: str = ""
    """Why no accesses could be saved."""
    skipped: str | None = None
    failures: list[str] = field(default_factory=list)


def compare_script(
    runnable: YamlScript, profile: Profile = "strict", folder: Path | None = None
) -> ScriptDiff:
    """Run a script on both; what its guest did is saved in `folder` where something is unexplained.

    Under the profile `qemu` ours has to do what the script says of QEMU's, and that explains nothing.

    ScriptError for what only shows now; TargetError where QEMU cannot be started.
    """
    script = runnable.script
    report = ScriptDiff(runnable.source.file, script.name, profile)
    report.skipped = why_not_both(script)
    if report.skipped is not None:
        return report
    judge = Judge(runnable, report)
    begun = time.monotonic()
    target = "qemu" if profile == "qemu" else "devmodels"
    options = Options(target, opener=judge.open, on_step=judge.after)
    ran = run_on(script, runnable.source, options, judge.run)
    report.seconds = time.monotonic() - begun
    report.skipped = ran.skipped
    report.failures += ran.failures
    if report.unexplained is not None and folder is not None:
        where = "-".join((Path(report.file).name.split(".")[0], report.place.split(":")[1]))
        try:
            report.saved = save(judge.record, report.unexplained, judge.machine, profile, folder, where)
        except (TargetError, FormError) as error:
            report.unsaved = str(error)
    return report
