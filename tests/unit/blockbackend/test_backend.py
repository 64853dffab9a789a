"""One request on its way: checked, served, completed once, counted."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from devmodels.blockbackend import BlockNode, BlockStats, Flags, Op, Request, open_node
from devmodels.blockbackend.options import NodeOptions
from devmodels.iocontext import IoContext, WrongContextError
from devmodels.runstate import RunState
from tests.unit.blockbackend.support import SIZE, Disk, WatchedNode, payload


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.close()


@pytest.fixture
def node() -> Iterator[WatchedNode]:
    context = IoContext.virtual()
    node = WatchedNode(context)
    yield node
    node.close()
    context.close()


def test_what_was_written_is_read_back(disk: Disk) -> None:
    assert disk.write(512, b"hello" * 100) == 0
    assert disk.read(500, 30) == bytes(12) + (b"hello" * 100)[:18]


def test_vectors_are_filled_and_emptied_in_order(disk: Disk) -> None:
    data = bytes(range(256)) * 4
    disk.wait(disk.submit(Op.WRITE, 100, data=data, cut=7))
    request = disk.submit(Op.READ, 100, len(data), cut=333)
    disk.wait(request)
    assert payload(request) == data


def test_a_request_that_need_not_wait_is_done_when_submit_returns(disk: Disk) -> None:
    request = disk.submit(Op.READ, 0, 512)
    assert disk.ends[request] == 1
    assert not disk.backend.in_flight


def test_a_request_without_done_is_served_too(disk: Disk) -> None:
    request = Request(Op.WRITE, 0, 3, [memoryview(b"abc")])
    disk.backend.submit(request)
    assert request.error == 0
    assert disk.read(0, 3) == b"abc"


@pytest.mark.parametrize(
    ("offset", "length"),
    [(SIZE, 1), (SIZE - 511, 512), (-1, 1), (0, -1), (1 << 70, 512), (0, SIZE + 1), (-512, 1024)],
)
@pytest.mark.parametrize("op", [Op.READ, Op.WRITE, Op.DISCARD, Op.WRITE_ZEROES, Op.SECURE_ERASE])
def test_outside_of_the_disk_is_an_io_error(node: WatchedNode, op: Op, offset: int, length: int) -> None:
    disk = Disk(node)
    request = Request(op, offset, length, [memoryview(bytearray(max(length, 0)))])
    disk.backend.submit(request)
    assert request.error == errno.EIO
    assert node.seen == []


def test_the_last_byte_and_an_empty_request_at_the_end_are_inside(disk: Disk) -> None:
    assert disk.do(Op.READ, SIZE - 1, 1) == 0
    assert disk.do(Op.READ, SIZE, 0) == 0


@pytest.mark.parametrize("op", [Op.WRITE, Op.DISCARD, Op.WRITE_ZEROES, Op.SECURE_ERASE])
def test_a_read_only_disk_refuses_changes_but_not_flushes(node: WatchedNode, op: Op) -> None:
    disk = Disk(node, read_only=True)
    assert disk.do(op, 0, 512, data=bytes(512) if op is Op.WRITE else None) == errno.EPERM
    assert disk.do(Op.FLUSH) == 0
    assert disk.do(Op.READ, 0, 512) == 0
    assert [request.op for request in node.seen] == [Op.READ]


def test_a_read_only_node_makes_its_backend_read_only() -> None:
    disk = Disk({"driver": "memory", "size": SIZE, "read-only": True})
    assert disk.backend.read_only
    assert disk.write(0, b"x") == errno.EPERM
    disk.close()


def test_what_a_node_does_not_offer_is_not_supported() -> None:
    context = IoContext.virtual()
    disk = Disk(BlockNode(NodeOptions(driver="nothing"), context, SIZE))
    for op in (Op.READ, Op.WRITE, Op.WRITE_ZEROES, Op.SECURE_ERASE):
        assert disk.do(op, 0, 1, b"x" if op is Op.WRITE else None) == errno.ENOTSUP
    assert disk.do(Op.FLUSH) == 0
    assert disk.do(Op.DISCARD, 0, 512) == 0
    with pytest.raises(OSError, match="does not support resize"):
        context.run(disk.backend.resize(512))
    disk.close()


def test_a_nodes_errno_is_the_requests(node: WatchedNode) -> None:
    disk = Disk(node)
    node.errors = {(Op.READ, 0): OSError(errno.ENOSPC, "full"), (Op.WRITE, 0): OSError("without errno")}
    assert disk.do(Op.READ, 0, 512) == errno.ENOSPC
    assert disk.write(0, b"x") == errno.EIO
    assert disk.read(512, 4) == bytes(4)


@pytest.mark.parametrize("later", [False, True])
def test_a_bug_in_a_node_is_an_io_error_and_one_line_in_the_log(
    node: WatchedNode, later: bool, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(node)
    node.errors = {(Op.READ, 0): ZeroDivisionError("a bug")}
    node.held = later
    request = disk.submit(Op.READ, 0, 512)
    node.release()
    assert disk.wait(request) == errno.EIO
    assert disk.ends[request] == 1
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.ERROR
    assert "ZeroDivisionError: a bug" in caplog.text


def test_what_runs_is_listed_in_the_order_it_came(node: WatchedNode) -> None:
    disk = Disk(node)
    node.held = True
    requests = [disk.submit(Op.READ, at, 512) for at in (512, 0, 1024)]
    assert list(disk.backend.in_flight) == requests
    node.release(requests[1])
    disk.wait(requests[1])
    assert list(disk.backend.in_flight) == [requests[0], requests[2]]
    node.release()
    disk.context.run_until_idle()
    assert not disk.backend.in_flight


def test_requests_end_in_the_order_in_which_the_node_ends_them(node: WatchedNode) -> None:
    disk = Disk(node)
    node.held = True
    ended: list[int] = []
    requests = [disk.submit(Op.READ, at, 512, done=lambda r: ended.append(r.offset)) for at in (0, 512, 1024)]
    for request in (requests[2], requests[0], requests[1]):
        node.release(request)
        disk.context.run_until_idle()
    assert ended == [1024, 0, 512]


def test_a_chain_of_requests_each_begun_by_the_one_before_has_no_end_in_depth(disk: Disk) -> None:
    count = 0

    def next_one(_: Request) -> None:
        nonlocal count
        count += 1
        if count < 20_000:
            disk.backend.submit(Request(Op.READ, 0, 0, done=next_one))

    disk.submit(Op.READ, 0, 0, done=next_one)
    assert count == 20_000


def test_what_done_submits_is_served_after_done_has_returned(disk: Disk) -> None:
    order: list[str] = []

    def first(_: Request) -> None:
        disk.submit(Op.READ, 0, 1, done=lambda _: order.append("second"))
        order.append("first returns")

    disk.submit(Op.READ, 0, 1, done=first)
    assert order == ["first returns", "second"]


def test_a_done_that_raises_leaves_the_backend_usable(disk: Disk) -> None:
    def broken(_: Request) -> None:
        disk.submit(Op.WRITE, 0, data=b"after")
        raise KeyError("a device's bug")

    with pytest.raises(KeyError):
        disk.submit(Op.READ, 0, 1, done=broken)
    assert disk.read(0, 5) == b"after"


def test_completed_means_no_longer_in_flight(disk: Disk) -> None:
    seen: list[bool] = []
    disk.submit(Op.READ, 0, 1, done=lambda request: seen.append(request in disk.backend.in_flight))
    assert seen == [False]


# --- statistics


def counted(stats: BlockStats) -> dict[str, int]:
    """The counters that are not zero."""
    return {name: value for name, value in stats.as_dict().items() if value}


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (Op.READ, {"rd_operations": 1, "rd_bytes": 512}),
        (Op.WRITE, {"wr_operations": 1, "wr_bytes": 512, "wr_highest_offset": 1536}),
        (Op.WRITE_ZEROES, {"wr_operations": 1, "wr_bytes": 512, "wr_highest_offset": 1536}),
        (Op.DISCARD, {"unmap_operations": 1, "unmap_bytes": 512}),
        (Op.SECURE_ERASE, {"unmap_operations": 1, "unmap_bytes": 512}),
        (Op.FLUSH, {"flush_operations": 1}),
    ],
)
def test_each_operation_has_its_counters(disk: Disk, op: Op, expected: dict[str, int]) -> None:
    flush = op is Op.FLUSH
    data = bytes(512) if op is Op.WRITE else None
    disk.do(op, 0 if flush else 1024, 0 if flush else 512, data)
    assert counted(disk.backend.stats) == expected


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        (Op.READ, "rd"),
        (Op.WRITE, "wr"),
        (Op.WRITE_ZEROES, "wr"),
        (Op.DISCARD, "unmap"),
        (Op.SECURE_ERASE, "unmap"),
        (Op.FLUSH, "flush"),
    ],
)
def test_failed_and_invalid_requests_are_counted_apart(node: WatchedNode, op: Op, kind: str) -> None:
    disk = Disk(node)
    node.errors = {(op, 0): OSError(errno.EIO, "broken")}
    disk.do(op, 0, 0 if op is Op.FLUSH else 512, bytes(512) if op is Op.WRITE else None)
    disk.backend.account_invalid(op)
    disk.backend.account_invalid(op)
    assert counted(disk.backend.stats) == {f"failed_{kind}_operations": 1, f"invalid_{kind}_operations": 2}


def test_times_are_sums_on_the_contexts_clock() -> None:
    disk = Disk({"driver": "null-co", "latency-ns": 1000})
    requests = [disk.submit(Op.READ, 0, 512), disk.submit(Op.READ, 0, 512), disk.submit(Op.FLUSH)]
    disk.context.run_until_idle()
    assert [disk.ends[request] for request in requests] == [1, 1, 1]
    assert disk.backend.stats.rd_total_time_ns == 2000
    assert disk.backend.stats.flush_total_time_ns == 1000
    disk.close()


def test_another_thread_is_told_that_it_is_wrong_here(disk: Disk) -> None:
    disk.write(0, bytes(512))
    calls = [
        lambda: disk.submit(Op.READ, 0, 512),
        lambda: disk.backend.read_now([(0, [memoryview(bytearray(512))], 512)]),
    ]
    with ThreadPoolExecutor(1) as other:
        for call in calls:
            with pytest.raises(WrongContextError):
                other.submit(call).result()
    assert not disk.backend.in_flight


def test_a_request_is_printed_with_what_matters() -> None:
    assert repr(Request(Op.WRITE, 512, 1024, flags=Flags.FUA, label="x")) == "<WRITE 1024@0x200 FUA 'x'>"


def test_nodes_without_a_name_get_one_each() -> None:
    context = IoContext.virtual()
    names = {open_node({"driver": "null-co"}, context).node_name for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("#block") for name in names)
    context.close()


def test_a_closed_backend_ends_what_waits_and_takes_nothing_more() -> None:
    run_state = RunState()
    disk = Disk(run_state=run_state)
    run_state.stop()
    waiting = disk.submit(Op.WRITE, data=b"x")
    disk.backend.close()
    assert disk.wait(waiting) == errno.ECANCELED
    run_state.cont()
    later = Disk(disk.node, read_only=True)
    closed = Request(Op.WRITE, 0, 1, [memoryview(b"x")])
    disk.backend.submit(closed)
    assert closed.error == errno.ENOMEDIUM
    assert disk.backend.read_now([(0, [memoryview(bytearray(1))], 1)]) == 0
    assert later.read(0, 1) == b"\0"
    assert not disk.backend.in_flight
    later.close()
