"""What users of a node do with it and what they let others do: permissions, roles of children, and who excludes whom.

The words are those of QEMU's block layer.  A user of a node holds an edge to it with two sets: `used`, what it does
itself, and `shared`, what every other user of the same node may do.  A node asks its own children for what its users
do with it (`BlockNode.child_permissions`), so that a writer is known down to the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Flag, IntFlag, auto
from typing import TYPE_CHECKING

import msgspec

from devmodels.options import OptionError

if TYPE_CHECKING:
    from devmodels.blockbackend.edge import Edge
    from devmodels.blockbackend.node import BlockNode


class Perm(IntFlag):
    """What a user of a node does.

    `CONSISTENT_READ`: reads and expects what a disk holds at one moment.  `WRITE`: changes what is read.
    `WRITE_UNCHANGED`: writes what is there already (filling an overlay).  `RESIZE`: changes the size.
    """

    NONE = 0
    CONSISTENT_READ = 1
    WRITE = 2
    WRITE_UNCHANGED = 4
    RESIZE = 8
    ALL = 15


CHANGES = Perm.WRITE | Perm.WRITE_UNCHANGED | Perm.RESIZE
"""What a read-only node cannot give."""


class Role(Flag):
    """What a child is to its parent.

    `DATA`: holds guest data.  `METADATA`: holds what the parent's format needs.  `FILTERED`: reads the same as the
    parent.  `COW`: read where the parent has nothing of its own.  `PRIMARY`: the one child that stands for the parent.
    """

    DATA = auto()
    METADATA = auto()
    FILTERED = auto()
    COW = auto()
    PRIMARY = auto()


class Use(msgspec.Struct, frozen=True):
    """The two sets of one kind of user."""

    used: Perm
    shared: Perm


USES: dict[str, Use] = {
    "device": Use(
        Perm.CONSISTENT_READ | Perm.WRITE, Perm.CONSISTENT_READ | Perm.WRITE_UNCHANGED | Perm.RESIZE
    ),
    "read-only device": Use(Perm.CONSISTENT_READ, Perm.CONSISTENT_READ | Perm.WRITE_UNCHANGED | Perm.RESIZE),
    "export": Use(Perm.CONSISTENT_READ | Perm.WRITE, Perm.ALL),
    "read-only export": Use(Perm.CONSISTENT_READ, Perm.ALL),
    "resize": Use(Perm.RESIZE, Perm.ALL),
    "format": Use(CHANGES | Perm.CONSISTENT_READ, Perm.CONSISTENT_READ | Perm.WRITE_UNCHANGED),
    "overlay": Use(Perm.CONSISTENT_READ, Perm.CONSISTENT_READ | Perm.WRITE_UNCHANGED),
}
"""Kinds of users at one node; `excludes` makes a matrix of it."""


def excludes(one: Use, other: Use) -> Perm:
    """What keeps two users from the same node: done by one of them and not shared by the other."""
    return (one.used & ~other.shared) | (other.used & ~one.shared)


_SINGLE = (Perm.CONSISTENT_READ, Perm.WRITE, Perm.WRITE_UNCHANGED, Perm.RESIZE)


def words(permissions: Perm) -> list[str]:
    """Permissions by QEMU's names for them."""
    return [str(each.name).lower().replace("_", "-") for each in _SINGLE if each & permissions]


def names(permissions: Perm) -> str:
    """Permissions in a sentence."""
    return ", ".join(words(permissions))


class PermissionConflictError(OptionError):
    """A node cannot be used as wanted; the text is one line."""


def child_permissions(role: Role, read_only: bool, use: Use) -> Use:
    """What a node wants of a child in `role`, where its own users together are `use`."""
    if Role.COW in role:
        # The overlay reads there what it has not itself; nobody may change that, unless its users can bear it.
        free = Perm.WRITE | Perm.RESIZE if Perm.WRITE in use.shared else Perm.NONE
        return Use(use.used & Perm.CONSISTENT_READ, Perm.CONSISTENT_READ | Perm.WRITE_UNCHANGED | free)
    if Role.METADATA in role:
        changes = Perm.NONE if read_only else Perm.WRITE | Perm.RESIZE
        return Use(use.used | changes | Perm.CONSISTENT_READ, use.shared & ~(Perm.WRITE | Perm.RESIZE))
    if Role.FILTERED not in role:
        # What shows a part of its child counts on the child's size.
        return Use(use.used, use.shared & ~Perm.RESIZE)
    return use


def refresh(nodes: Iterable[BlockNode]) -> None:
    """Work out the permissions of every edge at and below `nodes`.

    Raises PermissionConflictError, with nothing changed, where two users of a node exclude each other.
    """
    found: dict[Edge, Use] = {}
    order = parents_first(nodes)
    for node in order:
        use = _at(node, found)
        for edge in node.children.values():
            found[edge] = node.child_permissions(edge, use)
    changed = {edge for edge, use in found.items() if edge.use != use}
    for edge in changed:
        edge.use = found[edge]
    for node in order:
        for edge in changed.intersection(node.children.values()):
            node.use_changed(edge)


@contextmanager
def more(edge: Edge, used: Perm) -> Iterator[None]:
    """Meanwhile the user at `edge`, a backend, does `used` as well; PermissionConflictError where that cannot be."""
    before = edge.use
    edge.use = Use(before.used | used, before.shared)
    try:
        refresh([edge.node])
        yield
    finally:
        edge.use = before
        refresh([edge.node])


def parents_first(nodes: Iterable[BlockNode]) -> list[BlockNode]:
    """`nodes` and what is below them, each after those that stand over it."""
    order: list[BlockNode] = []
    seen: set[BlockNode] = set()

    def visit(node: BlockNode) -> None:
        if node in seen:
            return
        seen.add(node)
        for edge in node.children.values():
            visit(edge.node)
        order.append(node)

    for node in nodes:
        visit(node)
    return order[::-1]


def _at(node: BlockNode, found: dict[Edge, Use]) -> Use:
    """What the users of `node` are together; PermissionConflictError where they exclude each other."""
    used, shared = Perm.NONE, Perm.ALL
    uses = [(edge, found.get(edge, edge.use)) for edge in node.parents]
    for number, (edge, use) in enumerate(uses):
        if node.read_only and use.used & CHANGES:
            raise PermissionConflictError(
                f"node {node.node_name!r} is read-only; {edge.user} wants to {names(use.used & CHANGES)}"
            )
        for other, its in uses[:number]:
            for who, what, whom, sharing in ((edge, use, other, its), (other, its, edge, use)):
                if bad := what.used & ~sharing.shared:
                    raise PermissionConflictError(
                        f"{who.user} needs {names(bad)!r} on node {node.node_name!r},"
                        f" which {whom.user} does not share"
                    )
        used |= use.used
        shared &= use.shared
    return Use(used, shared)
