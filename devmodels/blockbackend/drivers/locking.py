"""Image locks, as QEMU takes them, so that both keep out of each other's images.

An open image is described by two sets of permissions: what this user does, and what it lets others do.  Each
permission has a number, and two bytes far inside the file stand for it: byte 100 + n is locked (shared) by who has
the permission, byte 200 + n by who does not let others have it.  Whoever opens the image locks its own bytes and then
looks whether anybody holds an opposite one.  The locks are open-file-description locks (fcntl(2)): they go with the
descriptor, not with the process.

Source: the behaviour of QEMU 7.2, seen in /proc/locks; byte numbers as in QEMU's block/file-posix.c.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from enum import IntEnum

PERMISSION_BASE = 100
UNSHARED_BASE = 200


class Permission(IntEnum):
    """What a user of an image may do to it; the value is the number of its lock bytes."""

    CONSISTENT_READ = 0
    WRITE = 1
    WRITE_UNCHANGED = 2
    RESIZE = 3
    GRAPH_MOD = 4


class ImageLockedError(OSError):
    """Another user of the image rules out what is wanted; `permission` is the one in conflict."""

    def __init__(self, permission: Permission, text: str) -> None:
        name = permission.name.lower().replace("_", "-")
        super().__init__(errno.EAGAIN, f"the image is in use elsewhere: {text.format(name=name)}")
        self.permission = permission


_FLOCK = struct.Struct("hhqqi4x")


def _flock(kind: int, start: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, start, 1, 0)


def _lock(fd: int, start: int) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_RDLCK, start))


def _unlock(fd: int, start: int) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, start))


def _held_by_another(fd: int, start: int) -> bool:
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, start))
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def supported(fd: int) -> bool:
    """Whether the file's file system has such locks."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, 0))
    except OSError:
        return False
    return True


class ImageLocks:
    """The locks of one open file; at first there are none.  They end when its last descriptor is closed."""

    __slots__ = ("_fd", "_held")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._held: set[int] = set()

    def change(self, used: set[Permission], shared: set[Permission]) -> None:
        """Lock the image for who does `used` and lets others do `shared`.

        Raises ImageLockedError where somebody else is in the way and OSError where locking fails; the locks are then
        what they were.
        """
        wanted = {PERMISSION_BASE + permission for permission in used}
        wanted |= {UNSHARED_BASE + permission for permission in Permission if permission not in shared}
        fresh = wanted - self._held
        try:
            for start in sorted(fresh):
                _lock(self._fd, start)
            self._check(used, shared)
        except OSError:
            for start in fresh:
                _unlock(self._fd, start)
            raise
        for start in self._held - wanted:
            _unlock(self._fd, start)
        self._held = wanted

    def _check(self, used: set[Permission], shared: set[Permission]) -> None:
        for permission in Permission:
            if permission in used and _held_by_another(self._fd, UNSHARED_BASE + permission):
                raise ImageLockedError(permission, 'no "{name}" lock, another user does not share it')
            if permission not in shared and _held_by_another(self._fd, PERMISSION_BASE + permission):
                raise ImageLockedError(
                    permission, 'another user has the "{name}" lock, which is not to be shared here'
                )
