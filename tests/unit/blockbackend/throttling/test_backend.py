"""Limits of one backend (`block_set_io_throttle`), a node that goes to another group, and limits changed by name."""

from __future__ import annotations

import errno
import gc
from collections.abc import Iterator

import pytest

from devmodels.blockbackend import BlockBackend, Graph, Op, Request
from devmodels.blockbackend.drain import drained
from devmodels.blockbackend.listing import RequestData
from devmodels.blockbackend.options import BlockOptionError
from devmodels.blockbackend.throttling import ThrottleLimits
from devmodels.iocontext import IoContext

SECOND = 10**9
BLOCK = 4096
TEN = ThrottleLimits(iops_total=10)
NONE = ThrottleLimits()


@pytest.fixture
def graph() -> Iterator[Graph]:
    graph = Graph(IoContext.virtual())
    graph.add({"driver": "memory", "size": 1 << 20, "node-name": "d0", "discard": "unmap"})
    yield graph
    graph.close()
    graph.context.close()


@pytest.fixture
def backend(graph: Graph) -> BlockBackend:
    return BlockBackend(graph["d0"], name="vd0")


def submit(backend: BlockBackend, op: Op, count: int) -> list[int]:
    """Ends of `count` requests that are begun now, in ns."""
    ends: list[int] = []
    context = backend.context
    for number in range(count):
        length = 0 if op is Op.FLUSH else BLOCK
        vectors = [memoryview(bytearray(BLOCK))] if op in (Op.READ, Op.WRITE) else []
        offset = 0 if op is Op.FLUSH else 2 * BLOCK * number
        backend.submit(Request(op, offset, length, vectors, done=lambda _: ends.append(context.now_ns())))
    return ends


@pytest.mark.parametrize("write_cache", [True, False])
@pytest.mark.parametrize("op", [Op.READ, Op.WRITE, Op.WRITE_ZEROES, Op.SECURE_ERASE])
def test_requests_keep_to_the_limits(graph: Graph, backend: BlockBackend, op: Op, write_cache: bool) -> None:
    backend.write_cache = write_cache
    graph.set_io_throttle(backend, TEN)
    ends = submit(backend, op, 5)
    graph.context.run_until_idle()
    assert ends == [0, 0, *(number * SECOND // 10 for number in (1, 2, 3))]
    assert backend.throttled_ns == (1 + 2 + 3) * SECOND // 10
    assert backend.throttled.operations == 3


@pytest.mark.parametrize("op", [Op.FLUSH, Op.DISCARD])
def test_flushes_and_discards_do_not_wait(graph: Graph, backend: BlockBackend, op: Op) -> None:
    graph.set_io_throttle(backend, TEN)
    assert submit(backend, op, 5) == [0] * 5


def test_reads_at_hand_count_too(graph: Graph, backend: BlockBackend) -> None:
    graph.set_io_throttle(backend, ThrottleLimits(bps_read=10 * BLOCK))
    reads = [(2 * BLOCK * at, (memoryview(bytearray(BLOCK)),), BLOCK) for at in range(5)]
    assert backend.read_now(reads) == 2
    graph.set_io_throttle(backend, NONE)
    assert backend.read_now(reads) == 5


def test_what_waits_is_seen_and_goes_with_the_limits(graph: Graph, backend: BlockBackend) -> None:
    graph.set_io_throttle(backend, TEN)
    ends = submit(backend, Op.WRITE, 5)
    graph.context.call_at(SECOND // 20, lambda: seen.append((backend.list_in_flight(), backend.throttled_ns)))
    graph.context.call_at(SECOND // 20, lambda: graph.set_io_throttle(backend, NONE))
    seen: list[tuple[list[RequestData], int]] = []
    graph.context.run_until_idle()
    ((waiting, throttled),) = seen
    assert [each.where for each in waiting] == ["throttled"] * 3
    assert throttled == backend.throttled_ns == 3 * SECOND // 20
    assert ends == [0, 0] + [SECOND // 20] * 3
    assert backend.throttled_by is None


@pytest.mark.parametrize("how", ["backend", "section"])
def test_draining_does_not_wait_for_the_limits(graph: Graph, backend: BlockBackend, how: str) -> None:
    graph.set_io_throttle(backend, TEN)
    ends = submit(backend, Op.WRITE, 5)

    async def drain() -> None:
        if how == "backend":
            await backend.drain()
        else:
            async with drained(backend.node):
                pass

    graph.context.run(drain())
    assert ends == [0] * 5
    # Afterwards the limits hold again.
    later = submit(backend, Op.WRITE, 3)
    graph.context.run_until_idle()
    assert max(later) > 0


def test_limits_given_within_a_drained_section_hold_after_it(graph: Graph, backend: BlockBackend) -> None:
    async def limit() -> list[int]:
        async with drained(backend.node):
            graph.set_io_throttle(backend, TEN)
            return submit(backend, Op.WRITE, 4)

    ends = graph.context.run(limit())
    graph.context.run_until_idle()
    assert ends == [0, 0, SECOND // 10, 2 * SECOND // 10]


def test_a_group_of_a_name_is_shared_and_the_last_limits_hold(graph: Graph, backend: BlockBackend) -> None:
    graph.add({"driver": "memory", "size": 1 << 20, "node-name": "d1"})
    other = BlockBackend(graph["d1"], name="vd1")
    graph.set_io_throttle(backend, TEN, "ours")
    graph.set_io_throttle(other, ThrottleLimits(iops_total=20), "ours")
    first, second = submit(backend, Op.WRITE, 12), submit(other, Op.WRITE, 12)
    graph.context.run_until_idle()
    # A bucket of a twentieth part is full after 3, then one each 50 ms, in turn.
    assert (max(first), max(second)) == (18 * SECOND // 20, 21 * SECOND // 20)


def test_an_object_may_be_the_group_and_a_stay_in_a_group_needs_no_name(
    graph: Graph, backend: BlockBackend
) -> None:
    group = graph.add_object({"qom-type": "throttle-group", "id": "g0"})
    graph.set_io_throttle(backend, TEN, "g0")
    graph.set_io_throttle(backend, ThrottleLimits(iops_read=7))
    assert group.limits == ThrottleLimits(iops_read=7)
    assert backend.throttled_by is not None
    assert backend.throttled_by.group is group
    graph.set_io_throttle(backend, TEN, "another")
    assert group.members == []


@pytest.mark.long
def test_groups_that_only_backends_name_end_with_the_last_of_them(
    graph: Graph, backend: BlockBackend
) -> None:
    options = {"qom-type": "throttle-group", "id": "vd0"}
    graph.set_io_throttle(backend, TEN)
    with pytest.raises(BlockOptionError, match=r'^\$\.id: "vd0" is given; a throttle group of that name'):
        graph.add_object(options)
    backend.close()
    gc.collect()
    graph.add_object(options)


def test_a_node_goes_to_another_group(graph: Graph) -> None:
    for name, rate in (("slow", 1), ("fast", 1000)):
        graph.add_object({"qom-type": "throttle-group", "id": name, "limits": {"iops-total": rate}})
    options: dict[str, object] = {"driver": "throttle", "node-name": "t", "file": "d0"}
    backend = BlockBackend(graph.add({**options, "throttle-group": "slow"}))
    ends = submit(backend, Op.WRITE, 4)
    graph.context.run(graph.reopen({**options, "throttle-group": "fast"}))
    assert ends == [0] * 4
    assert [len(graph.objects[name].members) for name in ("slow", "fast")] == [0, 1]
    later = submit(backend, Op.WRITE, 120)
    graph.context.run_until_idle()
    assert max(later) == (120 - 101) * SECOND // 1000
    with pytest.raises(
        BlockOptionError, match=r'^\$\.throttle-group: "none" is given; expected "fast", "slow"$'
    ):
        graph.context.run(graph.reopen({**options, "throttle-group": "none"}))
    assert len(graph.objects["fast"].members) == 1


def test_limits_are_set_by_name_and_the_others_stay(graph: Graph) -> None:
    group = graph.add_object({"qom-type": "throttle-group", "id": "g", "limits": {"iops-total": 5}})
    group.set_limits({"bps-read": 100})
    assert group.limits == ThrottleLimits(iops_total=5, bps_read=100)
    with pytest.raises(
        BlockOptionError, match=r"^limits\.iops-read-max: 1 is given; expected with it iops-read$"
    ):
        group.set_limits({"iops-read-max": 1}, where="limits")
    assert group.limits == ThrottleLimits(iops_total=5, bps_read=100)


@pytest.mark.parametrize("where", ["node", "backend"])
def test_a_reset_does_not_wait_for_limits(graph: Graph, where: str) -> None:
    graph.add_object({"qom-type": "throttle-group", "id": "g0"})
    throttle = {"driver": "throttle", "node-name": "t", "throttle-group": "g0", "file": "d0"}
    backend = BlockBackend(graph.add({"driver": "raw", "offset": 512, "file": throttle}), name="vd0")
    other = BlockBackend(graph["t"], name="vd1")
    if where == "node":
        graph.objects["g0"].set_limits({"iops-total": 1})
    else:
        graph.set_io_throttle(backend, ThrottleLimits(iops_total=1))
    ended: list[tuple[int, int]] = []

    def write(offset: int, backend: BlockBackend = backend) -> Request:
        request = Request(
            Op.WRITE,
            offset,
            512,
            [memoryview(bytes(512))],
            done=lambda request: ended.append((request.offset, request.error)),
        )
        backend.submit(request)
        return request

    write(0)
    with backend.batch():
        write(8192)
        write(8192 + 512)
    kept, others = write(16384), write(32768, other)
    assert ended[:1] == [(0, 0)]
    backend.cancel_held(lambda request: request is not kept)
    graph.context.call_at(1, lambda: backend.cancel_held())
    seen: list[list[Request]] = []
    graph.context.call_at(0, lambda: graph.context.call_soon(lambda: seen.append(list(backend.in_flight))))
    graph.context.run_until_idle()
    assert seen == [[kept]]
    assert [error for offset, error in ended if offset in (8192, 8704, 16384)] == [errno.ECANCELED] * 3
    assert others.error == 0
    assert backend.stats.failed_wr_operations == 3
    assert backend.stats.wr_merged == 0
