"""Which commands there are, by name; where there is no machine, those that need one are not there."""

from __future__ import annotations

from devmodels.monitor import (
    block,
    control,
    devices,
    exports,
    filters,
    human,
    info,
    introspect,
    machine,
    medium,
    objects,
    stats,
    threads,
    throttle,
)
from devmodels.monitor.command import Command, Run, command
from devmodels.monitor.world import World

EVERYWHERE: dict[str, Run] = {
    "block-export-add": exports.block_export_add,
    "block-export-del": exports.block_export_del,
    "block-latency-histogram-set": stats.block_latency_histogram_set,
    "block_resize": block.block_resize,
    "block_set_io_throttle": throttle.block_set_io_throttle,
    "blockdev-add": block.blockdev_add,
    "blockdev-change-medium": medium.blockdev_change_medium,
    "blockdev-close-tray": medium.blockdev_close_tray,
    "blockdev-del": block.blockdev_del,
    "blockdev-insert-medium": medium.blockdev_insert_medium,
    "blockdev-open-tray": medium.blockdev_open_tray,
    "blockdev-remove-medium": medium.blockdev_remove_medium,
    "blockdev-reopen": block.blockdev_reopen,
    "blockdev-set-active": block.blockdev_set_active,
    "cont": machine.cont,
    "eject": medium.eject,
    "human-monitor-command": human.human_monitor_command,
    "object-add": objects.object_add,
    "object-del": objects.object_del,
    "qom-get": objects.qom_get,
    "qom-list": objects.qom_list,
    "qom-set": objects.qom_set,
    "query-block": info.query_block,
    "query-block-exports": exports.query_block_exports,
    "query-blockstats": stats.query_blockstats,
    "query-commands": introspect.query_commands,
    "query-iothreads": threads.query_iothreads,
    "query-named-block-nodes": info.query_named_block_nodes,
    "query-qmp-schema": introspect.query_qmp_schema,
    "query-status": machine.query_status,
    "query-version": control.query_version,
    "quit": control.quit_,
    "stop": machine.stop,
    "x-blockdev-change": filters.x_blockdev_change,
    "x-blockdev-insert-filter": filters.x_blockdev_insert_filter,
    "x-blockdev-remove-filter": filters.x_blockdev_remove_filter,
    "x-blockdev-replace-node": filters.x_blockdev_replace_node,
    "x-debug-query-block-graph": info.x_debug_query_block_graph,
    "x-query-in-flight": stats.x_query_in_flight,
}

WITH_DEVICES: dict[str, Run] = {
    "device-list-properties": devices.device_list_properties,
    "device_add": devices.device_add,
    "device_del": devices.device_del,
}
"""Those of a machine, and of a daemon with devices for others' machines."""

WITH_MACHINE: dict[str, Run] = {**WITH_DEVICES, "system_reset": machine.system_reset}


def commands(world: World) -> dict[str, Command]:
    """The commands of a world, by name."""
    runs = dict(EVERYWHERE)
    if world.hosted is not None:
        runs |= WITH_DEVICES
    if world.assembly is not None:
        runs |= WITH_MACHINE
    runs |= world.more_commands
    return {name: command(run) for name, run in sorted(runs.items())}
