"""`memory`: a disk in this process's memory, empty at first and gone at the end."""

from __future__ import annotations

import errno
import mmap
from collections.abc import Mapping, Sequence
from typing import ClassVar

from devmodels.blockbackend.node import SECTOR, BlockLimits, BlockNode
from devmodels.blockbackend.options import BlockOptionError, NodeOptions, Size
from devmodels.blockbackend.request import Read, Request
from devmodels.blockbackend.status import BlockStatus, Status, stored
from devmodels.blockbackend.vectors import ZEROES
from devmodels.iocontext import IoContext

CHUNK_SHIFT = 16
"""It is noted which pieces of 64 KiB have been written."""

_MAP_NORESERVE = 0x4000
_FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE


class MemoryOptions(NodeOptions, frozen=True, kw_only=True):
    """`size` in bytes."""

    size: Size


class MemoryNode(BlockNode):
    """Pages are taken as they are written and given back where zeroes are written, so that a large disk costs nothing.

    What a request costs is bounded by what has been written in its range, not by its length.
    """

    Options: ClassVar[type[NodeOptions]] = MemoryOptions

    def __init__(self, options: MemoryOptions, context: IoContext) -> None:
        super().__init__(options, context, -(-options.size // SECTOR) * SECTOR)
        self.limits = BlockLimits(pdiscard_alignment=mmap.PAGESIZE)
        self._pages = mmap.mmap(-1, max(self.size, 1), _FLAGS)
        self._view = memoryview(self._pages)
        self._written = mmap.mmap(-1, self._chunks(self.size), _FLAGS)
        """1 for each piece that may hold something else than zeroes."""

    @staticmethod
    def _chunks(size: int) -> int:
        return (size >> CHUNK_SHIFT) + 1

    @classmethod
    def open(
        cls,
        options: NodeOptions,
        context: IoContext,
        children: Mapping[str, BlockNode],  # noqa: ARG003
    ) -> BlockNode:
        """A new disk of zeroes; BlockOptionError where the host has no room for it."""
        assert isinstance(options, MemoryOptions)
        try:
            return cls(options, context)
        except (OSError, OverflowError) as error:
            raise BlockOptionError(f"$.size: {options.size} is given; no room for it ({error})") from None

    @property
    def can_unmap(self) -> bool:
        """Zeroes take no memory."""
        return True

    def read_now(self, reads: Sequence[Read]) -> int:
        """Copy out."""
        view = self._view
        for offset, vectors, _ in reads:
            at = offset
            for vector in vectors:
                end = at + len(vector)
                vector[:] = view[at:end]
                at = end
        return len(reads)

    async def read(self, request: Request) -> None:
        """Copy out."""
        self.read_now([(request.offset, request.vectors, request.length)])

    async def write(self, request: Request) -> None:
        """Copy in."""
        at = request.offset
        if at + request.length > self.size:
            self._grow(at + request.length)
        view = self._view
        first, last = at >> CHUNK_SHIFT, (at + request.length - 1) >> CHUNK_SHIFT
        self._written[first : last + 1] = b"\1" * (last + 1 - first)
        for vector in request.vectors:
            end = at + len(vector)
            view[at:end] = vector
            at = end

    async def discard(self, request: Request) -> None:
        """Give the range's whole pages back (they read as zeroes)."""
        self._release(request.offset, request.offset + request.length)

    async def write_zeroes(self, request: Request) -> None:
        """Zero the range by giving its pages back: a page of its own would hold the same and say no more."""
        if request.offset + request.length > self.size:
            self._grow(request.offset + request.length)
        self._zero(request.offset, request.offset + request.length)

    async def secure_erase(self, request: Request) -> None:
        """Overwrite what has been written in the range, then give its pages back."""
        start, end = request.offset, request.offset + request.length
        stop = (end >> CHUNK_SHIFT) + 1
        chunk = self._written.find(b"\1", start >> CHUNK_SHIFT, stop)
        while chunk >= 0:
            at = chunk << CHUNK_SHIFT
            self._overwrite(max(at, start), min(at + (1 << CHUNK_SHIFT), end))
            chunk = self._written.find(b"\1", chunk + 1, stop)
        self._release(start, end)

    def _grow(self, end: int) -> None:
        """A user that may resize the disk changes what lies beyond its end."""
        self.truncate_now(-(-end // SECTOR) * SECTOR)

    def _release(self, start: int, end: int) -> tuple[int, int]:
        """Give back the whole pages within [start, end); returns where they begin and end (both `end` for none)."""
        page = mmap.PAGESIZE
        first, last = -(-start // page) * page, end // page * page
        if first >= last:
            return end, end
        self._pages.madvise(mmap.MADV_DONTNEED, first, last - first)
        whole = -(-first >> CHUNK_SHIFT), last >> CHUNK_SHIFT
        if (low := self._written.find(b"\1", *whole)) >= 0:
            high = self._written.rfind(b"\1", *whole) + 1
            self._written[low:high] = bytes(high - low)
        return first, last

    def _zero(self, start: int, end: int) -> None:
        first, last = self._release(start, end)
        self._overwrite(start, first)
        self._overwrite(last, end)

    def _overwrite(self, start: int, end: int) -> None:
        """Write zeroes over less than two pages, or over one piece."""
        self._view[start:end] = ZEROES[: end - start]

    async def block_status(self, request: Request) -> BlockStatus:
        """Zeroes where a piece has not been written since it was zeroed, else data."""
        offset, end = request.offset, request.offset + request.length
        first, stop = offset >> CHUNK_SHIFT, -(-end >> CHUNK_SHIFT)
        written = self._written[first] != 0
        other = self._written.find(b"\0" if written else b"\1", first, stop)
        length = (min(other << CHUNK_SHIFT, end) if other >= 0 else end) - offset
        return stored(self, Status.DATA if written else Status.ZERO, offset, length)

    async def truncate(self, size: int) -> None:
        """Keep what fits; what is new is zero."""
        self.truncate_now(size)

    def truncate_now(self, size: int) -> None:
        """The same: it takes no waiting."""
        if size < self.size:
            # The rest of the last page stays, and would be seen again when the disk grows.
            self._zero(size, self.size)
        self._view.release()
        try:
            self._written.resize(self._chunks(size))
            self._pages.resize(max(size, 1))
        except (OSError, OverflowError) as error:
            raise OSError(errno.ENOMEM, f"no room for {size} bytes") from error
        finally:
            self._view = memoryview(self._pages)
        self._resized(size)

    def _close(self) -> None:
        """Free the memory."""
        self._view.release()
        self._pages.close()
        self._written.close()
