"""A part of a file that the front end shares beside its memory: the in-flight area, the dirty log."""

from __future__ import annotations

import os
import stat
from mmap import MAP_SHARED, PAGESIZE, PROT_READ, PROT_WRITE, mmap

from devmodels.exports.lostpages import guard
from devmodels.exports.vhost_channel import RequestRefused


class SharedArea:
    """`size` bytes from `offset` of a descriptor, mapped; `view` shows them."""

    def __init__(self, what: str, fd: int, size: int, offset: int, alignment: int) -> None:
        """Map it; `fd` stays the caller's.  RequestRefused, beginning with `what`, where it cannot be mapped."""
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise RequestRefused(f"{what}: its descriptor is no file")
        if offset % alignment or size % alignment:
            raise RequestRefused(f"{what} of {size} bytes at {offset}: not aligned to {alignment}")
        if not size or offset + size > status.st_size:
            raise RequestRefused(
                f"{what} of {size} bytes at {offset}: its descriptor holds only {status.st_size}"
            )
        start = offset - offset % PAGESIZE
        try:
            self.mapping = mmap(fd, offset + size - start, MAP_SHARED, PROT_READ | PROT_WRITE, offset=start)
        except (OSError, ValueError, OverflowError) as error:
            raise RequestRefused(f"{what}: cannot be mapped: {error}") from None
        # Who cuts it off has hurt itself alone: it is told nothing any more.
        self._guard = guard(self.mapping, None)
        self.skip = offset - start
        """Where the area begins in the mapping, in bytes."""
        self.view = memoryview(self.mapping)[self.skip :]

    def close(self) -> None:
        """Unmap it; views made of `view` have been released."""
        self.view.release()
        self._guard.drop()
        self.mapping.close()
