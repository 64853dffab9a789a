"""`raw`: a child's bytes as they are, or a window of them (options as QEMU's driver of that name)."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import ClassVar

from devmodels.blockbackend.debug.announcing import GUEST_DATA
from devmodels.blockbackend.filters import FilterNode, FilterOptions
from devmodels.blockbackend.node import SECTOR, BlockNode, unsupported
from devmodels.blockbackend.options import MAX_SIZE, BlockOptionError, NodeOptions, Size
from devmodels.blockbackend.permissions import Role
from devmodels.blockbackend.request import Read, Request, WriteEnded
from devmodels.blockbackend.status import BlockStatus
from devmodels.iocontext import IoContext


class RawOptions(FilterOptions, frozen=True, kw_only=True):
    """`offset`, `size`: the window's first byte and its length (without `size`: to the end), multiples of 512."""

    offset: Size = 0
    size: Size | None = None


class RawNode(FilterNode):
    """The whole child, or a window of it; a window shrinks with its child."""

    Options: ClassVar[type[NodeOptions]] = RawOptions
    ANNOUNCES = GUEST_DATA

    def __init__(self, options: RawOptions, context: IoContext, file: BlockNode) -> None:
        self._offset = options.offset
        self._fixed = options.size
        whole = not options.offset and options.size is None
        role = Role.FILTERED if whole else Role.DATA
        super().__init__(options, context, file, role | Role.PRIMARY)

    @classmethod
    def open(cls, options: NodeOptions, context: IoContext, children: Mapping[str, BlockNode]) -> BlockNode:
        """BlockOptionError where the window is not within the child."""
        assert isinstance(options, RawOptions)
        file = children["file"]
        for name, value in (("offset", options.offset), ("size", options.size or 0)):
            if value % SECTOR:
                raise BlockOptionError(f"$.{name}: {value} is given; expected a multiple of {SECTOR}")
        room = file.size - options.offset
        if room < 0:
            raise BlockOptionError(f"$.offset: {options.offset} is given; the child has {file.size} bytes")
        if options.size is not None and options.size > room:
            raise BlockOptionError(
                f"$.size: {options.size} is given; after offset {options.offset} the child has {room} bytes"
            )
        return cls(options, context, file)

    def _look(self) -> None:
        super()._look()
        room = max(self.size - self._offset, 0)
        self.size = room if self._fixed is None else min(self._fixed, room)

    def read_now(self, reads: Sequence[Read]) -> int:
        """What the child has at hand."""
        first = self._offset
        if first:
            reads = [(offset + first, vectors, length) for offset, vectors, length in reads]
        return self.file.read_now(reads)

    @property
    def writes_now(self) -> bool:
        """As the child."""
        return self.file.write_now is not None and self.file.node.writes_now

    def write_now(self, offset: int, vectors: Sequence[memoryview], length: int) -> bool:
        """Where the child can."""
        write = self.file.write_now
        return write is not None and write(offset + self._offset, vectors, length)

    def begin_write(
        self,
        offset: int,
        vectors: Sequence[memoryview],
        length: int,
        request: Request,
        ended: WriteEnded,
    ) -> bool:
        """Where the child can."""
        begin = self.file.begin_write
        return begin is not None and begin(offset + self._offset, vectors, length, request, ended)

    def _within(self, request: Request) -> Request:
        """The same request to the child."""
        if not self._offset:
            return request
        return request.derive(request.offset + self._offset, request.length, request.vectors)

    async def read(self, request: Request) -> None:
        """Read from the window."""
        await self.file.read(self._within(request))

    async def write(self, request: Request) -> None:
        """Write into the window."""
        await self.file.write(self._within(request))

    async def discard(self, request: Request) -> None:
        """Discard within the window."""
        await self.file.discard(self._within(request))

    async def write_zeroes(self, request: Request) -> None:
        """Zero a part of the window."""
        await self.file.write_zeroes(self._within(request))

    async def secure_erase(self, request: Request) -> None:
        """Erase a part of the window."""
        await self.file.secure_erase(self._within(request))

    async def block_status(self, request: Request) -> BlockStatus:
        """What the child is in the window."""
        return await self.file.block_status(self._within(request))

    async def passthrough(self, request: Request) -> None:
        """The whole child is what the command is for; a window is not."""
        if Role.FILTERED not in self.file.role:
            raise unsupported(request.op)
        await self.file.passthrough(request)

    async def truncate(self, size: int) -> None:
        """Resize the child, unless the window has a size of its own."""
        await self.file.node.truncate(self._childs_size(size))

    def truncate_now(self, size: int) -> None:
        """The same without waiting."""
        self.file.node.truncate_now(self._childs_size(size))

    def _childs_size(self, size: int) -> int:
        if self._fixed is not None:
            raise OSError(errno.ENOTSUP, f"{self.description} has a fixed size")
        if size + self._offset > MAX_SIZE:
            raise OSError(
                errno.EFBIG, f"{size} bytes from {self._offset} on: expected at most {MAX_SIZE} together"
            )
        return size + self._offset
