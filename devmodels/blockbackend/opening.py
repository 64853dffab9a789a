"""From options to nodes: a node with its children, nested in its options or referred to by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from devmodels.blockbackend import options as block_options
from devmodels.blockbackend.node import BlockNode
from devmodels.blockbackend.objects import Objects
from devmodels.blockbackend.options import BlockOptionError, child_names, shown
from devmodels.blockbackend.permissions import PermissionConflictError
from devmodels.blockbackend.registry import driver_of
from devmodels.iocontext import IoContext
from devmodels.secretobjects import Secrets

MAX_DEPTH = 100
"""How deep nodes may be nested in one another."""


def open_node(
    options: Mapping[str, object] | str,
    context: IoContext,
    nodes: dict[str, BlockNode] | None = None,
    objects: Objects | None = None,
    secrets: Secrets | None = None,
) -> BlockNode:
    """Open the node that `options` describe: a mapping, or the same as JSON text, as QEMU's `-blockdev` takes them.

    A child that is given by its options is opened with it, one that is given by name is found in `nodes`; what has
    been opened is entered there.  `objects` and `secrets` are what nodes may name besides.  Raises BlockOptionError,
    whose text is one line, where an option is wrong or what it names cannot be opened; then nothing has been.

    Where a node has to wait for something, everything else on `context` goes on meanwhile.
    """
    outcome: list[tuple[BlockNode | None, BaseException | None]] = []
    context.start(
        opening_node(options, context, nodes, objects, secrets),
        lambda node, error: outcome.append((node, error)),
    )
    while not outcome:
        context.run_once()
    node, error = outcome[0]
    if error is not None:
        raise error
    assert node is not None
    return node


async def opening_node(
    options: Mapping[str, object] | str,
    context: IoContext,
    nodes: dict[str, BlockNode] | None = None,
    objects: Objects | None = None,
    secrets: Secrets | None = None,
) -> BlockNode:
    """The same for coroutines of `context`."""
    given = block_options.decode(options) if isinstance(options, str) else options
    opening = _Opening(
        context,
        {} if nodes is None else nodes,
        {} if objects is None else objects,
        Secrets() if secrets is None else secrets,
        [],
    )
    try:
        return await _open(given, opening, 0)
    except BaseException:
        for node in reversed(opening.opened):
            node.close()
        raise


class _Opening(NamedTuple):
    """What a node and those nested in it are opened with; `opened` are those that have been."""

    context: IoContext
    nodes: dict[str, BlockNode]
    objects: Objects
    secrets: Secrets
    opened: list[BlockNode]


async def _open(given: Mapping[str, object], opening: _Opening, depth: int) -> BlockNode:
    context, nodes, objects, secrets, opened = opening
    driver = driver_of(given)
    options = block_options.check(given, driver.Options)
    children: dict[str, BlockNode] = {}
    for name in child_names(driver.Options):
        child = getattr(options, name.replace("-", "_"))
        if child is None:
            continue
        try:
            if isinstance(child, str):
                children[name] = _named(child, context, nodes)
            elif depth == MAX_DEPTH:
                raise BlockOptionError(f"$: more than {MAX_DEPTH} nodes in one another")
            else:
                given_child = inherited(child, options, backing=name == "backing")
                children[name] = await _open(given_child, opening, depth + 1)
        except BlockOptionError as error:
            raise BlockOptionError(f"$.{name}{str(error).removeprefix('$')}") from None
    _check_name(options, nodes)
    for name, child_node in children.items():
        if child_node.closed:
            raise BlockOptionError(f"$.{name}: {child_node.description} is no longer there")
    edges = {child: list(child.parents) for child in children.values()}
    try:
        node = driver.open(options, context, children)
    except BaseException as error:
        for child, parents in edges.items():
            # A driver that gives up half-way holds nothing.
            child.parents[:] = parents
        if isinstance(error, PermissionConflictError):
            raise BlockOptionError(f"$: {error}") from None
        raise
    try:
        node.bind(objects, secrets)
        await node.prepare()
        _check_name(options, nodes)
    except BaseException:
        node.close()
        raise
    node.kept = depth == 0
    node.names = nodes
    nodes[node.node_name] = node
    opened.append(node)
    return node


def _check_name(options: block_options.NodeOptions, nodes: Mapping[str, BlockNode]) -> None:
    if options.node_name in nodes:
        raise BlockOptionError(
            f"$.node-name: {shown(options.node_name)} is given; a node of that name is there"
        )


def _named(name: str, context: IoContext, nodes: Mapping[str, BlockNode]) -> BlockNode:
    node = nodes.get(name)
    if node is None:
        known = ", ".join(map(shown, sorted(nodes))) or "the options of a node"
        raise BlockOptionError(f"$: {shown(name)} is given; expected {known}")
    if node.context is not context:
        raise BlockOptionError(f"$: {shown(name)} is given; it belongs to another context")
    return node


def inherited(
    child: Mapping[str, object], parent: block_options.NodeOptions, *, backing: bool = False
) -> dict[str, object]:
    """The options of a child nested in `parent`'s: what is not said is as with the parent, as in QEMU.

    Discards are passed on as far as the parent lets them through.  A `backing` node is read-only.
    """
    out: dict[str, object] = {
        "read-only": parent.read_only or backing,
        "auto-read-only": parent.auto_read_only,
        "discard": "unmap",
        "active": parent.active,
        **child,
    }
    if parent.force_share and out["read-only"] is True:
        out.setdefault("force-share", True)
    cache = out.get("cache", {})
    if isinstance(cache, Mapping):
        out["cache"] = {"direct": parent.cache.direct, "no-flush": parent.cache.no_flush, **cache}
    return out
