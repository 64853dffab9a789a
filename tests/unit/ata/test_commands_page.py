"""The page of commands is that of the tables, and each command has tests, which are there."""

from __future__ import annotations

import importlib
import re

from tools.ata_table import DRIVE, KINDS, PAGE, cells, packet_cells

ROWS = [
    line for line in PAGE.read_text().splitlines() if line.startswith("| ") and line[2] in "0123456789ABCDEF"
]


def test_the_page_has_the_commands_of_the_tables() -> None:
    expected = [cells(command) for kind in KINDS for command in kind.rows]
    expected += [packet_cells(command) for command in DRIVE.rows]
    assert [row.rpartition(" | ")[0] + " |" for row in ROWS] == expected, "run tools/ata_table.py"


def test_each_command_succeeds_in_a_test_that_is_there() -> None:
    for row in ROWS:
        tests = re.findall(r"`([\w/]+)::(test_\w+)`", row.rpartition(" | ")[2])
        assert tests, row
        for file, name in tests:
            module = importlib.import_module(f"tests.unit.{file.replace('/', '.')}")
            assert hasattr(module, name), f"{file}::{name}: run tools/ata_table.py"
