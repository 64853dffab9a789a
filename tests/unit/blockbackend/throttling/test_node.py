"""The `throttle` node: what waits, what does not, and what happens to its group."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devmodels.blockbackend import BlockBackend, Graph, Op, Request
from devmodels.blockbackend.drain import drained
from devmodels.blockbackend.graph import GraphError
from devmodels.blockbackend.options import BlockOptionError
from devmodels.blockbackend.throttling.limits import check
from devmodels.iocontext import IoContext

SECOND = 10**9
BLOCK = 4096
DISK = {"driver": "memory", "size": 1 << 20}


@pytest.fixture
def graph() -> Iterator[Graph]:
    graph = Graph(IoContext.virtual())
    yield graph
    graph.close()
    graph.context.close()


def throttled(graph: Graph, name: str = "d0", **limits: int) -> BlockBackend:
    if "g0" not in graph.objects:
        named = {key.replace("_", "-"): value for key, value in limits.items()}
        graph.add_object({"qom-type": "throttle-group", "id": "g0", "limits": named})
    node = {"driver": "throttle", "node-name": name, "throttle-group": "g0", "discard": "unmap", "file": DISK}
    return BlockBackend(graph.add(node), name=name)


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


@pytest.mark.parametrize("op", [Op.READ, Op.WRITE, Op.DISCARD, Op.WRITE_ZEROES])
def test_operations_wait(graph: Graph, op: Op) -> None:
    backend = throttled(graph, iops_total=10)
    ends = submit(backend, op, 5)
    graph.context.run_until_idle()
    assert ends == [0, 0, *(number * SECOND // 10 for number in (1, 2, 3))]


def test_flushes_do_not(graph: Graph) -> None:
    backend = throttled(graph, iops_total=1)
    assert submit(backend, Op.FLUSH, 5) == [0] * 5


def test_reads_at_hand_count_as_well(graph: Graph) -> None:
    backend = throttled(graph, bps_read=10 * BLOCK)
    reads = [(2 * BLOCK * at, (memoryview(bytearray(BLOCK)),), BLOCK) for at in range(5)]
    assert backend.read_now(reads) == 2
    ends = submit(backend, Op.READ, 1)
    graph.context.run_until_idle()
    assert ends == [SECOND // 10]


def test_a_read_that_is_not_at_hand_counts_once(graph: Graph) -> None:
    graph.add_object({"qom-type": "throttle-group", "id": "g0", "limits": {"iops-read": 10}})
    slow = {"driver": "null-co", "size": 1 << 20, "latency-ns": 1}
    backend = BlockBackend(graph.add({"driver": "throttle", "throttle-group": "g0", "file": slow}))
    assert backend.read_now([(0, (memoryview(bytearray(BLOCK)),), BLOCK)]) == 0
    ends = submit(backend, Op.READ, 3)
    graph.context.run_until_idle()
    assert ends == [1, 1, SECOND // 10 + 1]


def test_members_of_a_group_share_its_limits(graph: Graph) -> None:
    first, second = throttled(graph, "a", iops_total=10), throttled(graph, "b")
    ends = submit(first, Op.WRITE, 4), submit(second, Op.WRITE, 4)
    graph.context.run_until_idle()
    assert max(map(max, ends)) == 6 * SECOND // 10
    assert sorted([*ends[0], *ends[1]]) == [0, 0, *(number * SECOND // 10 for number in range(1, 7))]


def test_a_drained_section_does_not_wait_for_the_limits(graph: Graph) -> None:
    backend = throttled(graph, iops_total=1)
    ends = submit(backend, Op.WRITE, 8)

    async def drain() -> int:
        async with drained(graph["d0"]):
            return graph.context.now_ns()

    assert graph.context.run(drain()) == 0
    assert ends == [0] * 8


def test_what_a_drained_section_lets_go_counts(graph: Graph) -> None:
    backend = throttled(graph, iops_total=10)
    done = 0

    def again(_request: Request) -> None:
        nonlocal done
        done += 1
        load()

    def load() -> None:
        backend.submit(Request(Op.WRITE_ZEROES, 0, BLOCK, done=again))

    async def change() -> None:
        for _ in range(20):
            await graph.context.sleep(2 * SECOND)
            await graph.insert({"driver": "raw", "node-name": "r0"}, above="d0")
            await graph.remove("r0")

    for _ in range(4):
        load()
    graph.context.run(change())
    # 40 s of 10 a second, the tenth of a second that may come at once, and what the last sections let go in advance.
    assert 401 <= done <= 401 + 2 * 4


def test_new_limits_hold_for_those_who_wait(graph: Graph) -> None:
    backend = throttled(graph, iops_total=1)
    ends = submit(backend, Op.WRITE, 4)
    graph.context.call_at(SECOND // 2, lambda: graph.objects["g0"].configure(check({"iops-total": 1000})))
    graph.context.run_until_idle()
    assert ends == [0, SECOND // 2, SECOND // 2, SECOND // 2]


def test_a_node_that_goes_leaves_its_group(graph: Graph) -> None:
    backend = throttled(graph, iops_total=1)
    with pytest.raises(GraphError, match=r'^object "g0" is in use: by 1 members$'):
        graph.delete_object("g0")
    backend.close()
    graph.delete("d0")
    graph.delete_object("g0")
    assert graph.objects == {}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"id": "g1"}, '$.qom-type: missing; expected "throttle-group"'),
        ({"qom-type": "iothread", "id": "t"}, '$.qom-type: "iothread" is given; expected "throttle-group"'),
        ({"qom-type": "throttle-group"}, "$.id: missing; expected a name for nodes to refer to"),
        (
            {"qom-type": "throttle-group", "id": "g0"},
            '$.id: "g0" is given; an object of that name is there',
        ),
        (
            {"qom-type": "throttle-group", "id": "g1", "iops": 1},
            "$.iops: no such option; expected one of id, limits, qom-type",
        ),
        (
            {"qom-type": "throttle-group", "id": "g1", "limits": {"iops-total": "x"}},
            '$.limits.iops-total: "x" is given; expected a number from 0 (no limit) to 1000000000000000',
        ),
        (
            {"qom-type": "throttle-group", "id": "g1", "limits": {"bps-read-max": 5}},
            "$.limits.bps-read-max: 5 is given; expected with it bps-read",
        ),
    ],
)
def test_wrong_objects_are_told(graph: Graph, options: dict[str, object], said: str) -> None:
    throttled(graph, iops_total=1)
    with pytest.raises(BlockOptionError) as caught:
        graph.add_object(options)
    assert str(caught.value) == said
    assert list(graph.objects) == ["g0"]


def test_a_group_that_is_not_there_is_told_and_nothing_stays_open(graph: Graph) -> None:
    with pytest.raises(BlockOptionError) as caught:
        graph.add({"driver": "throttle", "throttle-group": "g9", "file": DISK})
    assert str(caught.value) == (
        '$.throttle-group: "g9" is given; expected a throttle group, and there is none'
    )
    assert graph.nodes == {}
