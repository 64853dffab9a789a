"""The dirty log that a front end shares while its guest moves: one bit for each page of 4 KiB, from address 0 on.

Follows "Migration" of the protocol's document.  The front end takes bits out with an atomic exchange, and other back
ends of the same guest put theirs into the same words.  So a bit must be set by an atomic operation: to load a byte and
store it with one more bit would throw away what another back end set between the two.  Python has no such operation,
but the kernel has: futex(2)'s FUTEX_WAKE_OP does an atomic OR on a word of ours (and then wakes nobody).  A byte whose
eight pages were all written is stored whole, which needs no look at it.

A bit that is set already stays so: the front end that takes it out later reads the page after that, and the page was
written before.  A fence between the write of the page and the look at the bit makes that order certain.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import threading
from collections.abc import Callable

from devmodels.exports.eventfd import Notifier
from devmodels.exports.vhost_channel import RequestRefused
from devmodels.exports.vhost_shared import SharedArea
from devmodels.memory import GuestMemory

log = logging.getLogger("devmodels.vhost-user")

PAGE_BITS = 12
"""VHOST_LOG_PAGE is 4 KiB, whatever the host's pages are."""
WORD = 8
"""The front end takes bits out by words of so many bytes."""

_SYS_FUTEX = {"aarch64": 98, "riscv64": 98}.get(platform.machine(), 202)
_WAKE_OP_PRIVATE = 5 | 128
_OR_SHIFTED = (2 | 8) << 28
_syscall = ctypes.PyDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [ctypes.c_long] * 7


def atomic_or(address: int, bit: int) -> None:
    """Set `bit` (0 to 31) of the aligned 32-bit word at `address` in this process; OSError where it cannot be."""
    if _syscall(_SYS_FUTEX, address, _WAKE_OP_PRIVATE, 0, 0, address, _OR_SHIFTED | bit << 12) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def can_be_atomic() -> bool:
    """Whether the kernel does it."""
    word = ctypes.c_uint32(0)
    try:
        atomic_or(ctypes.addressof(word), 31)
    except OSError:
        return False
    return word.value == 1 << 31


class SharedDirtyLog:
    """A front end's log; `mark` is what guest memory calls for each write of a device."""

    def __init__(self, fd: int, size: int, offset: int, name: str, changed: Callable[[], None]) -> None:
        """Map `size` bytes from `offset` of `fd`, which stays the caller's; RequestRefused where that cannot be.

        `changed` is called when bits have been set.
        """
        if not can_be_atomic():
            raise RequestRefused("dirty log: this kernel does not set bits atomically")
        self._area = SharedArea("dirty log", fd, size, offset, WORD)
        self._bytes = self._area.view
        self.pages = 8 * size
        self._anchor: ctypes.c_char | None = ctypes.c_char.from_buffer(self._area.mapping, self._area.skip)
        self._address = ctypes.addressof(self._anchor)
        self._fence = threading.Lock()
        self._name = name
        self._changed = changed
        self._beyond = False
        self.aliases: dict[int, tuple[int, int, int]] = {}
        """Used rings that are logged elsewhere, by queue: first and last address, and what is added to them."""

    def mark(self, address: int, length: int) -> None:
        """`length` bytes at guest address `address` have been written."""
        if not length:
            return
        self._mark(address, address + length - 1)
        for first, last, shift in self.aliases.values():
            if address <= last and first < address + length:
                self._mark(max(address, first) + shift, min(address + length - 1, last) + shift)

    def _mark(self, first: int, last: int) -> None:
        """Set the bits of the pages that hold the bytes from `first` to `last`."""
        first >>= PAGE_BITS
        last >>= PAGE_BITS
        if last >= self.pages:
            self._warn(last)
            last = self.pages - 1
        self._fence.acquire()
        self._fence.release()
        view = self._bytes
        changed = False
        for at in range(first >> 3, (last >> 3) + 1):
            low = max(first - 8 * at, 0)
            mask = 0xFF << low & 0xFF >> max(8 * at + 7 - last, 0)
            missing = mask & ~view[at]
            if not missing:
                continue
            changed = True
            if mask == 0xFF:
                view[at] = 0xFF
                continue
            for bit in range(8):
                if missing >> bit & 1:
                    atomic_or(self._address + (at & ~3), 8 * (at & 3) + bit)
        if changed:
            self._changed()

    def _warn(self, page: int) -> None:
        if not self._beyond:
            self._beyond = True
            log.warning(
                "%s: writes at %#x are beyond the dirty log of %d pages: they are not logged",
                self._name,
                page << PAGE_BITS,
                self.pages,
            )

    def close(self) -> None:
        """Unmap it."""
        self._anchor = None
        self._area.close()


class DirtyLogging:
    """What a front end said about logging: where, whether, and whom to tell."""

    def __init__(self, memory: GuestMemory, name: str) -> None:
        self._memory = memory
        self._name = name
        self._log: SharedDirtyLog | None = None
        self._wanted = False
        self._aliases: dict[int, tuple[int, int, int]] = {}
        self.notifier: Notifier | None = None

    def set_base(self, fd: int, size: int, offset: int) -> None:
        """Log there from now on; RequestRefused, and the old log stays, where that cannot be."""
        new = SharedDirtyLog(fd, size, offset, self._name, self._changed)
        old, self._log = self._log, new
        new.aliases = self._aliases
        self._settle()
        if old is not None:
            old.close()

    def want(self, wanted: bool) -> None:
        """Switch logging (VHOST_F_LOG_ALL), which begins when there is a log too."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._settle()

    def alias(self, queue: int, used: int, size: int, logged_at: int | None) -> None:
        """The used ring of `size` bytes at `used` is logged as if it were at `logged_at` (None: where it is)."""
        if logged_at is None or logged_at == used:
            self._aliases.pop(queue, None)
            return
        if self._log is not None and (logged_at + size - 1) >> PAGE_BITS >= self._log.pages:
            raise RequestRefused(f"used ring of vring {queue} logged at {logged_at:#x}: beyond the dirty log")
        self._aliases[queue] = (used, used + size - 1, logged_at - used)

    def close(self) -> None:
        """No logging any more."""
        self._wanted = False
        self._settle()
        if self._log is not None:
            self._log.close()
            self._log = None
        if self.notifier is not None:
            self.notifier.close()
            self.notifier = None

    def _settle(self) -> None:
        active = self._log if self._wanted else None
        if self._memory.dirty_log is not active:
            self._memory.observe(dirty_log=active, trace=self._memory.trace)

    def _changed(self) -> None:
        if self.notifier is not None:
            self.notifier.signal()
