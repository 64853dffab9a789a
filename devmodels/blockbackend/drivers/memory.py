"""`memory`: a disk in this process's memory, empty at first and gone at the end."""

from __future__ import annotations

import errno
import mmap
from typing import ClassVar

from devmodels.blockbackend.node import SECTOR, BlockLimits, BlockNode
from devmodels.blockbackend.options import BlockOptionError, NodeOptions, Size
from devmodels.blockbackend.request import HAS_MAY_UNMAP, Request
from devmodels.blockbackend.vectors import ZEROES
from devmodels.iocontext import IoContext

_MAP_NORESERVE = 0x4000
_FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE


class MemoryOptions(NodeOptions, frozen=True, kw_only=True):
    """`size` in bytes."""

    size: Size


class MemoryNode(BlockNode):
    """Pages are taken as they are written and given back by `discard=unmap`, so that a large disk costs nothing."""

    Options: ClassVar[type[NodeOptions]] = MemoryOptions

    def __init__(self, options: MemoryOptions, context: IoContext) -> None:
        super().__init__(options, context, -(-options.size // SECTOR) * SECTOR)
        self.limits = BlockLimits(pdiscard_alignment=mmap.PAGESIZE)
        self._unmap = options.discard == "unmap"
        self._pages = mmap.mmap(-1, max(self.size, 1), _FLAGS)
        self._view = memoryview(self._pages)

    @classmethod
    def open(cls, options: NodeOptions, context: IoContext) -> BlockNode:
        """A new disk of zeroes; BlockOptionError where the host has no room for it."""
        assert isinstance(options, MemoryOptions)
        try:
            return cls(options, context)
        except (OSError, OverflowError) as error:
            raise BlockOptionError(f"$.size: {options.size} is given; no room for it ({error})") from None

    async def read(self, request: Request) -> None:
        """Copy out."""
        view = self._view
        at = request.offset
        for vector in request.vectors:
            end = at + len(vector)
            vector[:] = view[at:end]
            at = end

    async def write(self, request: Request) -> None:
        """Copy in."""
        if (zeroes := self._as_zeroes(request)) is not None:
            await self.write_zeroes(zeroes)
            return
        view = self._view
        at = request.offset
        for vector in request.vectors:
            end = at + len(vector)
            view[at:end] = vector
            at = end

    async def discard(self, request: Request) -> None:
        """With `discard=unmap`: give the range's whole pages back (they read as zeroes)."""
        if self._unmap:
            self._release(request.offset, request.offset + request.length)

    async def write_zeroes(self, request: Request) -> None:
        """Zero the range, by giving pages back where that is allowed."""
        start, end = request.offset, request.offset + request.length
        if self._unmap and HAS_MAY_UNMAP[request.flags]:
            first, last = self._release(start, end)
            self._zero(start, first)
            self._zero(last, end)
        else:
            self._zero(start, end)

    async def secure_erase(self, request: Request) -> None:
        """Overwrite the range."""
        self._zero(request.offset, request.offset + request.length)

    def _release(self, start: int, end: int) -> tuple[int, int]:
        """Give back the whole pages within [start, end); returns where they begin and end (both `end` for none)."""
        page = mmap.PAGESIZE
        first, last = -(-start // page) * page, end // page * page
        if first >= last:
            return end, end
        self._pages.madvise(mmap.MADV_DONTNEED, first, last - first)
        return first, last

    def _zero(self, start: int, end: int) -> None:
        step = len(ZEROES)
        for at in range(start, end, step):
            self._view[at : min(at + step, end)] = ZEROES[: end - at]

    async def truncate(self, size: int) -> None:
        """Keep what fits; what is new is zero."""
        try:
            pages = mmap.mmap(-1, max(size, 1), _FLAGS)
        except (OSError, OverflowError) as error:
            raise OSError(errno.ENOMEM, f"no room for {size} bytes") from error
        view = memoryview(pages)
        step = len(ZEROES)
        for at in range(0, min(size, self.size), step):
            end = min(at + step, size, self.size)
            part = bytes(self._view[at:end])
            if part != ZEROES[: end - at]:
                view[at:end] = part
        self.close()
        self._pages, self._view = pages, view
        self._resized(size)

    def close(self) -> None:
        """Free the memory."""
        self._view.release()
        self._pages.close()
