"""From the registers of a command to its entry in the table of a kind of devices."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from devmodels.ata.table import Command, Sub
from devmodels.ata.taskfile import TaskFile

_SELECT: dict[Sub, Callable[[TaskFile], int]] = {
    Sub.NONE: lambda _taskfile: 0,
    Sub.FEATURES: lambda taskfile: taskfile.features & 0xFF,
    Sub.FEATURES_LOW: lambda taskfile: taskfile.features & 0x0F,
    Sub.COUNT_HIGH: lambda taskfile: taskfile.count >> 8 & 0x1F,
}


class Entry:
    """A command as the dispatch needs it; for an opcode with subcommands, `subs`, and which one it is, `select`."""

    __slots__ = ("command", "handler", "queued", "select", "subs")

    def __init__(self, command: Command[Any]) -> None:
        self.command = command
        self.handler = command.handler
        self.queued = command.protocol.queued
        self.select = _SELECT[command.sub]
        self.subs: dict[int, Entry] | None = None if command.sub is Sub.NONE else {}


Entries = list[Entry | None]


@cache
def dispatch_table(commands: tuple[Command[Any], ...]) -> Entries:
    """By opcode; devices of one kind share it."""
    table: Entries = [None] * 256
    for command in commands:
        first = table[command.opcode]
        if first is None:
            table[command.opcode] = first = Entry(command)
        if first.subs is not None:
            assert command.value is not None
            first.subs[command.value] = Entry(command)
            first.subs[command.value].subs = None
    return table
