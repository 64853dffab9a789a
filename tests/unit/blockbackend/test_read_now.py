"""Reads without a request: what is at hand is done and accounted, everything else is left for `submit`."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence

import pytest

from devmodels.blockbackend import Op
from devmodels.blockbackend.node import BlockLimits, BlockNode
from devmodels.blockbackend.request import Read
from devmodels.iocontext import IoContext
from devmodels.runstate import RunState
from devmodels.trace import Tracer
from tests.unit.blockbackend.support import SIZE, Disk, WatchedNode

HALF = SIZE // 2


class Mixed(WatchedNode):
    """Reads of the first half are at hand: each byte is the offset's KiB.  The others are not."""

    def read_now(self, reads: Sequence[Read]) -> int:
        for number, (offset, vectors, _) in enumerate(reads):
            if offset >= HALF:
                return number
            if (Op.READ, offset) in self.errors:
                raise self.errors[Op.READ, offset]
            for vector in vectors:
                vector[:] = bytes([offset >> 10]) * len(vector)
        return len(reads)


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


def reads(*offsets: int, length: int = 512) -> list[Read]:
    return [(offset, (memoryview(bytearray(length)),), length) for offset in offsets]


def firsts(made: Sequence[Read]) -> bytes:
    return bytes(vectors[0][0] for _, vectors, _ in made)


def test_reads_at_hand_are_done(disk: Disk) -> None:
    made = reads(3072, 0, 9216)
    assert disk.backend.read_now(made) == 3
    assert firsts(made) == b"\3\0\x09"
    assert not disk.backend.in_flight


def test_they_are_accounted(disk: Disk) -> None:
    disk.backend.read_now([*reads(0, 4096), *reads(8192, length=1024)])
    stats = disk.backend.stats
    assert (stats.rd_operations, stats.rd_bytes, stats.failed_rd_operations) == (3, 2048, 0)


def test_nothing_is_done_after_the_first_that_would_wait(disk: Disk) -> None:
    made = reads(1024, HALF, 2048)
    assert disk.backend.read_now(made) == 1
    assert firsts(made) == b"\1\0\0"
    assert disk.backend.stats.rd_operations == 1


@pytest.mark.parametrize("offset", [-512, SIZE, SIZE - 256])
def test_a_read_out_of_bounds_is_left(disk: Disk, offset: int) -> None:
    assert disk.backend.read_now(reads(1024, offset, 2048)) == 1


def test_neighbours_are_left_to_be_merged_unless_that_is_off(disk: Disk) -> None:
    assert disk.backend.read_now(reads(0, 512)) == 0
    assert disk.backend.read_now(reads(512, 4096, 0)) == 0
    assert disk.backend.read_now(reads(0, 512), merge=False) == 2


def test_a_read_does_not_touch_itself(disk: Disk) -> None:
    assert disk.backend.read_now(reads(0, length=0)) == 1


def test_a_stopped_machine_reads_nothing(disk: Disk, run_state: RunState) -> None:
    run_state.stop()
    assert disk.backend.read_now(reads(0)) == 0
    run_state.cont()
    assert disk.backend.read_now(reads(0)) == 1


def test_nothing_is_read_inside_a_batch(disk: Disk) -> None:
    with disk.backend.batch():
        assert disk.backend.read_now(reads(0)) == 0


def test_a_trace_sees_requests_only(disk: Disk) -> None:
    disk.backend.trace = Tracer(disk.context.now_ns)
    assert disk.backend.read_now(reads(0)) == 0


def test_a_node_with_limits_gets_requests_made_to_fit(node: Mixed) -> None:
    node.limits = BlockLimits(request_alignment=4096)
    assert Disk(node).backend.read_now(reads(512)) == 0


def test_a_node_that_raises_gets_all_of_them_as_requests(disk: Disk, node: Mixed) -> None:
    node.errors[Op.READ, 2048] = OSError(errno.EREMOTEIO, "gone")
    assert disk.backend.read_now(reads(1024, 2048, 4096)) == 0
    assert disk.backend.stats.rd_operations == 0


def test_a_node_need_not_know_of_it(disk: Disk) -> None:
    assert Disk(BlockNode(disk.node.options, disk.context, SIZE)).backend.read_now(reads(0)) == 0
