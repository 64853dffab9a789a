"""Events that a node tells its child of: "I am about to read guest data from you" (QEMU's BlkdebugEvent).

Only a child that looks at events (`BlockNode.wants_events`) is told; an edge to any other one knows nothing of this.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from devmodels.blockbackend.request import Op, Request

if TYPE_CHECKING:
    from devmodels.blockbackend.edge import Edge
    from devmodels.iocontext import Coro

Announced = Mapping[Op, str]
"""The event before each kind of request; a flush is told of as `flush_to_os`, and then as the one that is here."""

FLUSHES: Announced = {Op.FLUSH: "flush_to_disk"}
"""What any node over another one tells, as QEMU's generic flush does."""

GUEST_DATA: Announced = {**FLUSHES, Op.READ: "read_aio", Op.WRITE: "write_aio"}
"""What a node tells that keeps its guest's data in its child as it is."""

NOTHING: Announced = {}

_CHANGES = (Op.WRITE, Op.DISCARD, Op.WRITE_ZEROES, Op.SECURE_ERASE)


def announcing(
    edge: Edge, handlers: list[Callable[[Request], Coro[None]]]
) -> list[Callable[[Request], Coro[None]]]:
    """`handlers` of an edge, by `Op`, with the events that its user tells."""
    announced = edge.user_object.announces
    out = list(handlers)
    for op, event in announced.items():
        if op is not Op.FLUSH:
            out[op] = partial(_told, edge, event, out[op])
    if Op.FLUSH in announced:
        for op in _CHANGES:
            out[op] = partial(_noted, edge, out[op])
        out[Op.FLUSH] = partial(_flushed, edge, announced[Op.FLUSH], out[Op.FLUSH])
    return out


async def _told(
    edge: Edge, event: str, handler: Callable[[Request], Awaitable[None]], request: Request
) -> None:
    await edge.node.debug_event(event, request)
    await handler(request)


async def _noted(edge: Edge, handler: Callable[[Request], Awaitable[None]], request: Request) -> None:
    """A change, even one that has failed, is something to flush."""
    try:
        await handler(request)
    finally:
        edge.unflushed = True


async def _flushed(
    edge: Edge, event: str, handler: Callable[[Request], Awaitable[None]], request: Request
) -> None:
    """QEMU calls nothing a flush to disk where nothing was written since the last one that succeeded."""
    unflushed, edge.unflushed = edge.unflushed, False
    try:
        await edge.node.debug_event("flush_to_os", request)
        if unflushed:
            await edge.node.debug_event(event, request)
        await handler(request)
    except BaseException:
        edge.unflushed = edge.unflushed or unflushed
        raise
