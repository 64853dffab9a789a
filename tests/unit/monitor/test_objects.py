"""Throttle groups and devices in the tree of objects."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .support import DISK, MIB, NODE, Talk, in_daemon, in_machine

GROUP = {"qom-type": "throttle-group", "id": "t0", "limits": {"iops-total": 100}}


def test_group_comes_changes_and_goes(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        assert await talk.ask("object-add", GROUP) == {}
        limits = await talk("qom-get", path="/objects/t0", property="limits")
        assert limits["iops-total"] == 100
        assert limits["iops-total-max-length"] == 1
        assert len(limits) == 19
        assert await talk("qom-set", path="t0", property="limits", value={"iops-total": 50}) == {}
        assert talk.world.graph.objects["t0"].limits.iops_total == 50
        # What is not given stays.
        assert await talk("qom-set", path="t0", property="limits", value={"bps-read": 4096}) == {}
        limits = talk.world.graph.objects["t0"].limits
        assert (limits.iops_total, limits.bps_read) == (50, 4096)
        assert await talk("qom-get", path="t0", property="type") == "throttle-group"
        throttle = {"driver": "throttle", "node-name": "f0", "file": "d0", "throttle-group": "t0"}
        assert await talk.ask("blockdev-add", throttle) == {}
        assert await talk.text("object-del", id="t0") == "object 't0' is in use, can not be deleted"
        await talk("blockdev-del", node_name="f0")
        assert await talk("object-del", id="t0") == {}
        assert await talk.text("object-del", id="t0") == "object 't0' not found"

    in_daemon(tmp_path, story)


@pytest.mark.long
def test_thread_comes_and_goes(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        assert await talk.ask("object-add", {"qom-type": "iothread", "id": "io0"}) == {}
        assert await talk("qom-get", path="/objects/io0", property="type") == "iothread"
        (thread,) = await talk("query-iothreads")
        assert (thread["id"], thread["poll-max-ns"]) == ("io0", 32768)
        assert thread["thread-id"] in map(int, os.listdir("/proc/self/task"))
        assert "duplicate property 'io0'" in (await talk.ask("object-add", {**GROUP, "id": "io0"}))["desc"]
        assert await talk.ask("device_add", {**DISK, "id": "v1", "drive": "d1", "iothread": "io0"}) == {}
        assert await talk.text("object-del", id="io0") == "object 'io0' is in use, can not be deleted"
        assert await talk("device_del", id="v1") == {}
        assert await talk("object-del", id="io0") == {}

    in_machine(tmp_path, story, nodes=[NODE, {**NODE, "node-name": "d1"}], clock="wall")


def test_objects_that_cannot_be(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        async def refused(**more: object) -> str:
            return str((await talk.ask("object-add", {**GROUP, **more}))["desc"])

        for wrong in ("", "9x", "t 0", "a/b"):
            assert await refused(id=wrong) == "Parameter 'id' expects an identifier"
        assert await refused(**{"qom-type": "no"}) == "Parameter 'qom-type' does not accept value 'no'"
        assert "limits.iops-total: 1 is given; expected either it" in await refused(
            limits={"iops-total": 1, "iops-read": 1}
        )
        assert "bogus: no such option" in await refused(bogus=1)
        assert await talk.text("object-add", id="t0") == "Parameter 'qom-type' is missing"
        await talk.ask("object-add", GROUP)
        assert (await refused()).startswith("attempt to add duplicate property 't0'")

    in_daemon(tmp_path, story)


def test_tree_is_listed_and_says_what_is_not_there(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        async def names(path: str) -> dict[str, str]:
            return {each["name"]: each["type"] for each in await talk("qom-list", path=path)}

        assert await names("/") == {
            "type": "string",
            "objects": "child<container>",
            "machine": "child<machine>",
        }
        assert await names("/machine/peripheral") == {"type": "string", "v0": "child<virtio-blk-pci>"}
        assert await names("v0") == {
            "type": "string",
            "drive": "str",
            "virtio-backend": "child<virtio-blk-device>",
        }
        anonymous = await names("/machine/peripheral-anon")
        assert anonymous == {"type": "string", "device[0]": "child<virtio-blk-pci>"}
        gone = {"class": "DeviceNotFound", "desc": "Device '/no' not found"}
        assert await talk("qom-list", path="/no") == gone
        assert (
            await talk.text("qom-get", path="v0", property="no") == "Property 'virtio-blk-pci.no' not found"
        )
        fixed = await talk.text("qom-set", path="v0", property="type", value="x")
        assert fixed == "Property 'virtio-blk-pci.type' is not writable"

    second = {"driver": "virtio-blk-pci", "drive": "d1"}
    in_machine(tmp_path, story, nodes=[NODE, {**NODE, "node-name": "d1"}], devices=[DISK, second])


def test_a_device_gets_another_drive(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        path = "/machine/peripheral/v0"
        assert await talk("qom-get", path=path, property="drive") == "d0"
        assert await talk("qom-set", path=path, property="drive", value="d1") == {}
        assert talk.world.find("v0").backend.size == 2 * MIB
        assert await talk("blockdev-del", node_name="d0") == {}
        no = await talk.text("qom-set", path=path, property="drive", value="no")
        assert no == "Property 'virtio-blk-device.drive' can't find value 'no'"
        assert await talk("qom-get", path=path, property="drive") == "d1"

    in_machine(tmp_path, story, nodes=[NODE, {**NODE, "node-name": "d1", "size": 2 * MIB}])
