"""The way of a device's requests through the nodes, as a trace has it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from devmodels.blockbackend import BlockBackend, Graph, Op, Request
from devmodels.blockbackend.request import Origin
from devmodels.iocontext import IoContext
from devmodels.trace import EventKind, TraceEvent, Tracer

SIZE = 64 << 10
MEMORY: dict[str, object] = {"driver": "memory", "size": SIZE}


class Asked(Request):
    """A request of a device: it knows where it comes from."""

    @property
    def origin(self) -> Origin:
        return Origin("vd0", 0, 1)


class Step:
    """What a trace has of one request at one node."""

    def __init__(self, event: TraceEvent) -> None:
        _, self.dispatch, self.parent, self.node, self.driver, *what, _ = event.detail
        self.op, self.offset, self.length = what
        self.began = event.time_ns
        self.ended = -1
        self.error: object = None


class Recorded:
    """A graph, a device's backend over its node `top`, and what a trace gets of both."""

    def __init__(self, *nodes: dict[str, object], top: str) -> None:
        self.context = IoContext.virtual()
        self.graph = Graph(self.context)
        self.events: list[TraceEvent] = []
        tracer = Tracer(self.context.now_ns)
        tracer.sinks.append(self.events.append)
        self.graph.tracer = tracer
        for node in nodes:
            self.graph.add(node)
        self.backend = BlockBackend(self.graph[top], name="vd0")
        self.backend.trace = tracer

    def submit(self, op: Op, offset: int, length: int, kind: type[Request] = Asked) -> Request:
        vectors = [memoryview(bytearray(length))] if op in (Op.READ, Op.WRITE) else []
        request = kind(op, offset, length, vectors)
        self.backend.submit(request)
        return request

    def do(self, op: Op, offset: int, length: int, kind: type[Request] = Asked) -> int:
        request = self.submit(op, offset, length, kind)
        self.context.run_until_idle()
        return request.error

    @property
    def steps(self) -> dict[int, Step]:
        steps: dict[int, Step] = {}
        for event in self.events:
            if event.kind is EventKind.NODE_BEGIN:
                assert event.source == "vd0"
                steps[int(event.detail[0])] = Step(event)
            elif event.kind is EventKind.NODE_END:
                step = steps[int(event.detail[0])]
                assert step.ended == -1
                step.ended, step.error = event.time_ns, event.detail[1]
        return steps

    def way(self) -> list[tuple[object, ...]]:
        """(step above, node, operation, offset, length) of each step."""
        return [(step.parent, step.node, step.op, step.offset, step.length) for step in self.steps.values()]

    def close(self) -> None:
        self.backend.close()
        self.graph.close()
        self.context.close()


@pytest.fixture
def over_slow() -> Iterator[Recorded]:
    """A device over a node that takes a microsecond, over a memory disk."""
    disk = {**MEMORY, "node-name": "m0"}
    recorded = Recorded(
        {"driver": "delay", "node-name": "slow", "latency-ns": 1000, "file": disk}, top="slow"
    )
    yield recorded
    recorded.close()


def test_each_node_tells_when_it_has_a_request(over_slow: Recorded) -> None:
    assert over_slow.do(Op.WRITE, 512, 1024) == 0
    assert over_slow.way() == [(-1, "slow", "WRITE", 512, 1024), (0, "m0", "WRITE", 512, 1024)]
    slow, memory = over_slow.steps.values()
    assert (slow.driver, memory.driver) == ("delay", "memory")
    assert (slow.began, slow.ended, slow.error) == (0, 1000, 0)
    assert memory.error == 0
    kinds = [event.kind for event in over_slow.events]
    assert kinds.index(EventKind.DISPATCH) < kinds.index(EventKind.NODE_BEGIN)
    assert len(kinds) - kinds[::-1].index(EventKind.NODE_END) <= kinds.index(EventKind.DONE)


def test_neighbours_go_their_way_as_one(over_slow: Recorded) -> None:
    with over_slow.backend.batch():
        over_slow.submit(Op.WRITE, 0, 512)
        over_slow.submit(Op.WRITE, 512, 512)
    over_slow.context.run_until_idle()
    assert over_slow.way() == [(-1, "slow", "WRITE", 0, 1024), (0, "m0", "WRITE", 0, 1024)]


def test_requests_under_way_together_are_told_apart(over_slow: Recorded) -> None:
    over_slow.submit(Op.READ, 0, 512)
    over_slow.submit(Op.READ, 4096, 512)
    over_slow.context.run_until_idle()
    assert over_slow.way() == [
        (-1, "slow", "READ", 0, 512),
        (-1, "slow", "READ", 4096, 512),
        (0, "m0", "READ", 0, 512),
        (1, "m0", "READ", 4096, 512),
    ]
    assert [step.dispatch for step in over_slow.steps.values()] == [0, 1, 0, 1]


def test_what_a_node_cannot_do_ends_with_its_errno() -> None:
    recorded = Recorded(
        {
            "driver": "blkdebug",
            "node-name": "bad",
            "image": {**MEMORY, "node-name": "m0"},
            "inject-error": [{"event": "none", "iotype": "read", "errno": errno.EIO}],
        },
        top="bad",
    )
    assert recorded.do(Op.READ, 0, 512) == errno.EIO
    assert [step.error for step in recorded.steps.values()] == [errno.EIO]
    recorded.close()


def test_what_an_overlay_has_not_comes_from_its_backing_node() -> None:
    recorded = Recorded(
        {
            "driver": "overlay",
            "node-name": "top",
            "file": {**MEMORY, "node-name": "own"},
            "backing": {**MEMORY, "node-name": "base"},
        },
        top="top",
    )
    assert recorded.do(Op.WRITE, 0, 65536) == 0
    assert recorded.do(Op.READ, 0, 512) == 0
    *_, read, below = recorded.steps.items()
    assert (read[1].parent, read[1].node) == (-1, "top")
    assert (below[1].parent, below[1].node, below[1].op) == (read[0], "own", "READ")
    recorded.close()


def test_both_copies_of_a_verified_write_are_under_the_node_that_compares() -> None:
    recorded = Recorded(
        {
            "driver": "blkverify",
            "node-name": "both",
            "test": {**MEMORY, "node-name": "left"},
            "raw": {**MEMORY, "node-name": "right"},
        },
        top="both",
    )
    assert recorded.do(Op.WRITE, 0, 512) == 0
    assert sorted(recorded.way(), key=str) == [
        (-1, "both", "WRITE", 0, 512),
        (0, "left", "WRITE", 0, 512),
        (0, "right", "WRITE", 0, 512),
    ]
    recorded.close()


def test_a_node_that_comes_while_recording_is_on_the_way(over_slow: Recorded) -> None:
    request = over_slow.submit(Op.WRITE, 0, 512)
    late = {"driver": "raw", "node-name": "late"}
    over_slow.context.run(over_slow.graph.insert(late, above="slow"))
    assert request.error == 0
    over_slow.do(Op.FLUSH, 0, 0)
    assert [way[1] for way in over_slow.way()] == ["slow", "m0", "late", "slow", "m0"]
    over_slow.context.run(over_slow.graph.remove("slow"))
    over_slow.do(Op.FLUSH, 0, 0)
    assert [way[1] for way in over_slow.way()[5:]] == ["late", "m0"]


def test_only_requests_of_devices_are_told_of(over_slow: Recorded) -> None:
    assert over_slow.do(Op.WRITE, 0, 512, Request) == 0
    assert not over_slow.events


def test_nothing_is_told_when_recording_has_ended(over_slow: Recorded) -> None:
    over_slow.graph.tracer = None
    over_slow.do(Op.WRITE, 0, 512)
    assert not over_slow.steps
    assert over_slow.events


def test_a_file_is_a_node_as_any_other(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(SIZE))
    recorded = Recorded({"driver": "file", "filename": str(image), "node-name": "f0"}, top="f0")
    assert recorded.do(Op.READ, 0, 512) == 0
    assert [(step.driver, step.error) for step in recorded.steps.values()] == [("file", 0)]
    recorded.close()
