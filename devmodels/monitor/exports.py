"""Exports: `block-export-add`, `block-export-del`, `query-block-exports`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

import msgspec

from devmodels.exports.table import TYPES, NodeTypeName
from devmodels.monitor.command import Arguments, CommandError, Options, is_identifier, strings
from devmodels.monitor.world import World


class _ExportOptions(Arguments, frozen=True):
    type: NodeTypeName
    id: str
    node_name: str
    writable: bool = False
    writethrough: bool = False
    iothread: str | None = None


BlockExportOptions = Annotated[
    Mapping[str, object],
    Options(_ExportOptions, "type", lambda: {name: TYPES[name].options for name in get_args(NodeTypeName)}),
]


class BlockExportDel(Arguments, frozen=True):
    """`mode`: `safe` leaves an export that has a client, `hard` ends it in any case."""

    id: str
    mode: Literal["safe", "hard"] = "safe"


class BlockExportInfo(msgspec.Struct, rename="kebab"):
    """An export."""

    id: str
    type: NodeTypeName
    node_name: str
    shutting_down: bool


async def block_export_add(world: World, options: BlockExportOptions) -> None:
    """Start an export."""
    strings(options, "type", "id", "node-name")
    if options.get("type") in TYPES.keys() - get_args(NodeTypeName):
        raise CommandError(f"Parameter 'type' does not accept value '{options['type']}'")
    name, node = options.get("id"), options.get("node-name")
    if name is not None and not is_identifier(name):
        raise CommandError("Invalid block export id")
    if isinstance(name, str) and name in world.exports.ids:
        raise CommandError(f"Block export id '{name}' is already in use")
    if isinstance(node, str):
        world.node(node)
    world.exports.add(options)


async def block_export_del(world: World, arguments: BlockExportDel) -> None:
    """End an export; the event BLOCK_EXPORT_DELETED says when it has ended."""
    export = next((export for export in world.exports if export.id == arguments.id), None)
    if export is None:
        raise CommandError(f"Export '{arguments.id}' is not found")
    if export.shutting_down:
        raise CommandError(f"Export '{arguments.id}' is already shutting down")
    if arguments.mode == "safe" and export.connected:
        raise CommandError(f"export '{arguments.id}' still in use")
    world.exports.delete(export)


async def query_block_exports(world: World) -> list[BlockExportInfo]:
    """All exports of nodes."""
    found = []
    for export in world.exports:
        if export.backend is not None:
            assert export.type != "vfio-user"
            node_name = export.backend.node.node_name
            found.append(BlockExportInfo(export.id, export.type, node_name, export.shutting_down))
    return found
