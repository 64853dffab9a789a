"""Exports start and end by the monitor."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from .support import Talk, in_daemon


def options(folder: Path, **more: object) -> dict[str, object]:
    path = str(folder / "vu.sock")
    return {
        "type": "vhost-user-blk",
        "id": "e0",
        "node-name": "d0",
        "addr": {"type": "unix", "path": path},
        **more,
    }


def test_export_starts_and_ends(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        assert await talk.ask("block-export-add", options(tmp_path)) == {}
        info = {"id": "e0", "type": "vhost-user-blk", "node-name": "d0", "shutting-down": False}
        assert await talk("query-block-exports") == [info]
        assert (await talk.text("blockdev-del", node_name="d0")).startswith("Node d0 is in use")
        assert await talk("block-export-del", id="e0") == {}
        assert await talk.events() == [("BLOCK_EXPORT_DELETED", {"id": "e0"})]
        assert await talk("query-block-exports") == []
        assert not (tmp_path / "vu.sock").exists()
        assert await talk("blockdev-del", node_name="d0") == {}

    in_daemon(tmp_path, story)


def test_export_in_use_ends_only_by_force(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        await talk.ask("block-export-add", options(tmp_path))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "vu.sock"))
            await talk("query-status")
            assert await talk.text("block-export-del", id="e0") == "export 'e0' still in use"
            assert await talk("block-export-del", id="e0", mode="hard") == {}
            assert client.recv(1) == b""
        assert await talk.events() == [("BLOCK_EXPORT_DELETED", {"id": "e0"})]

    in_daemon(tmp_path, story)


def test_what_cannot_be_says_why(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        async def refused(**more: object) -> str:
            answer = await talk.ask("block-export-add", options(tmp_path, **more))
            return str(answer["desc"])

        assert await refused(**{"node-name": "no"}) == "Cannot find device='' nor node-name='no'"
        assert await refused(id="e 0") == "Invalid block export id"
        assert 'type: "nbd" is given' in await refused(type="nbd")
        assert "num-queues: 0 is given" in await refused(**{"num-queues": 0})
        assert "No such file" in await refused(addr={"type": "unix", "path": "/no/where/vu.sock"})
        await talk.ask("block-export-add", options(tmp_path))
        assert await refused() == "Block export id 'e0' is already in use"
        assert await talk.text("block-export-del", id="no") == "Export 'no' is not found"
        answer = await talk("block-export-del", id="e0", mode="soft")
        assert answer["desc"] == "Parameter 'mode' does not accept value 'soft'"

    in_daemon(tmp_path, story)


@pytest.mark.parametrize(
    "wrong",
    [
        {"addr": {"type": "unix", "path": "/no/where/vu.sock"}},
        {"addr": {"type": "unix", "path": "a\0b"}},
        {"serial": "x" * 21},
        {"iothread": "none"},
    ],
)
def test_export_that_cannot_be_leaves_nothing_behind(tmp_path: Path, wrong: dict[str, object]) -> None:
    async def story(talk: Talk) -> None:
        answer = await talk.ask("block-export-add", options(tmp_path, **wrong))
        assert answer["desc"].startswith('block-export-add "e0": ')
        assert await talk("query-block-exports") == []
        assert await talk("blockdev-del", node_name="d0") == {}

    in_daemon(tmp_path, story)


def test_an_iscsi_export_with_a_secret_that_came_by_the_monitor(tmp_path: Path) -> None:
    given = {
        "type": "iscsi",
        "id": "e0",
        "node-name": "d0",
        "target": "iqn.2026-11.org.example:d0",
        "addr": {"type": "inet", "host": "127.0.0.1", "port": 0},
        "user": "me",
        "password-secret": "s0",
    }

    async def story(talk: Talk) -> None:
        answer = await talk.ask("block-export-add", given)
        assert answer["desc"] == 'block-export-add "e0": no secret "s0"; the secrets are: none'
        secret = {"qom-type": "secret", "id": "s0", "data": "twelve bytes and more"}
        assert await talk.ask("object-add", secret) == {}
        assert await talk.ask("block-export-add", given) == {}
        assert await talk("query-block-exports") == [
            {"id": "e0", "type": "iscsi", "node-name": "d0", "shutting-down": False}
        ]
        names = [each["name"] for each in await talk("qom-list", path="/objects")]
        assert "s0" in names
        assert await talk("object-del", id="s0") == {}
        assert await talk("block-export-del", id="e0") == {}
        assert talk.world.exports.iscsi.targets == {}

    in_daemon(tmp_path, story)
