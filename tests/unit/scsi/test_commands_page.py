"""The page of commands is that of the table, and each command has a story."""

from __future__ import annotations

from devmodels.scsi.disk.commands import COMMANDS
from tools.scsi_table import PAGE, cells

ROWS = [
    line for line in PAGE.read_text().splitlines() if line.startswith("| ") and line[2] in "0123456789ABCDEF"
]


def test_the_page_has_the_commands_of_the_table() -> None:
    expected = [cells(each) for each in sorted(COMMANDS, key=lambda each: (each.opcode, each.action or 0))]
    assert [row.rpartition(" | ")[0] + " |" for row in ROWS] == expected, "run tools/scsi_table.py"


def test_each_command_succeeds_in_some_story() -> None:
    assert [row for row in ROWS if "`test_" not in row.rpartition(" | ")[2]] == []
