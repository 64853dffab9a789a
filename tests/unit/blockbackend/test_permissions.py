"""Which users of a node exclude each other: the table on the page is what happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from devmodels.blockbackend import BlockNode, open_node
from devmodels.blockbackend.debug.announcing import NOTHING
from devmodels.blockbackend.drain import Section
from devmodels.blockbackend.edge import Edge
from devmodels.blockbackend.permissions import (
    USES,
    Perm,
    PermissionConflictError,
    Role,
    Use,
    child_permissions,
    excludes,
    words,
)
from devmodels.iocontext import IoContext

PAGE = Path(__file__).parents[3] / "docs" / "blockbackend.md"


class Someone:
    """A user that only uses."""

    def __init__(self, name: str) -> None:
        self.name = self.description = name
        self.announces = NOTHING

    def child_changed(self, edge: Edge) -> None:
        pass

    def attention(self, code: int) -> None:
        pass

    def cover(self, section: Section) -> None:
        pass


@pytest.fixture
def node() -> Iterator[BlockNode]:
    context = IoContext.virtual()
    node = open_node({"driver": "null-co", "node-name": "n0"}, context)
    yield node
    node.close()
    context.close()


@pytest.mark.parametrize("one", USES)
@pytest.mark.parametrize("other", USES)
def test_who_excludes_whom(node: BlockNode, one: str, other: str) -> None:
    first = Edge(Someone("one"), "root", Role.DATA, node, USES[one])
    if not excludes(USES[one], USES[other]):
        Edge(Someone("other"), "root", Role.DATA, node, USES[other])
        return
    with pytest.raises(PermissionConflictError, match=r"on node 'n0', which (one|other) does not share"):
        Edge(Someone("other"), "root", Role.DATA, node, USES[other])
    assert node.parents == [first]


def test_the_table_on_the_page_is_true() -> None:
    for one in USES:
        row = " | ".join(", ".join(words(excludes(USES[one], use))) for use in USES.values())
        assert f"| {one} | {row} |" in PAGE.read_text()


def test_two_devices_exclude_each_other_two_exports_do_not() -> None:
    assert excludes(USES["device"], USES["device"]) == Perm.WRITE
    assert excludes(USES["device"], USES["read-only device"]) == Perm.WRITE
    assert not excludes(USES["read-only device"], USES["read-only device"])
    assert not excludes(USES["export"], USES["export"])


ALONE = Use(Perm.CONSISTENT_READ | Perm.WRITE, Perm.CONSISTENT_READ)


@pytest.mark.parametrize(
    ("role", "read_only", "use", "wanted"),
    [
        (Role.FILTERED | Role.PRIMARY, False, ALONE, ALONE),
        (Role.DATA, False, ALONE, ALONE),
        (Role.DATA, False, Use(Perm.WRITE, Perm.ALL), Use(Perm.WRITE, Perm.ALL & ~Perm.RESIZE)),
        (
            Role.METADATA | Role.DATA,
            False,
            Use(Perm.NONE, Perm.ALL),
            Use(Perm.CONSISTENT_READ | Perm.WRITE | Perm.RESIZE, Perm.CONSISTENT_READ | Perm.WRITE_UNCHANGED),
        ),
        (
            Role.METADATA,
            True,
            Use(Perm.NONE, Perm.ALL),
            Use(Perm.CONSISTENT_READ, Perm.CONSISTENT_READ | Perm.WRITE_UNCHANGED),
        ),
        (Role.COW, False, ALONE, Use(Perm.CONSISTENT_READ, Perm.CONSISTENT_READ | Perm.WRITE_UNCHANGED)),
        (Role.COW, False, Use(Perm.WRITE, Perm.ALL), Use(Perm.NONE, Perm.ALL)),
    ],
)
def test_what_a_node_wants_of_its_child(role: Role, read_only: bool, use: Use, wanted: Use) -> None:
    assert child_permissions(role, read_only, use) == wanted
