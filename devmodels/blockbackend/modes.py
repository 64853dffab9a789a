"""Where a backend's requests go, by its modes of the moment: a request pays only for what is switched on."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from devmodels.blockbackend.edge import Handler
from devmodels.blockbackend.request import HAS_FUA, WITH_FUA, Op, Request
from devmodels.iocontext import Lock

if TYPE_CHECKING:
    from devmodels.blockbackend.throttling import Member
    from devmodels.iocontext import IoContext

_WRITES = (Op.WRITE, Op.DISCARD, Op.WRITE_ZEROES, Op.SECURE_ERASE, Op.PASSTHROUGH)

_LIMITED = (Op.READ, Op.WRITE, Op.WRITE_ZEROES, Op.SECURE_ERASE)
"""What a backend's own throttle group concerns: discards and flushes never wait there, as in QEMU."""


class FlushTurns(Lock):
    """Turns of flushes, of a backend on `context`."""

    __slots__ = ("context",)

    def __init__(self, context: IoContext) -> None:
        super().__init__(context)
        self.context = context

    def move(self, context: IoContext) -> None:  # type: ignore[override]
        """It belongs to another context now; nobody has it or waits for it."""
        super().move(context)
        self.context = context


def handlers(
    served: Iterable[Handler],
    member: Member | None,
    read_only: bool,
    write_cache: bool,
    flushes: FlushTurns | None = None,
) -> list[Handler]:
    """A handler for each `Op`: those of the edge, `served`, behind what the modes ask for."""
    out = list(served)
    if flushes is not None:
        out[Op.FLUSH] = partial(_in_turn, flushes, out[Op.FLUSH])
        for op in (Op.WRITE, Op.WRITE_ZEROES):
            out[op] = partial(_stable_in_turn, flushes, out[op])
    if member is not None:
        for op in _LIMITED:
            out[op] = member.limited(out[op], write=op is not Op.READ)
    if read_only:
        for op in _WRITES:
            out[op] = _refuse
        out[Op.FLUSH] = _nothing
    elif not write_cache:
        for op in (Op.WRITE, Op.WRITE_ZEROES):
            out[op] = partial(_through, out[op])
    return out


async def _refuse(_request: Request) -> None:
    raise OSError(errno.EPERM, "read-only")


async def _nothing(_request: Request) -> None:
    """Nothing has been written, so nothing is left to flush."""


async def _through(handler: Handler, request: Request) -> None:
    """Write-through: as with FUA."""
    stable = request.derive(request.offset, request.length, request.vectors, flags=WITH_FUA[request.flags])
    await handler(stable)


async def _in_turn(flushes: FlushTurns, handler: Handler, request: Request) -> None:
    """One flush at a time."""
    async with flushes:
        await handler(request)


async def _stable_in_turn(flushes: FlushTurns, handler: Handler, request: Request) -> None:
    """A write that is to be stable when it is over: it is done, and then it waits for its turn to be flushed.

    Where it had to wait, what that was for is told of first.
    """
    await handler(request)
    if HAS_FUA[request.flags]:
        waits = flushes.locked
        async with flushes:
            if waits:
                await flushes.context.sleep(0)
