"""What filters have in common: a node that shows one child, mostly `file`, and does something to the requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from devmodels.blockbackend.edge import Edge
from devmodels.blockbackend.node import BlockNode
from devmodels.blockbackend.options import NodeOptions, NodeRef
from devmodels.blockbackend.permissions import Perm, Role
from devmodels.blockbackend.request import Request
from devmodels.blockbackend.status import BlockStatus
from devmodels.blockbackend.vectors import clear, window
from devmodels.iocontext import IoContext


class FilterOptions(NodeOptions, frozen=True, kw_only=True):
    """`file`: the node below."""

    file: NodeRef


class FilterNode(BlockNode):
    """Passes everything on to `self.file`.  A filter overrides what it wants to see.

    `self.file` is the edge to the child that it shows, the one of the option `FILTERED`.  Reads without a request
    (`read_now`) are not passed on unless a filter does so itself: most want to see each one.  Nor are
    commands (`passthrough`), which could change the disk unseen.
    """

    Options: ClassVar[type[NodeOptions]] = FilterOptions
    FILTERED: ClassVar[str | None] = "file"

    def __init__(
        self,
        options: NodeOptions,
        context: IoContext,
        file: BlockNode,
        role: Role = Role.FILTERED | Role.PRIMARY,
    ) -> None:
        super().__init__(options, context, file.size)
        assert self.FILTERED is not None
        self.file = self.attach(self.FILTERED, file, role)
        self._look()

    @classmethod
    def open(cls, options: NodeOptions, context: IoContext, children: Mapping[str, BlockNode]) -> BlockNode:
        """Over its child."""
        assert cls.FILTERED is not None
        return cls(options, context, children[cls.FILTERED])

    def child_changed(self, edge: Edge) -> None:  # noqa: ARG002
        """Show what is there now."""
        before = self.size, self.read_only
        self._look()
        if (self.size, self.read_only) != before:
            self.changed()

    def _reopen(self, before: NodeOptions) -> None:  # noqa: ARG002
        """Read-only, too, where the child is."""
        self._look()

    def _look(self) -> None:
        """Take over what the child is."""
        self.size = self.file.node.size
        self.read_only = self.options.read_only or self.file.node.read_only
        self.disc = self.file.node.disc if Role.FILTERED in self.file.role else None

    @property
    def can_unmap(self) -> bool:
        """Where the child can, and `discard` lets it."""
        return self.options.discard == "unmap" and self.file.node.can_unmap

    async def read_blocks(self, request: Request) -> None:
        """Read from the child; where the last block of a filter with limits of its own reaches beyond the child's end
        there are zeroes."""
        part = self._within(request)
        if part.length:
            await self.file.read(part)
        if part is not request:
            clear(window(request.vectors, part.length, request.length - part.length))

    async def write_blocks(self, request: Request) -> None:
        """Write to the child, without what the last block has beyond its end, unless the child is to grow."""
        if not self.file.use.used & Perm.RESIZE:
            request = self._within(request)
        await self.file.write(request)

    def _within(self, request: Request) -> Request:
        room = max(self.file.node.size - request.offset, 0)
        if request.length <= room:
            return request
        return request.derive(request.offset, room, window(request.vectors, 0, room))

    async def read(self, request: Request) -> None:
        """Pass it on."""
        await self.file.read(request)

    async def write(self, request: Request) -> None:
        """Pass it on."""
        await self.file.write(request)

    async def flush(self, request: Request) -> None:
        """Pass it on."""
        await self.file.flush(request)

    async def discard(self, request: Request) -> None:
        """Pass it on."""
        await self.file.discard(request)

    async def write_zeroes(self, request: Request) -> None:
        """Pass it on."""
        await self.file.write_zeroes(request)

    async def secure_erase(self, request: Request) -> None:
        """Pass it on."""
        await self.file.secure_erase(request)

    async def block_status(self, request: Request) -> BlockStatus:
        """What the child is there."""
        return await self.file.block_status(request)

    async def truncate(self, size: int) -> None:
        """Pass it on; the child tells when it has its new size."""
        await self.file.node.truncate(size)

    def truncate_now(self, size: int) -> None:
        """Pass it on."""
        self.file.node.truncate_now(size)
