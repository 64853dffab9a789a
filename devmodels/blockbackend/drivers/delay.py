"""`delay`: every request, or those of some operations, or some of them, takes more time: fixed, or drawn at random."""

from __future__ import annotations

from random import Random
from typing import Annotated, ClassVar

import msgspec

from devmodels.blockbackend.filters import FilterNode, FilterOptions
from devmodels.blockbackend.latency import Fixed, Latency, Ns
from devmodels.blockbackend.node import BlockNode
from devmodels.blockbackend.options import NodeOptions
from devmodels.blockbackend.request import Op, Request
from devmodels.blockbackend.status import BlockStatus
from devmodels.iocontext import IoContext


class Operations(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, kw_only=True, frozen=True):
    """A latency for each operation; the names are those of `Op`."""

    read: Latency | None = None
    write: Latency | None = None
    flush: Latency | None = None
    discard: Latency | None = None
    write_zeroes: Latency | None = None
    secure_erase: Latency | None = None
    block_status: Latency | None = None
    passthrough: Latency | None = None


class DelayOptions(FilterOptions, frozen=True, kw_only=True):
    """`latency`: for each request; `operations`: instead of it for some.  Fixed ones have names of their own too:
    `latency-ns`, `read-ns`, ….  `seed`: the same one draws the same delays.
    """

    latency: Latency | None = None
    operations: Operations = Operations()
    seed: Annotated[int, msgspec.Meta(ge=0, description="a number from 0 on")] = 0
    latency_ns: Ns | None = None
    read_ns: Ns | None = None
    write_ns: Ns | None = None
    flush_ns: Ns | None = None
    discard_ns: Ns | None = None
    write_zeroes_ns: Ns | None = None
    secure_erase_ns: Ns | None = None
    block_status_ns: Ns | None = None
    passthrough_ns: Ns | None = None

    def __post_init__(self) -> None:
        for name in ("latency", *_NAMES):
            drawn = self.latency if name == "latency" else getattr(self.operations, name)
            if drawn is not None and getattr(self, f"{name}_ns") is not None:
                option = name.replace("_", "-")
                where = option if name == "latency" else f"operations.{option}"
                raise ValueError(f"{option}-ns is given with {where}; expected one of them")

    def of(self, name: str) -> Latency | None:
        """The latency of one operation."""
        for drawn, ns in (
            (getattr(self.operations, name), getattr(self, f"{name}_ns")),
            (self.latency, self.latency_ns),
        ):
            if drawn is not None:
                return drawn
            if ns is not None:
                return Fixed(ns=ns)
        return None


_NAMES = [op.name.lower() for op in Op]


class DelayNode(FilterNode):
    """Waits on the context's clock, then passes the request on.  Requests wait side by side."""

    Options: ClassVar[type[NodeOptions]] = DelayOptions
    CHANGEABLE = FilterNode.CHANGEABLE | {field.name for field in msgspec.structs.fields(DelayOptions)}

    def __init__(self, options: DelayOptions, context: IoContext, file: BlockNode) -> None:
        super().__init__(options, context, file)
        self._begin(options)

    def _reopen(self, before: NodeOptions) -> None:
        """Other latencies, drawn from the beginning."""
        super()._reopen(before)
        assert isinstance(self.options, DelayOptions)
        self._begin(self.options)

    def _begin(self, options: DelayOptions) -> None:
        self._latency = [options.of(name) for name in _NAMES]
        # Each operation has its own: what one draws does not depend on what comes of the others.
        self._chance = [Random(f"{options.seed} {name}") for name in _NAMES]

    async def _wait(self, op: Op) -> None:
        latency = self._latency[op]
        if latency is not None and (ns := latency.draw(self._chance[op])):
            await self.context.sleep(ns)

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

    async def passthrough(self, request: Request) -> None:
        """Wait, then pass the command on."""
        await self._wait(Op.PASSTHROUGH)
        await self.file.passthrough(request)
