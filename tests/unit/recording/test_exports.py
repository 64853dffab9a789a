"""Exports are recorded, each with a memory of its own, from their start to their end."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from devmodels.blockbackend import Graph
from devmodels.conformance import Profile
from devmodels.events import Events
from devmodels.exports.table import Exports
from devmodels.exports.vhost_user_blk import VhostUserBlkExport
from devmodels.iocontext import IoContext
from devmodels.recording import Recorder
from devmodels.runstate import RunState
from devmodels.trace import EventKind, TraceEvent
from devmodels.tracefile import DeviceFacts, TraceReader
from guestsim.replay import replay
from tests.unit.exports import frontend as fe
from tests.unit.exports.frontend import FrontEnd, Ring
from tests.unit.exports.test_vhost_threads import IN, OUT, add
from tests.unit.guestsim.replay.anywhere import goes_on_anywhere

MIB = 1 << 20
FEATURES = fe.F_PROTOCOL | fe.F_VERSION_1 | 1 << 9 | 1 << 11
WRITEBACK = 32


class Daemon:
    """Nodes d0 and d1, and exports of them, recorded in `path`."""

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        self.folder = folder
        self.path = folder / "exports.trace"
        self.context = IoContext.wall()
        self.context.assert_owner()
        self.graph = Graph(self.context)
        for name in ("d0", "d1"):
            self.graph.add({"driver": "memory", "node-name": name, "size": MIB})
        self.run_state = RunState()
        self.exports = Exports(self.graph, profile=Profile.STRICT, events=Events(), run_state=self.run_state)
        self.recorder = Recorder(self.path, self.context, limit=limit)
        self.exports.recorder = self.recorder
        self._closed = False

    def export(self, name: str, node: str, **more: object) -> None:
        path = str(self.folder / f"{name}.sock")
        given = {
            "type": "vhost-user-blk",
            "id": name,
            "node-name": node,
            "addr": {"type": "unix", "path": path},
            "writable": True,
        }
        self.exports.add({**given, **more})

    def front_end(self, name: str) -> FrontEnd:
        return FrontEnd(self.folder / f"{name}.sock", self.context)

    def delete(self, name: str) -> None:
        self.exports.delete(self.exports.ids[name])
        self.context.run_until_idle()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.exports.close()
        self.context.run_until_idle()
        self.recorder.close()
        self.graph.close()
        self.context.close()

    def events(self) -> list[TraceEvent]:
        self.close()
        with TraceReader(self.path) as reader:
            found = list(reader)
            assert not reader.cut
        return found


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    found = Daemon(tmp_path)
    yield found
    found.close()


def does_it_again(daemon: Daemon) -> list[TraceEvent]:
    """The events; a replay makes them all, from wherever it begins."""
    events = daemon.events()
    result = replay(daemon.path)
    assert result.difference is None
    assert result.events == len(events)
    goes_on_anywhere(daemon.path, 3)
    return events


def written(front_end: FrontEnd, ring: Ring, data: bytes) -> None:
    """The driver writes a sector."""
    _, status = add(ring, OUT, 0, data)
    front_end.kick(0)
    assert front_end.memory.bytes[status] == 0


def read_back(front_end: FrontEnd, ring: Ring) -> bytes:
    payload, _ = add(ring, IN, 0, bytes(512))
    front_end.kick(0)
    return front_end.memory.bytes[payload : payload + 512]


def test_two_exports_in_one_file_have_two_memories(daemon: Daemon) -> None:
    daemon.export("e0", "d0")
    daemon.export("e1", "d1", **{"num-queues": 2})
    one, two = daemon.front_end("e0"), daemon.front_end("e1")
    (first,), (second,) = one.up(features=FEATURES), two.up(features=FEATURES)
    written(one, first, b"\x11" * 512)
    written(two, second, b"\x22" * 512)
    assert read_back(one, first) == b"\x11" * 512
    assert read_back(two, second) == b"\x22" * 512
    one.close()
    two.close()
    events = does_it_again(daemon)
    facts = [
        msgspec.json.decode(str(event.detail[0]), type=DeviceFacts)
        for event in events
        if event.kind is EventKind.DEVICE
    ]
    assert [(each.name, each.kind, each.memory) for each in facts] == [
        ("e0", "export", "e0.memory"),
        ("e1", "export", "e1.memory"),
    ]
    for name, value in (("e0", 0x11), ("e1", 0x22)):
        dma = [
            event.detail[1] for event in events if event.source == f"{name}.memory" and len(event.detail) == 2
        ]
        assert bytes([value]) * 512 in dma
        assert bytes([0x33 - value]) * 512 not in dma


def test_exports_that_come_later_and_go_early_are_recorded(daemon: Daemon) -> None:
    daemon.export("e0", "d0")
    front_end = daemon.front_end("e0")
    (ring,) = front_end.up(features=FEATURES)
    written(front_end, ring, b"\x11" * 512)
    daemon.export("e1", "d1")
    other = daemon.front_end("e1")
    (second,) = other.up(features=FEATURES)
    daemon.delete("e0")
    written(other, second, b"\x22" * 512)
    daemon.export("e0", "d0")
    again = daemon.front_end("e0")
    (third,) = again.up(features=FEATURES)
    assert read_back(again, third) == b"\x11" * 512
    for each in (front_end, other, again):
        each.close()
    events = does_it_again(daemon)
    found = [event for event in events if event.kind in (EventKind.DEVICE, EventKind.REMOVED)]
    assert [(event.source, event.kind) for event in found] == [
        ("e0", EventKind.DEVICE),
        ("e1", EventKind.DEVICE),
        ("e0", EventKind.REMOVED),
        ("e0", EventKind.DEVICE),
        ("e1", EventKind.REMOVED),
        ("e0", EventKind.REMOVED),
    ]


def test_a_front_end_that_comes_again_and_one_that_resets(daemon: Daemon) -> None:
    daemon.export("e0", "d0", rerror="stop")
    for _ in range(2):
        front_end = daemon.front_end("e0")
        (ring,) = front_end.up(features=FEATURES)
        written(front_end, ring, b"\x11" * 512)
        front_end.acknowledged(fe.RESET_DEVICE)
        front_end.set_features(FEATURES)
        ring = Ring(front_end.memory)
        front_end.start(0, ring)
        daemon.run_state.stop()
        payload, status = add(ring, IN, 0, bytes(512))
        front_end.kick(0)
        assert front_end.memory.bytes[status] == 0xFF
        backend = daemon.exports.ids["e0"].backend
        assert backend is not None
        daemon.context.run(backend.resize(2 * MIB))
        daemon.run_state.cont()
        front_end.run()
        assert front_end.memory.bytes[payload : payload + 512] == b"\x11" * 512
        base = front_end.stop(0)
        front_end.start(0, ring, base)
        assert read_back(front_end, ring) == b"\x11" * 512
        front_end.close()
    does_it_again(daemon)


def test_what_a_killed_back_end_left_in_flight_is_taken_again(daemon: Daemon) -> None:
    """Its area marks a head, which is submitted again before anything new."""
    daemon.export("e0", "d0")
    front_end = daemon.front_end("e0")
    front_end.introduce(fe.MQ | fe.REPLY_ACK | fe.CONFIG | fe.RESET | fe.STATUS | fe.INFLIGHT)
    front_end.set_features(FEATURES)
    front_end.share()
    answer, fd = front_end.ask_fd(fe.GET_INFLIGHT_FD, fe.inflight(0, 1, 8))
    ring = Ring(front_end.memory)
    _, status = add(ring, OUT, 0, b"\x11" * 512)
    area = struct.unpack_from("<QQ", answer)
    with os.fdopen(fd, "r+b") as file:
        file.seek(0)
        # features, version 1, 8 descriptors, no batch, used index 0; head 0 in flight with counter 0
        file.write(struct.pack("<QHHHH", 0, 1, 8, 0, 0) + struct.pack("<B5xHQ", 1, 0, 0))
        file.flush()
        front_end.send(fe.SET_INFLIGHT_FD, fe.inflight(area[0], 1, 8), [file.fileno()])
    front_end.start(0, ring)
    front_end.run()
    assert front_end.memory.bytes[status] == 0
    assert read_back(front_end, ring) == b"\x11" * 512
    front_end.close()
    events = does_it_again(daemon)
    assert [event.detail for event in events if event.kind is EventKind.AGAIN] == [(0, 0)]


def test_a_state_that_comes_from_elsewhere_is_recorded(daemon: Daemon) -> None:
    daemon.export("e0", "d0")
    front_end = daemon.front_end("e0")
    front_end.introduce(fe.REPLY_ACK | fe.CONFIG | fe.STATUS | fe.DEVICE_STATE)
    front_end.set_features(FEATURES)
    for state in ({"write_cache": 0}, {"other": 1}):
        reading, writing = os.pipe()
        os.write(writing, msgspec.json.encode({"version": 1, "device": 2, "own": state}))
        os.close(writing)
        front_end.ask(fe.SET_DEVICE_STATE_FD, struct.pack("<II", 1, 0), [reading])
        os.close(reading)
        front_end.ask(fe.CHECK_DEVICE_STATE)
    answer = front_end.ask(fe.GET_CONFIG, struct.pack("<III", WRITEBACK, 1, 0) + b"\0")
    assert answer[12] == 0
    front_end.share()
    front_end.start(0, ring := Ring(front_end.memory))
    written(front_end, ring, b"\x11" * 512)
    front_end.close()
    events = does_it_again(daemon)
    states = [event.detail for event in events if event.kind is EventKind.MIGRATED]
    assert states == [('{"write_cache":0}',), ('{"other":1}',)]
    flags = [event.detail[4] for event in events if event.kind is EventKind.DISPATCH]
    assert flags, "the write"


def test_at_the_limit_an_export_goes_on_unrecorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    daemon = Daemon(tmp_path, limit=10_000)
    daemon.export("e0", "d0")
    front_end = daemon.front_end("e0")
    (ring,) = front_end.up(features=FEATURES)
    serving = daemon.exports.ids["e0"].serving
    assert isinstance(serving, VhostUserBlkExport)
    device, backend = serving.device, serving.backend
    for _ in range(40):
        written(front_end, ring, os.urandom(512))
        ring.taken_back()
        daemon.recorder.writer.flush()
    assert (device.trace, backend.trace, device.memory.trace) == (None, None, None)
    written(front_end, ring, b"\x11" * 512)
    assert read_back(front_end, ring) == b"\x11" * 512
    daemon.export("e1", "d1")
    front_end.close()
    daemon.close()
    assert len(caplog.messages) == 1
    assert daemon.path.stat().st_size <= 10_000
    assert replay(daemon.path).difference is None
