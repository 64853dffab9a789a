"""Any sequence of requests against a bytearray, a set of what is stable, and a ledger of our own."""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devmodels.blockbackend import Flags, Op, Request
from devmodels.iocontext import IoContext
from devmodels.runstate import RunState
from tests.unit.blockbackend.support import Disk, payload

SIZE = 40 * 512


@dataclass(frozen=True)
class Step:
    """One request, or a switch of the machine or of a batch."""

    what: Literal["request", "batch", "unbatch", "stop", "cont", "drop", "cache"]
    op: Op = Op.READ
    offset: int = 0
    length: int = 0
    flags: Flags = Flags.NONE
    cut: int = 0
    fill: int = 0


OFFSETS = st.one_of(st.integers(0, 40).map(lambda n: n * 512), st.integers(-3, SIZE + 600))
LENGTHS = st.one_of(st.sampled_from([512, 1024]), st.integers(0, 5000))
REQUESTS = st.builds(
    Step,
    st.just("request"),
    st.sampled_from([op for op in Op if op <= Op.SECURE_ERASE]),
    OFFSETS,
    LENGTHS,
    st.sampled_from([Flags.NONE, Flags.FUA, Flags.MAY_UNMAP]),
    st.sampled_from([0, 100, 512]),
    st.integers(0, 3),
)
SWITCHES = st.sampled_from(["batch", "unbatch", "stop", "cont", "drop", "cache"]).map(lambda what: Step(what))  # type: ignore[arg-type]


@st.composite
def runs(draw: st.DrawFn) -> list[Step]:
    """Neighbours, as a driver that reads or writes a stretch submits them."""
    first = draw(REQUESTS)
    count = draw(st.integers(2, 5))
    return [
        Step(
            "request", first.op, first.offset + n * first.length, first.length, first.flags, first.cut, n + 1
        )
        for n in range(count)
    ]


STEPS = st.lists(
    st.one_of(REQUESTS.map(lambda s: [s]), SWITCHES.map(lambda s: [s]), runs()), max_size=12
).map(lambda groups: [step for group in groups for step in group])


class Ledger:
    """What the disk's content and the statistics have to be, worked out in the plainest way."""

    def __init__(self) -> None:
        self.content = bytearray(SIZE)
        self.counters: Counter[str] = Counter()
        self.expected: dict[Request, tuple[int, bytes | None]] = {}

    def serve(self, request: Request, data: bytes | None) -> None:
        """`request` reaches the disk."""
        op, start, end = request.op, request.offset, request.offset + request.length
        kind = {Op.READ: "rd", Op.WRITE: "wr", Op.WRITE_ZEROES: "wr", Op.FLUSH: "flush"}.get(op, "unmap")
        if start < 0 or end > SIZE:
            self.expected[request] = (errno.EIO, None)
            self.counters[f"failed_{kind}_operations"] += 1
            return
        found = bytes(self.content[start:end]) if op is Op.READ else None
        if op is Op.WRITE:
            assert data is not None
            self.content[start:end] = data
        elif op in (Op.WRITE_ZEROES, Op.SECURE_ERASE):
            self.content[start:end] = bytes(end - start)
        self.expected[request] = (0, found)
        self.counters[f"{kind}_operations"] += 1
        if op is not Op.FLUSH:
            self.counters[f"{kind}_bytes"] += request.length
        if kind == "wr":
            self.counters["wr_highest_offset"] = max(self.counters["wr_highest_offset"], end)

    def drop(self, request: Request) -> None:
        """`request` is thrown away before it began."""
        kind = {Op.READ: "rd", Op.WRITE: "wr", Op.WRITE_ZEROES: "wr", Op.FLUSH: "flush"}.get(
            request.op, "unmap"
        )
        self.expected[request] = (errno.ECANCELED, None)
        self.counters[f"failed_{kind}_operations"] += 1


class World:
    """A disk and its ledger; requests wait in `waiting` while a batch is open or the machine is stopped."""

    def __init__(self, options: dict[str, object], context: IoContext) -> None:
        self.run_state = RunState()
        self.disk = Disk(options, context=context, run_state=self.run_state)
        self.ledger = Ledger()
        self.waiting: list[tuple[Request, bytes | None]] = []
        self.batches = 0

    def settle(self) -> None:
        """The ledger learns of what may run now."""
        if self.run_state.running and not self.batches:
            waiting, self.waiting = self.waiting, []
            for request, data in waiting:
                self.ledger.serve(request, data)

    def take(self, step: Step) -> None:
        """One step of the sequence."""
        backend = self.disk.backend
        if step.what == "request":
            self.request(step)
        elif step.what == "batch":
            backend.batch().__enter__()
            self.batches += 1
        elif step.what == "unbatch" and self.batches:
            self.batches -= 1
            backend.batch().__exit__(None, None, None)
        elif step.what == "stop":
            self.run_state.stop()
        elif step.what == "cont":
            self.run_state.cont()
        elif step.what == "drop":
            backend.cancel_held()
            for request, _ in self.waiting:
                self.ledger.drop(request)
            self.waiting.clear()
        elif step.what == "cache":
            backend.write_cache = not backend.write_cache
        self.settle()
        self.disk.context.run_until_idle()

    def request(self, step: Step) -> None:
        flush = step.op is Op.FLUSH
        data = bytes([step.fill]) * step.length if step.op is Op.WRITE else None
        request = self.disk.submit(
            step.op, 0 if flush else step.offset, 0 if flush else step.length, data, step.flags, step.cut
        )
        self.waiting.append((request, data))

    def finish(self) -> None:
        """Let everything run out and compare."""
        while self.batches:
            self.take(Step("unbatch"))
        self.take(Step("cont"))
        disk, ledger = self.disk, self.ledger
        assert set(disk.ends.values()) <= {1}, "each request ends exactly once"
        assert not disk.backend.in_flight
        for request, (error, found) in ledger.expected.items():
            assert request.error == error
            assert found is None or payload(request) == found
        assert len(ledger.expected) == len(disk.ends)
        stats = {name: value for name, value in disk.backend.stats.as_dict().items() if value}
        merged = {name: stats.pop(name) for name in list(stats) if name.endswith("merged")}
        times = {name: stats.pop(name) for name in list(stats) if name.endswith("time_ns")}
        assert stats == {name: value for name, value in ledger.counters.items() if value}
        assert all(
            merged[name] < stats[name.replace("merged", "operations")] + sum_failed(stats) for name in merged
        )
        assert disk.context.kind.value == "wall" or not times
        assert disk.read(0, SIZE) == ledger.content


def sum_failed(stats: dict[str, int]) -> int:
    """How many requests failed."""
    return sum(value for name, value in stats.items() if name.startswith("failed"))


@given(STEPS, st.sampled_from(["off", "on", "unmap"]))
def test_a_memory_disk(steps: list[Step], detect: str) -> None:
    options: dict[str, object] = {
        "driver": "memory",
        "size": SIZE,
        "discard": "unmap",
        "detect-zeroes": detect,
    }
    without_discards = [step for step in steps if step.op is not Op.DISCARD]
    run(World(options, IoContext.virtual()), without_discards)


@pytest.mark.parametrize("direct", [False, True])
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=settings().max_examples // 2
)
@given(STEPS, st.sampled_from(["off", "on"]), st.sampled_from(["ignore"]))
def test_a_file(tmp_path: Path, direct: bool, steps: list[Step], detect: str, discard: str) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(SIZE))
    options: dict[str, object] = {
        "driver": "file",
        "filename": str(image),
        "discard": discard,
        "detect-zeroes": detect,
        "cache": {"direct": direct, "no-flush": True},
    }
    world = World(options, IoContext.virtual())
    run(world, steps)
    assert image.read_bytes() == world.ledger.content


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=settings().max_examples // 3
)
@given(STEPS)
def test_a_file_on_workers(tmp_path: Path, steps: list[Step]) -> None:
    """Each step runs out before the next begins: what one batch holds may end in any order, so it does not overlap."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(SIZE))
    options: dict[str, object] = {"driver": "file", "filename": str(image), "cache": {"no-flush": True}}
    alone = [step for step in steps if step.what in ("request", "cache")]
    run(World(options, IoContext.wall()), alone)


def run(world: World, steps: list[Step]) -> None:
    try:
        for step in steps:
            world.take(step)
        world.finish()
    finally:
        world.disk.close()
