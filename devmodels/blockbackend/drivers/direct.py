"""O_DIRECT: reads and writes past the host's page cache.

The kernel wants offset, length and memory aligned.  Offset and length are the block layer's care (`request_alignment`,
found by trying); memory is the guest's, so a transfer is tried with the guest's own pages and goes through an aligned
buffer where the kernel refuses them (EINVAL; open(2), "O_DIRECT").
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Sequence

from devmodels.blockbackend.vectors import clear, gather, scatter, window

IOV_MAX = 1024
BOUNCE_SIZE = 1 << 20
MAX_ALIGNMENT = 4096


def probe_alignment(fd: int) -> int:
    """The smallest block that the file at `fd` can be read in; OSError where none of up to 4096 bytes works."""
    with mmap.mmap(-1, MAX_ALIGNMENT) as page, memoryview(page) as view:
        for align in (1, 512, 1024, 2048, MAX_ALIGNMENT):
            with view[:align] as part:
                try:
                    os.preadv(fd, [part], 0)
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                    continue
            # Where single bytes can be read nothing is known about the device below: take what fits all.
            return MAX_ALIGNMENT if align == 1 else align
    raise OSError(errno.EINVAL, "no alignment works")


def read(fd: int, vectors: Sequence[memoryview], offset: int, length: int, align: int) -> None:
    """Fill `vectors`; beyond the file's end with zeroes."""
    done = 0
    while done < length:
        rest = window(vectors, done, length - done)
        count = _read_some(fd, rest, offset + done)
        done += count
        if not count or count % align:
            clear(window(vectors, done, length - done))
            return


def _read_some(fd: int, rest: list[memoryview], offset: int) -> int:
    try:
        return os.preadv(fd, rest[:IOV_MAX], offset)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    size = min(sum(map(len, rest)), BOUNCE_SIZE)
    with mmap.mmap(-1, size) as buffer, memoryview(buffer) as view:
        count = os.preadv(fd, [view], offset)
        with view[:count] as got:
            scatter(window(rest, 0, count), got)
    return count


def write(fd: int, vectors: Sequence[memoryview], offset: int, length: int, flags: int) -> None:
    """Write all of `vectors`, with `flags` of pwritev2(2)."""
    done = 0
    while done < length:
        done += _write_some(fd, window(vectors, done, length - done), offset + done, flags)


def _write_some(fd: int, rest: list[memoryview], offset: int, flags: int) -> int:
    try:
        return os.pwritev(fd, rest[:IOV_MAX], offset, flags)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    size = min(sum(map(len, rest)), BOUNCE_SIZE)
    with mmap.mmap(-1, size) as buffer, memoryview(buffer) as view:
        view[:] = gather(window(rest, 0, size))
        return os.pwritev(fd, [view], offset, flags)
