"""`query-iothreads`."""

from __future__ import annotations

import msgspec

from devmodels.monitor.world import World


class IOThreadInfo(msgspec.Struct, rename="kebab"):
    """A thread; its polling adapts itself, so what would steer that is 0."""

    id: str
    thread_id: int
    poll_max_ns: int
    poll_grow: int = 0
    poll_shrink: int = 0
    aio_max_batch: int = 0


async def query_iothreads(world: World) -> list[IOThreadInfo]:
    """The threads there are."""
    return [
        IOThreadInfo(name, thread.native_id, thread.context.poll_max_ns)
        for name, thread in sorted(world.graph.iothreads.by_id.items())
    ]
