"""What the queries show of devices, nodes and statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from devmodels.blockbackend import Op, Request

from .support import DISK, MIB, NODE, Talk, in_daemon, in_machine
from .test_exports import options

BACKEND = "/machine/peripheral/v0/virtio-backend"


def test_device_with_its_node_and_what_that_stands_over(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        (disk,) = await talk("query-block")
        inserted = disk.pop("inserted")
        assert disk == {
            "device": "",
            "qdev": BACKEND,
            "type": "unknown",
            "removable": False,
            "locked": False,
            "io-status": "ok",
        }
        memory = 'json:{"driver": "memory", "size": 1048576}'
        below = {"filename": memory, "format": "memory", "virtual-size": MIB, "actual-size": 0}
        over = 'json:{"driver": "delay", "file": {"driver": "memory", "size": 1048576}, "latency-ns": 1000}'
        assert inserted["image"] == {
            "filename": over,
            "format": "delay",
            "virtual-size": MIB,
            "actual-size": 0,
            "backing-image": below,
        }
        assert inserted["node-name"] == "f0"
        assert inserted["backing_file_depth"] == 1
        assert inserted["cache"] == {"writeback": True, "direct": False, "no-flush": False}
        assert inserted["children"] == [{"child": "file", "node-name": "d0"}]
        assert "group" not in inserted

    delay = {"driver": "delay", "node-name": "f0", "file": "d0", "latency-ns": 1000}
    in_machine(tmp_path, story, nodes=[NODE, delay], devices=[{**DISK, "drive": "f0"}])


def test_an_overlay_with_what_is_below(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        (disk,) = await talk("query-block")
        inserted = disk["inserted"]
        assert inserted["backing_file_depth"] == 2
        assert inserted["image"]["format"] == "copy-on-read"
        assert inserted["image"]["backing-image"]["format"] == "overlay"
        assert inserted["image"]["backing-image"]["backing-image"]["format"] == "memory"

    nodes: list[dict[str, object]] = [
        NODE,
        {"driver": "overlay", "node-name": "q0", "file": {"driver": "memory", "size": MIB}, "backing": "d0"},
        {"driver": "copy-on-read", "node-name": "c0", "file": "q0"},
    ]
    in_machine(tmp_path, story, nodes=nodes, devices=[{**DISK, "drive": "c0"}])


def test_nodes_flat_and_not(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"x" * 4096 + bytes(4096))
    file = {"driver": "file", "node-name": "d0", "filename": str(image), "read-only": True}

    async def story(talk: Talk) -> None:
        nodes = {each["node-name"]: each for each in await talk("query-named-block-nodes", flat=True)}
        assert set(nodes) == {"d0", "r0"}
        d0 = nodes["d0"]
        assert (d0["drv"], d0["ro"], d0["file"], d0["active"]) == ("file", True, str(image), True)
        assert d0["image"]["virtual-size"] == 8192
        assert d0["image"]["actual-size"] == image.stat().st_blocks * 512
        assert all("backing-image" not in each["image"] for each in nodes.values())

    in_daemon(
        tmp_path, story, nodes=[file, {"driver": "raw", "file": "d0", "node-name": "r0", "read-only": True}]
    )


def test_an_export_is_listed_by_its_id(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        assert await talk("query-block") == []
        await talk.ask("block-export-add", options(tmp_path, writable=True))
        (export,) = await talk("query-block")
        assert export["device"] == "e0"
        assert "qdev" not in export
        (stats,) = await talk("query-blockstats")
        assert stats["device"] == "e0"

    in_daemon(tmp_path, story)


def test_the_graph_as_data(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        graph = await talk("x-debug-query-block-graph")
        assert [node["name"] for node in graph["nodes"]] == ["v0", "d0"]
        assert [edge["name"] for edge in graph["edges"]] == ["root"]

    in_machine(tmp_path, story)


# --- statistics


async def read(talk: Talk, count: int) -> None:
    backend = talk.world.find("v0").backend
    for _ in range(count):
        backend.submit(Request(Op.READ, 0, 512, [memoryview(bytearray(512))]))


async def stats(talk: Talk, **more: object) -> dict[str, Any]:
    (found,) = await talk("query-blockstats", **more)
    assert isinstance(found["stats"], dict)
    return dict(found)


def test_statistics_of_a_device_and_of_nodes(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        assert "idle_time_ns" not in (await stats(talk))["stats"]
        await read(talk, 3)
        found = await stats(talk)
        assert (found["qdev"], found["node-name"], found["device"]) == (BACKEND, "d0", "")
        assert found["stats"]["rd_operations"] == 3
        assert found["stats"]["rd_bytes"] == 1536
        assert found["stats"]["idle_time_ns"] >= 0
        (timed,) = found["stats"]["timed_stats"]
        assert timed["interval_length"] == 10
        by_node = await stats(talk, query_nodes=True)
        assert set(by_node) == {"node-name", "stats"}
        assert by_node["stats"]["rd_operations"] == 3, "the node counts, as its option says"

    disk = {**DISK, "stats-intervals": [10]}
    in_machine(tmp_path, story, nodes=[{**NODE, "accounting": True}], devices=[disk])


def test_what_is_in_flight(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        assert await talk("x-query-in-flight") == [{"device": "v0", "requests": []}]
        await talk("stop")
        await read(talk, 2)
        (found,) = await talk("x-query-in-flight")
        ages = [request.pop("age-ns") for request in found["requests"]]
        assert ages == sorted(ages, reverse=True)
        assert found["requests"] == [{"op": "read", "offset": 0, "length": 512, "where": "held"}] * 2
        await talk("cont")

    in_machine(tmp_path, story)


def test_histograms_begin_and_end(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        ask = "block-latency-histogram-set"
        assert await talk(ask, id=BACKEND, boundaries=[10, 20], boundaries_write=[5]) == {}
        await read(talk, 2)
        found = (await stats(talk))["stats"]
        assert found["rd_latency_histogram"] == {"boundaries": [10, 20], "bins": [2, 0, 0]}
        assert found["wr_latency_histogram"] == {"boundaries": [5], "bins": [0, 0]}
        assert await talk.text(ask, id="v0", boundaries=[20, 10]) == "Device 'v0' set read boundaries fail"
        assert await talk(ask, id="v0") == {}
        assert "rd_latency_histogram" not in (await stats(talk))["stats"]
        assert (await talk(ask, id="no"))["class"] == "DeviceNotFound"

    in_machine(tmp_path, story)


# --- limits

NONE = {"bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0}


def test_limits_are_set_shown_and_taken_away(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        async def shown() -> dict[str, Any]:
            (disk,) = await talk("query-block")
            return dict(disk["inserted"])

        given = {**NONE, "iops": 100, "iops_max": 200, "iops_max_length": 5, "iops_size": 4096}
        assert await talk.ask("block_set_io_throttle", {"id": "v0", **given}) == {}
        limits = await shown()
        assert {name: limits[name] for name in given} == given
        assert limits["group"] == "v0"
        assert "bps_max" not in limits
        assert await talk.ask("block_set_io_throttle", {"id": "v0", **NONE}) == {}
        assert "group" not in await shown()
        named = {**NONE, "bps_rd": 1 << 20, "group": "g"}
        assert await talk.ask("block_set_io_throttle", {"device": "v0", **named}) == {}
        assert (await shown())["group"] == "g"

    in_machine(tmp_path, story)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"id": "v0", **NONE, "iops": 1, "iops_rd": 1}, "bps/iops/max total values and read/write values"),
        ({"id": "v0", **NONE, "iops_max": 1}, "iops_max: 1 is given; expected with it iops"),
        ({"id": "v0", **NONE, "bps_rd": -1}, "bps_rd: -1 is given; expected a number from 0"),
        ({"id": "v0", "bps": 0}, "Parameter 'bps_rd' is missing"),
        ({**NONE}, "Need exactly one of 'device' and 'id'"),
        ({"id": "no", **NONE}, "Device 'no' not found"),
    ],
)
def test_limits_that_cannot_be(tmp_path: Path, given: dict[str, object], text: str) -> None:
    async def story(talk: Talk) -> None:
        answer = await talk.ask("block_set_io_throttle", given)
        assert answer["desc"].startswith(text)

    in_machine(tmp_path, story)
