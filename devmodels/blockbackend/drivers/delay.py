"""`delay`: every request, or those of some operations, takes a fixed time more."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from devmodels.blockbackend.filters import FilterNode, FilterOptions
from devmodels.blockbackend.node import BlockNode
from devmodels.blockbackend.options import NodeOptions
from devmodels.blockbackend.request import Op, Request
from devmodels.blockbackend.status import BlockStatus
from devmodels.iocontext import IoContext

Latency = Annotated[int, msgspec.Meta(ge=0, le=10**15, description="nanoseconds from 0 to 10**15")]


class DelayOptions(FilterOptions, frozen=True, kw_only=True):
    """`latency-ns`: for each request; `read-ns`, `write-ns`, …: instead of it for one operation."""

    latency_ns: Latency = 0
    read_ns: Latency | None = None
    write_ns: Latency | None = None
    flush_ns: Latency | None = None
    discard_ns: Latency | None = None
    write_zeroes_ns: Latency | None = None
    secure_erase_ns: Latency | None = None
    block_status_ns: Latency | None = None


class DelayNode(FilterNode):
    """Waits on the context's clock, then passes the request on.  Requests wait side by side."""

    Options: ClassVar[type[NodeOptions]] = DelayOptions
    CHANGEABLE = FilterNode.CHANGEABLE | {field.name for field in msgspec.structs.fields(DelayOptions)}

    def __init__(self, options: DelayOptions, context: IoContext, file: BlockNode) -> None:
        super().__init__(options, context, file)
        self._latency = self._latencies(options)

    def _reopen(self, before: NodeOptions) -> None:
        """Other latencies."""
        super()._reopen(before)
        assert isinstance(self.options, DelayOptions)
        self._latency = self._latencies(self.options)

    @staticmethod
    def _latencies(options: DelayOptions) -> list[int]:
        """By `Op`."""
        given = (
            options.read_ns,
            options.write_ns,
            options.flush_ns,
            options.discard_ns,
            options.write_zeroes_ns,
            options.secure_erase_ns,
            options.block_status_ns,
        )
        return [options.latency_ns if ns is None else ns for ns in given]

    async def _wait(self, op: Op) -> None:
        if latency := self._latency[op]:
            await self.context.sleep(latency)

    async def read(self, request: Request) -> None:
        """Wait, then read."""
        await self._wait(Op.READ)
        await self.file.read(request)

    async def write(self, request: Request) -> None:
        """Wait, then write."""
        await self._wait(Op.WRITE)
        await self.file.write(request)

    async def flush(self, request: Request) -> None:
        """Wait, then flush."""
        await self._wait(Op.FLUSH)
        await self.file.flush(request)

    async def discard(self, request: Request) -> None:
        """Wait, then discard."""
        await self._wait(Op.DISCARD)
        await self.file.discard(request)

    async def write_zeroes(self, request: Request) -> None:
        """Wait, then write zeroes."""
        await self._wait(Op.WRITE_ZEROES)
        await self.file.write_zeroes(request)

    async def secure_erase(self, request: Request) -> None:
        """Wait, then erase."""
        await self._wait(Op.SECURE_ERASE)
        await self.file.secure_erase(request)

    async def block_status(self, request: Request) -> BlockStatus:
        """Wait, then ask."""
        await self._wait(Op.BLOCK_STATUS)
        return await self.file.block_status(request)
