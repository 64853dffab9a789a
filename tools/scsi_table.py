"""Write docs/scsi-commands.md: each command, who answers it, its clause, and tests that it succeeds in.

    python tools/scsi_table.py

The commands are those of the tables that units themselves work by.  The tests are found by running them; those are
named in which the fewest other commands succeed.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from devmodels.scsi.absent import AbsentUnit, ReportLunsUnit
from devmodels.scsi.constants import Status
from devmodels.scsi.disk import Disk
from devmodels.scsi.disk.commands import COMMANDS as DISK_COMMANDS
from devmodels.scsi.mmc import CdDrive
from devmodels.scsi.mmc.commands import COMMANDS as DRIVE_COMMANDS
from devmodels.scsi.table import Command
from devmodels.scsi.task import Task
from devmodels.scsi.unit import LogicalUnit

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "scsi-commands.md"
STORIES = ROOT / "tests" / "unit" / "scsi"
LEFT_OUT = {"test_hostile", "test_commands_page"}
"""Random commands are no stories."""
SHOWN = 3
"""How many tests are named for a command."""

HEAD = """# The commands of SCSI units

Written by `tools/scsi_table.py` from the tables that units work by: REPORT SUPPORTED OPERATION CODES gives the same.
*Usage* is the CDB usage data of SPC-4 §6.35.3: the bits of a CDB that are looked at; under the profile `strict` all
others must be 0. *Reservations* says what a command conflicts with (SPC-4 §5.12): `always` with nothing, `free` with
RESERVE (6) and (10) only, `read` with exclusive access, `write` with each reservation; `own`: the handler looks.
*Tests* are some of `tests/unit/scsi` in which the command succeeds. Random commands are sent to all of them, too
(`tests/slow/test_scsi.py`).
"""
SECTION = """
## {title}

`{module}`, {count} commands.

| | Command | Clause | Handler | Usage | Reservations | Tests |
|---|---|---|---|---|---|---|
"""


class Kind(NamedTuple):
    """Units of one kind and their table."""

    title: str
    module: str
    unit: type[LogicalUnit]
    commands: Sequence[Command[Any]]

    @property
    def rows(self) -> list[Command[Any]]:
        """The commands in order."""
        return sorted(self.commands, key=lambda each: (each.opcode, each.action or 0))


KINDS = (
    Kind("Disks", "devmodels/scsi/disk/commands.py", Disk, DISK_COMMANDS),
    Kind("CD, DVD and BD drives", "devmodels/scsi/mmc/commands.py", CdDrive, DRIVE_COMMANDS),
    Kind("The well known unit", "devmodels/scsi/absent.py", ReportLunsUnit, ReportLunsUnit.commands),
    Kind("Where no unit is", "devmodels/scsi/absent.py", AbsentUnit, AbsentUnit.commands),
)


def _handler(command: Command[Any]) -> str:
    """Where the handler is: module and function."""
    function: object = command.handler
    while isinstance(function, partial):
        function = function.func
    assert inspect.isfunction(function)
    for cell in function.__closure__ or ():
        if inspect.isfunction(cell.cell_contents):
            function = cell.cell_contents
    return f"`{function.__module__.removeprefix('devmodels.scsi.')}.{function.__name__}`"


def cells(command: Command[Any]) -> str:
    """A row of the table without its last column."""
    code = f"{command.opcode:02X}" + ("" if command.action is None else f"/{command.action:02X}")
    name = command.name
    usage = f"`{command.usage().hex(' ')}`"
    access = command.access.name.lower()
    return f"| {code} | {name} | {command.reference} | {_handler(command)} | {usage} | {access} |"


Key = tuple[type[LogicalUnit], int, int | None]


class Recorder:
    """A pytest plugin that notes in which tests each command has succeeded."""

    def __init__(self) -> None:
        self.found: dict[Key, set[str]] = defaultdict(set)
        self._by_test: dict[str, set[Key]] = defaultdict(set)
        self._now: set[Key] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self) -> None:
        """A test begins, its fixtures are set up."""
        self._now.clear()

    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """It is over."""
        module = Path(item.path).relative_to(STORIES).with_suffix("").as_posix()
        name = f"{module}::{getattr(item, 'originalname', item.name)}"
        if Path(item.path).stem not in LEFT_OUT:
            self._by_test[name] |= self._now
            for key in self._now:
                self.found[key].add(name)

    def tests(self, kind: Kind, command: Command[Any]) -> list[str]:
        """The tests that are most about `command` of units of `kind`."""
        found = self.found[kind.unit, command.opcode, command.action]
        return sorted(found, key=lambda name: (len(self._by_test[name]), name))[:SHOWN]

    def watch(self) -> None:
        """Look at each task that ends."""
        finish = LogicalUnit.finish
        actions = {each.opcode for kind in KINDS for each in kind.commands if each.action is not None}

        def finished(unit: LogicalUnit, task: Task) -> None:
            if task.status is Status.GOOD and task.cdb:
                opcode = task.cdb[0]
                action = task.cdb[1] & 0x1F if opcode in actions else None
                self._now |= {(each.unit, opcode, action) for each in KINDS if isinstance(unit, each.unit)}
            finish(unit, task)

        setattr(LogicalUnit, "finish", finished)  # noqa: B010


def main() -> int:
    """Run the tests and write the page."""
    recorder = Recorder()
    recorder.watch()
    # With the same examples each time, the page is the same each time.
    os.environ["HYPOTHESIS_PROFILE"] = "mutation"
    ignored = [f"--ignore={STORIES / name}.py" for name in sorted(LEFT_OUT)]
    outcome = pytest.main(["-q", "-p", "no:cacheprovider", *ignored, str(STORIES)], plugins=[recorder])
    if outcome:
        return int(outcome)
    parts = [HEAD]
    for kind in KINDS:
        parts.append(SECTION.format(title=kind.title, module=kind.module, count=len(kind.commands)))
        for command in kind.rows:
            tests = ", ".join(f"`{name}`" for name in recorder.tests(kind, command))
            parts.append(f"{cells(command)} {tests} |\n")
    PAGE.write_text("".join(parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
