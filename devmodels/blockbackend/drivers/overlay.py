"""`overlay`: what is written goes into one node, what has not been written is read from another one below (ours).

It is the least that has a backing child: a map in memory says which clusters the overlay has itself, and is forgotten
when the node is closed, as with QEMU's `-snapshot`.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar

import msgspec
from bitarray import bitarray

from devmodels.blockbackend.debug.announcing import GUEST_DATA
from devmodels.blockbackend.node import BlockLimits, BlockNode
from devmodels.blockbackend.options import BlockOptionError, NodeOptions, NodeRef
from devmodels.blockbackend.permissions import Role
from devmodels.blockbackend.request import Request
from devmodels.blockbackend.status import BlockStatus, Status
from devmodels.blockbackend.vectors import clear, window
from devmodels.iocontext import IoContext

MAX_CLUSTER = 1 << 16

_LOOK_AT = 1 << 36
"""The most bytes of the disk that one question goes through."""


class OverlayOptions(NodeOptions, frozen=True, kw_only=True):
    """`file`: takes what is written; `backing`: has what was there before; `cluster-size`: what goes over at once."""

    file: NodeRef
    backing: NodeRef
    cluster_size: Annotated[
        int, msgspec.Meta(ge=512, le=MAX_CLUSTER, description=f"a power of two from 512 to {MAX_CLUSTER}")
    ] = 4096


class OverlayNode(BlockNode):
    """As large as `file`; what `backing` lacks of that is zeroes.

    Requests come in whole clusters: the edge completes the others, reading what this node shows.  A cluster belongs to
    the overlay once a change of it has succeeded.
    """

    Options: ClassVar[type[NodeOptions]] = OverlayOptions
    ANNOUNCES = GUEST_DATA

    def __init__(
        self, options: OverlayOptions, context: IoContext, file: BlockNode, backing: BlockNode
    ) -> None:
        super().__init__(options, context, file.size)
        self.limits = BlockLimits(request_alignment=options.cluster_size)
        self._cluster = options.cluster_size
        clusters = -(-self.size // self._cluster)
        # Memory that nobody has written to takes none.
        self._own = bitarray(buffer=mmap.mmap(-1, clusters // 8 + 1, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self._backing = self.attach("backing", backing, Role.COW)
        self._file = self.attach("file", file, Role.DATA | Role.PRIMARY)

    @classmethod
    def open(cls, options: NodeOptions, context: IoContext, children: Mapping[str, BlockNode]) -> BlockNode:
        """BlockOptionError where a cluster is not a power of two."""
        assert isinstance(options, OverlayOptions)
        size = options.cluster_size
        if size & (size - 1):
            raise BlockOptionError(
                f"$.cluster-size: {size} is given; expected a power of two from 512 to {MAX_CLUSTER}"
            )
        return cls(options, context, children["file"], children["backing"])

    @property
    def can_unmap(self) -> bool:
        """Where what is written lies in a node that can, and `discard` lets it."""
        return self.options.discard == "unmap" and self._file.node.can_unmap

    # --- whose a cluster is

    def _run(self, offset: int, end: int) -> tuple[bool, int]:
        """Whether the cluster at `offset` is the overlay's, and where, at the latest at `end`, that changes."""
        first, stop = offset // self._cluster, -(-end // self._cluster)
        own = bool(self._own[first])
        other = self._own.find(not own, first, stop)
        return own, end if other < 0 else other * self._cluster

    def _runs(self, request: Request) -> Iterator[tuple[bool, Request]]:
        """The parts of a request, within the disk, that are the overlay's (or are not), one after the other."""
        at, end = request.offset, min(request.offset + request.length, self.size)
        while at < end:
            own, stop = self._run(at, end)
            yield own, self._part(request, at, stop)
            at = stop

    def _part(self, request: Request, start: int, end: int) -> Request:
        if (start, end) == (request.offset, request.offset + request.length):
            return request
        vectors = window(request.vectors, start - request.offset, end - start) if request.vectors else ()
        return request.derive(start, end - start, vectors)

    def _within(self, request: Request) -> Request:
        """The part of a request that is within the disk: the last cluster may not be."""
        return self._part(request, request.offset, min(request.offset + request.length, self.size))

    def _take(self, request: Request) -> None:
        first = request.offset // self._cluster
        self._own[first : (request.offset + request.length) // self._cluster] = True

    # --- requests

    async def read(self, request: Request) -> None:
        """Each part from where it is."""
        for own, part in self._runs(request):
            if own:
                await self._file.read(part)
            else:
                await self._read_backing(part)
        if request.offset + request.length > self.size:
            clear(window(request.vectors, self.size - request.offset, request.length))

    async def _read_backing(self, request: Request) -> None:
        there = min(max(self._backing.node.size - request.offset, 0), request.length)
        if there:
            await self._backing.read(self._part(request, request.offset, request.offset + there))
        if there < request.length:
            clear(window(request.vectors, there, request.length - there))

    async def write(self, request: Request) -> None:
        """Into the overlay."""
        await self._file.write(self._within(request))
        self._take(request)

    async def write_zeroes(self, request: Request) -> None:
        """Into the overlay: zeroes there hide what is below."""
        await self._file.write_zeroes(self._within(request))
        self._take(request)

    async def discard(self, request: Request) -> None:
        """What the overlay has; what is below must not be seen again."""
        for own, part in self._runs(request):
            if own:
                await self._file.discard(part)

    async def flush(self, request: Request) -> None:
        """What is in the overlay becomes stable; the map does not outlive the node."""
        await self._file.flush(request)

    async def block_status(self, request: Request) -> BlockStatus:
        """What the overlay has itself."""
        length = min(request.length, _LOOK_AT)
        own, end = self._run(request.offset, min(request.offset + length, self.size))
        length = end - request.offset
        if not own:
            return BlockStatus(Status.NONE, length)
        status = await self._file.block_status(request.derive(request.offset, length))
        known = status.flags & (Status.DATA | Status.ZERO)
        return status if known else status._replace(flags=status.flags | Status.DATA)
