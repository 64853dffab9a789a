"""`blkverify`: a disk that is tested and a raw one that is trusted; both get what is written, reads are compared.

Options as QEMU's driver of that name.  QEMU ends its process at the first difference; here the request fails with EIO,
one line is logged, and `mismatches` counts it.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Mapping
from typing import ClassVar

from devmodels import logs
from devmodels.blockbackend.debug.announcing import NOTHING
from devmodels.blockbackend.edge import Edge
from devmodels.blockbackend.filters import FilterNode
from devmodels.blockbackend.node import BlockNode, unsupported
from devmodels.blockbackend.options import BlockOptionError, NodeOptions, NodeRef
from devmodels.blockbackend.permissions import Perm, Role, Use
from devmodels.blockbackend.ranges import InFlight
from devmodels.blockbackend.request import HAS_NO_FALLBACK, Request
from devmodels.blockbackend.vectors import gather, scatter
from devmodels.iocontext import IoContext

logger = logs.logger(__name__)


class BlkverifyOptions(NodeOptions, frozen=True, kw_only=True):
    """`test`: the disk that is tested; `raw`: the one that it is compared with."""

    test: NodeRef
    raw: NodeRef


class BlkverifyNode(FilterNode):
    """What is written goes to both disks; what is read comes from both, and must be the same.

    `mismatches` counts what was not the same; `last_mismatch` says what it was.  Requests that touch the same bytes
    wait for each other, reads only for changes: else the two disks could see them in different orders.
    """

    Options: ClassVar[type[NodeOptions]] = BlkverifyOptions
    FILTERED = "raw"
    ANNOUNCES = NOTHING  # As QEMU's, which flushes by itself.

    def __init__(
        self, options: BlkverifyOptions, context: IoContext, test: BlockNode, raw: BlockNode
    ) -> None:
        self.mismatches = 0
        self.last_mismatch = ""
        self._running = InFlight(context)
        self._test: Edge | None = None
        super().__init__(options, context, raw)
        self.test = self._test = self.attach("test", test, Role.DATA)
        self._look()

    @classmethod
    def open(cls, options: NodeOptions, context: IoContext, children: Mapping[str, BlockNode]) -> BlockNode:
        """Over both; BlockOptionError where they are not of one size."""
        assert isinstance(options, BlkverifyOptions)
        test, raw = children["test"], children["raw"]
        if test.size != raw.size:
            raise BlockOptionError(f"$.raw: has {raw.size} bytes; expected {test.size}, as test has")
        return cls(options, context, test, raw)

    def _look(self) -> None:
        """As large as both are; read-only where one of them is."""
        super()._look()
        if self._test is not None:
            self.size = min(self.size, self._test.node.size)
            self.read_only = self.read_only or self._test.node.read_only

    def moved(self, context: IoContext) -> None:
        """Requests wait for each other there."""
        super().moved(context)
        self._running.move(context)

    def child_permissions(self, edge: Edge, use: Use) -> Use:
        """As QEMU has it: who writes to a disk that holds another one's data may let it grow."""
        usual = super().child_permissions(edge, use)
        if Role.DATA in edge.role and use.used & (Perm.WRITE | Perm.WRITE_UNCHANGED):
            return Use(usual.used | Perm.WRITE | Perm.RESIZE, usual.shared)
        return usual

    @property
    def can_unmap(self) -> bool:
        """What a discarded block holds is anybody's guess, and the two would not guess the same."""
        return False

    # --- requests

    def _differ(self, request: Request, what: str) -> OSError:
        """Say so; the error for the request."""
        kind = request.op.name.lower().replace("_", "-")
        self.mismatches += 1
        self.last_mismatch = f"blkverify: {kind} offset={request.offset} bytes={request.length} {what}"
        logger.error("%s", self.last_mismatch)
        return OSError(errno.EIO, self.last_mismatch)

    async def _both(
        self,
        test: Callable[[Request], Awaitable[None]],
        raw: Callable[[Request], Awaitable[None]],
        request: Request,
        other: Request,
    ) -> None:
        """Do `request` at `test` and `other` at `raw`; OSError where one of them fails, or both do."""
        found = await _error(test(request)), await _error(raw(other))
        if found[0] != found[1]:
            raise self._differ(request, f"return value mismatch {-found[0]} != {-found[1]}")
        if found[0]:
            raise OSError(found[0], "both disks say so")

    async def read(self, request: Request) -> None:
        """Read from both and compare, where nobody changes the bytes meanwhile."""
        start, length = request.offset, request.length
        buffers = bytearray(length), bytearray(length)
        first, second = (request.derive(start, length, [memoryview(buffer)]) for buffer in buffers)
        async with self._running.hold(start, start + length, serialising=False):
            await self._both(self.test.read, self.file.read, first, second)
        if buffers[0] != buffers[1]:
            at = next(at for at in range(length) if buffers[0][at] != buffers[1][at])
            raise self._differ(request, f"contents mismatch at offset {start + at}")
        scatter(request.vectors, buffers[0])

    async def write(self, request: Request) -> None:
        """Write one copy to both: the guest may change its buffer between the two."""
        start, length = request.offset, request.length
        copy = request.derive(start, length, [memoryview(gather(request.vectors))])
        async with self._running.hold(start, start + length, serialising=True):
            await self._both(self.test.write, self.file.write, copy, copy)

    async def write_zeroes(self, request: Request) -> None:
        """Zero both, each by its own means."""
        if HAS_NO_FALLBACK[request.flags]:
            raise unsupported(request.op)
        async with self._running.hold(request.offset, request.offset + request.length, serialising=True):
            await self._both(self.test.write_zeroes, self.file.write_zeroes, request, request)

    async def secure_erase(self, request: Request) -> None:
        """Erase both."""
        async with self._running.hold(request.offset, request.offset + request.length, serialising=True):
            await self._both(self.test.secure_erase, self.file.secure_erase, request, request)

    async def discard(self, request: Request) -> None:
        """Nothing: see `can_unmap`."""

    async def flush(self, request: Request) -> None:
        """Flush the disk that is tested; the other one is not important."""
        await self.test.flush(request)

    async def truncate(self, size: int) -> None:
        """Both."""
        await self.test.node.truncate(size)
        await self.file.node.truncate(size)


async def _error(work: Awaitable[None]) -> int:
    """The errno that `work` ends with."""
    try:
        await work
    except OSError as error:
        return error.errno or errno.EIO
    return 0
