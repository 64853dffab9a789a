"""A daemon's devices for other programs' machines: what is seen of them, and what comes and goes on their buses."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from devmodels.assembly import Assembly, HostedDevices
from devmodels.blockbackend import Graph
from devmodels.conformance import Profile
from devmodels.events import Events
from devmodels.exports.table import Exports
from devmodels.exports.vfio_user_session import Offered
from devmodels.iocontext import IoContext
from devmodels.monitor.world import World
from devmodels.runstate import RunState

from .support import MIB, Story, Talk, tell_at

NODES = [{"driver": "memory", "size": size * MIB, "node-name": f"d{n}"} for n, size in enumerate((1, 2, 3))]
DEVICES = [
    {"driver": "virtio-blk-pci", "id": "v0", "drive": "d0"},
    {"driver": "virtio-scsi-pci", "id": "s0"},
    {"driver": "scsi-hd", "bus": "s0.0", "drive": "d1"},
]
CD = {"driver": "scsi-cd", "id": "cd0", "drive": "d2", "scsi-id": 3}


def tell(path: Path, story: Story, devices: Sequence[Mapping[str, object]] = DEVICES) -> None:
    """Run `story` against a daemon with devices."""
    context = IoContext.virtual()
    graph, events = Graph(context), Events()
    state = RunState(events)
    exports = Exports(graph, profile=Profile.STRICT, events=events, run_state=state)
    hosted = HostedDevices(graph, run_state=state, profile=Profile.STRICT)

    def function(device: str) -> Offered | None:
        found = hosted.function(device)
        return found and Offered(found[0].machine, found[1], found[0].violations)

    exports.functions = function
    for node in NODES:
        graph.add(node)
    try:
        for device in devices:
            hosted.add(device)
        world = World(graph, events=events, run_state=state, exports=exports, hosted=hosted)
        asyncio.run(tell_at(path / "qmp.sock", world, story))
    finally:
        exports.close()
        context.run_until_idle()
        hosted.close()
        graph.close()
        context.close()


def machine(talk: Talk, device: str) -> Assembly:
    found = talk.world.machine_of(device)
    assert found is not None
    return found


def test_disks_are_seen_as_a_machines_are(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        blocks = await talk("query-block")
        assert [(each["qdev"], each["inserted"]["node-name"]) for each in blocks] == [
            ("/machine/peripheral/v0/virtio-backend", "d0"),
            ("/machine/peripheral-anon/device[0]", "d1"),
        ]
        assert [each["stats"]["rd_operations"] for each in await talk("query-blockstats")] == [0, 0]
        assert [each["name"] for each in await talk("qom-list", path="/machine/peripheral")] == [
            "type",
            "v0",
            "s0",
        ]
        assert await talk("qom-get", path="v0", property="drive") == "d0"
        assert await talk("qom-set", path="v0", property="drive", value="d2") == {}
        assert machine(talk, "v0").drives["v0"].node.node_name == "d2"

    tell(tmp_path, story)


def test_a_device_hears_of_its_disks_new_size(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        assert await talk("block_resize", device="v0", size=2 * MIB) == {}
        assert machine(talk, "v0").drives["v0"].node.size == 2 * MIB

    tell(tmp_path, story)


def test_units_come_and_go(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        assert await talk("device_add", driver="scsi-hd", id="u2", bus="s0.0", drive="d2") == {}
        assert "u2" in machine(talk, "s0").units
        again = await talk.text("device_add", driver="scsi-hd", id="u2", bus="s0.0", drive="d2")
        assert again == "Duplicate device ID 'u2'"
        assert await talk("device_del", id="u2") == {}
        await asyncio.sleep(0)
        while not (events := await talk.events()):
            await talk("query-status")
        assert events[-1] == ("DEVICE_DELETED", {"device": "u2", "path": "/machine/peripheral/u2"})
        assert await talk("blockdev-del", node_name="d2") == {}

    tell(tmp_path, story)


@pytest.mark.parametrize(
    ("command", "arguments", "text"),
    [
        (
            "device_add",
            {"driver": "virtio-blk-pci", "id": "v1", "drive": "d2"},
            "Bus 'pci' does not support hotplugging",
        ),
        ("device_del", {"id": "v0"}, "Bus 'pci' does not support hotplugging"),
        ("device_del", {"id": "s0"}, "Bus 'pci' does not support hotplugging"),
        ("device_del", {"id": "nobody"}, "Device 'nobody' not found"),
        (
            "block-export-add",
            {"type": "vfio-user", "id": "e0", "device": "v0", "addr": {"type": "unix", "path": "x"}},
            "Parameter 'type' does not accept value 'vfio-user'",
        ),
        ("system_reset", {}, "The command system_reset has not been found"),
    ],
)
def test_what_is_not_done(tmp_path: Path, command: str, arguments: dict[str, object], text: str) -> None:
    async def story(talk: Talk) -> None:
        assert (await talk.ask(command, arguments))["desc"] == text

    tell(tmp_path, story)


def test_the_medium_of_a_hosted_drive_is_changed(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        assert await talk("blockdev-open-tray", id="cd0") == {}
        assert await talk("blockdev-remove-medium", id="cd0") == {}
        assert machine(talk, "s0").backends == {}
        assert await talk("blockdev-insert-medium", id="cd0", node_name="d1") == {}
        assert await talk("blockdev-close-tray", id="cd0") == {}
        assert list(machine(talk, "s0").backends) == ["d1"]
        assert [data["tray-open"] for _, data in await talk.events()] == [True, False]

    tell(tmp_path, story, [DEVICES[1], CD])
