"""Stopped machines, draining, resizing: requests wait, run out, or are dropped."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from devmodels.blockbackend import Op, Request
from devmodels.iocontext import IoContext
from devmodels.runstate import RunState
from tests.unit.blockbackend.support import SIZE, Disk, WatchedNode


@pytest.fixture
def node() -> Iterator[WatchedNode]:
    context = IoContext.virtual()
    node = WatchedNode(context)
    yield node
    node.close()
    context.close()


@pytest.fixture
def run_state() -> RunState:
    return RunState()


@pytest.fixture
def disk(node: WatchedNode, run_state: RunState) -> Disk:
    return Disk(node, run_state=run_state)


def test_while_stopped_requests_wait_and_on_cont_they_start_in_order(
    disk: Disk, node: WatchedNode, run_state: RunState
) -> None:
    run_state.stop()
    requests = [disk.submit(Op.READ, at, 512) for at in (4096, 0, 2048)]
    requests.append(disk.submit(Op.FLUSH))
    disk.context.run_until_idle()
    assert node.seen == []
    assert list(disk.backend.in_flight) == requests
    run_state.cont()
    assert node.log() == [(Op.READ, 4096, 512), (Op.READ, 0, 512), (Op.READ, 2048, 512), (Op.FLUSH, 0, 0)]
    assert [disk.ends[request] for request in requests] == [1] * 4


def test_what_runs_when_the_machine_stops_runs_to_its_end(
    disk: Disk, node: WatchedNode, run_state: RunState
) -> None:
    node.held = True
    running = disk.submit(Op.READ, 0, 512)
    run_state.stop()
    node.release()
    disk.context.run_until_idle()
    assert disk.ends[running] == 1


def test_a_backend_made_for_a_stopped_machine_holds_requests(node: WatchedNode, run_state: RunState) -> None:
    run_state.stop()
    disk = Disk(node, run_state=run_state)
    request = disk.submit(Op.READ, 0, 512)
    assert disk.ends[request] == 0
    run_state.cont()
    assert disk.ends[request] == 1


def test_a_batch_that_ends_while_stopped_is_held(disk: Disk, node: WatchedNode, run_state: RunState) -> None:
    with disk.backend.batch():
        disk.submit(Op.READ, 0, 512)
        run_state.stop()
        disk.submit(Op.READ, 512, 512)
    assert node.seen == []
    run_state.cont()
    assert set(disk.ends.values()) == {1}


def test_a_request_that_stops_the_machine_holds_those_behind_it(
    disk: Disk, node: WatchedNode, run_state: RunState
) -> None:
    """As a write error does with a stop policy: nothing after it is started, and nothing is lost."""
    run_state.stop()
    disk.submit(Op.READ, 0, 512, done=lambda _: run_state.stop("io-error"))
    later = [disk.submit(Op.READ, 1024, 512), disk.submit(Op.READ, 4096, 512)]
    run_state.cont()
    assert node.log() == [(Op.READ, 0, 512)]
    assert list(disk.backend.in_flight) == later
    run_state.cont()
    assert set(disk.ends.values()) == {1}


def test_a_reset_drops_what_is_held(disk: Disk, node: WatchedNode, run_state: RunState) -> None:
    run_state.stop()
    requests = [disk.submit(Op.WRITE, 0, data=b"x"), disk.submit(Op.FLUSH)]
    disk.backend.cancel_held()
    assert [request.error for request in requests] == [errno.ECANCELED] * 2
    assert [disk.ends[request] for request in requests] == [1, 1]
    run_state.cont()
    assert node.seen == []
    disk.backend.cancel_held()
    assert disk.read(0, 1) == b"\0"


def test_a_reset_of_one_queue_drops_its_own_requests_alone(
    disk: Disk, node: WatchedNode, run_state: RunState
) -> None:
    run_state.stop()
    requests = [disk.submit(Op.READ, at, 512) for at in (0, 4096, 1024, 8192)]
    disk.backend.cancel_held(lambda request: request.offset < 4096)
    assert [request.error for request in requests] == [errno.ECANCELED, 0, errno.ECANCELED, 0]
    run_state.cont()
    assert node.log() == [(Op.READ, 4096, 512), (Op.READ, 8192, 512)]
    assert set(disk.ends.values()) == {1}


def test_what_is_submitted_while_held_requests_are_dropped_is_held_again(
    disk: Disk, run_state: RunState
) -> None:
    run_state.stop()
    again: list[Request] = []
    disk.submit(Op.READ, 0, 512, done=lambda _: again.append(disk.submit(Op.READ, 0, 512)))
    disk.backend.cancel_held()
    assert list(disk.backend.in_flight) == again
    run_state.cont()
    assert again[0].error == 0


def test_a_closed_backend_no_longer_hears_of_stops(disk: Disk, run_state: RunState) -> None:
    disk.backend.close()
    disk.backend.close()
    run_state.stop()
    assert disk.do(Op.READ, 0, 512) == errno.ENOMEDIUM


# --- drain


def test_drain_returns_when_nothing_runs(disk: Disk, node: WatchedNode) -> None:
    drained: list[int] = []
    disk.context.start(disk.backend.drain(), lambda *_: drained.append(0))
    assert drained == [0], "nothing ran"
    node.held = True
    first, second = disk.submit(Op.READ, 0, 512), disk.submit(Op.READ, 0, 512)
    disk.context.start(disk.backend.drain(), lambda *_: drained.append(1))
    disk.context.start(disk.backend.drain(), lambda *_: drained.append(2))
    node.release(first)
    disk.context.run_until_idle()
    assert drained == [0]
    node.release(second)
    disk.context.run_until_idle()
    assert sorted(drained) == [0, 1, 2]


def test_drain_does_not_wait_for_what_is_held(disk: Disk, node: WatchedNode, run_state: RunState) -> None:
    node.held = True
    running = disk.submit(Op.READ, 0, 512)
    run_state.stop()
    held = disk.submit(Op.READ, 0, 512)
    drained: list[bool] = []
    disk.context.start(disk.backend.drain(), lambda *_: drained.append(True))
    assert not drained
    node.release()
    disk.context.run_until_idle()
    assert drained
    assert (disk.ends[running], disk.ends[held]) == (1, 0)


# --- resize


def test_a_larger_disk_has_zeroes_at_its_end_and_a_smaller_one_has_no_end(disk: Disk) -> None:
    disk.write(SIZE - 4, b"last")
    disk.context.run(disk.backend.resize(SIZE * 2))
    assert disk.backend.size == SIZE * 2
    assert disk.read(SIZE - 4, 8) == b"last" + bytes(4)
    disk.context.run(disk.backend.resize(512))
    assert disk.do(Op.READ, 512, 1) == errno.EIO
    disk.context.run(disk.backend.resize(SIZE))
    assert disk.read(512, SIZE - 512) == bytes(SIZE - 512), "what was cut off is gone"


def test_who_asked_is_told_of_the_new_size(disk: Disk, node: WatchedNode) -> None:
    other = Disk(node)
    seen: list[tuple[str, int]] = []
    disk.backend.add_resize_listener(lambda size: seen.append(("first", size)))
    other.backend.add_resize_listener(lambda size: seen.append(("second", other.backend.size)))
    disk.context.run(disk.backend.resize(1024))
    assert seen == [("first", 1024), ("second", 1024)]


def test_requests_wait_while_the_size_changes(disk: Disk, node: WatchedNode) -> None:
    node.held = True
    running = disk.submit(Op.READ, SIZE - 512, 512)
    resized: list[object] = []
    disk.context.start(disk.backend.resize(1024), lambda _, error: resized.append(error))
    beyond = disk.submit(Op.READ, SIZE - 512, 512)
    inside = disk.submit(Op.READ, 0, 512)
    assert len(node.seen) == 1
    node.held = False
    node.release()
    disk.context.run_until_idle()
    assert resized == [None]
    assert [request.error for request in (running, beyond, inside)] == [0, errno.EIO, 0]


def test_a_resize_of_a_stopped_machines_disk_leaves_requests_held(disk: Disk, run_state: RunState) -> None:
    run_state.stop()
    request = disk.submit(Op.READ, 0, 512)
    disk.context.run(disk.backend.resize(SIZE * 2))
    assert disk.ends[request] == 0
    run_state.cont()
    assert disk.ends[request] == 1


class SlowToGrow(WatchedNode):
    """Takes the longer to change its size the larger it gets."""

    async def truncate(self, size: int) -> None:
        await self.context.sleep(size)
        await super().truncate(size)


def test_resizes_at_one_time_are_done_in_order() -> None:
    disk = Disk(SlowToGrow(IoContext.virtual()))
    other = Disk(disk.node)
    seen: list[int] = []
    disk.backend.add_resize_listener(seen.append)
    for backend, size in ((disk.backend, 8192), (other.backend, 4096), (disk.backend, 512)):
        disk.context.start(backend.resize(size), lambda _, error: None)
    disk.context.run_until_idle()
    assert seen == [8192, 4096, 512]
    assert disk.backend.size == 512
    other.backend.close()
    disk.close()


def test_a_listener_taken_away_is_no_longer_told(disk: Disk) -> None:
    seen: list[int] = []
    disk.backend.add_resize_listener(seen.append)
    disk.backend.remove_resize_listener(seen.append)
    disk.backend.remove_resize_listener(seen.append)
    disk.context.run(disk.backend.resize(1024))
    assert seen == []


def test_a_closed_backend_no_longer_hears_of_sizes(disk: Disk, node: WatchedNode) -> None:
    seen: list[int] = []
    disk.backend.add_resize_listener(seen.append)
    disk.backend.close()
    disk.context.run(node.truncate(1024))
    assert seen == []


@pytest.mark.parametrize("size", [-512, 100, 513])
def test_a_size_must_be_whole_sectors(disk: Disk, size: int) -> None:
    with pytest.raises(OSError, match="multiple of 512"):
        disk.context.run(disk.backend.resize(size))
    assert disk.do(Op.READ, 0, 512) == 0


def test_a_read_only_disk_keeps_its_size(node: WatchedNode) -> None:
    disk = Disk(node, read_only=True)
    with pytest.raises(OSError, match="read-only"):
        disk.context.run(disk.backend.resize(512))
    assert disk.backend.size == SIZE
