"""All figures of one moment, as data (docs/telemetry.md).

`stats` are QEMU's `BlockDeviceStats`, with its names.  Counters only grow; what happened in a while is the difference
of two moments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice

import msgspec

from devmodels.blockbackend import BlockBackend, BlockNode
from devmodels.blockbackend.listing import RequestData
from devmodels.iocontext import IoContext
from devmodels.runstate import RunState

Stats = Mapping[str, object]


class BackendFigures(msgspec.Struct, rename="kebab", kw_only=True, frozen=True):
    """One backend.

    `busy_ns`: the time that requests have spent there, together; its growth over the time between is the mean depth of
    the queue.  `throttled_ns`, `throttled_operations`: how long, and how many, requests have waited for the limits of
    `throttle_group`.  `requests`: the oldest of those in flight.
    """

    device: str
    node_name: str
    driver: str
    size: int
    in_flight: int
    busy_ns: int
    throttled_ns: int
    throttled_operations: int
    throttle_group: str | None
    stats: Stats
    requests: list[RequestData]


class NodeFigures(msgspec.Struct, rename="kebab", kw_only=True, frozen=True, omit_defaults=True):
    """One node that has something to tell: `stats` where its `accounting` is on, `throttled_ns` where it throttles."""

    node_name: str
    driver: str
    size: int
    throttled_ns: int | None = None
    in_flight: int | None = None
    busy_ns: int | None = None
    stats: Stats | None = None


class Figures(msgspec.Struct, rename="kebab", kw_only=True, frozen=True):
    """One moment: `time_ns` is the clock that all times are on; `dropped`: how many moments this reader has missed."""

    time_ns: int
    status: str
    backends: list[BackendFigures]
    nodes: list[NodeFigures]
    dropped: int = 0


class Source:
    """Where figures come from; `backends` and `nodes` say what there is at the moment."""

    def __init__(
        self,
        context: IoContext,
        backends: Callable[[], Iterable[BlockBackend]],
        nodes: Callable[[], Iterable[BlockNode]],
        run_state: RunState,
    ) -> None:
        self.context = context
        self.backends = backends
        self.nodes = nodes
        self.run_state = run_state

    def take(self, requests: int) -> Figures:
        """The figures of this moment, with up to so many `requests` of each backend."""
        now = self.context.now_ns()
        return Figures(
            time_ns=now,
            status=self.run_state.status,
            backends=[_backend(backend, now, requests) for backend in self.backends()],
            nodes=[each for node in self.nodes() if (each := _node(node, now)) is not None],
        )


def _backend(backend: BlockBackend, now: int, requests: int) -> BackendFigures:
    node, member = backend.node, backend.throttled_by
    return BackendFigures(
        device=backend.name,
        node_name=node.node_name,
        driver=node.options.driver,
        size=node.size,
        in_flight=len(backend.in_flight),
        busy_ns=backend.busy_ns(),
        throttled_ns=backend.throttled_ns,
        throttled_operations=backend.throttled.operations,
        throttle_group=None if member is None else member.group.name,
        stats=backend.stats.device_stats(now),
        requests=list(islice(backend.list_in_flight(), requests)) if requests else [],
    )


def _node(node: BlockNode, now: int) -> NodeFigures | None:
    stats, throttled = node.stats, node.throttled_ns()
    if stats is None and throttled is None:
        return None
    figures = NodeFigures(
        node_name=node.node_name, driver=node.options.driver, size=node.size, throttled_ns=throttled
    )
    if stats is None:
        return figures
    return msgspec.structs.replace(
        figures, in_flight=stats.in_flight, busy_ns=stats.busy_ns(now), stats=stats.device_stats(now)
    )
