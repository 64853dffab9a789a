"""Linux calls that Python's os module lacks, and a file descriptor that workers can share."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

FALLOC_KEEP_SIZE = 0x01
FALLOC_PUNCH_HOLE = 0x02
FALLOC_ZERO_RANGE = 0x10

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = _libc.fallocate64
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2); OSError on failure."""
    while _fallocate(fd, mode, offset, length) < 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


def allocation(fd: int, offset: int) -> tuple[bool, int]:
    """Whether the file has data at `offset`, and where that, or the hole that is there, ends (0: with the file).

    Where the file system cannot tell, everything is data.
    """
    try:
        data = os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        return error.errno != errno.ENXIO, 0
    if data > offset:
        return False, data
    return True, os.lseek(fd, offset, os.SEEK_HOLE)


_fstatfs = _libc.fstatfs64
_fstatfs.argtypes = [ctypes.c_int, ctypes.c_void_p]
_TMPFS_MAGIC = 0x01021994
_RAMFS_MAGIC = 0x858458F6


def in_memory(fd: int) -> bool:
    """Whether the file lives in memory (tmpfs, ramfs), so that reading it does not wait for a device."""
    answer = ctypes.create_string_buffer(256)
    if _fstatfs(fd, answer) < 0:
        return False
    kind = int.from_bytes(answer.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder)
    return kind in (_TMPFS_MAGIC, _RAMFS_MAGIC)


class Descriptor:
    """A file descriptor that is closed when its owner and the last worker that uses it are done.

    Without this a worker could go on with the number of a closed descriptor, which may already name another file.
    """

    __slots__ = ("_closing", "_lock", "_users", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._users = 0
        self._closing = False
        self._lock = threading.Lock()

    def __enter__(self) -> int:
        """The descriptor, which stays open meanwhile; OSError where it has been closed."""
        with self._lock:
            if self._closing:
                raise OSError(errno.EBADF, "the node is closed")
            self._users += 1
        return self.fd

    def __exit__(self, *_error: object) -> None:
        self.leave()

    def job(self, function: Callable[[], T]) -> Callable[[], T]:
        """`function` as a job for a worker: the descriptor stays open until it has run (it must run)."""
        self.__enter__()

        def run() -> T:
            try:
                return function()
            finally:
                self.leave()

        return run

    def leave(self) -> None:
        """One who has entered is done."""
        with self._lock:
            self._users -= 1
            last = self._closing and not self._users
        if last:
            os.close(self.fd)

    def close(self) -> None:
        """Close, now or after the last worker.  Idempotent."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            last = not self._users
        if last:
            os.close(self.fd)
