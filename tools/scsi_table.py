"""Write docs/scsi-commands.md: each command of a disk, who answers it, its clause, and the stories that it succeeds in.

    python tools/scsi_table.py

The commands are those of the table that the disk itself works by.  The stories are found by running them.
"""

from __future__ import annotations

import inspect
import sys
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from devmodels.scsi.constants import Status
from devmodels.scsi.disk.commands import COMMANDS
from devmodels.scsi.table import Command
from devmodels.scsi.task import Task
from devmodels.scsi.unit import LogicalUnit

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "scsi-commands.md"
STORIES = ROOT / "tests" / "unit" / "scsi"
LEFT_OUT = {"test_hostile"}
"""Random commands are no stories."""
SHOWN = 3
"""How many files of stories are named for a command."""

HEAD = """# The commands of a SCSI disk

Written by `tools/scsi_table.py` from the table that the disk works by (`devmodels/scsi/disk/commands.py`): REPORT
SUPPORTED OPERATION CODES gives the same. *Usage* is the CDB usage data of SPC-4 §6.35.3: the bits of a CDB that are
looked at; under the profile `strict` all others must be 0. *Reservations* says what a command conflicts with (SPC-4
§5.12): `always` with nothing, `free` with RESERVE (6) and (10) only, `read` with exclusive access, `write` with each
reservation; `own`: the handler looks. *Stories* are the files in `tests/unit/scsi` with the most of them in which the
command succeeds.

| | Command | Clause | Handler | Usage | Reservations | Stories |
|---|---|---|---|---|---|---|
"""


def key_of(command: Command[Any]) -> tuple[int, int | None]:
    """Operation code and service action."""
    return command.opcode, command.action


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


class Recorder:
    """A pytest plugin that notes in which file of stories each command has succeeded, and how many stories."""

    def __init__(self) -> None:
        self.found: dict[tuple[int, int | None], Counter[str]] = defaultdict(Counter)
        self._now: set[tuple[int, int | None]] = set()

    def pytest_runtest_setup(self) -> None:
        """A story begins."""
        self._now.clear()

    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """It is over."""
        story = Path(item.path).stem
        if story not in LEFT_OUT:
            for key in self._now:
                self.found[key][story] += 1

    def watch(self) -> None:
        """Look at each task that ends."""
        finish = LogicalUnit.finish
        actions = {command.opcode for command in COMMANDS if command.action is not None}

        def finished(unit: LogicalUnit, task: Task) -> None:
            if task.status is Status.GOOD and task.cdb:
                opcode = task.cdb[0]
                self._now.add((opcode, task.cdb[1] & 0x1F if opcode in actions else None))
            finish(unit, task)

        setattr(LogicalUnit, "finish", finished)  # noqa: B010


def main() -> int:
    """Run the stories and write the page."""
    recorder = Recorder()
    recorder.watch()
    ignored = f"--ignore={STORIES / 'test_commands_page.py'}"
    outcome = pytest.main(["-q", "-p", "no:cacheprovider", ignored, str(STORIES)], plugins=[recorder])
    if outcome:
        return int(outcome)
    rows = []
    for command in sorted(COMMANDS, key=lambda each: (each.opcode, each.action or 0)):
        stories = recorder.found[key_of(command)].most_common(SHOWN)
        rows.append(f"{cells(command)} {', '.join(f'`{name}` {count}' for name, count in stories)} |\n")
    PAGE.write_text(HEAD + "".join(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
