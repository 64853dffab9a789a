"""A thread that sleeps until a time that others may put off: timerfd_create(2), which Python has from 3.13 on only.

A thread that woke now and then to look at a clock would contend for the interpreter's lock each time, with those it
looks after.  Putting the time off costs one system call, and the thread sleeps on.
"""

from __future__ import annotations

import ctypes
import os
import time
from array import array

_CLOEXEC = os.O_CLOEXEC
_ABSOLUTE = 1
"""TFD_CLOEXEC and TFD_TIMER_ABSTIME (<sys/timerfd.h>)."""

_libc = ctypes.PyDLL(None, use_errno=True)  # Nothing here waits: the interpreter's lock is kept.
_create, _settime = _libc.timerfd_create, _libc.timerfd_settime
_create.argtypes = [ctypes.c_int, ctypes.c_int]
_settime.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]


class Alarm:
    """One time of the monotonic clock, and one thread that waits for it.  OSError where there are no descriptors."""

    __slots__ = ("_address", "_fd", "_spec", "at_ns")

    def __init__(self) -> None:
        self._fd: int = _create(time.CLOCK_MONOTONIC, _CLOEXEC)
        if self._fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        self._spec = array("l", bytes(4 * array("l").itemsize))
        """An itimerspec: no interval, and the time in seconds and nanoseconds."""
        self._address = self._spec.buffer_info()[0]
        self.at_ns = 0
        """When it goes off, or has gone off."""

    def set(self, at_ns: int) -> None:
        """Go off when the monotonic clock says `at_ns`, and not before."""
        self.at_ns = at_ns
        # Zero would be never.
        self._spec[2], self._spec[3] = divmod(max(1, at_ns), 10**9)
        _settime(self._fd, _ABSOLUTE, self._address, None)

    def wait(self) -> None:
        """Return when it has gone off since it was last set, once."""
        os.read(self._fd, 8)

    def close(self) -> None:
        """Give up the descriptor.  Nobody may wait any more."""
        os.close(self._fd)
