"""`blklogwrites`: what is written is also logged, in the format of Linux's dm-log-writes (`writelog.py`).

Options as QEMU's driver of that name.  An entry is logged when its request is over at the disk, one after the other.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, ClassVar

import msgspec

from devmodels.blockbackend.edge import Edge
from devmodels.blockbackend.filters import FilterNode, FilterOptions
from devmodels.blockbackend.node import SECTOR, BlockLimits, BlockNode
from devmodels.blockbackend.options import BlockOptionError, NodeOptions, NodeRef
from devmodels.blockbackend.permissions import Role
from devmodels.blockbackend.request import HAS_FUA, Op, Request
from devmodels.blockbackend.status import unfiltered
from devmodels.blockbackend.vectors import gather
from devmodels.blockbackend.writelog import (
    ENTRY,
    LogError,
    LogFlags,
    Superblock,
    log_entries,
    superblock,
    valid_sector,
)
from devmodels.iocontext import IoContext, Lock


class BlklogwritesOptions(FilterOptions, frozen=True, kw_only=True):
    """`log`: where it is logged.  `log-sector-size` in bytes; `log-append`: go on with the log that is there;
    `log-super-update-interval`: after so many entries the log's superblock counts them (and after each flush)."""

    log: NodeRef
    log_sector_size: int | None = None
    log_append: bool = False
    log_super_update_interval: Annotated[
        int, msgspec.Meta(ge=1, description="a number of entries from 1")
    ] = 4096


class BlklogwritesNode(FilterNode):
    """Passes requests on, and logs those that change something.  Takes whole sectors of the log's size."""

    Options: ClassVar[type[NodeOptions]] = BlklogwritesOptions
    CHANGEABLE = FilterNode.CHANGEABLE | {"log_super_update_interval"}

    def __init__(
        self, options: BlklogwritesOptions, context: IoContext, file: BlockNode, log: BlockNode
    ) -> None:
        self.entries = 0
        """How many there are in the log."""
        self._sector_size = SECTOR if options.log_sector_size is None else options.log_sector_size
        self._counted = 0
        """How many the superblock counts."""
        self._turn = Lock(context)
        self._unflushed = False
        super().__init__(options, context, file)
        self._disk_of_log = unfiltered(log)
        self.log = self.attach("log", log, Role.METADATA)
        if options.log_append and log.size:
            context.run(self._find_end())
        else:
            self._end = self._sector_size
        self.limits = BlockLimits(request_alignment=self._sector_size)

    @classmethod
    def open(cls, options: NodeOptions, context: IoContext, children: Mapping[str, BlockNode]) -> BlockNode:
        """Over `file`, with `log` beside it; BlockOptionError where the log cannot be used."""
        assert isinstance(options, BlklogwritesOptions)
        size = options.log_sector_size
        if size is not None and options.log_append:
            raise BlockOptionError(
                "$.log-sector-size: is given; expected nothing with log-append: the log has one"
            )
        if size is not None and not valid_sector(size):
            raise BlockOptionError(
                f"$.log-sector-size: {size} is given; expected a power of 2 from 32 to 2**23"
            )
        try:
            return cls(options, context, children["file"], children["log"])
        except LogError as error:
            raise BlockOptionError(f"$.log: {error}") from None
        except OSError as error:
            raise BlockOptionError(f"$.log: cannot read it: {error.strerror or error}") from None

    async def _find_end(self) -> None:
        """Where the log that is there ends."""

        async def read(offset: int, length: int) -> bytes:
            buffer = bytearray(length)
            await self.log.read(Request(Op.READ, offset, length, [memoryview(buffer)]))
            return bytes(buffer)

        size = self.log.node.size
        self.entries, self._sector_size = await superblock(read, size)
        self._counted = self.entries
        self._end = self._sector_size
        async for entry in log_entries(read, size):
            self._end = entry.end

    def moved(self, context: IoContext) -> None:
        """Entries take turns there."""
        super().moved(context)
        self._turn.move(context)

    def child_changed(self, edge: Edge) -> None:
        """Show what is there now; another log begins anew."""
        super().child_changed(edge)
        if edge.name == "log" and unfiltered(edge.node) is not self._disk_of_log:
            self._disk_of_log = unfiltered(edge.node)
            self.entries = self._counted = 0
            self._end = self._sector_size

    # --- the log

    async def mark(self, description: str) -> None:
        """Log a mark, for those who replay the log up to it; ValueError where it does not fit into a sector."""
        data = description.encode()
        if len(data) > self._sector_size - ENTRY.size:
            raise ValueError(f"a mark of {len(data)} bytes; at most {self._sector_size - ENTRY.size} fit")
        await self._log(ENTRY.pack(0, 0, LogFlags.MARK, len(data)) + data, LogFlags.MARK)

    async def _log(
        self, header: bytes, flags: LogFlags, data: Sequence[memoryview] = (), length: int = 0
    ) -> None:
        """Append an entry with `length` bytes of data (zeroes, where there is none)."""
        async with self._turn:
            start = self._end
            end = start + self._sector_size + length
            await self._grow(end)
            sector = memoryview(header.ljust(self._sector_size, b"\0"))
            if length and not data:
                await self.log.write(Request(Op.WRITE, start, len(sector), [sector]))
                await self.log.write_zeroes(Request(Op.WRITE_ZEROES, start + len(sector), length))
            else:
                await self.log.write(Request(Op.WRITE, start, end - start, [sector, *data]))
            self._end = end
            self.entries += 1
            options = self.options
            assert isinstance(options, BlklogwritesOptions)
            stable = flags & (LogFlags.FLUSH | LogFlags.FUA | LogFlags.MARK)
            if stable or self.entries % options.log_super_update_interval == 0:
                await self._count()

    async def _grow(self, end: int) -> None:
        """Make room up to `end`."""
        log = self.log.node
        if end > log.size:
            try:
                await log.truncate(-(-end // SECTOR) * SECTOR)
            except OSError as error:
                raise OSError(errno.ENOSPC, f"the log cannot grow: {error.strerror or error}") from None

    async def _count(self) -> None:
        """Bring the superblock up to date, and the log to stable storage."""
        sector = Superblock(self.entries, self._sector_size).pack()
        await self._grow(len(sector))
        await self.log.write(Request(Op.WRITE, 0, len(sector), [memoryview(sector)]))
        await self.log.flush(Request(Op.FLUSH, 0, 0))
        self._counted = self.entries

    async def settle(self) -> None:
        """The filter is being taken out: all that was logged counts."""
        if self._counted != self.entries:
            await self._count()

    # --- requests

    async def _logged(
        self,
        handler: Callable[[Request], Awaitable[None]],
        request: Request,
        flags: LogFlags = LogFlags.NONE,
        length: int = 0,
    ) -> None:
        """Do it, then log it, whether it has failed or not: who knows what a write that fails has written."""
        if HAS_FUA[request.flags]:
            flags |= LogFlags.FUA
        failure: OSError | None = None
        try:
            await handler(request)
        except OSError as error:
            failure = error
        size = self._sector_size
        header = ENTRY.pack(request.offset // size, request.length // size, flags, 0)
        await self._log(header, flags, request.vectors, length)
        if failure is not None:
            raise failure

    async def _change(
        self,
        handler: Callable[[Request], Awaitable[None]],
        request: Request,
        flags: LogFlags = LogFlags.NONE,
        length: int = 0,
    ) -> None:
        try:
            await self._logged(handler, request, flags, length)
        finally:
            self._unflushed = True

    async def read(self, request: Request) -> None:
        """Whole sectors of the log's size."""
        await self.read_blocks(request)

    async def write(self, request: Request) -> None:
        """Write one copy to the disk and to the log: the guest may change its buffer between the two."""
        copy = request.derive(request.offset, request.length, [memoryview(gather(request.vectors))])
        await self._change(self.write_blocks, copy, length=request.length)

    async def write_zeroes(self, request: Request) -> None:
        """Zero; the log has it as a write of zeroes."""
        await self._change(self.file.write_zeroes, request, length=request.length)

    async def secure_erase(self, request: Request) -> None:
        """Erase; the log has it as a write of zeroes."""
        await self._change(self.file.secure_erase, request, length=request.length)

    async def discard(self, request: Request) -> None:
        """Discard."""
        await self._change(self.file.discard, request, LogFlags.DISCARD)

    async def flush(self, request: Request) -> None:
        """Flush; as in QEMU, where nothing was written since the last flush nothing is logged."""
        unflushed, self._unflushed = self._unflushed, False
        try:
            if unflushed and not self.options.cache.no_flush:
                await self._logged(self.file.flush, request, LogFlags.FLUSH)
            else:
                await self.file.flush(request)
        except BaseException:
            self._unflushed = True
            raise
