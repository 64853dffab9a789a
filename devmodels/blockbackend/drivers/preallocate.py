"""`preallocate`: a file that grows by writes grows in large steps, and ends with its data when it rests (as in QEMU).

What grows is the image of a format that puts new clusters at its end.  Between the end of the data and the end of the
file lies what has been allocated in advance; this node's size is the former, its child's the latter.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import ClassVar

from devmodels import logs
from devmodels.blockbackend.debug.announcing import NOTHING
from devmodels.blockbackend.edge import Edge
from devmodels.blockbackend.filters import FilterNode, FilterOptions
from devmodels.blockbackend.node import SECTOR, BlockNode
from devmodels.blockbackend.options import BlockOptionError, NodeOptions, Size
from devmodels.blockbackend.permissions import Perm, Use
from devmodels.blockbackend.request import Flags, Op, Read, Request
from devmodels.iocontext import IoContext, Lock

logger = logs.logger(__name__)

MIB = 1 << 20
_GROWS = Perm.WRITE | Perm.RESIZE


class PreallocateOptions(FilterOptions, frozen=True, kw_only=True):
    """`prealloc-size`: how much more than is written; `prealloc-align`: the file's length becomes a multiple."""

    prealloc_align: Size = MIB
    prealloc_size: Size = 128 * MIB


class PreallocateNode(FilterNode):
    """Grows its child in advance as long as its users may write and resize, and nobody else may."""

    Options: ClassVar[type[NodeOptions]] = PreallocateOptions
    ANNOUNCES = NOTHING  # As QEMU's, which flushes by itself.
    CHANGEABLE = FilterNode.CHANGEABLE | {"prealloc_align", "prealloc_size"}

    def __init__(self, options: PreallocateOptions, context: IoContext, file: BlockNode) -> None:
        self._data_end: int | None = None
        """Where the data ends, in bytes, while this node answers for what comes after it."""
        self._growing = Lock(context)
        self._untouched = sys.maxsize
        """What lies below is not being zeroed at the moment."""
        super().__init__(options, context, file)

    @classmethod
    def open(cls, options: NodeOptions, context: IoContext, children: Mapping[str, BlockNode]) -> BlockNode:
        """BlockOptionError where the alignment does not fit the child."""
        assert isinstance(options, PreallocateOptions)
        _check(options, children["file"])
        return cls(options, context, children["file"])

    def moved(self, context: IoContext) -> None:
        """Whoever waits for room does so there."""
        super().moved(context)
        self._growing.move(context)

    def _reopen(self, before: NodeOptions) -> None:
        """Begin anew with other sizes."""
        assert isinstance(self.options, PreallocateOptions)
        _check(self.options, self.file.node)
        self._give_up()
        super()._reopen(before)

    # --- who answers for the end of the file

    def child_permissions(self, edge: Edge, use: Use) -> Use:
        """Where it grows the file, nobody else may."""
        wanted = super().child_permissions(edge, use)
        return Use(wanted.used, wanted.shared & ~_GROWS) if _grows(wanted) else wanted

    def use_changed(self, edge: Edge) -> None:
        """Its users may grow it now, or no longer."""
        if not _grows(edge.use):
            self._give_up(edge)

    def _use(self, *, read: bool, write: bool) -> None:
        """Before it rests, what was allocated in advance goes."""
        if not write:
            self._give_up()
        super()._use(read=read, write=write)

    def close(self) -> None:
        """Cut the file to its data."""
        if not self.closed:
            self._give_up()
        super().close()

    def _give_up(self, edge: Edge | None = None) -> None:
        """Answer no longer: the file ends where its data does."""
        end, self._data_end = self._data_end, None
        child = (edge or self.file).node
        if end is None or child.size <= end:
            return
        try:
            child.truncate_now(end)
        except OSError as error:
            logger.warning("%s: cannot drop preallocation: %s", self.description, error.strerror or error)

    def _look(self) -> None:
        super()._look()
        if self._data_end is not None:
            self.size = min(self.size, -(-self._data_end // SECTOR) * SECTOR)

    # --- requests

    def read_now(self, reads: Sequence[Read]) -> int:
        """What the child has at hand."""
        return self.file.read_now(reads)

    async def write(self, request: Request) -> None:
        """With room beyond it, where it goes beyond the end."""
        if request.offset + request.length > min(self.size, self._untouched):
            await self._make_room(request)
        await self.file.write(request)

    async def write_zeroes(self, request: Request) -> None:
        """The same."""
        if request.offset + request.length > min(self.size, self._untouched):
            await self._make_room(request)
        await self.file.write_zeroes(request)

    async def _make_room(self, request: Request) -> None:
        """The data will end where `request` does; grow the file where it is too short for that."""
        if not _grows(self.file.use):
            return
        end = request.offset + request.length
        if self._data_end is None:
            self._data_end = self.file.node.size
        self._data_end = max(self._data_end, end)
        # What comes meanwhile and lies beyond the end, too, must not be zeroed afterwards.
        async with self._growing:
            if end > self.file.node.size:
                self._untouched = self.file.node.size
                try:
                    await self._preallocate(request, end)
                finally:
                    self._untouched = sys.maxsize
        self.child_changed(self.file)

    async def _preallocate(self, request: Request, end: int) -> None:
        assert isinstance(self.options, PreallocateOptions)
        block = self.file.node.limits.request_alignment
        start = _up(self.file.node.size, block)
        stop = _up(max(start, end) + self.options.prealloc_size, max(self.options.prealloc_align, block))
        zeroes = request.derive(start, stop - start, op=Op.WRITE_ZEROES, flags=Flags.NO_FALLBACK)
        size = self.file.node.size
        try:
            await self.file.write_zeroes(zeroes)
            size = end
        except OSError as error:
            logger.debug("%s: cannot preallocate: %s", self.description, error.strerror or error)
        if self._data_end is None or size < end:
            # Nobody is to have it any more, or the child has grown in name only.
            self.file.node.truncate_now(size)

    async def truncate(self, size: int) -> None:
        """What was allocated in advance goes first, so that what is new is a hole."""
        child = self.file.node
        if self._data_end is not None and size > self._data_end < child.size:
            await child.truncate(self._data_end)
        await child.truncate(size)
        if self._data_end is not None:
            self._data_end = size
        self.child_changed(self.file)

    def truncate_now(self, size: int) -> None:
        """Cut it, and what was allocated in advance."""
        self.file.node.truncate_now(size)
        if self._data_end is not None:
            self._data_end = size
        self.child_changed(self.file)


def _grows(use: Use) -> bool:
    return use.used & _GROWS == _GROWS


def _up(number: int, unit: int) -> int:
    return -(-number // unit) * unit if unit else number


def _check(options: PreallocateOptions, child: BlockNode) -> None:
    for unit in (SECTOR, child.limits.request_alignment):
        if options.prealloc_align % unit:
            raise BlockOptionError(
                f"$.prealloc-align: {options.prealloc_align} is given; expected a multiple of {unit}"
            )
