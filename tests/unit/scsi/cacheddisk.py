"""Memory disks with a volatile write cache, in which a power cut leaves as little as it may; and one that fails."""

from __future__ import annotations

from collections.abc import Sequence

from devmodels.blockbackend import Flags, Request
from devmodels.blockbackend.drivers.memory import MemoryNode, MemoryOptions
from devmodels.blockbackend.request import Read
from devmodels.iocontext import IoContext
from tests.unit.scsi.initiator import SIZE

FILLED = b"".join(n.to_bytes(4, "big") * 128 for n in range(SIZE // 1024))
"""What is in the first half at first, each sector by its number."""


class CachedNode(MemoryNode):
    """`stable`: what is there if the power goes now."""

    def __init__(self, context: IoContext) -> None:
        super().__init__(MemoryOptions(driver="memory", size=SIZE, discard="unmap"), context)
        self._view[: len(FILLED)] = FILLED
        self._written[:] = b"\1" * len(self._written)
        self.stable = bytearray(self._view)

    async def write(self, request: Request) -> None:
        """Into the cache; through it, with FUA."""
        await super().write(request)
        self._through(request)

    async def write_zeroes(self, request: Request) -> None:
        """The same."""
        await super().write_zeroes(request)
        self._through(request)

    def _through(self, request: Request) -> None:
        if request.flags & Flags.FUA:
            part = slice(request.offset, request.offset + request.length)
            self.stable[part] = self._view[part]

    async def flush(self, request: Request) -> None:
        """All that was written is stable."""
        self.stable[:] = self._view

    async def truncate(self, size: int) -> None:
        """That is stable at once."""
        await super().truncate(size)
        self.stable[:] = self._view[:size]


class FailingNode(CachedNode):
    """One of which each fifth request fails, in one way after the other."""

    EVERY = 5
    ERRORS = (5, 28, 67, 121, 52, 11, 95)

    def __init__(self, context: IoContext) -> None:
        super().__init__(context)
        self._seen = 0

    def _judge(self) -> None:
        self._seen += 1
        if self._seen % self.EVERY == 0:
            raise OSError(self.ERRORS[self._seen // self.EVERY % len(self.ERRORS)], "failing")

    def read_now(self, reads: Sequence[Read]) -> int:
        """None of them: each goes the way that may fail."""
        return 0

    async def read(self, request: Request) -> None:
        """Where it does not fail."""
        self._judge()
        super().read_now([(request.offset, request.vectors, request.length)])

    async def write(self, request: Request) -> None:
        """The same."""
        self._judge()
        await super().write(request)

    async def flush(self, request: Request) -> None:
        """The same."""
        self._judge()
        await super().flush(request)

    async def write_zeroes(self, request: Request) -> None:
        """The same."""
        self._judge()
        await super().write_zeroes(request)
