"""`copy-on-read`: what an overlay has not itself is written into it as it is read (options as QEMU's driver).

A copy is old data on its way into the overlay; a guest's newer data must not be overtaken by it.  While a range is
copied nobody else is there: the child keeps a table of what is in flight (`Edge.serialise`, `Edge.alone`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from devmodels.blockbackend.edge import Edge
from devmodels.blockbackend.filters import FilterNode, FilterOptions
from devmodels.blockbackend.fitting import Fitting
from devmodels.blockbackend.node import BlockNode
from devmodels.blockbackend.options import BlockOptionError, NodeOptions, shown
from devmodels.blockbackend.permissions import Perm, Use
from devmodels.blockbackend.request import Flags, Op, Request
from devmodels.blockbackend.status import Status, backing_edge, unfiltered
from devmodels.blockbackend.vectors import is_zero, scatter, window
from devmodels.iocontext import IoContext

MAX_COPY = 1 << 20
"""The most bytes that are copied at once."""


class CopyOnReadOptions(FilterOptions, frozen=True, kw_only=True):
    """`bottom`: the lowest node of the backing chain whose data is copied; without it all data is."""

    bottom: str | None = None


class CopyOnReadNode(FilterNode):
    """Copies what a read finds below the child; all else passes through.

    Copying does not change what the disk holds: who may only read may use it, but the child must be writable.
    """

    Options: ClassVar[type[NodeOptions]] = CopyOnReadOptions

    def __init__(self, options: CopyOnReadOptions, context: IoContext, file: BlockNode) -> None:
        super().__init__(options, context, file)
        self._bottom = options.bottom
        self.file.serialise()

    @classmethod
    def open(cls, options: NodeOptions, context: IoContext, children: Mapping[str, BlockNode]) -> BlockNode:
        """BlockOptionError where `bottom` is not in the chain, or is a filter."""
        assert isinstance(options, CopyOnReadOptions)
        names = [node.node_name for node in _chain(children["file"])]
        if options.bottom is not None and options.bottom not in names:
            expected = ", ".join(map(shown, names))
            raise BlockOptionError(f"$.bottom: {shown(options.bottom)} is given; expected one of {expected}")
        return cls(options, context, children["file"])

    def child_permissions(self, edge: Edge, use: Use) -> Use:  # noqa: ARG002
        """Besides what is asked for here: writing what is there already."""
        mine = Perm.WRITE_UNCHANGED
        return Use(use.used & ~mine | mine, use.shared | mine)

    def _use(self, *, read: bool, write: bool) -> None:  # noqa: ARG002
        """Who reads makes this node write."""
        super()._use(read=read, write=read)

    async def read(self, request: Request) -> None:
        """Copy what is to be copied, piece by piece; read the rest."""
        at, end = request.offset, request.offset + request.length
        while at < end:
            wanted, length = await self._wanted(request, at, end)
            part = request
            if length < request.length:
                vectors = window(request.vectors, at - request.offset, length)
                part = request.derive(at, length, vectors)
            if wanted:
                await self._copy(part)
            else:
                await self.file.read(part)
            at += length

    async def _wanted(self, request: Request, at: int, end: int) -> tuple[bool, int]:
        """Whether what is at `at` is to be copied, and for how many bytes that holds."""
        question = request.derive(at, end - at, op=Op.BLOCK_STATUS)
        flags, length, *_ = await self.file.block_status(question)
        if not length:
            return False, end - at  # Beyond the child's end: it says what comes of that.
        if Status.ALLOCATED in flags or self._bottom is None:
            return Status.ALLOCATED not in flags, length
        node = unfiltered(self.file.node)
        while node.node_name != self._bottom and (below := backing_edge(node)) is not None:
            if at >= below.node.size:
                break
            flags, found, *_ = await below.block_status(question.derive(at, length))
            length = min(length, found)
            if Status.ALLOCATED in flags:
                return True, length
            node = unfiltered(below.node)
        return False, length

    async def _copy(self, request: Request) -> None:
        """Serve a read of what the child has not itself, and write it there."""
        child = self.file.node
        align = child.limits.request_alignment
        start = request.offset // align * align
        end = min(-(-(request.offset + request.length) // align) * align, child.size)
        async with self.file.alone(start, end) as inside:
            at = start
            while at < end:
                # Meanwhile somebody may have written here.
                wanted, length = await self._wanted(request, at, min(end, at + MAX_COPY))
                # The guest may change its buffer at any time: what is written is a copy of our own.
                buffer = memoryview(bytearray(length))
                part = request.derive(at, length, [buffer])
                await inside.read(part)
                if wanted:
                    await self.file.node.debug_event("cor_write", part)
                    await _write(inside, part)
                _hand_over(request, part)
                at += length


async def _write(inside: Fitting, part: Request) -> None:
    if is_zero(part.vectors):
        await inside.write_zeroes(part.derive(part.offset, part.length, op=Op.WRITE_ZEROES, flags=Flags.NONE))
    else:
        await inside.write(part.derive(part.offset, part.length, part.vectors, op=Op.WRITE, flags=Flags.NONE))


def _hand_over(request: Request, part: Request) -> None:
    """Give `request` what `part`, which has been read, has for it."""
    start = max(request.offset, part.offset)
    length = min(request.offset + request.length, part.offset + part.length) - start
    if length > 0:
        (data,) = part.vectors
        at = start - part.offset
        scatter(window(request.vectors, start - request.offset, length), data[at : at + length])


def _chain(node: BlockNode) -> list[BlockNode]:
    """`node` and what is below it, by what an overlay shows where it has nothing itself; filters left out."""
    found = [unfiltered(node)]
    while (edge := backing_edge(found[-1])) is not None:
        found.append(unfiltered(edge.node))
    return found
