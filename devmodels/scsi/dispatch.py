"""From the first bytes of a CDB to its command: the table of a kind of units, as its dispatch needs it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from devmodels.scsi.table import Command, Data


class Entry:
    """A command as the dispatch needs it; for an opcode with service actions, those."""

    __slots__ = ("actions", "allocates", "command", "forbidden", "handler", "size", "unpack")

    def __init__(self, command: Command[Any], *, strict: bool, absent: Sequence[str]) -> None:
        self.command = command
        self.handler = command.handler
        self.size = command.layout.size
        self.forbidden = command.forbidden(strict=strict, absent=absent)
        self.unpack = None if command.raw else command.layout.unpack
        self.allocates = command.data is Data.IN and command.length == "allocation_length"
        self.actions: dict[int, Entry] | None = None


@cache
def dispatch_table(
    commands: tuple[Command[Any], ...], *, strict: bool, absent: tuple[str, ...]
) -> list[Entry | None]:
    """By opcode; units of one kind share it."""
    table: list[Entry | None] = [None] * 256
    for command in commands:
        entry = Entry(command, strict=strict, absent=absent)
        if command.action is None:
            table[command.opcode] = entry
            continue
        first = table[command.opcode]
        if first is None:
            table[command.opcode] = first = Entry(command, strict=strict, absent=absent)
            first.actions = {}
        assert first.actions is not None
        first.actions[command.action] = entry
    return table
