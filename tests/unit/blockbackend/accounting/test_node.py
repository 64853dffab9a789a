"""Statistics of a node: what comes to it, while somebody wants to know."""

from __future__ import annotations

import errno

from devmodels.blockbackend import BlockBackend, BlockLimits, Graph, Op, Request, open_node
from devmodels.blockbackend.accounting import BlockStats, Kind
from devmodels.blockbackend.drivers.memory import MemoryOptions
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import Disk, WatchedNode


def counts(graph: Graph, name: str) -> dict[str, int]:
    stats = graph[name].stats
    return {} if stats is None else {key: value for key, value in stats.as_dict().items() if value}


def read(offset: int, length: int = 512) -> Request:
    return Request(Op.READ, offset, length, [memoryview(bytearray(length))])


def test_every_user_is_counted_and_reads_without_a_request_too() -> None:
    graph = Graph(IoContext.virtual())
    graph.add({"driver": "memory", "size": 1 << 20, "node-name": "d", "accounting": True})
    below = BlockBackend(graph["d"])
    above = BlockBackend(graph.add({"driver": "raw", "node-name": "r", "file": "d", "offset": 4096}))
    below.submit(read(0))
    above.submit(read(512, 1024))
    assert above.read_now([(0, (memoryview(bytearray(2048)),), 2048)]) == 1
    assert counts(graph, "d") == {"rd_operations": 3, "rd_bytes": 512 + 1024 + 2048}
    assert graph["r"].stats is None
    graph.close()


def test_what_was_made_to_fit_is_what_counts() -> None:
    context = IoContext.virtual()
    node = WatchedNode(context, limits=BlockLimits(request_alignment=4096))
    node.reopen(MemoryOptions(driver="memory", size=node.size, accounting=True))
    disk = Disk(node)
    disk.write(512, b"x" * 512)
    assert node.stats is not None
    assert (node.stats.rd_operations, node.stats.rd_bytes) == (1, 4096)
    assert (node.stats.wr_operations, node.stats.wr_bytes, node.stats.wr_highest_offset) == (1, 4096, 4096)
    disk.close()


def test_failures_and_times_and_what_is_in_flight() -> None:
    context = IoContext.virtual()
    node = WatchedNode(context)
    node.reopen(MemoryOptions(driver="memory", size=node.size, accounting=True))
    stats = node.stats
    assert stats is not None
    stats.set_histogram(Kind.WR, [50, 200])
    disk = Disk(node)
    node.held = True
    node.errors[Op.WRITE, 0] = OSError(errno.EIO, "as told")
    writes = [disk.submit(Op.WRITE, at, data=bytes(512)) for at in (0, 4096)]
    seen: list[tuple[int, int]] = []
    context.call_at(30, lambda: seen.append((stats.in_flight, stats.busy_ns(context.now_ns()))))
    context.call_at(100, lambda: node.release(writes[0]))
    context.call_at(250, lambda: node.release(writes[1]))
    context.run_until_idle()
    assert seen == [(2, 60)]
    assert (stats.failed_wr_operations, stats.wr_operations, stats.wr_bytes) == (1, 1, 512)
    assert (stats.wr_total_time_ns, stats.busy_ns(1000), stats.in_flight) == (350, 350, 0)
    assert stats.histograms[Kind.WR].as_dict() == {"boundaries": [50, 200], "bins": [0, 1, 1]}
    disk.close()


def test_switched_on_and_off_while_requests_run() -> None:
    graph = Graph(IoContext.virtual())
    disk = {"driver": "null-co", "size": 1 << 20, "latency-ns": 10, "node-name": "d"}
    delay: dict[str, object] = {"driver": "delay", "node-name": "s", "file": "d", "latency-ns": 5}
    graph.add(disk)
    backend = BlockBackend(graph.add(delay))
    run = graph.context.run
    backend.submit(read(0))
    run(graph.reopen({**delay, "accounting": True}))
    for at in (512, 1024):
        backend.submit(read(at))
    graph.context.run_until_idle()
    assert counts(graph, "s") == {"rd_operations": 2, "rd_bytes": 1024, "rd_total_time_ns": 30}
    run(graph.reopen(delay))
    backend.submit(read(0))
    graph.context.run_until_idle()
    run(graph.reopen({**delay, "accounting": True}))
    backend.submit(read(2048))
    graph.context.run_until_idle()
    assert counts(graph, "s") == {"rd_operations": 3, "rd_bytes": 1536, "rd_total_time_ns": 45}
    graph.close()


def test_nobody_pays_where_nobody_asks() -> None:
    context = IoContext.virtual()
    node = open_node({"driver": "memory", "size": 4096}, context)
    backend = BlockBackend(node)
    assert backend.edge.read_now == node.read_now
    assert backend.edge.read == node.read
    backend.close()


def test_names_are_those_of_qemus_query() -> None:
    disk = Disk()
    stats = disk.backend.stats
    stats.set_histogram(Kind.RD, [10])
    stats.add_interval(1, 0)
    stats.account_failed = False
    assert "idle_time_ns" not in stats.device_stats(0)
    disk.read(0, 512)
    found = stats.device_stats(7)
    assert found["idle_time_ns"] == 7
    assert (found["account_failed"], found["account_invalid"]) == (False, True)
    assert found["rd_latency_histogram"] == {"boundaries": [10], "bins": [1, 0]}
    assert [each["interval_length"] for each in found["timed_stats"]] == [1]  # type: ignore[attr-defined]
    disk.close()


def test_reads_that_ended_together_took_as_long_each() -> None:
    stats = BlockStats()
    stats.set_histogram(Kind.RD, [5, 10])
    stats.account_reads(3, 4096, 7, 100)
    assert (stats.rd_operations, stats.rd_bytes, stats.rd_total_time_ns, stats.ended_ns) == (3, 4096, 21, 21)
    assert stats.histograms[Kind.RD].bins == [0, 3, 0]
    assert stats.histograms[Kind.RD].total == 21
