"""Write docs/ata-commands.md: each command, its protocol and addresses, who answers it, and tests that it succeeds in.

    python tools/ata_table.py

The commands are those of the tables that devices themselves work by.  The tests are found by running them; those are
named in which the fewest other commands succeed.
"""

from __future__ import annotations

import inspect
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from devmodels.ata import AtaCommand, AtaDevice, Command, Status
from devmodels.ata.disk.commands import COMMANDS as DISK_COMMANDS
from devmodels.ata.packet.commands import COMMANDS as PACKET_COMMANDS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "ata-commands.md"
UNIT = ROOT / "tests" / "unit"
STORIES = (UNIT / "ata", UNIT / "ahci", UNIT / "ide_cdrom")
LEFT_OUT = {"test_hostile", "test_commands_page", "test_registers"}
"""Random commands are no stories."""
SHOWN = 3
"""How many tests are named for a command."""

HEAD = """# The commands of ATA devices

Written by `tools/ata_table.py` from the tables that devices work by. *Addresses* says what a command's LBA field is;
those for LBA28 take cylinder, head and sector as well. *Locked* commands are aborted while the security of the disk is
locked (ACS-3 §4.18). *Tests* are some of `tests/unit` in which the command succeeds (NOP, which always fails: is
answered). Random commands are sent to disks, too (`tests/unit/ahci/test_hostile.py`).
"""
SECTION = """
## {title}

`{module}`, {count} commands.

| | Command | Protocol | Addresses | Locked | Clause | Handler | Tests |
|---|---|---|---|---|---|---|---|
"""


class Kind(NamedTuple):
    """Devices of one kind and their table."""

    title: str
    module: str
    commands: Sequence[Command[Any]]

    @property
    def rows(self) -> list[Command[Any]]:
        """The commands in order."""
        return sorted(self.commands, key=lambda each: (each.opcode, each.value or 0))


KINDS = (
    Kind("Disks", "devmodels/ata/disk/commands.py", DISK_COMMANDS),
    Kind("ATAPI devices", "devmodels/ata/packet/commands.py", PACKET_COMMANDS),
)


def _handler(command: Command[Any]) -> str:
    """Where the handler is: module and function."""
    function: object = command.handler
    while isinstance(function, partial):
        function = function.func
    assert inspect.isfunction(function)
    return f"`{function.__module__.removeprefix('devmodels.ata.')}.{function.__name__}`"


def cells(command: Command[Any]) -> str:
    """A row of the table without its last column."""
    code = f"{command.opcode:02X}" + ("" if command.value is None else f"/{command.value:02X}")
    locked = "yes" if command.locked else ""
    middle = f"{command.protocol.value} | {command.addressing.value} | {locked} | {command.reference}"
    return f"| {code} | {command.name} | {middle} | {_handler(command)} |"


class Recorder:
    """A pytest plugin that notes in which tests each command has succeeded."""

    def __init__(self) -> None:
        self.found: dict[Command[Any], set[str]] = defaultdict(set)
        self._by_test: dict[str, set[Command[Any]]] = defaultdict(set)
        self._now: set[Command[Any]] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self) -> None:
        """A test begins, its fixtures are set up."""
        self._now.clear()

    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """It is over."""
        module = Path(item.path).relative_to(UNIT).with_suffix("").as_posix()
        name = f"{module}::{getattr(item, 'originalname', item.name)}"
        self._by_test[name] |= self._now
        for command in self._now:
            self.found[command].add(name)

    def tests(self, command: Command[Any]) -> list[str]:
        """The tests that are most about `command`."""
        found = self.found[command]
        return sorted(found, key=lambda name: (len(self._by_test[name]), name))[:SHOWN]

    def watch(self) -> None:
        """Look at each command that ends."""
        finish = AtaDevice.finish

        def finished(device: AtaDevice, command: AtaCommand) -> None:
            failed = command.taskfile.status & (Status.ERR | Status.DF)
            entry = command.entry
            if entry is not None and (not failed or entry.name == "NOP") and not command.dropped:
                self._now.add(entry)
            finish(device, command)

        setattr(AtaDevice, "finish", finished)  # noqa: B010


def main() -> int:
    """Run the tests and write the page."""
    recorder = Recorder()
    recorder.watch()
    ignored = [f"--ignore={folder / name}.py" for folder in STORIES for name in sorted(LEFT_OUT)]
    outcome = pytest.main(["-q", "-p", "no:cacheprovider", *ignored, *map(str, STORIES)], plugins=[recorder])
    if outcome:
        return int(outcome)
    parts = [HEAD]
    for kind in KINDS:
        parts.append(SECTION.format(title=kind.title, module=kind.module, count=len(kind.commands)))
        for command in kind.rows:
            tests = ", ".join(f"`{name}`" for name in recorder.tests(command))
            parts.append(f"{cells(command)} {tests} |\n")
    PAGE.write_text("".join(parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
