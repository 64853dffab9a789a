"""`null-co`: a disk that stores nothing, for measuring what is above it (options as QEMU's driver of that name)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import msgspec

from devmodels.blockbackend.node import SECTOR, BlockNode
from devmodels.blockbackend.options import NodeOptions, Size
from devmodels.blockbackend.request import Read, Request
from devmodels.blockbackend.status import BlockStatus, Status, stored
from devmodels.blockbackend.vectors import clear
from devmodels.iocontext import IoContext


class NullOptions(NodeOptions, frozen=True, kw_only=True):
    """`size` in bytes; `latency-ns`: how long each request takes; `read-zeroes`: reads fill their buffers."""

    size: Size = 1 << 30
    latency_ns: Annotated[int, msgspec.Meta(ge=0)] = 0
    read_zeroes: bool = False


class NullNode(BlockNode):
    """Every request succeeds; a read leaves its buffers alone unless `read-zeroes` is on."""

    Options: ClassVar[type[NodeOptions]] = NullOptions

    def __init__(self, options: NullOptions, context: IoContext) -> None:
        super().__init__(options, context, -(-options.size // SECTOR) * SECTOR)
        self._latency = options.latency_ns
        self._read_zeroes = options.read_zeroes

    @classmethod
    def open(
        cls,
        options: NodeOptions,
        context: IoContext,
        children: Mapping[str, BlockNode],  # noqa: ARG003
    ) -> BlockNode:
        """A new disk of nothing."""
        assert isinstance(options, NullOptions)
        return cls(options, context)

    def read_now(self, reads: Sequence[Read]) -> int:
        """Zeroes, or nothing."""
        if self._latency:
            return 0
        if self._read_zeroes:
            for _, vectors, _ in reads:
                clear(vectors)
        return len(reads)

    async def read(self, request: Request) -> None:
        """Zeroes, or nothing."""
        if self._latency:
            await self.context.sleep(self._latency)
        if self._read_zeroes:
            clear(request.vectors)

    async def write(self, request: Request) -> None:  # noqa: ARG002
        """Forget the payload."""
        if self._latency:
            await self.context.sleep(self._latency)

    flush = discard = write_zeroes = secure_erase = write

    async def block_status(self, request: Request) -> BlockStatus:
        """Zeroes, or nothing that is known."""
        if self._latency:
            await self.context.sleep(self._latency)
        if self._read_zeroes:
            return stored(self, Status.ZERO, request.offset, request.length)
        return BlockStatus(Status.NONE, request.length)
