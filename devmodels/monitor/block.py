"""Commands on block nodes: `block_resize`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from devmodels.blockbackend import BlockBackend, BlockNode
from devmodels.blockbackend.options import Size
from devmodels.monitor.server import CommandError


class BlockResize(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Arguments of `block_resize`; the size is in bytes."""

    node_name: str
    size: Size


async def block_resize(
    arguments: BlockResize, nodes: Mapping[str, BlockNode], backends: Sequence[BlockBackend]
) -> None:
    """Give a node another size; the devices over it tell their drivers.

    `backends` are those that may be over the node.  CommandError or OSError where it cannot be.
    """
    node = nodes.get(arguments.node_name)
    if node is None:
        raise CommandError(f"Cannot find node-name='{arguments.node_name}'")
    if arguments.size % 512:
        raise CommandError(f"size: {arguments.size} is given; expected a multiple of 512")
    own = BlockBackend(node, name="block_resize")
    try:
        own.activate()
        # A device's own backend holds its requests back meanwhile.
        writers = [backend for backend in backends if backend.node is node and not backend.read_only]
        await (writers[0] if writers else own).resize(arguments.size)
        await own.inactivate()
    finally:
        own.close()
