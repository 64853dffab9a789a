"""Requests made to fit a node's limits - alignment (O_DIRECT), length - and kept apart where they have to be.

A read that is not aligned takes in more and keeps what was asked for.  A write that is not reads the blocks at its two
ends, lays its own bytes over them and writes whole blocks (read-modify-write); meanwhile nobody else may write there,
so changes of such a node are alone in their range, in order of arrival.  Where a user of the node asks for ranges of
its own (`SERIALISING`), everything is in the node's table of what is in flight.  A longer request than the node takes
goes piece by piece.

A node that looks at events (`blkdebug`) is told of those that QEMU's block layer has here: `pwritev`, `pwritev_zero`,
`pwritev_done`, and `pwritev_rmw_…` around the reads of a read-modify-write.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from devmodels.blockbackend.accounting import Served
from devmodels.blockbackend.request import (
    HAS_NO_FALLBACK,
    HAS_SERIALISING,
    HAS_UPDATE,
    UPDATE_PIECE,
    WITH_FUA,
    Flags,
    Op,
    Read,
    Request,
    UpdateRequest,
)
from devmodels.blockbackend.vectors import ZEROES, window

if TYPE_CHECKING:
    from devmodels.blockbackend.node import BlockNode

Handler = Callable[[Request], Awaitable[None]]

_WRITTEN_AT_ONCE = 1 << 20
"""How many bytes of zeroes are written at once, unless a block is longer."""


def _padding(length: int) -> list[memoryview]:
    return [memoryview(bytearray(length))] if length else []


class Fitting:
    """The requests of `node` for anybody who does not keep to its limits; they go `to` it, or to what counts there.

    `alone`: nobody else is at the blocks that they touch; they need not be in the table.
    """

    def __init__(self, node: BlockNode, to: Served, *, alone: bool = False) -> None:
        limits = node.limits
        self._node = node
        self._to = to
        self._align = limits.request_alignment
        self._changes_alone = self._align > 1 or limits.max_transfer > 0
        self._alone = alone
        self._tracked = node.serialised and not alone
        self._told = node.wants_events
        self._longest = limits.max_transfer // self._align * self._align
        self._discards = max(limits.pdiscard_alignment, self._align), limits.max_pdiscard
        self._zeroes = max(limits.pwrite_zeroes_alignment, self._align), limits.max_pwrite_zeroes

    @property
    def reads_fit(self) -> bool:
        """Whether every read fits as it is, so that it can be done at once."""
        return self._align == 1 and not self._longest

    def read_now(self, reads: Sequence[Read]) -> int:
        """As the node's own, which nobody overtakes: where somebody must be alone, reads have to wait for him."""
        if self._tracked and self._node.in_flight.serialising:
            return 0
        return self._to.read_now(reads)

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

    async def _write_blocks(self, request: Request) -> None:
        """Write whole blocks."""
        if not self._told:
            await self._pieces(self._to.write, request)
            return
        await self._node.debug_event("pwritev", request)
        try:
            await self._pieces(self._to.write, request)
        finally:
            await self._node.debug_event("pwritev_done", request)

    def _hold(self, request: Request, start: int, end: int) -> AbstractAsyncContextManager[None]:
        """A change of [start, end)."""
        if self._alone:
            return nullcontext()
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
            await self._pieces(self._to.read, request)
            return
        serialising = HAS_SERIALISING[request.flags]
        async with self._node.in_flight.hold(start, end, serialising=serialising):
            await self._pieces(self._to.read, request)

    async def write(self, request: Request) -> None:
        """Write whole blocks, those at the ends completed by what is there."""
        start, end = self._whole(request)
        head = _padding(request.offset - start)
        tail = _padding(end - request.offset - request.length)
        async with self._hold(request, start, end):
            if HAS_UPDATE[request.flags]:
                await self._update(request)
                return
            if head or tail:
                await self._fetch(request, start, end, head, tail)
                request = request.derive(start, end - start, [*head, *request.vectors, *tail])
            await self._write_blocks(request)

    async def _update(self, request: Request) -> None:
        """Ask an `UpdateRequest` what to write, and write it; nobody else is there."""
        update = next(request.roots())
        assert isinstance(update, UpdateRequest)
        inside = self._node.inside()
        flags = request.flags & Flags.FUA
        for at in range(0, request.length, UPDATE_PIECE):
            length = min(UPDATE_PIECE, request.length - at)
            old = bytearray(length)
            place = request.offset + at
            await inside.read(request.derive(place, length, [memoryview(old)], op=Op.READ, flags=Flags.NONE))
            new = update.answer(at, old)
            if new is None:
                return
            await inside.write(request.derive(place, length, [memoryview(new)], flags=flags))

    async def _fetch(
        self, request: Request, start: int, end: int, head: list[memoryview], tail: list[memoryview]
    ) -> None:
        """Read what is in the blocks at the ends of `request` into `head` and `tail`."""
        align = self._align
        ends = [("head", head, start, start + align), ("tail", tail, end - align, end)]
        ends = [each for each in ends if each[1]]
        if end - start == len(ends) * align or end - start == align:
            # One read gets both.
            await self._fetch_blocks(request, start, end, ends)
        else:
            for each in ends:
                await self._fetch_blocks(request, each[2], each[3], [each])

    async def _fetch_blocks(
        self, request: Request, start: int, end: int, ends: list[tuple[str, list[memoryview], int, int]]
    ) -> None:
        """Read [start, end) and keep what `ends` lack."""
        for name, *_ in ends:
            await self._node.debug_event(f"pwritev_rmw_{name}", request)
        blocks = bytearray(end - start)
        await self._pieces(
            self._to.read, request.derive(start, end - start, [memoryview(blocks)], op=Op.READ)
        )
        for name, (pad,), *_ in ends:
            pad[:] = blocks[: len(pad)] if name == "head" else blocks[len(blocks) - len(pad) :]
            await self._node.debug_event(f"pwritev_rmw_after_{name}", request)

    async def discard(self, request: Request) -> None:
        """Discard the whole blocks within the range: the rest is advice that cannot be taken."""
        align = self._align
        start = -(-request.offset // align) * align
        end = (request.offset + request.length) // align * align
        if start < end:
            async with self._hold(request, start, end):
                for at, length in pieces(start, end, *self._discards):
                    try:
                        await self._to.discard(request.derive(at, length))
                    except OSError as error:
                        # It was advice.
                        if error.errno != errno.ENOTSUP:
                            raise

    async def write_zeroes(self, request: Request) -> None:
        """Zero the whole blocks by the node's own means, what is left at the ends by writing."""
        await self._zero(self._to.write_zeroes, request, *self._zeroes)

    async def secure_erase(self, request: Request) -> None:
        """Erase the whole blocks by the node's own means, what is left at the ends by overwriting."""
        stable = request.derive(request.offset, request.length, flags=WITH_FUA[request.flags])
        await self._zero(self._to.secure_erase, stable, self._align, 0)

    async def _zero(self, handler: Handler, request: Request, unit: int, longest: int) -> None:
        align = self._align
        at, end = request.offset, request.offset + request.length
        first = min(-(-at // align) * align, end)
        last = max(end // align * align, first)
        if last - first != request.length and HAS_NO_FALLBACK[request.flags]:
            raise OSError(errno.ENOTSUP, "a part of a block can only be written out")
        if first == last:
            await self._write_zero_bytes(request, at, end)
            return
        if at < first:
            await self._write_zero_bytes(request, at, first)
        async with self._hold(request, first, last):
            if self._told:
                await self._node.debug_event("pwritev_zero", request)
            try:
                for start, length in pieces(first, last, unit, longest):
                    await self._zero_piece(handler, request.derive(start, length), unit)
            finally:
                if self._told:
                    await self._node.debug_event("pwritev_done", request)
        if last < end:
            await self._write_zero_bytes(request, last, end)

    async def _zero_piece(self, handler: Handler, request: Request, unit: int) -> None:
        """Zero by the node's own means, or by writing where those are not for this."""
        error = OSError(errno.ENOTSUP, f"less than {unit} bytes can only be written out")
        if request.length >= unit:
            try:
                await handler(request)
                return
            except OSError as refusal:
                error = refusal
        if (
            error.errno != errno.ENOTSUP
            or request.op is not Op.WRITE_ZEROES
            or HAS_NO_FALLBACK[request.flags]
        ):
            raise error
        await write_out(partial(self._pieces, self._to.write), request, unit=self._align)

    async def _write_zero_bytes(self, request: Request, start: int, end: int) -> None:
        """Write zeroes to a part of a block, or of two."""
        if start < end:
            await self.write(_zero_bytes(request.derive(start, end - start)))


async def write_out(write: Handler, request: Request, *, unit: int = 1) -> None:
    """Write zeroes in place of a request for them, in multiples of `unit`.

    Not all at once: a guest may ask for more of them than there is memory.
    """
    step = max(_WRITTEN_AT_ONCE, unit)
    for at in range(0, request.length, step):
        length = min(step, request.length - at)
        await write(_zero_bytes(request.derive(request.offset + at, length)))


def _zero_bytes(request: Request) -> Request:
    """A write of zeroes in place of a request for them."""
    length = request.length
    zeroes = memoryview(ZEROES)[:length] if length <= len(ZEROES) else memoryview(bytes(length))
    return request.derive(request.offset, length, [zeroes], op=Op.WRITE)


def pieces(start: int, end: int, unit: int, longest: int) -> Iterator[tuple[int, int]]:
    """[start, end) as (offset, length): what lies before the first multiple of `unit` and after the last one apart, the
    rest in multiples of it no longer than `longest` (0: any length)."""
    step = longest // unit * unit
    at = start
    while at < end:
        stop = end // unit * unit
        if at % unit:
            stop = min(end, -(-at // unit) * unit)
        elif stop <= at:
            stop = end
        elif step:
            stop = min(stop, at + step)
        yield at, stop - at
        at = stop
