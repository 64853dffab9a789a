"""The graph as data, for people and for programs: in the form of QEMU's `x-debug-query-block-graph`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from devmodels.blockbackend.drain import below
from devmodels.blockbackend.edge import Edge, User
from devmodels.blockbackend.node import BlockNode
from devmodels.blockbackend.permissions import Role, words

NodeData = TypedDict(
    "NodeData",
    {"id": int, "type": str, "name": str, "driver": str, "size": int, "read-only": bool},
    total=False,
)
"""`type`: `block-driver` (with `driver`, `size` in bytes and `read-only`) or `block-backend`."""

EdgeData = TypedDict(
    "EdgeData",
    {
        "parent": int,
        "child": int,
        "name": str,
        "role": list[str],
        "perm": list[str],
        "shared-perm": list[str],
    },
)
"""`parent` and `child` are ids; `perm`: what the parent does, `shared-perm`: what others may do."""


class GraphData(TypedDict):
    """Every node and backend once, and every edge."""

    nodes: list[NodeData]
    edges: list[EdgeData]


def describe(nodes: Iterable[BlockNode]) -> GraphData:
    """`nodes`, what is below them, and all their users; users before what they use."""
    ids: dict[User, int] = {}

    def visit(user: User) -> None:
        if user in ids:
            return
        if isinstance(user, BlockNode):
            for edge in user.parents:
                visit(edge.user_object)
        ids[user] = len(ids) + 1

    given = list(nodes)
    for node in [*given, *below(given)]:
        visit(node)
    edges = [_edge(edge, ids) for node in ids if isinstance(node, BlockNode) for edge in node.parents]
    edges.sort(key=lambda edge: (edge["parent"], edge["child"]))
    return {"nodes": [_node(user, number) for user, number in ids.items()], "edges": edges}


def _edge(edge: Edge, ids: dict[User, int]) -> EdgeData:
    return {
        "parent": ids[edge.user_object],
        "child": ids[edge.node],
        "name": edge.name,
        "role": _role(edge.role),
        "perm": words(edge.use.used),
        "shared-perm": words(edge.use.shared),
    }


def _node(user: User, number: int) -> NodeData:
    if not isinstance(user, BlockNode):
        return {"id": number, "type": "block-backend", "name": user.name}
    return {
        "id": number,
        "type": "block-driver",
        "name": user.node_name,
        "driver": user.options.driver,
        "size": user.size,
        "read-only": user.read_only,
    }


def _role(role: Role) -> list[str]:
    return [str(each.name).lower() for each in Role if each in role]
