"""Requests made to fit a node's limits - alignment (O_DIRECT), length - and kept apart where they have to be.

A read that is not aligned takes in more and keeps what was asked for.  A write that is not reads the blocks at its two
ends, lays its own bytes over them and writes whole blocks (read-modify-write); meanwhile nobody else may write there,
so changes of such a node are alone in their range, in order of arrival.  Where a user of the node asks for ranges of
its own (`SERIALISING`), everything is in the node's table of what is in flight.  A longer request than the node takes
goes piece by piece.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from devmodels.blockbackend.request import HAS_NO_FALLBACK, HAS_SERIALISING, WITH_FUA, Op, Request
from devmodels.blockbackend.vectors import ZEROES, window

if TYPE_CHECKING:
    from devmodels.blockbackend.node import BlockNode

Handler = Callable[[Request], Awaitable[None]]


def _padding(length: int) -> list[memoryview]:
    return [memoryview(bytearray(length))] if length else []


class Fitting:
    """The requests of `node` for anybody who does not keep to its limits."""

    def __init__(self, node: BlockNode) -> None:
        self._node = node
        self._align = node.limits.request_alignment
        self._changes_alone = self._align > 1 or node.limits.max_transfer > 0
        self._tracked = node.serialised
        self._longest = node.limits.max_transfer // self._align * self._align

    def _whole(self, request: Request) -> tuple[int, int]:
        """The blocks that `request` touches, as [start, end)."""
        align = self._align
        return request.offset // align * align, -(-(request.offset + request.length) // align) * align

    async def _pieces(self, handler: Handler, request: Request) -> None:
        """Hand an aligned request to the node in lengths that it takes."""
        longest = self._longest
        if not longest or request.length <= longest:
            await handler(request)
            return
        for at in range(0, request.length, longest):
            length = min(longest, request.length - at)
            vectors = window(request.vectors, at, length)
            await handler(request.derive(request.offset + at, length, vectors))

    def _hold(self, request: Request, start: int, end: int) -> AbstractAsyncContextManager[None]:
        """A change of [start, end)."""
        serialising = self._changes_alone or HAS_SERIALISING[request.flags]
        return self._node.in_flight.hold(start, end, serialising=serialising)

    async def read(self, request: Request) -> None:
        """Read whole blocks; what was not asked for goes into padding."""
        start, end = self._whole(request)
        head = _padding(request.offset - start)
        tail = _padding(end - request.offset - request.length)
        if head or tail:
            request = request.derive(start, end - start, [*head, *request.vectors, *tail])
        if not self._tracked:
            await self._pieces(self._node.read, request)
            return
        serialising = HAS_SERIALISING[request.flags]
        async with self._node.in_flight.hold(start, end, serialising=serialising):
            await self._pieces(self._node.read, request)

    async def write(self, request: Request) -> None:
        """Write whole blocks, those at the ends completed by what is there."""
        start, end = self._whole(request)
        head = _padding(request.offset - start)
        tail = _padding(end - request.offset - request.length)
        async with self._hold(request, start, end):
            if head or tail:
                await self._fetch(request, start, end, head, tail)
                request = request.derive(start, end - start, [*head, *request.vectors, *tail])
            await self._pieces(self._node.write, request)

    async def _fetch(
        self, request: Request, start: int, end: int, head: list[memoryview], tail: list[memoryview]
    ) -> None:
        """Read what is in the blocks at the ends of `request` into `head` and `tail`."""
        align = self._align
        block = bytearray(align)
        known = -1
        for pads, at in ((head, start), (tail, end - align)):
            for pad in pads:
                if known != at:
                    await self._node.read(request.derive(at, align, [memoryview(block)], op=Op.READ))
                    known = at
                pad[:] = block[: len(pad)] if pads is head else block[align - len(pad) :]

    async def discard(self, request: Request) -> None:
        """Discard the whole blocks within the range: the rest is advice that cannot be taken."""
        align = self._align
        start = -(-request.offset // align) * align
        end = (request.offset + request.length) // align * align
        if start < end:
            async with self._hold(request, start, end):
                await self._node.discard(request.derive(start, end - start))

    async def write_zeroes(self, request: Request) -> None:
        """Zero the whole blocks by the node's own means, what is left at the ends by writing."""
        await self._zero(self._node.write_zeroes, request)

    async def secure_erase(self, request: Request) -> None:
        """Erase the whole blocks by the node's own means, what is left at the ends by overwriting."""
        stable = request.derive(request.offset, request.length, flags=WITH_FUA[request.flags])
        await self._zero(self._node.secure_erase, stable)

    async def _zero(self, handler: Handler, request: Request) -> None:
        align = self._align
        at, end = request.offset, request.offset + request.length
        first = min(-(-at // align) * align, end)
        last = max(end // align * align, first)
        if last - first != request.length and HAS_NO_FALLBACK[request.flags]:
            raise OSError(errno.ENOTSUP, "a part of a block can only be written out")
        if at < first:
            await self._write_zero_bytes(request, at, first)
        if first < last:
            async with self._hold(request, first, last):
                await handler(request.derive(first, last - first))
        if last < end:
            await self._write_zero_bytes(request, last, end)

    async def _write_zero_bytes(self, request: Request, start: int, end: int) -> None:
        """Write zeroes to a part of one block."""
        length = end - start
        zeroes = memoryview(ZEROES)[:length] if length <= len(ZEROES) else memoryview(bytes(length))
        await self.write(request.derive(start, length, [zeroes], op=Op.WRITE))
