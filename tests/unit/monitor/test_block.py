"""Nodes come, go and change by the monitor."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from devmodels.blockbackend import Op, Request

from .support import DISK, MIB, NODE, Talk, in_daemon, in_machine


def test_nodes_come_and_go(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        raw = {"driver": "raw", "node-name": "r0", "file": "d0"}
        assert await talk.ask("blockdev-add", raw) == {}
        assert await talk.text("blockdev-del", node_name="d0") == "Node d0 is in use: node 'r0' (file)"
        assert await talk("blockdev-del", node_name="r0") == {}
        assert await talk("blockdev-del", node_name="d0") == {}
        assert not talk.world.graph.nodes

    in_daemon(tmp_path, story)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"driver": "memory", "size": MIB}, "'node-name' must be specified for the root node"),
        (NODE, "Duplicate nodes with node-name='d0'"),
        ({"driver": "no", "node-name": "x"}, 'driver: "no" is given; expected one of '),
        ({**NODE, "node-name": "x", "bogus": 1}, "bogus: no such option; expected one of "),
        ({"node-name": "x"}, "driver: missing; expected one of "),
        ({"driver": "raw", "node-name": "x", "file": "no"}, 'file: "no" is given; expected "d0"'),
    ],
)
def test_node_that_cannot_be_says_why(tmp_path: Path, options: dict[str, object], text: str) -> None:
    async def story(talk: Talk) -> None:
        answer = await talk.ask("blockdev-add", options)
        assert answer["class"] == "GenericError"
        assert answer["desc"].startswith(text)
        assert list(talk.world.graph.nodes) == ["d0"]

    in_daemon(tmp_path, story)


def test_reopen_changes_options_and_children(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        nodes = talk.world.graph.nodes
        delay = {"driver": "delay", "node-name": "f0", "file": "d0", "latency-ns": 1}
        assert await talk.ask("blockdev-add", delay) == {}
        assert await talk("blockdev-reopen", options=[{**delay, "latency-ns": 0, "file": "d1"}]) == {}
        assert nodes["f0"].children["file"].node is nodes["d1"]
        assert await talk.text("blockdev-reopen", options=[{"driver": "raw"}]) == "node-name not specified"
        unknown = await talk.text("blockdev-reopen", options=[{"driver": "raw", "node-name": "no"}])
        assert unknown == "Failed to find node with node-name='no'"
        fixed = await talk.text("blockdev-reopen", options=[{**NODE, "size": 2 * MIB}])
        assert fixed.startswith("size: 2097152 is given; it stays 1048576")

    in_daemon(tmp_path, story, nodes=[NODE, {**NODE, "node-name": "d1"}])


def test_reopen_of_several_is_all_or_none(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        nodes = talk.world.graph.nodes
        other = {"driver": "raw", "node-name": "r0", "file": "d1", "read-only": True}
        wrong = {**NODE, "node-name": "d1", "size": 2 * MIB}
        assert "it stays 1048576" in await talk.text("blockdev-reopen", options=[other, wrong])
        assert nodes["r0"].children["file"].node is nodes["d0"]
        assert not nodes["r0"].read_only
        third = {**other, "read-only": False, "file": "d2"}
        assert "it stays 1048576" in await talk.text("blockdev-reopen", options=[other, third, wrong])
        assert nodes["r0"].children["file"].node is nodes["d0"]
        right = {**NODE, "node-name": "d1", "discard": "unmap"}
        assert await talk("blockdev-reopen", options=[other, right]) == {}
        assert nodes["r0"].children["file"].node is nodes["d1"]
        assert nodes["d1"].options.discard == "unmap"

    raw = {"driver": "raw", "file": "d0", "node-name": "r0"}
    in_daemon(tmp_path, story, nodes=[NODE, *({**NODE, "node-name": name} for name in ("d1", "d2")), raw])


def test_no_request_meets_a_reopening_that_is_taken_back(tmp_path: Path) -> None:
    blkdebug = {"driver": "blkdebug", "node-name": "b0", "image": "d0"}
    fails = {**blkdebug, "inject-error": [{"event": "none", "iotype": "read"}]}
    delay = {"driver": "delay", "node-name": "s0", "file": "b0", "latency-ns": 1000}
    wrong = {**NODE, "node-name": "d0", "size": 512}

    async def story(talk: Talk) -> None:
        errors: list[int] = []
        backend = talk.world.find("v0").backend

        def read(before: Request | None = None) -> None:
            if before is not None:
                errors.append(before.error)
            if len(errors) < 1000:
                backend.submit(Request(Op.READ, 0, 512, [memoryview(bytearray(512))], done=read))

        read()
        assert "it stays" in await talk.text("blockdev-reopen", options=[fails, wrong])
        while len(errors) < 1000:
            await asyncio.sleep(0)
        assert set(errors) == {0}

    in_machine(tmp_path, story, nodes=[NODE, blkdebug, delay], devices=[{**DISK, "drive": "s0"}])


@pytest.mark.parametrize("name", [{"node_name": "d0"}, {}])
def test_images_are_given_up_and_taken_again(tmp_path: Path, name: dict[str, str]) -> None:
    async def story(talk: Talk) -> None:
        nodes = talk.world.graph.nodes
        assert await talk("blockdev-set-active", active=False, **name) == {}
        assert not nodes["d0"].active
        assert await talk("blockdev-set-active", active=True, **name) == {}
        assert nodes["d0"].active
        assert "node-name='no'" in await talk.text("blockdev-set-active", active=True, node_name="no")

    in_daemon(tmp_path, story, nodes=[NODE, {"driver": "raw", "file": "d0", "node-name": "r0"}])


def test_a_resize_is_told_to_the_device_whatever_it_is_called_by(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        backend = talk.world.find("v0").backend
        for number, name in enumerate([{"node_name": "d0"}, {"device": "v0"}], 2):
            assert await talk("block_resize", size=number * MIB, **name) == {}
            assert backend.size == number * MIB

    in_machine(tmp_path, story)


def test_all_images_are_given_up_however_they_hang_together(tmp_path: Path) -> None:
    raws = [
        {"driver": "raw", "node-name": f"r{number}", "file": below}
        for number, below in enumerate(("d0", "r0", "r1"))
    ]

    async def story(talk: Talk) -> None:
        for active in (True, False, True):
            assert await talk("blockdev-set-active", active=active) == {}
            assert {node.active for node in talk.world.graph.nodes.values()} == {active}

    in_daemon(tmp_path, story, nodes=[NODE, *raws])
