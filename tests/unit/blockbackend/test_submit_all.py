"""Several requests in one call: what has ended at once comes back, the rest is told by `done`."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator, Sequence

import pytest

from devmodels.blockbackend import Op, Request
from devmodels.blockbackend.node import BlockNode
from devmodels.iocontext import DONE, Coro, IoContext
from devmodels.runstate import RunState
from devmodels.trace import EventKind, TraceEvent, Tracer
from tests.unit.blockbackend.support import SIZE, Disk, WatchedNode, payload


class Mixed(WatchedNode):
    """Reads below 32 KiB end at once; the others are watched (and may be held)."""

    def read(self, request: Request) -> Coro[None]:
        if (Op.READ, request.offset) in self.errors:
            raise self.errors[Op.READ, request.offset]
        if request.offset >= SIZE // 2:
            return super().read(request)
        for vector in request.vectors:
            vector[:] = bytes([request.offset >> 10]) * len(vector)
        return DONE


@pytest.fixture
def run_state() -> RunState:
    return RunState()


@pytest.fixture
def node() -> Iterator[Mixed]:
    context = IoContext.virtual()
    node = Mixed(context)
    yield node
    node.close()
    context.close()


@pytest.fixture
def disk(node: Mixed, run_state: RunState) -> Disk:
    return Disk(node, run_state=run_state)


def requests(disk: Disk, *wanted: tuple[Op, int], length: int = 512) -> list[Request]:
    def ended(request: Request) -> None:
        disk.ends[request] += 1

    made = []
    for op, offset in wanted:
        vectors = [memoryview(bytearray(length))] if op in (Op.READ, Op.WRITE) else []
        request = Request(op, offset, length if op is not Op.FLUSH else 0, vectors, done=ended)
        disk.ends[request] = 0
        made.append(request)
    return made


def reads(disk: Disk, *offsets: int) -> list[Request]:
    return requests(disk, *((Op.READ, offset) for offset in offsets))


def told(disk: Disk, made: Sequence[Request]) -> list[int]:
    """How often `done` was called, request by request."""
    return [disk.ends[request] for request in made]


def test_reads_that_end_at_once_come_back_in_order_and_are_not_told(disk: Disk) -> None:
    made = reads(disk, 3072, 0, 9216)
    assert disk.backend.submit_all(made) == made
    assert told(disk, made) == [0, 0, 0]
    assert [payload(request)[:1] for request in made] == [b"\3", b"\0", b"\x09"]
    assert not disk.backend.in_flight


def test_a_read_that_waits_is_told_later(disk: Disk, node: Mixed) -> None:
    node.held = True
    made = reads(disk, 0, SIZE // 2, 4096)
    assert disk.backend.submit_all(made) == [made[0], made[2]]
    assert list(disk.backend.in_flight) == [made[1]]
    node.release()
    disk.context.run_until_idle()
    assert told(disk, made) == [0, 1, 0]


def test_other_requests_are_told(disk: Disk, node: Mixed) -> None:
    made = requests(disk, (Op.READ, 0), (Op.WRITE, 8192), (Op.FLUSH, 0), (Op.READ, 4096))
    assert disk.backend.submit_all(made) == [made[0], made[3]]
    assert told(disk, made) == [0, 1, 1, 0]
    assert [op for op, _, _ in node.log()] == [Op.WRITE, Op.FLUSH]


def test_a_read_that_fails_is_told_with_its_errno(disk: Disk, node: Mixed) -> None:
    node.errors[Op.READ, 1024] = OSError(errno.EREMOTEIO, "gone")
    made = reads(disk, 4096, 1024, 8192)
    assert disk.backend.submit_all(made) == [made[0], made[2]]
    assert (made[1].error, told(disk, made)) == (errno.EREMOTEIO, [0, 1, 0])
    assert not disk.backend.in_flight
    assert disk.backend.stats.failed_rd_operations == 1


@pytest.mark.parametrize("offset", [-512, SIZE, SIZE - 256])
def test_a_read_out_of_bounds_is_told_with_eio(disk: Disk, node: Mixed, offset: int) -> None:
    made = reads(disk, 0, offset)
    assert disk.backend.submit_all(made) == made[:1]
    assert (made[1].error, told(disk, made)) == (errno.EIO, [0, 1])
    assert node.seen == []


def test_neighbours_are_merged_unless_that_is_off(disk: Disk, node: Mixed) -> None:
    half = SIZE // 2
    made = reads(disk, half, half + 512)
    assert disk.backend.submit_all(made) == []
    assert node.log() == [(Op.READ, half, 1024)]
    node.seen.clear()
    disk.backend.submit_all(reads(disk, half, half + 512), merge=False)
    assert node.log() == [(Op.READ, half, 512), (Op.READ, half + 512, 512)]
    assert disk.backend.stats.rd_merged == 1


def test_a_stopped_machine_holds_all_of_them(disk: Disk, run_state: RunState) -> None:
    run_state.stop()
    made = reads(disk, 0, 4096)
    assert disk.backend.submit_all(made) == []
    assert list(disk.backend.in_flight) == made
    run_state.cont()
    assert told(disk, made) == [1, 1]


def test_one_that_stops_the_machine_holds_those_behind_it(disk: Disk, run_state: RunState) -> None:
    made = requests(disk, (Op.READ, 0), (Op.FLUSH, 0), (Op.READ, 4096), (Op.WRITE, 8192))
    made[1].done = lambda _: run_state.stop("io-error")
    assert disk.backend.submit_all(made) == [made[0]]
    assert list(disk.backend.in_flight) == made[2:]
    run_state.cont()
    assert told(disk, made) == [0, 0, 1, 1]


def test_what_done_submits_waits_its_turn(disk: Disk, node: Mixed) -> None:
    later = reads(disk, SIZE - 512)
    made = requests(disk, (Op.FLUSH, 0), (Op.WRITE, 0))
    made[0].done = lambda _: disk.backend.submit(later[0])
    disk.backend.submit_all(made)
    assert [op for op, _, _ in node.log()] == [Op.FLUSH, Op.WRITE, Op.READ]
    assert told(disk, later) == [1]


def test_statistics_count_each(disk: Disk, node: Mixed) -> None:
    node.held = True
    disk.backend.submit_all(reads(disk, 0, 4096, SIZE // 2))
    stats = disk.backend.stats
    assert (stats.rd_operations, stats.rd_bytes) == (2, 1024)
    node.release()
    disk.context.run_until_idle()
    assert (stats.rd_operations, stats.rd_bytes) == (3, 1536)


def test_a_trace_sees_each(disk: Disk) -> None:
    seen: list[TraceEvent] = []
    disk.backend.trace = Tracer(disk.context.now_ns)
    disk.backend.trace.sinks.append(seen.append)
    made = reads(disk, 0, 4096)
    assert disk.backend.submit_all(made) == []
    kinds = [event.kind for event in seen]
    assert (kinds.count(EventKind.REQUEST), kinds.count(EventKind.COMPLETION)) == (2, 2)
    assert told(disk, made) == [1, 1]


def test_done_can_be_awaited_and_started(disk: Disk) -> None:
    async def twice() -> str:
        await DONE
        await DONE
        return "over"

    assert disk.context.run(twice()) == "over"
    ends: list[BaseException | None] = []
    assert disk.context.start(DONE, lambda _result, error: ends.append(error)) is None
    assert ends == [None]
    assert asyncio.run(_awaited()) is None


async def _awaited() -> None:
    await DONE


def test_a_node_without_reads_says_so(disk: Disk) -> None:
    bare = BlockNode(disk.node.options, disk.context, SIZE)
    other = Disk(bare)
    made = reads(other, 0)
    assert other.backend.submit_all(made) == []
    assert made[0].error == errno.ENOTSUP
