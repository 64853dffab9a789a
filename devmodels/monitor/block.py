"""Nodes come, go and change: `blockdev-add`, `-del`, `-reopen`, `-set-active`, `block_resize`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from devmodels.blockbackend import BlockBackend, BlockNode, Graph, Op, Request, permissions
from devmodels.blockbackend.drain import drained
from devmodels.blockbackend.graph import users
from devmodels.blockbackend.options import MAX_SIZE, NodeOptions
from devmodels.blockbackend.permissions import Perm
from devmodels.blockbackend.registry import our_own
from devmodels.monitor.command import Arguments, CommandError, Options, strings
from devmodels.monitor.world import World

BlockdevOptions = Annotated[
    Mapping[str, object],
    Options(
        NodeOptions, "driver", lambda: {name: driver.Options for name, driver in sorted(our_own().items())}
    ),
]


class BlockResize(Arguments, frozen=True):
    """The size is in bytes."""

    size: int
    device: str | None = None
    node_name: str | None = None


async def block_resize(world: World, arguments: BlockResize) -> None:
    """Give a node another size; the devices over it tell their drivers."""
    if arguments.size < 0:
        raise CommandError("Parameter 'size' expects a >0 size")
    if arguments.node_name is not None:
        node = world.node(arguments.node_name)
    else:
        device = arguments.device or ""
        try:
            node = world.by_drive(device).backend.node
        except CommandError:
            raise CommandError(f"Cannot find device='{device}' nor node-name=''") from None
    if arguments.size % 512 or arguments.size > MAX_SIZE:
        raise CommandError(f"size: {arguments.size} is given; expected a multiple of 512 up to {MAX_SIZE}")
    if node.read_only:
        raise CommandError("Image is read-only")
    own = BlockBackend(node, name="block_resize", read_only=True)
    try:
        async with drained(node), node.resizing:
            with permissions.more(own.edge, Perm.RESIZE):
                own.edge.set_active(True, write=True)
                await node.truncate(arguments.size)
                await own.edge.flush(Request(Op.FLUSH, 0, 0))
    finally:
        own.close()


async def blockdev_add(world: World, options: BlockdevOptions) -> None:
    """Open a node and what is nested in it."""
    strings(options, "driver", "node-name")
    name = options.get("node-name")
    if name is None:
        raise CommandError("'node-name' must be specified for the root node")
    if isinstance(name, str) and name in world.graph.nodes:
        raise CommandError(f"Duplicate nodes with node-name='{name}'")
    await world.graph.open(options)


class BlockdevDel(Arguments, frozen=True):
    """A node that nobody uses."""

    node_name: str


async def blockdev_del(world: World, arguments: BlockdevDel) -> None:
    """Close a node and what is nested in it."""
    name = arguments.node_name
    node = world.graph.nodes.get(name)
    if node is None:
        raise CommandError(f"Failed to find node with node-name='{name}'")
    if not node.kept:
        raise CommandError(f"Node {name} is not owned by the monitor")
    if node.parents:
        raise CommandError(f"Node {name} is in use: {users(node)}")
    world.graph.delete(name)


class BlockdevReopen(Arguments, frozen=True):
    """Options of nodes that are there, each with its name."""

    options: list[BlockdevOptions]


async def blockdev_reopen(world: World, arguments: BlockdevReopen) -> None:
    """Change nodes, and let nothing run on them until all are; where one cannot be changed, all are as they were."""
    graph = world.graph
    for options in arguments.options:
        strings(options, "driver", "node-name")
        name = options.get("node-name")
        if name is None:
            raise CommandError("node-name not specified")
        if name not in graph.nodes:
            raise CommandError(f"Failed to find node with node-name='{name}'")
    async with drained(*(graph[str(options["node-name"])] for options in arguments.options)):
        await _reopen(graph, arguments.options)


async def _reopen(graph: Graph, many: list[BlockdevOptions]) -> None:
    before: list[dict[str, object]] = []
    try:
        for options in many:
            now = _options(graph[str(options["node-name"])])
            await graph.reopen(options)
            before.append(now)
    except BaseException:
        for options in reversed(before):
            await graph.reopen(options)
        raise


def _options(node: BlockNode) -> dict[str, object]:
    """What would make `node` what it is by `blockdev-reopen`."""
    options: dict[str, object] = msgspec.to_builtins(node.options)
    children = {name: edge.node.node_name for name, edge in node.children.items()}
    return {**options, **children, "node-name": node.node_name}


class BlockdevSetActive(Arguments, frozen=True):
    """Without a name: all nodes."""

    active: bool
    node_name: str | None = None


async def blockdev_set_active(world: World, arguments: BlockdevSetActive) -> None:
    """Give images up for others, flushed, or take them again."""
    if arguments.node_name is not None:
        if arguments.node_name not in world.graph.nodes:
            raise CommandError(f"Failed to find node with node-name='{arguments.node_name}'")
        await world.graph.set_active(arguments.node_name, arguments.active)
        return
    # Users rest before what they use, and begin after it.
    above = [name for name, node in world.graph.nodes.items() if not node.parents]
    below = [name for name in world.graph.nodes if name not in above]
    for name in [*above, *below] if not arguments.active else [*below, *above]:
        await world.graph.set_active(name, arguments.active)
