"""Filters come into the way and leave it by the monitor."""

from __future__ import annotations

from pathlib import Path

import pytest

from .support import NODE, Talk, in_daemon, in_machine
from .test_exports import options

FILTER = {"driver": "delay", "node-name": "f0", "file": "d0", "latency-ns": 0}


@pytest.mark.parametrize("parent", ["v0", "/machine/peripheral/v0/virtio-backend"])
def test_filter_under_a_device(tmp_path: Path, parent: str) -> None:
    async def story(talk: Talk) -> None:
        backend = talk.world.find("v0").backend
        await talk.ask("blockdev-add", FILTER)
        assert await talk("x-blockdev-change", parent=parent, node="f0") == {}
        assert backend.node.node_name == "f0"
        assert await talk("qom-get", path="v0", property="drive") == "f0"
        assert await talk("x-blockdev-change", parent=parent, child="root") == {}
        assert backend.node.node_name == "d0"
        assert await talk("blockdev-del", node_name="f0") == {}

    in_machine(tmp_path, story)


def test_filter_under_a_node_and_under_an_export(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        nodes = talk.world.graph.nodes
        await talk.ask("blockdev-add", FILTER)
        await talk.ask("block-export-add", options(tmp_path, **{"node-name": "d0"}))
        assert await talk("x-blockdev-change", parent="r0", node="f0") == {}
        assert nodes["r0"].children["file"].node is nodes["f0"]
        assert await talk("x-blockdev-change", parent="e0", node="f0") == {}
        assert (await talk("query-block-exports"))[0]["node-name"] == "f0"
        assert await talk("x-blockdev-change", parent="e0", child="root") == {}
        assert await talk("x-blockdev-change", parent="r0", child="file") == {}
        assert await talk("blockdev-del", node_name="f0") == {}

    in_daemon(tmp_path, story, nodes=[NODE, {"driver": "raw", "file": "d0", "node-name": "r0"}])


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"parent": "no", "node": "f0"}, "Cannot find device='no' nor node-name='no'"),
        ({"parent": "r0"}, "Either child or node must be specified"),
        ({"parent": "r0", "child": "file", "node": "f0"}, "The parameters child and node are in conflict"),
        ({"parent": "r0", "child": "backing"}, "Node 'r0' does not have child 'backing'"),
        ({"parent": "r0", "child": "file"}, "Node 'd0' is not a filter"),
        ({"parent": "r0", "node": "d1"}, "Node 'd1' is no filter over a child of 'r0'"),
        ({"parent": "r0", "node": "no"}, "Cannot find device='' nor node-name='no'"),
    ],
)
def test_change_that_cannot_be(tmp_path: Path, given: dict[str, object], text: str) -> None:
    async def story(talk: Talk) -> None:
        assert (await talk.ask("x-blockdev-change", given))["desc"] == text

    raw = {"driver": "raw", "file": "d0", "node-name": "r0"}
    in_daemon(tmp_path, story, nodes=[NODE, {**NODE, "node-name": "d1"}, raw, FILTER])


def test_our_own_commands_change_all_users_at_once(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        nodes = talk.world.graph.nodes
        given = {"driver": "delay", "node-name": "f0", "latency-ns": 0}
        assert await talk("x-blockdev-insert-filter", options=given, above="d0") == {}
        assert [edge.node.node_name for edge in nodes["r0"].children.values()] == ["f0"]
        assert await talk("x-blockdev-remove-filter", node_name="f0") == {}
        assert "f0" not in nodes
        assert await talk("x-blockdev-insert-filter", options=given, below="r0", child="file") == {}
        assert await talk("x-blockdev-replace-node", node_name="f0", by="d1") == {}
        assert [edge.node.node_name for edge in nodes["r0"].children.values()] == ["d1"]
        assert "no node" in await talk.text("x-blockdev-remove-filter", node_name="no")

    raw = {"driver": "raw", "file": "d0", "node-name": "r0"}
    in_daemon(tmp_path, story, nodes=[NODE, {**NODE, "node-name": "d1"}, raw])
