"""Which commands there are, by name; where there is no machine, those that need one are not there."""

from __future__ import annotations

from devmodels.monitor import block, control, exports, introspect, machine
from devmodels.monitor.command import Command, Run, command
from devmodels.monitor.world import World

EVERYWHERE: dict[str, Run] = {
    "block-export-add": exports.block_export_add,
    "block-export-del": exports.block_export_del,
    "block_resize": block.block_resize,
    "blockdev-add": block.blockdev_add,
    "blockdev-del": block.blockdev_del,
    "blockdev-reopen": block.blockdev_reopen,
    "blockdev-set-active": block.blockdev_set_active,
    "cont": machine.cont,
    "query-block-exports": exports.query_block_exports,
    "query-commands": introspect.query_commands,
    "query-status": machine.query_status,
    "query-version": control.query_version,
    "quit": control.quit_,
    "stop": machine.stop,
}

WITH_MACHINE: dict[str, Run] = {
    "system_reset": machine.system_reset,
}


def commands(world: World) -> dict[str, Command]:
    """The commands of a world, by name."""
    runs = EVERYWHERE if world.assembly is None else {**EVERYWHERE, **WITH_MACHINE}
    return {name: command(run) for name, run in sorted(runs.items())}
