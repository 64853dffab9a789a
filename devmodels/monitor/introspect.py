"""What there is: `query-commands`."""

from __future__ import annotations

import msgspec

from devmodels.monitor.world import World


class CommandInfo(msgspec.Struct):
    """A command's name."""

    name: str


async def query_commands(world: World) -> list[CommandInfo]:
    """The commands that there are."""
    from devmodels.monitor.table import commands  # the table names this module

    return [CommandInfo(name) for name in commands(world)]
