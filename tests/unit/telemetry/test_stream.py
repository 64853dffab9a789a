"""The telemetry socket: what a reader gets, and what slow or rude ones cannot do."""

from __future__ import annotations

import json
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devmodels.acceptor import RETRY_NS
from devmodels.blockbackend import Op
from devmodels.telemetry.stream import MAX_READERS, TelemetryServer
from tests.unit.telemetry.world import World, world

INTERVAL = 1000


@pytest.fixture
def rig() -> Iterator[World]:
    with world() as made:
        yield made


@pytest.fixture
def server(rig: World, tmp_path: Path) -> Iterator[TelemetryServer]:
    descriptors = set(os.listdir("/proc/self/fd"))
    server = TelemetryServer(str(tmp_path / "t.sock"), rig.source, interval_ns=INTERVAL, requests=2)
    yield server
    server.close()
    assert not (tmp_path / "t.sock").exists()
    left = set(os.listdir("/proc/self/fd")) - descriptors
    assert len(left) <= 2, "epoll and its wake-up, and nothing else"


class Reader:
    """A client, which takes what is there."""

    def __init__(self, rig: World, server: TelemetryServer) -> None:
        self.rig = rig
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(server.path)
        self.sock.setblocking(False)
        rig.context.run_until_idle()

    def lines(self) -> list[dict[str, Any]]:
        """Whole lines that have come."""
        self.rig.context.run_until_idle()
        data = b""
        try:
            while piece := self.sock.recv(1 << 16):
                data += piece
                self.rig.context.run_until_idle()
        except BlockingIOError:
            pass
        assert not data or data.endswith(b"\n")
        return [json.loads(line) for line in data.splitlines()]


def test_a_line_at_once_and_then_one_in_each_interval(rig: World, server: TelemetryServer) -> None:
    with Reader(rig, server).sock as sock:
        reader = Reader(rig, server)
        assert [line["time-ns"] for line in reader.lines()] == [0]
        rig.context.step(INTERVAL - 1)
        assert reader.lines() == []
        rig.context.step(2 * INTERVAL)
        assert [line["time-ns"] for line in reader.lines()] == [INTERVAL, 2 * INTERVAL]
        reader.sock.close()
        assert sock.recv(1 << 16).count(b"\n") == 3


def test_a_line_says_what_the_backend_and_its_node_have_done(rig: World, server: TelemetryServer) -> None:
    reader = Reader(rig, server)
    rig.submit(Op.WRITE, 4096)
    rig.context.step(INTERVAL - 5)
    for number in range(3):
        rig.submit(Op.READ, 2 * 512 * number, label=f"r{number}")
    rig.context.step(5)
    line = reader.lines()[-1]
    (backend,) = line["backends"]
    stats = backend.pop("stats")
    assert [
        (each["op"], each["label"], each["age-ns"], each["where"]) for each in backend.pop("requests")
    ] == [
        ("read", "r0", 5, "running"),
        ("read", "r1", 5, "running"),
    ]
    assert backend == {
        "device": "vd0",
        "node-name": "s",
        "driver": "delay",
        "size": 1 << 20,
        "in-flight": 3,
        "busy-ns": 10 + 3 * 5,
        "throttled-ns": 0,
        "throttled-operations": 0,
        "throttle-group": None,
    }
    assert (stats["wr_operations"], stats["wr_bytes"], stats["wr_total_time_ns"]) == (1, 512, 10)
    assert stats["idle_time_ns"] == INTERVAL - 10
    assert line["status"] == "running"
    (node,) = line["nodes"]
    assert (node["node-name"], node["in-flight"], node["busy-ns"]) == ("s", 3, 25)
    assert node["stats"]["wr_operations"] == 1
    assert "throttled-ns" not in node
    reader.sock.close()


def test_a_slow_reader_loses_lines_and_is_told_and_delays_nobody(rig: World, server: TelemetryServer) -> None:
    slow, quick = Reader(rig, server), Reader(rig, server)
    quick.lines()
    moments = 600
    got = 0
    for _ in range(moments):
        rig.context.step(INTERVAL)
        got += len(quick.lines())
    assert got == moments
    # What lies in the socket is what fits there, and at most one line lies with us.
    first = slow.lines()
    assert 0 < len(first) < moments
    rig.context.step(INTERVAL)
    (last,) = slow.lines()
    assert last["dropped"] == 1 + moments - len(first)
    assert all(line["dropped"] == 0 for line in first)
    for reader in (slow, quick):
        reader.sock.close()


def test_nothing_is_done_without_readers(rig: World, server: TelemetryServer) -> None:
    reader = Reader(rig, server)
    assert (server.readers, rig.context.deadline()) == (1, INTERVAL)
    reader.sock.close()
    rig.context.run_until_idle()
    assert (server.readers, rig.context.deadline()) == (0, None)
    again = Reader(rig, server)
    rig.context.step(INTERVAL)
    assert len(again.lines()) == 2
    again.sock.close()


def test_there_are_so_many_readers_and_no_more(rig: World, server: TelemetryServer) -> None:
    readers = [Reader(rig, server) for _ in range(MAX_READERS)]
    one_more = Reader(rig, server)
    assert one_more.sock.recv(1) == b""
    assert all(reader.lines() for reader in readers)
    readers.pop().sock.close()
    later = Reader(rig, server)
    assert later.lines()
    for reader in (*readers, one_more, later):
        reader.sock.close()


def test_who_talks_is_not_heard(rig: World, server: TelemetryServer) -> None:
    reader = Reader(rig, server)
    with pytest.raises(BrokenPipeError):
        reader.sock.send(b"hello")
    rig.context.step(INTERVAL)
    assert len(reader.lines()) == 2
    reader.sock.close()


def test_want_of_descriptors_is_waited_for(rig: World, server: TelemetryServer) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(server.path)
        with os.fdopen(os.dup(client.fileno()), "rb", closefd=True) as lowest_free:
            limit = lowest_free.fileno()
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
        try:
            rig.context.run_until_idle()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert server.readers == 0
        assert rig.context.deadline() == RETRY_NS
        rig.context.step(RETRY_NS)
        assert server.readers == 1
