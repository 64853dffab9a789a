"""A vhost-user export whose queues have threads of their own: each step of a ring's life."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devmodels.blockbackend import Graph
from devmodels.conformance import Profile
from devmodels.exports.vhost_user_blk import VhostUserBlkOptions, vhost_user_blk
from devmodels.iocontext import IoContext
from devmodels.options import convert
from devmodels.runstate import RunState
from devmodels.trace import EventKind, TraceEvent, Tracer

from . import frontend as fe
from .frontend import GUEST_BASE, FrontEnd, Ring, front_end_mappings, signalled

IN, OUT = 0, 1
SIZE = 1 << 20
QUEUES = 4
FLUSH, MQ = 1 << 9, 1 << 12
SPACE = 0x4000
"""Each queue's part of the memory: its ring, and at 0x1000 its requests of 0x400 bytes."""


class World:
    """An export of a memory node with `QUEUES` queues on two threads, and one front end."""

    def __init__(self, folder: Path) -> None:
        self.context = IoContext.wall()
        self.context.assert_owner()
        self.graph = Graph(self.context)
        self.graph.object_add({"qom-type": "iothread", "id": "t0"})
        self.graph.object_add({"qom-type": "iothread", "id": "t1", "poll-max-ns": 0})
        node = self.graph.add({"driver": "memory", "node-name": "d0", "size": SIZE})
        self.run_state = RunState()
        mapping = [{"iothread": "t0", "vqs": [0, 2]}, {"iothread": "t1", "vqs": [1, 3]}]
        given = {
            "type": "vhost-user-blk",
            "id": "e0",
            "node-name": "d0",
            "addr": {"type": "unix", "path": str(folder / "e0.sock")},
            "writable": True,
            "num-queues": QUEUES,
            "iothread-vq-mapping": mapping,
        }
        options = convert(given, VhostUserBlkOptions, what="export")
        threads = self.graph.iothreads.take("e0", QUEUES, None, options.iothread_vq_mapping)
        self.server = vhost_user_blk(
            options, node, profile=Profile.STRICT, run_state=self.run_state, threads=threads
        )
        self.device = self.server.device

    @contextmanager
    def front_end(self, *, more: int = 0) -> Iterator[tuple[FrontEnd, list[Ring]]]:
        """One that has negotiated and shared its memory, and rings that are not started."""
        front_end = FrontEnd(Path(self.server.path), self.context)
        try:
            front_end.introduce(fe.MQ | fe.REPLY_ACK | fe.CONFIG | fe.RESET | fe.STATUS | fe.INFLIGHT)
            front_end.set_features(fe.F_PROTOCOL | fe.F_VERSION_1 | FLUSH | MQ | more)
            front_end.share()
            yield front_end, [Ring(front_end.memory, SPACE * index) for index in range(QUEUES)]
        finally:
            front_end.close()

    def close(self) -> None:
        self.server.close()
        self.context.run_until_idle()
        assert all(thread.errors == 0 for thread in self.graph.iothreads.by_id.values())
        self.graph.close()
        self.context.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    yield found
    found.close()


def add(ring: Ring, kind: int, sector: int, data: bytes) -> tuple[int, int]:
    """Make a request available, its parts in one indirect-free chain; where its data and its status are."""
    memory = ring.memory.bytes
    slot = ring.avail_idx % (ring.size // 3)
    at = ring.desc + 0x1000 + 0x400 * slot
    header, payload, status = at, at + 0x100, at + 0x20
    memory[header : header + 16] = struct.pack("<IIQ", kind, 0, sector)
    memory[payload : payload + len(data)] = data
    memory[status] = 0xFF
    head = 3 * slot
    chain = [
        (header, 16, 1, head + 1),
        (payload, len(data), 1 if kind == OUT else 3, head + 2),
        (status, 1, 2, 0),
    ]
    for number, (offset, length, flags, following) in enumerate(chain, head):
        entry = struct.pack("<QIHH", GUEST_BASE + offset, length, flags, following)
        memory[ring.desc + 16 * number : ring.desc + 16 * number + 16] = entry
    struct.pack_into("<H", memory, ring.avail + 4 + 2 * (ring.avail_idx % ring.size), head)
    ring.avail_idx = (ring.avail_idx + 1) & 0xFFFF
    struct.pack_into("<H", memory, ring.avail + 2, ring.avail_idx)
    return payload, status


def test_each_queue_is_worked_on_by_its_thread(world: World) -> None:
    seen: dict[str, set[int]] = {}

    def note(event: TraceEvent) -> None:
        if event.kind is EventKind.DMA_WRITE:
            seen.setdefault(str(event.source), set()).add(threading.get_ident())

    with world.front_end() as (front_end, rings):
        world.device.memory.observe(trace=Tracer(world.context.now_ns))
        trace = world.device.memory.trace
        assert trace is not None
        trace.sinks.append(note)
        for index, ring in enumerate(rings):
            front_end.start(index, ring)
            payload, status = add(ring, OUT, 2 * index, bytes([index + 1]) * 512)
            front_end.kick(index)
            assert front_end.memory.bytes[status] == 0
            assert ring.taken_back() == [(0, 1)]
            assert signalled(front_end.calls[index]) == 1
            payload, status = add(ring, IN, 2 * index, bytes(512))
            front_end.kick(index)
            assert front_end.memory.bytes[payload : payload + 512] == bytes([index + 1]) * 512
        world.device.memory.observe()
    threads = world.graph.iothreads.by_id.values()
    assert seen["e0.memory"] == {thread.ident for thread in threads}
    assert world.device.violations.total == 0


def test_a_ring_stops_when_what_was_taken_has_come_back(world: World) -> None:
    with world.front_end() as (front_end, (ring, other, *_)):
        front_end.start(0, ring)
        front_end.start(1, other)
        world.run_state.stop()
        for index in (0, 1):
            add(rings := (ring, other)[index], OUT, 0, bytes(512))
            front_end.kick(index)
            assert rings.taken_back() == []
        front_end.send(fe.GET_VRING_BASE, fe.state(0, 0))
        assert front_end.reply() is None, "a request is held"
        world.run_state.cont()
        front_end.run()
        assert ring.taken_back() == [(0, 1)], "shown before the answer"
        assert front_end.reply() == (fe.GET_VRING_BASE, fe.state(0, 1))
        assert other.taken_back() == [(0, 1)]
        front_end.set_ring(0, ring, base=1)
        front_end.set_kick(0)
        add(ring, IN, 0, bytes(512))
        front_end.kick(0)
        assert ring.taken_back() == [(0 + 3, 513)]


def test_a_front_end_that_leaves_takes_what_is_held_with_it(world: World) -> None:
    for _ in range(3):
        with world.front_end() as (front_end, rings):
            world.run_state.stop()
            for index, ring in enumerate(rings):
                front_end.start(index, ring)
                add(ring, OUT, 0, b"\1" * 512)
                front_end.kick(index)
        assert not world.server.connected
        assert front_end_mappings() == []
        world.run_state.cont()
    with world.front_end() as (front_end, (ring, *_)):
        front_end.start(0, ring)
        payload, status = add(ring, IN, 0, bytes(512))
        front_end.kick(0)
        assert front_end.memory.bytes[status] == 0
        assert front_end.memory.bytes[payload : payload + 512] == bytes(512), "dropped, not done"


def test_a_reset_waits_for_the_threads(world: World) -> None:
    with world.front_end() as (front_end, (ring, *_)):
        front_end.start(0, ring)
        world.run_state.stop()
        add(ring, OUT, 0, b"\1" * 512)
        front_end.kick(0)
        assert front_end.acknowledged(fe.RESET_DEVICE) == 0
        assert ring.taken_back() == []
        assert world.device.status == 0
        world.run_state.cont()


def test_a_broken_ring_is_told_once_and_others_go_down_with_it(world: World) -> None:
    with world.front_end() as (front_end, (ring, other, *_)):
        front_end.start(0, ring)
        front_end.start(1, other)
        front_end.set_err(0)
        struct.pack_into("<H", ring.memory.bytes, ring.avail + 2, 1000)
        front_end.kick(0)
        front_end.kick(0)
        assert signalled(front_end.errs[0]) == 1
        assert world.device.violations.total == 1
        add(other, IN, 0, bytes(512))
        front_end.kick(1)
        assert other.taken_back() == []
        assert front_end.acknowledged(fe.RESET_DEVICE) == 0
    with world.front_end() as (front_end, (ring, *_)):
        front_end.start(0, ring)
        add(ring, IN, 0, bytes(512))
        front_end.kick(0)
        assert ring.taken_back() == [(0, 513)]


def test_memory_moves_under_a_ring_that_runs(world: World) -> None:
    with world.front_end() as (front_end, (ring, *_)):
        front_end.start(0, ring)
        add(ring, IN, 0, bytes(512))
        front_end.kick(0)
        world.run_state.stop()
        add(ring, IN, 1, bytes(512))
        front_end.kick(0)
        front_end.share()
        assert len(front_end_mappings()) == 3, "the front end's, the new, the old in use"
        world.run_state.cont()
        front_end.run()
        assert [head for head, _ in ring.taken_back()] == [0, 3]
        add(ring, IN, 0, bytes(512))
        front_end.kick(0)
        assert len(ring.taken_back()) == 1


def test_what_is_in_flight_is_in_its_area_and_starts_again(world: World) -> None:
    """A connection dies with requests held; the next one, with the area, gets them done."""
    with world.front_end() as (front_end, (ring, *_)):
        description, area = front_end.ask_fd(fe.GET_INFLIGHT_FD, fe.inflight(0, QUEUES, ring.size))
        front_end.start(0, ring)
        add(ring, IN, 0, bytes(512))
        front_end.kick(0)
        assert len(ring.taken_back()) == 1
        world.run_state.stop()
        add(ring, OUT, 0, b"\1" * 512)
        front_end.kick(0)
        front_end.socket.close()
        front_end.run()
        world.run_state.cont()
        again = FrontEnd(Path(world.server.path), world.context)
        again.memory.close()
        again.memory = front_end.memory
        again.introduce(fe.MQ | fe.REPLY_ACK | fe.INFLIGHT)
        again.set_features(fe.F_PROTOCOL | fe.F_VERSION_1 | FLUSH | MQ)
        again.share()
        again.send(fe.SET_INFLIGHT_FD, description, [area])
        again.start(0, ring, base=1)
        again.run()
        assert [head for head, _ in ring.taken_back()] == [3]
        payload, _ = add(ring, IN, 0, bytes(512))
        again.kick(0)
        assert again.memory.bytes[payload : payload + 512] == b"\1" * 512
        again.socket.close()
        again.run()


def test_threads_of_an_export_are_not_deleted_before_it(world: World) -> None:
    with pytest.raises(ValueError, match='object "t0" is in use: by e0'):
        world.graph.delete_object("t0")
