"""Drained sections: a part of the graph on which nothing runs.

Requests come from backends.  A section on some nodes quiets every backend above them: what a backend is given waits
there, in order, and what it had begun is awaited.  Who becomes a user of these nodes meanwhile belongs to the section
as well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from devmodels.blockbackend.node import BlockNode


class Root(Protocol):
    """Where requests come from: a BlockBackend."""

    def quiesce(self) -> None:
        """Begin no request until `unquiesce` has been called as often."""
        ...

    def unquiesce(self) -> None:
        """Go on."""
        ...

    async def drain(self) -> None:
        """Return when nothing runs."""
        ...


class Section:
    """A drained section while it lasts: `nodes` are those drained and all above them, `roots` are quiet for it."""

    __slots__ = ("nodes", "roots")

    def __init__(self) -> None:
        self.nodes: list[BlockNode] = []
        self.roots: list[Root] = []

    def quiet(self, root: Root) -> None:
        """Requests of `root` come to a node of this section."""
        if root not in self.roots:
            self.roots.append(root)
            root.quiesce()


@asynccontextmanager
async def drained(*nodes: BlockNode) -> AsyncIterator[None]:
    """`async with drained(node):` - nothing runs on `nodes` nor on what is above them; requests wait there."""
    section = Section()
    for node in nodes:
        node.context.assert_owner()
        node.cover(section)
    held = below(section.nodes)
    for node in held:
        node.drain_begin()
    try:
        for root in list(section.roots):
            await root.drain()
        yield
    finally:
        for node in held:
            node.drain_end()
        for node in section.nodes:
            node.sections.remove(section)
        with ExitStack() as goes_on:
            # Each one, in order, whatever comes of another one's requests.
            for root in reversed(section.roots):
                goes_on.callback(root.unquiesce)


def below(nodes: Iterable[BlockNode]) -> list[BlockNode]:
    """`nodes` and everything that they lead to, each once."""
    found: dict[BlockNode, None] = {}
    todo = list(nodes)
    while todo:
        node = todo.pop()
        if node not in found:
            found[node] = None
            todo.extend(edge.node for edge in node.children.values())
    return list(found)
