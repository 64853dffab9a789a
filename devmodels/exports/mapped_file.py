"""Parts of files that a client hands over as its memory, mapped.

A part must lie within its file when it is mapped.  Where the client cuts the file afterwards, zeroes take the part's
place (`lostpages`).  QEMU's own memory is sealed against that (F_SEAL_SHRINK), which cannot be demanded of files.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from mmap import MAP_SHARED, PAGESIZE, PROT_READ, PROT_WRITE, mmap

from devmodels.exports.lostpages import guard


class MappingError(Exception):
    """The part cannot be mapped; the text says why."""


def check_part(fd: int, offset: int, size: int) -> None:
    """MappingError where `fd` is nothing to be mapped, or a file that ends before `offset` + `size`."""
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode):
        if offset + size > status.st_size:
            raise MappingError(f"its descriptor holds only {status.st_size:#x} bytes")
    elif not stat.S_ISCHR(status.st_mode):
        raise MappingError("its descriptor is neither a file nor a memory device")


def map_part(
    fd: int, offset: int, size: int, lost: Callable[[], None], *, writable: bool = True
) -> memoryview:
    """`size` bytes of `fd` from `offset` on, shared with everybody who has the file; MappingError.

    `lost` is called, on any thread, when the file has become too short; the bytes are zeroes of our own then.
    """
    status = os.fstat(fd)
    # Huge pages are mapped, and given back, as wholes: that is a file's block size then.
    unit = max(PAGESIZE, status.st_blksize)
    start = offset - offset % unit
    end = offset + size
    rounded = -(-end // unit) * unit
    if rounded <= status.st_size:
        end = rounded
    skip = offset - start
    try:
        mapping = mmap(fd, end - start, MAP_SHARED, PROT_READ | (PROT_WRITE if writable else 0), offset=start)
    except (OSError, ValueError, OverflowError) as error:
        raise MappingError(f"cannot be mapped: {error}") from None
    guard(mapping, lost)
    return memoryview(mapping)[skip : skip + size]
