"""Devices come and go by the monitor; trays and media there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from devmodels.blockbackend import Op, Request
from guestsim.disk import boot
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget

from .support import DISK, MIB, NODE, Talk, in_machine, machine_of

SECOND = {**NODE, "node-name": "d1"}


def test_device_is_plugged_used_and_unplugged(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        assert await talk.ask("device_add", {**DISK, "drive": "d1", "id": "v1"}) == {}
        assert [each["qdev"] for each in await talk("query-block")] == [
            "/machine/peripheral/v0/virtio-backend",
            "/machine/peripheral/v1/virtio-backend",
        ]
        talk.world.find("v1").backend.submit(Request(Op.FLUSH, 0, 0))
        assert (await talk.text("blockdev-del", node_name="d1")).startswith("Node d1 is in use")
        assert await talk("device_del", id="v1") == {}
        assert await talk.events() == [
            ("DEVICE_DELETED", {"path": "/machine/peripheral/v1/virtio-backend"}),
            ("DEVICE_DELETED", {"device": "v1", "path": "/machine/peripheral/v1"}),
        ]
        assert len(await talk("query-block")) == 1
        assert await talk("blockdev-del", node_name="d1") == {}
        assert len(list(machine_of(talk).machine.bus.functions())) == 1
        assert (await talk("device_del", id="v1"))["class"] == "DeviceNotFound"

    in_machine(tmp_path, story, nodes=[NODE, SECOND])


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ({}, "GenericError", "Parameter 'driver' is missing"),
        ({"driver": "no"}, "GenericError", "'no' is not a valid device model name"),
        ({"driver": []}, "GenericError", "Invalid parameter type for 'driver', expected: string"),
        ({"driver": "virtio-blk-pci"}, "GenericError", "drive property not set"),
        ({**DISK, "id": "a/b", "drive": "d1"}, "GenericError", "Parameter 'id' expects an identifier"),
        ({**DISK, "id": "", "drive": "d1"}, "GenericError", "Parameter 'id' expects an identifier"),
        (
            {**DISK, "id": "v1", "drive": "no"},
            "GenericError",
            "Property 'virtio-blk-device.drive' can't find",
        ),
        ({**DISK, "drive": "d1"}, "GenericError", "Duplicate device ID 'v0'"),
        ({**DISK, "id": "v1"}, "GenericError", "device virtio-blk-pci: drive 'd0' is in use"),
        (
            {**DISK, "id": "v1", "drive": "d1", "bogus": 1},
            "GenericError",
            "device virtio-blk-pci: bogus: no such",
        ),
        ({**DISK, "id": "v1", "drive": "d1", "addr": "99"}, "GenericError", ""),
        ({"driver": "virtio-blk-device", "drive": "d1"}, "GenericError", "Bus 'virtio-mmio-bus' does not"),
    ],
)
def test_device_that_cannot_be(tmp_path: Path, given: dict[str, object], kind: str, text: str) -> None:
    async def story(talk: Talk) -> None:
        answer = await talk.ask("device_add", given)
        assert answer["class"] == kind
        assert answer["desc"].startswith(text)
        assert await talk("blockdev-del", node_name="d1") == {}, "nobody holds it"

    in_machine(tmp_path, story, nodes=[NODE, SECOND])


def test_unplugged_device_gives_its_drive_back_when_its_requests_are_over(tmp_path: Path) -> None:
    slow = {"driver": "delay", "node-name": "f0", "file": "d0", "latency-ns": 10**9}

    async def story(talk: Talk) -> None:
        backend = talk.world.find("v0").backend
        ended: list[int] = []
        backend.submit(Request(Op.FLUSH, 0, 0, done=lambda request: ended.append(request.error)))
        assert ended == []
        assert await talk("device_del", id="v0") == {}
        await talk("query-status")
        talk.world.context.run_until_idle()
        assert ended == [0]
        assert await talk("query-block") == []
        assert [name for name, _ in await talk.events()] == ["DEVICE_DELETED"] * 2

    in_machine(tmp_path, story, nodes=[NODE, slow], devices=[{**DISK, "drive": "f0"}])


def test_a_device_is_unplugged_once(tmp_path: Path) -> None:
    slow = {"driver": "delay", "node-name": "f0", "file": "d0", "latency-ns": 10**9}

    async def story(talk: Talk) -> None:
        ended: list[int] = []
        request = Request(Op.FLUSH, 0, 0, done=lambda request: ended.append(request.error))
        talk.world.find("v0").backend.submit(request)
        assert await talk("device_del", id="v0") == {}
        assert await talk.text("device_del", id="v0") == "Device v0 is already in the process of unplug"
        assert await talk.events() == []
        talk.world.context.step(10**9)
        assert ended == [0]
        assert await talk.text("device_del", id="v0") == "Device 'v0' not found"
        assert [name for name, _ in await talk.events()] == ["DEVICE_DELETED"] * 2

    in_machine(tmp_path, story, nodes=[NODE, slow], devices=[{**DISK, "drive": "f0"}], clock="stepped")


def test_a_guest_finds_the_new_device(machine: InProcessTarget) -> None:
    machine.assembly.add_node({**SECOND, "size": 2 * MIB})
    machine.assembly.add_device({**DISK, "drive": "d1", "id": "v1", "addr": "5"})
    disk = boot(Guest(machine), 1)
    assert disk.capacity == 2 * MIB


def test_properties_of_a_model(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        found = {
            each["name"]: each for each in await talk("device-list-properties", typename="virtio-blk-pci")
        }
        assert found["num-queues"] == {"name": "num-queues", "type": "int", "default-value": 1}
        assert found["drive"] == {"name": "drive", "type": "str"}
        assert found["write-cache"] == {"name": "write-cache", "type": "OnOffAuto", "default-value": "auto"}
        assert found["config-wce"]["default-value"] is True
        assert (await talk("device-list-properties", typename="no"))["class"] == "DeviceNotFound"

    in_machine(tmp_path, story)


@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("blockdev-open-tray", {"force": True}),
        ("blockdev-close-tray", {}),
        ("blockdev-remove-medium", {}),
        ("blockdev-change-medium", {"filename": "x", "read-only-mode": "retain"}),
        ("eject", {}),
    ],
)
def test_no_device_is_removable(tmp_path: Path, command: str, more: dict[str, object]) -> None:
    async def story(talk: Talk) -> None:
        answer = await talk.ask(command, {"id": "v0", **more})
        assert answer == {"class": "GenericError", "desc": "Device 'v0' is not removable"}
        answer = await talk.ask(command, {"id": "no", **more})
        assert answer == {"class": "DeviceNotFound", "desc": "Device 'no' not found"}

    in_machine(tmp_path, story, nodes=[NODE, SECOND])


def test_medium_that_cannot_be_put_in(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        insert = "blockdev-insert-medium"
        assert await talk.text(insert, id="v0", node_name="d0") == "Node 'd0' is already in use"
        assert await talk.text(insert, id="v0", node_name="no") == "Node 'no' not found"
        assert await talk.text(insert, id="v0", node_name="d1") == "Device is not removable"
        assert await talk.text(insert, id="no", node_name="d1") == "Device 'no' not found"
        assert await talk.text("eject") == "Need exactly one of 'device' and 'id'"

    in_machine(tmp_path, story, nodes=[NODE, SECOND])
