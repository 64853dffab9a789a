"""Disks and drives at AHCI ports and IDE channels, from the monitor."""

from __future__ import annotations

from pathlib import Path

import pytest

from devmodels.blockbackend import Op, Request
from devmodels.ide_cdrom import PiixIde

from .support import MIB, NODE, Talk, in_machine

SLOW = {"driver": "delay", "node-name": "f0", "file": "d0", "latency-ns": 10**9}
OTHER = {"driver": "memory", "size": MIB, "node-name": "d1"}
HBA = {"driver": "ahci", "id": "sata0", "ports": 2}


def test_a_disk_is_unplugged_once(tmp_path: Path) -> None:
    """While the last of its requests runs its port can have another disk, which stays."""

    async def story(talk: Talk) -> None:
        ended: list[int] = []
        request = Request(Op.FLUSH, 0, 0, done=lambda request: ended.append(request.error))
        talk.world.find("hd0").backend.submit(request)
        assert await talk("device_del", id="hd0") == {}
        assert await talk("device_add", driver="ide-hd", id="hd1", bus="sata0.0", drive="d1") == {}
        assert await talk.text("device_del", id="hd0") == "Device hd0 is already in the process of unplug"
        talk.world.context.step(10**9)
        assert ended == [0]
        assert await talk.text("device_del", id="hd0") == "Device 'hd0' not found"
        assert [event for event, _ in await talk.events()] == ["DEVICE_DELETED"]
        assert talk.world.assembly is not None
        assert list(talk.world.assembly.ata_buses["sata0.0"].units.values()) == [
            talk.world.assembly.ata_units["hd1"].device
        ]

    disk = {"driver": "ide-hd", "id": "hd0", "bus": "sata0.0", "drive": "f0"}
    in_machine(tmp_path, story, nodes=[NODE, SLOW, OTHER], devices=[HBA, disk], clock="stepped")


def test_a_drive_is_plugged_without_a_medium(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        assert await talk("device_add", driver="ide-cd", id="cd0", bus="sata0.1") == {}
        (drive,) = await talk("query-block")
        assert (drive["qdev"], drive["removable"], "inserted" in drive) == (
            "cd0",
            True,
            False,
        )
        assert await talk("blockdev-open-tray", id="cd0") == {}
        assert await talk("blockdev-insert-medium", id="cd0", node_name="d0") == {}
        assert await talk("blockdev-close-tray", id="cd0") == {}
        (drive,) = await talk("query-block")
        assert drive["inserted"]["node-name"] == "d0"
        no_drive = await talk.text("device_add", driver="ide-hd", id="hd0", bus="sata0.0")
        assert no_drive == "drive property not set"

    in_machine(tmp_path, story, nodes=[{**NODE, "read-only": True}], devices=[HBA])


def test_nothing_is_plugged_into_a_cable(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        expected = "Bus 'ide0.0' does not support hotplugging"
        assert await talk.text("device_del", id="hd0") == expected
        for bus in ({"bus": "ide0.0"}, {}):
            assert await talk.text("device_add", driver="ide-cd", id="cd0", **bus) == expected
        assert talk.world.assembly is not None
        (host,) = talk.world.assembly.ata_hosts.values()
        assert isinstance(host, PiixIde)
        assert list(host.channels[0].units) == [0]

    disk = {"driver": "ide-hd", "id": "hd0", "bus": "ide0.0", "drive": "d0"}
    in_machine(tmp_path, story, nodes=[NODE], devices=[{"driver": "piix3-ide", "id": "ide0"}, disk])


@pytest.mark.parametrize("bus", ["sata0.7", "sata0", ""])
def test_a_bus_that_is_none(tmp_path: Path, bus: str) -> None:
    async def story(talk: Talk) -> None:
        assert f"no bus '{bus}'" in await talk.text("device_add", driver="ide-cd", id="cd0", bus=bus)

    in_machine(tmp_path, story, nodes=[NODE], devices=[HBA])
