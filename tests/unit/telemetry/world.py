"""A backend over a node that takes its time, and where figures of them come from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from devmodels.blockbackend import BlockBackend, Graph, Op, Request
from devmodels.iocontext import IoContext
from devmodels.runstate import RunState
from devmodels.telemetry.figures import Source


class World:
    """`vd0` over `s` (10 ns for each request) over `d`, on a stepped clock; `s` is counted."""

    def __init__(self) -> None:
        self.context = IoContext.stepped()
        self.graph = Graph(self.context)
        self.graph.add({"driver": "memory", "size": 1 << 20, "node-name": "d"})
        slow = {"driver": "delay", "file": "d", "latency-ns": 10, "node-name": "s", "accounting": True}
        self.run_state = RunState()
        self.backend = BlockBackend(self.graph.add(slow), name="vd0", run_state=self.run_state)
        self.source = Source(
            self.context, lambda: [self.backend], lambda: list(self.graph.nodes.values()), self.run_state
        )

    def submit(self, op: Op, offset: int = 0, length: int = 512, label: str = "") -> Request:
        vectors = [memoryview(bytearray(length))] if op in (Op.READ, Op.WRITE) else []
        request = Request(op, offset, length, vectors, label=label)
        self.backend.submit(request)
        return request


@contextmanager
def world() -> Iterator[World]:
    made = World()
    try:
        yield made
    finally:
        made.context.step(1000)
        made.backend.close()
        made.graph.close()
        made.context.close()
