"""The figures as a page in Prometheus' text format, in its base units: bytes and seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import accumulate
from typing import TYPE_CHECKING

from devmodels.blockbackend import BlockBackend, BlockNode, BlockStats
from devmodels.blockbackend.accounting import Kind
from devmodels.telemetry.figures import Source

if TYPE_CHECKING:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

SECOND = 10**9
PATH = "/metrics"
_OPS = {Kind.RD: "read", Kind.WR: "write", Kind.FLUSH: "flush", Kind.UNMAP: "unmap"}

_COUNTERS = {
    "operations": ("{}_operations", 1, "Requests that succeeded"),
    "bytes": ("{}_bytes", 1, "Bytes of requests that succeeded"),
    "merged": ("{}_merged", 1, "Requests that rode along in another one"),
    "failed": ("failed_{}_operations", 1, "Requests that ended with an error"),
    "invalid": ("invalid_{}_operations", 1, "Requests that the device refused"),
    "time_seconds": ("{}_total_time_ns", SECOND, "Time that requests took, waiting included"),
}
"""Counter by name: QEMU's counter, what its unit is divided by, and what it says."""
_NODE_COUNTERS = ("operations", "bytes", "failed", "time_seconds")


class Collector:
    """What the library's registry asks for metrics."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """Every metric at this moment."""
        from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

        yield InfoMetricFamily("devmodels", "What this is", value={"version": version("devmodels")})
        running = self._source.run_state.running
        yield GaugeMetricFamily("devmodels_running", "1; 0 while the machine is stopped", value=running)
        now = self._source.context.now_ns()
        backends, nodes = list(self._source.backends()), list(self._source.nodes())
        labels = ["device", "node"]
        own = [((backend.name, backend.node.node_name), backend.stats) for backend in backends]
        counted = [((node.node_name,), node.stats) for node in nodes if node.stats is not None]
        yield from _counters("devmodels_block", labels, own, list(_COUNTERS))
        yield from _counters("devmodels_block_node", ["node"], counted, list(_NODE_COUNTERS))
        yield _histogram("devmodels_block_latency_seconds", labels, own)
        yield _histogram("devmodels_block_node_latency_seconds", ["node"], counted)
        yield from _of_backends(backends, now)
        yield from _of_nodes(nodes, now)
        sizes = GaugeMetricFamily("devmodels_block_node_size_bytes", "The node's size", labels=["node"])
        for node in nodes:
            sizes.add_metric([node.node_name], node.size)
        yield sizes


def page(source: Source) -> tuple[str, bytes]:
    """Content type and content."""
    from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(Collector(source))
    return CONTENT_TYPE_PLAIN_0_0_4, generate_latest(registry)


Owned = Sequence[tuple[tuple[str, ...], BlockStats]]


def _counters(prefix: str, labels: list[str], owned: Owned, names: list[str]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    for name in names:
        counter, unit, says = _COUNTERS[name]
        family = CounterMetricFamily(f"{prefix}_{name}", says, labels=[*labels, "op"])
        for values, stats in owned:
            for kind, op in _OPS.items():
                value = getattr(stats, counter.format(kind.prefix), None)
                if value is not None:
                    family.add_metric([*values, op], value / unit if unit > 1 else value)
        yield family


def _histogram(name: str, labels: list[str], owned: Owned) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(name, "How many requests took how long", labels=[*labels, "op"])
    for values, stats in owned:
        for kind, histogram in stats.histograms.items():
            bounds = [*(str(boundary / SECOND) for boundary in histogram.boundaries), "+Inf"]
            buckets = list(zip(bounds, accumulate(histogram.bins), strict=True))
            family.add_metric([*values, _OPS[kind]], buckets, histogram.total / SECOND)
    return family


def _of_backends(backends: list[BlockBackend], now: int) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    labels = ["device", "node"]
    gauges: dict[str, GaugeMetricFamily] = {
        name: GaugeMetricFamily(f"devmodels_block_{name}", says, labels=labels)
        for name, says in (
            ("in_flight", "Requests that are not over"),
            ("idle_seconds", "For how long nothing has ended"),
            ("write_highest_offset_bytes", "The end of the highest write"),
        )
    }
    counters: dict[str, CounterMetricFamily] = {
        name: CounterMetricFamily(f"devmodels_block_{name}", says, labels=labels)
        for name, says in (
            ("busy_seconds", "Time that requests have spent here; its rate is the mean depth of the queue"),
            ("throttled_seconds", "Time that requests have waited for the limits of the own throttle group"),
            ("throttled_operations", "Requests that have waited so"),
        )
    }
    for backend in backends:
        values, stats = [backend.name, backend.node.node_name], backend.stats
        gauges["in_flight"].add_metric(values, len(backend.in_flight))
        gauges["write_highest_offset_bytes"].add_metric(values, stats.wr_highest_offset)
        if (idle := stats.idle_ns(now)) is not None:
            gauges["idle_seconds"].add_metric(values, idle / SECOND)
        counters["busy_seconds"].add_metric(values, backend.busy_ns() / SECOND)
        counters["throttled_seconds"].add_metric(values, backend.throttled_ns / SECOND)
        counters["throttled_operations"].add_metric(values, backend.throttled.operations)
    yield from gauges.values()
    yield from counters.values()


def _of_nodes(nodes: list[BlockNode], now: int) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    prefix = "devmodels_block_node"
    in_flight = GaugeMetricFamily(f"{prefix}_in_flight", "Requests that are not over", labels=["node"])
    busy = CounterMetricFamily(
        f"{prefix}_busy_seconds", "Time that requests have spent here", labels=["node"]
    )
    throttled = CounterMetricFamily(
        f"{prefix}_throttled_seconds", "Time that requests have waited for a group's limits", labels=["node"]
    )
    for node in nodes:
        if node.stats is not None:
            in_flight.add_metric([node.node_name], node.stats.in_flight)
            busy.add_metric([node.node_name], node.stats.busy_ns(now) / SECOND)
        if (waited := node.throttled_ns()) is not None:
            throttled.add_metric([node.node_name], waited / SECOND)
    yield from (in_flight, busy, throttled)
