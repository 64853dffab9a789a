"""`guestsim show --perfetto`: the file keeps to the Trace Event Format, and has everything in it."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from devmodels.trace import EventKind
from guestsim.cli import app
from guestsim.disk import boot
from guestsim.drivers import virtio_blk
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget

from .traces import MIB, one_of_each, written

Event = dict[str, Any]


def draw(trace: Path, *more: str) -> tuple[Result, Path]:
    picture = trace.with_suffix(".json")
    result = CliRunner().invoke(app, ["show", str(trace), "--perfetto", str(picture), *more])
    return result, picture


def picture_of(trace: Path) -> list[Event]:
    """The events of a trace's picture, which keeps to the format."""
    result, picture = draw(trace)
    assert result.exit_code == 0, result.output
    document = json.loads(picture.read_text())
    assert document["displayTimeUnit"] == "ns"
    events: list[Event] = document["traceEvents"]
    judge(events)
    return events


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two queues, requests together on a disk that takes its time, one that is refused, a reset; by the wall clock."""
    trace = tmp_path_factory.mktemp("traces") / "busy.trace"
    drives = [
        {"driver": "memory", "node-name": "m0", "size": MIB},
        {"driver": "delay", "node-name": "d0", "file": "m0", "read-ns": 200_000, "write-ns": 100_000},
    ]
    devices = [{"driver": "virtio-blk-pci", "drive": "d0", "id": "vd0", "num-queues": 2}]
    with InProcessTarget(blockdevs=drives, devices=devices) as machine:
        machine.record(trace)
        disk = boot(Guest(machine))
        for queue in (0, 1, 0):
            operations = [virtio_blk.read(4096 * n, 4096) for n in range(0, 12, 3)]
            operations += [virtio_blk.write(4096 * n, bytes(512)) for n in range(5)]
            disk.guest.run(disk.driver.execute_all(operations, queue=queue))
        disk.request(virtio_blk.read(disk.capacity, 512))
        disk.guest.run(disk.driver.reset())
    return trace


# --- the rules of the format


def nanoseconds(microseconds: float) -> int:
    return round(microseconds * 1000)


def judge(events: list[Event]) -> None:
    """Every rule of the format that an importer relies on."""
    processes = {each["pid"] for each in events if each["ph"] == "M" and each["name"] == "process_name"}
    threads = {(each["pid"], each["tid"]) for each in events if each["name"] == "thread_name"}
    for each in events:
        assert each["ph"] in "MXbeCistf"
        assert each["pid"] in processes
        assert isinstance(each["name"], str)
        assert isinstance(each["ts"], float)
        assert each["ts"] >= 0
        assert each["ph"] == "M" or (each["pid"], each["tid"]) in threads
    judge_slices(events)
    judge_async(events)
    judge_flows(events)
    counters: dict[tuple[int, str], float] = {}
    for each in events:
        if each["ph"] == "C":
            key = each["pid"], each["name"]
            assert each["ts"] >= counters.get(key, 0)
            counters[key] = each["ts"]
            assert all(value >= 0 for value in each["args"].values())
        elif each["ph"] == "i":
            assert each["s"] in ("g", "p", "t")


def slices_of(events: list[Event]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Begin and end in ns of each track's slices, those first that others are in."""
    tracks = defaultdict(list)
    for each in events:
        if each["ph"] == "X":
            begin = nanoseconds(each["ts"])
            tracks[each["pid"], each["tid"]].append((begin, begin + nanoseconds(each["dur"])))
    return {track: sorted(slices, key=lambda span: (span[0], -span[1])) for track, slices in tracks.items()}


def judge_slices(events: list[Event]) -> None:
    """Slices of a track lie apart, or one in the other."""
    for slices in slices_of(events).values():
        around: list[int] = []
        for begin, end in slices:
            assert end >= begin
            while around and around[-1] <= begin:
                around.pop()
            assert not around or end <= around[-1]
            around.append(end)


def judge_async(events: list[Event]) -> None:
    """What begins ends, the last one first, and time goes on."""
    tracks: dict[tuple[int, str, str], list[Event]] = defaultdict(list)
    for each in events:
        if each["ph"] in "be":
            begun = tracks[each["pid"], each["cat"], each["id2"]["local"]]
            if each["ph"] == "b":
                assert not begun or begun[-1]["ts"] <= each["ts"]
                begun.append(each)
            else:
                last = begun.pop()
                assert last["name"] == each["name"]
                assert last["ts"] <= each["ts"]
    assert not any(tracks.values())


def judge_flows(events: list[Event]) -> None:
    """A flow has one begin and one end, in this order, each in a slice."""
    tracks = slices_of(events)
    flows: dict[int, list[Event]] = defaultdict(list)
    for each in events:
        if each["ph"] in "stf":
            flows[each["id"]].append(each)
    for steps in flows.values():
        assert [step["ph"] for step in steps] == ["s", "t", "f"]
        assert [step["ts"] for step in steps] == sorted(step["ts"] for step in steps)
        assert len({(step["name"], step["cat"]) for step in steps}) == 1
        for step in steps:
            at = nanoseconds(step["ts"])
            assert any(begin <= at <= end for begin, end in tracks[step["pid"], step["tid"]])


# --- what is in it


def tracks(events: list[Event]) -> list[str]:
    return sorted(each["args"]["name"] for each in events if each["name"] == "thread_name")


def test_each_slot_of_a_queue_has_a_track(busy: Path) -> None:
    events = picture_of(busy)
    names = tracks(events)
    assert [f"queue 0 slot {slot}" in names for slot in range(10)] == [True] * 9 + [False]
    assert {"events", "interrupts", "queue 1 notifications", "queue 0 used buffers"} <= set(names)


def test_a_request_has_its_stations_in_it_and_a_flow_through_it(busy: Path) -> None:
    events = picture_of(busy)
    requests = [each for each in events if each.get("cat") == "request"]
    assert len(requests) == 28
    first = next(each for each in requests if each["args"]["request"] == 0)
    assert first["name"] == "IN 4 KiB at sector 0"
    assert first["args"]["status"] == "OK"
    assert first["dur"] >= 200
    inside = [
        each["name"]
        for each in events
        if each.get("cat") == "station"
        and each["tid"] == first["tid"]
        and first["ts"] <= each["ts"] < first["ts"] + first["dur"]
    ]
    assert "on the disk" in inside
    flows = {each["id"] for each in events if each["ph"] == "s"}
    assert flows == set(range(28))


def test_the_disk_shows_its_nodes(busy: Path) -> None:
    names = [each["name"] for each in picture_of(busy) if each["ph"] == "b"]
    assert {"READ", "d0: READ", "m0: READ", "WRITE"} <= set(names)


def test_depths_go_up_and_down(busy: Path) -> None:
    depths = [
        each["args"]["buffers"]
        for each in picture_of(busy)
        if each["ph"] == "C" and each["name"] == "queue 1 depth"
    ]
    assert max(depths) == 9
    assert depths[-1] == 0
    assert all(abs(a - b) == 1 for a, b in pairwise(depths))


def test_what_happens_to_the_device_is_marked(busy: Path) -> None:
    marks = [each for each in picture_of(busy) if each["ph"] == "i"]
    assert [each["name"] for each in marks] == ["reset", "features", "queue", "queue", "violation", "reset"]
    assert "sector 2048 of 2048 (VIRTIO 1.4 §5.2.6.1)" in marks[4]["args"]["what"]


def test_moments_at_one_time_are_drawn_into_each_other(tmp_path: Path) -> None:
    """On the virtual clock everything may happen at once."""
    picture_of(one_of_each(tmp_path / "disk.trace"))


def test_a_trace_that_ends_in_the_middle_ends_everything(tmp_path: Path) -> None:
    chain = EventKind.CHAIN, (0, 1, 1, 0x1000, 16, 0x2000, 1)
    request = EventKind.REQUEST, (0, "READ", 0, 512, 0, 1)
    dispatch = EventKind.DISPATCH, (0, "READ", 0, 512, 0, 0, 0)
    begin = EventKind.NODE_BEGIN, (0, 0, -1, "d0", "file", "READ", 0, 512, 0)
    beside = EventKind.NODE_BEGIN, (1, 0, -1, "d1", "file", "READ", 0, 512, 0)
    end = EventKind.NODE_END, (0, 0)
    steps = [chain, request, dispatch, begin, beside, end]
    trace = written(tmp_path / "t.trace", [("e0", *step) for step in steps])
    events = picture_of(trace)
    (life,) = [each for each in events if each.get("cat") == "request"]
    assert life["args"]["status"] == "dropped"
    assert sum(each["ph"] == "b" for each in events) == 3


@pytest.mark.parametrize("option", ["--requests", "--json", "--queue=0", "--time=1.."])
def test_it_is_of_the_whole_trace(busy: Path, option: str) -> None:
    result, _ = draw(busy, option)
    assert result.exit_code == 2
    assert "--perfetto is of the whole trace" in result.stderr


def test_a_file_that_cannot_be_written_is_one_line(busy: Path, tmp_path: Path) -> None:
    for path, expected in ((tmp_path / "no" / "p.json", "cannot be written"), (busy, "which is the trace")):
        result = CliRunner().invoke(app, ["show", str(busy), "--perfetto", str(path)])
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert expected in line
