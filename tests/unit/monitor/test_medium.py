"""Trays and media by QEMU's commands: a machine's drive, an export that is one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from devmodels.scsi import Nexus, TargetPort, sas_transport_id
from devmodels.scsi.mmc import CdDrive

from .support import MIB, Talk, in_daemon, in_machine, machine_of

HOST = {"driver": "virtio-scsi-pci", "id": "scsi0"}
CD = {"driver": "scsi-cd", "drive": "d0", "id": "cd0"}
NODES = [{"driver": "memory", "size": size * MIB, "node-name": f"d{n}"} for n, size in enumerate((1, 2, 3))]
LOCKED = "Device 'cd0' is locked and force was not specified, wait for tray to open and try again"


def drive_of(talk: Talk) -> CdDrive:
    place = machine_of(talk).units["cd0"]
    unit = place.host.bus.targets[place.target].units[place.lun]
    assert isinstance(unit, CdDrive)
    return unit


async def moves(talk: Talk) -> list[bool]:
    return [bool(data["tray-open"]) for name, data in await talk.events() if name == "DEVICE_TRAY_MOVED"]


def tell(tmp_path: Path, story: Any, *devices: Mapping[str, object]) -> None:
    in_machine(tmp_path, story, nodes=NODES, devices=[HOST, *(devices or (CD,))])


def test_every_step_by_itself(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        assert await talk.text("blockdev-remove-medium", id="cd0") == "Tray of device 'cd0' is not open"
        assert await talk("blockdev-open-tray", id="cd0") == {}
        assert await talk("blockdev-open-tray", id="cd0") == {}
        (event,) = await talk.events()
        assert event == ("DEVICE_TRAY_MOVED", {"device": "", "id": "cd0", "tray-open": True})
        refused = await talk.text("blockdev-insert-medium", id="cd0", node_name="d1")
        assert refused == "There already is a medium in the device"
        assert await talk("blockdev-remove-medium", id="cd0") == {}
        assert await talk("blockdev-remove-medium", id="cd0") == {}
        assert await talk("blockdev-insert-medium", id="cd0", node_name="d1") == {}
        assert await talk("blockdev-close-tray", id="cd0") == {}
        assert await talk("blockdev-close-tray", id="cd0") == {}
        assert await moves(talk) == [False]
        assert drive_of(talk).medium.blocks == 2 * MIB // 2048
        refused = await talk.text("blockdev-insert-medium", id="cd0", node_name="d2")
        assert refused == "Tray of the device is not open"
        # The first one is free for others.
        assert await talk("blockdev-del", node_name="d0") == {}
        assert (await talk("blockdev-del", node_name="d1"))["class"] == "GenericError"

    tell(tmp_path, story)


def test_what_cannot_be_put_in(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        await talk("blockdev-open-tray", id="cd0")
        await talk("blockdev-remove-medium", id="cd0")
        refused = await talk.text("blockdev-insert-medium", id="cd0", node_name="d9")
        assert refused == "Node 'd9' not found"
        refused = await talk.text("blockdev-insert-medium", id="cd0", node_name="d1")
        assert refused == "Node 'd1' is already in use"
        assert (await talk("blockdev-insert-medium", id="nobody", node_name="d2"))[
            "class"
        ] == "DeviceNotFound"

    tell(tmp_path, story, CD, {"driver": "virtio-blk-pci", "drive": "d1", "id": "v0"})


def test_ejecting(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        assert await talk("eject", id="cd0") == {}
        assert await moves(talk) == [True]
        (info,) = await talk("query-block")
        assert (info["removable"], info["locked"], info["tray_open"]) == (True, False, True)
        assert "inserted" not in info
        (stats,) = await talk("query-blockstats")
        assert "node-name" not in stats
        assert await talk("qom-get", path="cd0", property="drive") == ""
        assert machine_of(talk).backends == {}

    tell(tmp_path, story)


def test_a_locked_tray(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        drive = drive_of(talk)
        nexus = Nexus(sas_transport_id(7), TargetPort())
        assert drive.target is not None
        drive.target.nexus_gained(nexus)
        drive.tray.prevented_by.add(nexus)
        assert (await talk("query-block"))[0]["locked"]
        assert await talk("blockdev-open-tray", id="cd0") == {}
        for command in ("eject", "blockdev-change-medium"):
            more = {"filename": "x"} if "change" in command else {}
            (tmp_path / "x").write_bytes(bytes(MIB))
            more = {"filename": str(tmp_path / "x")} if more else {}
            assert await talk.text(command, id="cd0", **more) == LOCKED
        assert await moves(talk) == []
        # Each was told to the guest.
        assert [drive.events.take(nexus, 0x10) for _ in range(4)] == [(4, 1)] * 3 + [(4, 0)]
        assert await talk("eject", id="cd0", force=True) == {}
        assert not drive.tray.locked
        assert [drive.events.take(nexus, 0x10) for _ in range(3)] == [(4, 1), (4, 3), (4, 0)]
        assert await moves(talk) == [True]

    tell(tmp_path, story)


@pytest.mark.parametrize("form", [None, "raw"])
def test_changing_the_medium(tmp_path: Path, form: str | None) -> None:
    async def story(talk: Talk) -> None:
        (tmp_path / "new.iso").write_bytes(bytes(5 * 2048))
        given = {} if form is None else {"format": form}
        answer = await talk("blockdev-change-medium", id="cd0", filename=str(tmp_path / "new.iso"), **given)
        assert answer == {}
        assert await moves(talk) == [True, False]
        assert drive_of(talk).medium.blocks == 5
        nodes = {each["node-name"] for each in await talk("query-named-block-nodes")}
        assert {"d0", "d1", "d2"} < nodes
        # With the medium its node goes.
        await talk("eject", id="cd0")
        assert {each["node-name"] for each in await talk("query-named-block-nodes")} == {"d0", "d1", "d2"}

    tell(tmp_path, story)


def test_changing_to_what_cannot_be_opened(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        refused = await talk.text("blockdev-change-medium", id="cd0", filename=str(tmp_path / "none.iso"))
        assert "No such file or directory" in refused
        (tmp_path / "bad.cue").write_text("NONSENSE")
        refused = await talk.text("blockdev-change-medium", id="cd0", filename=str(tmp_path / "bad.cue"))
        assert "line 1: 'NONSENSE' is no command" in refused
        assert await moves(talk) == []
        assert drive_of(talk).medium.blocks == MIB // 2048

    tell(tmp_path, story)


def test_a_cue_sheet_as_medium(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        (tmp_path / "a.bin").write_bytes(bytes(2352 * 30))
        (tmp_path / "a.cue").write_text('FILE "a.bin" BINARY\nTRACK 01 AUDIO\nINDEX 01 00:00:00')
        assert await talk("blockdev-change-medium", id="cd0", filename=str(tmp_path / "a.cue")) == {}
        assert drive_of(talk).medium.disc.audio_only

    tell(tmp_path, story)


def test_a_drive_that_is_plugged_without_a_medium(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        assert await talk("device_add", driver="scsi-cd", id="cd0") == {}
        drive = drive_of(talk)
        assert drive.tray.medium is None
        (info,) = await talk("query-block")
        assert (info["qdev"], info["tray_open"]) == ("cd0", False)
        await talk("blockdev-open-tray", id="cd0")
        await talk("blockdev-insert-medium", id="cd0", node_name="d1")
        await talk("blockdev-close-tray", id="cd0")
        assert drive.medium.blocks == 2 * MIB // 2048
        assert await talk("device_del", id="cd0") == {}
        assert [name for name, _ in await talk.events()][-1] == "DEVICE_DELETED"
        assert await talk("blockdev-del", node_name="d1") == {}

    in_machine(tmp_path, story, nodes=NODES, devices=[HOST])


def test_an_export_that_is_a_drive(tmp_path: Path) -> None:
    export = {
        "type": "vhost-user-scsi",
        "id": "e0",
        "node-name": "d0",
        "device-type": "cd",
        "addr": {"type": "unix", "path": str(tmp_path / "vu.sock")},
    }

    async def story(talk: Talk) -> None:
        assert await talk.ask("block-export-add", export) == {}
        assert await talk("eject", id="e0") == {}
        (event,) = await talk.events()
        assert event == ("DEVICE_TRAY_MOVED", {"device": "e0", "id": "e0", "tray-open": True})
        assert await talk("blockdev-insert-medium", id="e0", node_name="d2") == {}
        assert await talk("blockdev-close-tray", id="e0") == {}
        (info,) = await talk("query-block")
        assert (info["inserted"]["node-name"], info["tray_open"]) == ("d2", False)
        assert await talk("block-export-del", id="e0", mode="hard") == {}

    in_daemon(tmp_path, story, nodes=NODES)


def test_what_has_no_tray(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        for command in ("blockdev-open-tray", "blockdev-close-tray", "blockdev-remove-medium", "eject"):
            assert await talk.text(command, id="hd0") == "Device 'hd0' is not removable"
        refused = await talk.text("blockdev-insert-medium", id="hd0", node_name="d1")
        assert refused == "Device is not removable"

    tell(tmp_path, story, {"driver": "scsi-hd", "drive": "d0", "id": "hd0"})
