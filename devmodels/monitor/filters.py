"""Nodes put into the way, and taken out of it, while requests run: `x-blockdev-change` and commands of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from devmodels.blockbackend import BlockNode
from devmodels.blockbackend.edge import Edge
from devmodels.blockbackend.permissions import Role
from devmodels.monitor.command import Arguments, CommandError
from devmodels.monitor.world import World

ROOT = "root"
"""What the disk of a device, or of an export, is called among its children."""


class BlockdevChange(Arguments, frozen=True):
    """`parent`: a node, a device or an export; either its `child`, or the `node` that is to be one."""

    parent: str
    child: str | None = None
    node: str | None = None


async def x_blockdev_change(world: World, arguments: BlockdevChange) -> None:
    """With `node`: put this filter between a parent and the child that it stands over; with `child`: take it away.

    The filter stays open in any case: it comes by blockdev-add and goes by blockdev-del.
    """
    edges = _edges(world, arguments.parent)
    if arguments.child is not None and arguments.node is not None:
        raise CommandError("The parameters child and node are in conflict")
    if arguments.child is not None:
        edge = edges.get(arguments.child)
        if edge is None:
            raise CommandError(f"Node '{arguments.parent}' does not have child '{arguments.child}'")
        below = filtered(edge.node)
        if below is None:
            raise CommandError(f"Node '{edge.node.node_name}' is not a filter")
        await _lead(world, arguments.parent, edge, below)
        return
    if arguments.node is None:
        raise CommandError("Either child or node must be specified")
    node = world.node(arguments.node)
    covered = set(_covered(node))
    found = [edge for edge in edges.values() if edge.node in covered]
    if not found:
        raise CommandError(f"Node '{arguments.node}' is no filter over a child of '{arguments.parent}'")
    await _lead(world, arguments.parent, found[0], node)


def _edges(world: World, parent: str) -> Mapping[str, Edge]:
    node = world.graph.nodes.get(parent)
    if node is not None:
        return node.children
    for each in world.attached():
        if parent in each.names:
            return {ROOT: each.backend.edge}
    raise CommandError(f"Cannot find device='{parent}' nor node-name='{parent}'")


async def _lead(world: World, parent: str, edge: Edge, to: BlockNode) -> None:
    """Move an edge; a machine notes which drive a device has."""
    device = "" if parent in world.graph.nodes else world.find(parent).name
    machine = world.machine_of(device)
    if machine is not None:
        await machine.set_drive(device, to.node_name)
    else:
        await world.graph.lead(edge, to.node_name)


def filtered(node: BlockNode) -> BlockNode | None:
    """What a filter stands over; None where the node is none."""
    return next((edge.node for edge in node.children.values() if Role.FILTERED in edge.role), None)


def _covered(node: BlockNode) -> list[BlockNode]:
    """What a filter, and those below it, stand over."""
    below = filtered(node)
    return [] if below is None else [below, *_covered(below)]


# --- our own


class InsertFilter(Arguments, frozen=True):
    """A filter's options without its child, and its place: `above` a node, or `below` one, over its `child`."""

    options: dict[str, Any]
    above: str | None = None
    below: str | None = None
    child: str | None = None


class RemoveFilter(Arguments, frozen=True):
    """A filter."""

    node_name: str


class ReplaceNode(Arguments, frozen=True):
    """A node, and another one for all its users."""

    node_name: str
    by: str


async def x_blockdev_insert_filter(world: World, arguments: InsertFilter) -> None:
    """Open a filter and put it into the way of all users of a node, or of one child."""
    options = arguments.options
    await world.graph.insert(options, above=arguments.above, below=arguments.below, child=arguments.child)


async def x_blockdev_remove_filter(world: World, arguments: RemoveFilter) -> None:
    """Let the users of a filter use its child, and close it."""
    await world.graph.remove(arguments.node_name)


async def x_blockdev_replace_node(world: World, arguments: ReplaceNode) -> None:
    """Let the users of a node use another one."""
    await world.graph.replace(arguments.node_name, arguments.by)
