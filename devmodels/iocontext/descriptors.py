"""The file descriptors that a context watches, and one more, which wakes it."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable

MAX_EVENTS = 64
"""How many descriptors one look at epoll reports."""

COARSE_NS = 10**7
"""A wait of at least so long is cut short, so that epoll, which is less exact, can wait by itself."""

FD_SETSIZE = 1024
"""select(2) takes descriptors below this."""


class Descriptors:
    """`watches` are who is called, by descriptor.

    `sleeping` says that the context waits for one of them, or lets another event loop do so: who has something for it
    has to `wake` it then.  Nothing is opened before it is needed.
    """

    __slots__ = ("_epoll", "_wake_fd", "sleeping", "watches")

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._wake_fd = -1
        self.watches: dict[int, Callable[[int], None]] = {}
        self.sleeping = False

    def wake(self) -> None:
        """End the sleep, if there is one; the one call that any thread may make."""
        if self.sleeping:
            self.sleeping = False
            if self._wake_fd >= 0:
                os.eventfd_write(self._wake_fd, 1)

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` whenever epoll reports `fd`; FileExistsError for a second watcher."""
        self._opened().register(fd, events)
        self.watches[fd] = callback

    def unwatch(self, fd: int) -> None:
        """Stop watching `fd`, which must still be open. Idempotent."""
        if self.watches.pop(fd, None) is not None and self._epoll is not None:
            self._epoll.unregister(fd)

    def _opened(self) -> select.epoll:
        if self._epoll is None:
            self._epoll = select.epoll()
            self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._epoll.register(self._wake_fd, select.EPOLLIN)
        return self._epoll

    def fileno(self) -> int:
        """A descriptor that is readable when one of them is ready, or the context has been woken."""
        return self._opened().fileno()

    def look(self) -> bool:
        """Call those whose descriptors are ready, without waiting; whether there were any."""
        epoll = self._epoll
        return epoll is not None and self._dispatch(epoll.poll(0, MAX_EVENTS))

    def wait(self, timeout: int | None) -> int:
        """Sleep for up to `timeout` ns (None: for ever), and call those whose descriptors are ready then.

        Returns the monotonic clock at the wake-up, before anybody was called.
        """
        epoll = self._opened()
        if timeout is not None and timeout >= COARSE_NS:
            # The rest is waited for when that is over.
            timeout -= COARSE_NS // 2
        elif timeout is not None and epoll.fileno() < FD_SETSIZE:
            # epoll counts milliseconds; select on the epoll descriptor counts microseconds.
            select.select([epoll.fileno()], [], [], timeout / 1e9)
            timeout = 0
        found = epoll.poll(-1 if timeout is None else timeout / 1e9, MAX_EVENTS)
        woken = time.monotonic_ns()
        self._dispatch(found)
        return woken

    def _dispatch(self, found: list[tuple[int, int]]) -> bool:
        """Call those who watch what epoll has found."""
        self.sleeping = False
        if not found:
            return False
        busy = False
        for fd, events in found:
            if fd == self._wake_fd:
                os.eventfd_read(fd)
                continue
            watch = self.watches.get(fd)
            if watch is not None:
                busy = True
                watch(events)
        return busy

    def close(self) -> None:
        """Give up what was opened."""
        if self._epoll is not None:
            fd, self._wake_fd = self._wake_fd, -1
            self._epoll.close()
            os.close(fd)
