"""Eventfds that a client waits on, whose file descriptions it shares with us."""

from __future__ import annotations

import logging
import os
import select
import stat

log = logging.getLogger("devmodels")

ONE = (1).to_bytes(8, "little")


def is_eventfd(fd: int) -> bool:
    """Whether `fd` is an eventfd, as far as /proc tells; without it, whether it can be one."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[eventfd]"
    except OSError:
        return stat.S_IFMT(os.fstat(fd).st_mode) == 0


class Notifier:
    """An eventfd that the other side waits on; signalling it does not block."""

    __slots__ = ("_room", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._room: select.poll | None = None
        # O_NONBLOCK belongs to the open file description, which the other side shares: look, never change it.
        if os.get_blocking(fd):
            self._room = select.poll()
            self._room.register(fd, select.POLLOUT)

    def signal(self) -> None:
        """Add 1 to the eventfd.  Where that would overflow it, it is being signalled already."""
        try:
            if self._room is None or self._room.poll(0):
                os.write(self.fd, ONE)
        except OSError as error:
            log.debug("notification lost: %s", error)

    def close(self) -> None:
        """Give up the descriptor."""
        os.close(self.fd)
