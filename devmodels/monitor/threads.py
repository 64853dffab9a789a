"""`query-iothreads`."""

from __future__ import annotations

import msgspec

from devmodels.monitor.world import World


class IOThreadInfo(msgspec.Struct, rename="kebab"):
    """A thread; its polling adapts itself, so what would steer that is 0."""

    id: str
    thread_id: int
    poll_max_ns: int
    poll_grow: int
    poll_shrink: int
    aio_max_batch: int


async def query_iothreads(world: World) -> list[IOThreadInfo]:
    """The threads there are."""
    return [
        IOThreadInfo(name, thread.native_id, thread.context.poll_max_ns, 0, 0, 0)
        for name, thread in sorted(world.graph.iothreads.by_id.items())
    ]
