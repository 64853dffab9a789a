"""`host_device`: a block device of the host as a disk (options as QEMU's driver of that name), or an empty one.

As `file`, but for what a device does in its own way: its size and blocks, discards, zeroes, SCSI commands.
"""

from __future__ import annotations

import errno
import os
from functools import partial

import msgspec

from devmodels.blockbackend.drivers import blkdev, linux
from devmodels.blockbackend.drivers.file import UNSUPPORTED, FileNode, FileOptions
from devmodels.blockbackend.drivers.file_aio import DirectFileNode, UringFileNode
from devmodels.blockbackend.drivers.linux import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE
from devmodels.blockbackend.node import SECTOR
from devmodels.blockbackend.passthrough import PassthroughRequest
from devmodels.blockbackend.request import Request
from devmodels.blockbackend.status import BlockStatus, Status, stored
from devmodels.iocontext import IoContext


class HostDeviceNode(FileNode):
    """The device at `filename`.  Its size is its own: it follows what the device has, and nobody resizes it."""

    def __init__(self, options: FileOptions, context: IoContext, fd: int) -> None:
        super().__init__(options, context, fd)
        self._block = self._alignment(fd)
        if blkdev.is_block_device(fd):
            physical = blkdev.physical_block_size(fd)
            self.limits = msgspec.structs.replace(self.limits, pdiscard_alignment=physical)
        else:
            # Nothing can be written, fsync(2) knows no such devices, and they are everybody's.
            self._no_flush = True
            self._locks = None
        # The device's file lies in memory, its data does not.
        self._nowait = 0 if self._inline else os.RWF_NOWAIT
        self._choose_ways()

    @staticmethod
    def _size_of(fd: int) -> int:
        return blkdev.size(fd)

    @staticmethod
    def _expects(fd: int) -> str:
        return "" if blkdev.is_block_device(fd) or blkdev.is_empty_device(fd) else "a block device"

    def _alignment(self, fd: int) -> int:
        """The smallest block, in bytes."""
        return blkdev.logical_block_size(fd) if blkdev.is_block_device(fd) else SECTOR

    @classmethod
    def _variant(cls, *, direct: bool) -> type[FileNode]:
        return _DirectDeviceNode if direct else _UringDeviceNode

    def _grow(self, end: int) -> None:
        """A device does not: the kernel says that there is no space left."""

    async def block_status(self, request: Request) -> BlockStatus:
        """All of a device is data."""
        return stored(self, Status.DATA, request.offset, request.length)

    def _discard(self, offset: int, length: int) -> None:
        start, end = -(-offset // self._block) * self._block, (offset + length) // self._block * self._block
        if start >= end:
            return
        try:
            blkdev.discard(self._descriptor.fd, start, end - start)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise

    def _write_zeroes(self, offset: int, length: int, unmap: bool, fallback: bool) -> None:
        if unmap and self._zeroed_by(
            partial(
                linux.fallocate, self._descriptor.fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, offset, length
            )
        ):
            return
        if not fallback:
            # BLKZEROOUT does not tell whether the kernel writes them out.
            raise OSError(errno.ENOTSUP, "zeroes may have to be written out")
        if not self._zeroed_by(partial(blkdev.zero_out, self._descriptor.fd, offset, length)):
            self._overwrite(offset, length)

    @staticmethod
    def _zeroed_by(attempt: partial[None]) -> bool:
        try:
            attempt()
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            return False
        return True

    async def passthrough(self, request: Request) -> None:
        """SG_IO, by a worker."""
        if not isinstance(request, PassthroughRequest):
            raise OSError(errno.EINVAL, "a request without a command")
        await self._blocking(partial(blkdev.sg_io, self._descriptor.fd, request.command))

    async def truncate(self, size: int) -> None:
        """Look again how large the device is; ENOTSUP where that is not `size`."""
        now = await self._blocking(partial(blkdev.size, self._descriptor.fd))
        if size != now:
            raise OSError(
                errno.ENOTSUP, f"{self._filename!r} has {now} bytes, and cannot be resized from here"
            )
        self._resized(now)

    def truncate_now(self, size: int) -> None:  # noqa: ARG002
        """Nothing of a device can be cut off."""
        raise OSError(errno.ENOTSUP, f"{self._filename!r} cannot be resized from here")


class _UringDeviceNode(HostDeviceNode, UringFileNode):
    """The same with `aio=io_uring`."""


class _DirectDeviceNode(HostDeviceNode, DirectFileNode):
    """The same with `cache.direct`: in blocks of the device's own size."""
