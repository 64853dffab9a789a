"""The ways in which `file` and `host_device` read and write besides workers: io_uring, and O_DIRECT."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Sequence
from functools import partial

import msgspec

from devmodels.blockbackend.drivers import direct
from devmodels.blockbackend.drivers.file import FileNode, FileOptions
from devmodels.blockbackend.options import BlockOptionError
from devmodels.blockbackend.request import Read, Request
from devmodels.blockbackend.vectors import clear, window
from devmodels.iocontext import IoContext


class UringFileNode(FileNode):
    """The same with `aio=io_uring`: the kernel reads, writes and syncs; allocation is changed by workers."""

    def __init__(self, options: FileOptions, context: IoContext, fd: int) -> None:
        super().__init__(options, context, fd)
        self._uring = context.uring()

    def _choose_ways(self) -> None:
        """The kernel tries at once what it can, and has a queue of its own."""

    def moved(self, context: IoContext) -> None:
        """Each context has an io_uring of its own."""
        self._uring = context.uring()
        super().moved(context)

    async def _read_rest(self, request: Request, done: int) -> None:
        rest = window(request.vectors, done, request.length - done)
        with self._descriptor as fd:
            while rest:
                count = await self._uring.transfer(fd, rest, request.offset + done, write=False)
                if not count:
                    clear(rest)
                    return
                done += count
                rest = window(rest, count, request.length - done)

    async def _put(self, vectors: Sequence[memoryview], offset: int, flags: int) -> None:
        rest = vectors
        left = sum(map(len, rest))
        with self._descriptor as fd:
            while left:
                count = await self._uring.transfer(fd, rest, offset, write=True, flags=flags)
                offset += count
                left -= count
                rest = window(rest, count, left)

    async def _datasync(self) -> None:
        with self._descriptor as fd:
            await self._uring.datasync(fd)


class DirectFileNode(FileNode):
    """The same with `cache.direct`: aligned transfers, all of them where `aio` says, and no page cache to go wrong."""

    def __init__(self, options: FileOptions, context: IoContext, fd: int) -> None:
        super().__init__(options, context, fd)
        self._size_lock = threading.Lock()
        """No worker cuts the file while it is to grow."""
        try:
            self._align = self._alignment(fd)
        except OSError as error:
            raise BlockOptionError(
                f"$.cache.direct: true is given; {options.filename!r} cannot be read that way: {error.strerror}"
            ) from None
        self.limits = msgspec.structs.replace(self.limits, request_alignment=self._align)

    def _choose_ways(self) -> None:
        """A device takes many writes at a time, and every one has to wait."""

    def _alignment(self, fd: int) -> int:
        """The smallest block, found by trying."""
        return direct.probe_alignment(fd)

    def read_now(self, reads: Sequence[Read]) -> int:  # noqa: ARG002
        """With O_DIRECT even a read with RWF_NOWAIT waits for the device."""
        return 0

    async def read(self, request: Request) -> None:
        """Read where `aio` says."""
        job = partial(
            direct.read, self._descriptor.fd, request.vectors, request.offset, request.length, self._align
        )
        await self._blocking(job)

    def _transfer(self, vectors: Sequence[memoryview], offset: int, flags: int) -> None:
        length = sum(map(len, vectors))
        direct.write(self._descriptor.fd, vectors, offset, length, flags)
        with self._size_lock:
            if offset + length > self.size:
                # The last block reached beyond the disk; the file must not grow by that.
                os.ftruncate(self._descriptor.fd, self.size)

    def _grow(self, end: int) -> None:
        """Where whole blocks are new: the rest of the last block is no growth."""
        if end > -(-self.size // self._align) * self._align:
            with self._size_lock:
                super()._grow(end)

    def _overwrite(self, offset: int, length: int) -> None:
        with mmap.mmap(-1, min(length, direct.BOUNCE_SIZE)) as zeroes, memoryview(zeroes) as view:
            for at in range(0, length, len(view)):
                with view[: length - at] as part:
                    self._transfer([part], offset + at, 0)

    def _lost(self, error: OSError) -> None:
        """A failed flush leaves nothing behind: a write that has returned is with the device."""
