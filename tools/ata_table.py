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
from devmodels.ata.disk.basic import nop
from devmodels.ata.disk.commands import COMMANDS as DISK_COMMANDS
from devmodels.ata.packet.commands import COMMANDS as PACKET_COMMANDS
from devmodels.ata.packet.commands import not_for_packets
from devmodels.scsi.mmc.commands import COMMANDS as MMC_COMMANDS
from devmodels.scsi.table import Command as PacketCommand
from devmodels.scsi.table import Data

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "ata-commands.md"
UNIT = ROOT / "tests" / "unit"
STORIES = (UNIT / "ata", UNIT / "ahci", UNIT / "ide_cdrom")
LEFT_OUT = {"test_hostile", "test_hostility", "test_properties", "test_commands_page", "test_registers"}
"""Random commands are no stories."""
SHOWN = 3
"""How many tests are named for a command."""

HEAD = """# The commands of ATA devices

Written by `tools/ata_table.py` from the tables that devices work by. *Addresses* says what a command's LBA field is;
those for LBA28 take cylinder, head and sector as well. *Locked* commands are aborted while the security of the disk is
locked (ACS-3 §4.18). *Tests* are some of `tests/unit` in which the command succeeds, or is refused where it always is
(NOP; those by which hosts find out that they have a drive). There are scripts, too, that run on our controllers and on
QEMU's (`tests/scripts/ata`), and random commands of all kinds (`tests/unit/ata/hostility.py`).
"""
SECTION = """
## {title}

`{module}`, {count} commands.

| | Command | Protocol | Addresses | Locked | Clause | Handler | Tests |
|---|---|---|---|---|---|---|---|
"""


PACKET_SECTION = """
## {title}

`{module}`, {count} commands that PACKET carries. Playing needs a disc with audio: those packets are refused here, and
done in the tests of [scsi-commands.md](scsi-commands.md).

| | Command | Protocol | Clause | Handler | Tests |
|---|---|---|---|---|---|
"""
Row = Command[Any] | PacketCommand[Any]


class Kind(NamedTuple):
    """Devices of one kind and their table."""

    title: str
    module: str
    commands: Sequence[Command[Any]]

    @property
    def rows(self) -> list[Command[Any]]:
        """The commands in order."""
        return sorted(self.commands, key=lambda each: (each.opcode, each.value or 0))


class Packets(NamedTuple):
    """Commands that are sent to a drive in packets."""

    title: str
    module: str
    commands: Sequence[PacketCommand[Any]]

    @property
    def rows(self) -> list[PacketCommand[Any]]:
        """The commands in order."""
        return sorted(self.commands, key=lambda each: each.opcode)


DRIVE = Packets("Packets of drives", "devmodels/scsi/mmc/commands.py", MMC_COMMANDS)
WAYS = {Data.NONE: "non-data", Data.IN: "data-in, PIO or DMA", Data.OUT: "data-out, PIO or DMA"}
KINDS = (
    Kind("Disks", "devmodels/ata/disk/commands.py", DISK_COMMANDS),
    Kind("ATAPI devices", "devmodels/ata/packet/commands.py", PACKET_COMMANDS),
)


def _handler(command: Command[Any] | PacketCommand[Any]) -> str:
    """Where the handler is: module and function."""
    function: object = command.handler
    while isinstance(function, partial):
        function = function.func
    assert inspect.isfunction(function)
    module = function.__module__.removeprefix("devmodels.ata.").removeprefix("devmodels.")
    return f"`{module}.{function.__name__}`"


def cells(command: Command[Any]) -> str:
    """A row of the table without its last column."""
    code = f"{command.opcode:02X}" + ("" if command.value is None else f"/{command.value:02X}")
    locked = "yes" if command.locked else ""
    middle = f"{command.protocol.value} | {command.addressing.value} | {locked} | {command.reference}"
    return f"| {code} | {command.name} | {middle} | {_handler(command)} |"


def packet_cells(command: PacketCommand[Any]) -> str:
    """The same of a command that is sent in a packet."""
    way = WAYS[command.data]
    return f"| {command.opcode:02X} | {command.name} | {way} | {command.reference} | {_handler(command)} |"


class Recorder:
    """A pytest plugin that notes in which tests each command has succeeded."""

    def __init__(self) -> None:
        self.found: dict[Row, set[str]] = defaultdict(set)
        self._by_test: dict[str, set[Row]] = defaultdict(set)
        self._now: set[Row] = set()
        self._packets = {each.opcode: each for each in DRIVE.commands}

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

    def tests(self, command: Row) -> list[str]:
        """The tests that are most about `command`."""
        found = self.found[command]
        return sorted(found, key=lambda name: (len(self._by_test[name]), name))[:SHOWN]

    def watch(self) -> None:
        """Look at each command that ends."""
        finish = AtaDevice.finish

        def finished(device: AtaDevice, command: AtaCommand) -> None:
            failed = command.taskfile.status & (Status.ERR | Status.DF)
            entry = command.entry
            if entry is not None and (not failed or refuses(entry)) and not command.dropped:
                self._now.add(entry)
            if command.packet and not command.dropped:
                packet = self._packets.get(command.packet[0])
                if packet is not None and (not failed or packet.name in ILL_OF_DATA):
                    self._now.add(packet)
            finish(device, command)

        setattr(AtaDevice, "finish", finished)  # noqa: B010


def refuses(command: Command[Any]) -> bool:
    """Whether it always fails, as the standard has it."""
    return command.handler in (nop, not_for_packets)


ILL_OF_DATA = ("PLAY AUDIO (10)", "PLAY AUDIO MSF", "PLAY AUDIO (12)", "PAUSE/RESUME")
"""Packets that fail with discs of data, of which the tests' are."""


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
    parts.append(PACKET_SECTION.format(title=DRIVE.title, module=DRIVE.module, count=len(DRIVE.commands)))
    for packet in DRIVE.rows:
        tests = ", ".join(f"`{name}`" for name in recorder.tests(packet))
        parts.append(f"{packet_cells(packet)} {tests} |\n")
    PAGE.write_text("".join(parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
