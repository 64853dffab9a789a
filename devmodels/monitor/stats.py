"""Statistics: `query-blockstats`, `block-latency-histogram-set`; what is in flight: `x-query-in-flight` (ours).

Follows QEMU's qapi/block-core.json (BlockStats, BlockDeviceStats).  Times are in ns.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType, field

from devmodels.blockbackend import BlockNode, BlockStats
from devmodels.blockbackend.accounting import Kind
from devmodels.blockbackend.listing import RequestData
from devmodels.monitor.command import Arguments, CommandError
from devmodels.monitor.world import World


class BlockLatencyHistogramInfo(msgspec.Struct):
    """`bins` are the counts below, between and from `boundaries` on."""

    boundaries: list[int]
    bins: list[int]


class BlockDeviceTimedStats(msgspec.Struct):
    """Of the last `interval_length` seconds or so."""

    interval_length: int
    min_rd_latency_ns: int
    max_rd_latency_ns: int
    avg_rd_latency_ns: int
    min_wr_latency_ns: int
    max_wr_latency_ns: int
    avg_wr_latency_ns: int
    min_flush_latency_ns: int
    max_flush_latency_ns: int
    avg_flush_latency_ns: int
    avg_rd_queue_depth: float
    avg_wr_queue_depth: float


class BlockDeviceStats(msgspec.Struct, kw_only=True):
    """Counters; `idle_time_ns` is absent where nothing has ever ended."""

    rd_bytes: int
    wr_bytes: int
    unmap_bytes: int
    rd_operations: int
    wr_operations: int
    flush_operations: int
    unmap_operations: int
    rd_total_time_ns: int
    wr_total_time_ns: int
    flush_total_time_ns: int
    unmap_total_time_ns: int
    wr_highest_offset: int
    rd_merged: int
    wr_merged: int
    unmap_merged: int
    idle_time_ns: int | UnsetType = UNSET
    failed_rd_operations: int
    failed_wr_operations: int
    failed_flush_operations: int
    failed_unmap_operations: int
    invalid_rd_operations: int
    invalid_wr_operations: int
    invalid_flush_operations: int
    invalid_unmap_operations: int
    account_invalid: bool
    account_failed: bool
    timed_stats: list[BlockDeviceTimedStats]
    rd_latency_histogram: BlockLatencyHistogramInfo | UnsetType = UNSET
    wr_latency_histogram: BlockLatencyHistogramInfo | UnsetType = UNSET
    flush_latency_histogram: BlockLatencyHistogramInfo | UnsetType = UNSET


class BlockStatsInfo(msgspec.Struct):
    """A device, an export or a node; `parent` is what the node stands over."""

    stats: BlockDeviceStats
    device: str | UnsetType = UNSET
    qdev: str | UnsetType = UNSET
    node_name: str | UnsetType = field(name="node-name", default=UNSET)
    parent: BlockStatsInfo | UnsetType = UNSET


class QueryBlockstats(Arguments, frozen=True):
    """`query-nodes`: every node by itself, instead of every device."""

    query_nodes: bool = False


async def query_blockstats(world: World, arguments: QueryBlockstats) -> list[BlockStatsInfo]:
    """What devices or nodes have done; nodes count where their option `accounting` is on."""
    now = world.context.now_ns()
    if arguments.query_nodes:
        return [
            BlockStatsInfo(_stats(_of(node), now), node_name=node.node_name)
            for node in world.graph.nodes.values()
        ]
    return [
        BlockStatsInfo(
            _stats(each.backend.stats, now),
            device=each.backend.drive_name if each.backend.qom_path else each.name,
            qdev=each.backend.qdev or UNSET,
            node_name=each.backend.node.node_name if each.backend.inserted else UNSET,
            parent=_parent(each.backend.node, now),
        )
        for each in world.attached()
    ]


def unused(node: BlockNode | None, name: str, now: int) -> BlockStatsInfo:
    """A drive that no device has: it has done nothing."""
    told = BlockStatsInfo(_stats(BlockStats(), now), device=name)
    if node is not None:
        told.node_name, told.parent = node.node_name, _parent(node, now)
    return told


def _parent(node: BlockNode, now: int) -> BlockStatsInfo | UnsetType:
    """Statistics of a node's first child."""
    for edge in node.children.values():
        return BlockStatsInfo(
            _stats(_of(edge.node), now), node_name=edge.node.node_name, parent=_parent(edge.node, now)
        )
    return UNSET


def _of(node: BlockNode) -> BlockStats:
    """A node's statistics; where none are kept, those of a node that has done nothing."""
    return BlockStats() if node.stats is None else node.stats


def _stats(stats: BlockStats, now: int) -> BlockDeviceStats:
    return msgspec.convert(stats.device_stats(now), BlockDeviceStats)


class DeviceInFlight(msgspec.Struct):
    """What a device or an export has in flight, oldest first."""

    device: str
    requests: list[RequestData]


async def x_query_in_flight(world: World) -> list[DeviceInFlight]:
    """What is in flight, where it comes from, and what it waits for."""
    return [DeviceInFlight(each.name, each.backend.list_in_flight()) for each in world.attached()]


class BlockLatencyHistogramSet(Arguments, frozen=True):
    """Boundaries in ns: of all, or of reads, writes, flushes; no boundaries at all end the histograms."""

    id: str
    boundaries: list[int] | None = None
    boundaries_read: list[int] | None = None
    boundaries_write: list[int] | None = None
    boundaries_flush: list[int] | None = None


async def block_latency_histogram_set(world: World, arguments: BlockLatencyHistogramSet) -> None:
    """Keep histograms of latencies from zero on, or none any more."""
    each = world.by_id(arguments.id)
    stats = each.backend.stats
    wanted = {
        Kind.RD: (arguments.boundaries_read, "read"),
        Kind.WR: (arguments.boundaries_write, "write"),
        Kind.FLUSH: (arguments.boundaries_flush, "flush"),
    }
    end = arguments.boundaries is None and all(given is None for given, _ in wanted.values())
    for kind, (given, name) in wanted.items():
        boundaries = arguments.boundaries if given is None else given
        if end:
            stats.set_histogram(kind, None)
        elif boundaries is not None:
            try:
                stats.set_histogram(kind, boundaries)
            except ValueError:
                raise CommandError(f"Device '{arguments.id}' set {name} boundaries fail") from None
