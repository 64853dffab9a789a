"""Pages of a mapped file that its owner cuts off: touching one would kill this process (SIGBUS).

The kernel's signal is handled by putting zeroes in the place of the whole mapping and doing the access again; whoever
made the mapping is told, and ends the connection whose memory it was.  The handler is Python (by ctypes): the access
that failed is a copy or a load by the interpreter in its own thread, where Python may run, as it may in a destructor.
A system call that meets such a page fails with EFAULT instead.  A signal that is about no such mapping is left to
whoever handled it before.

Documents: sigaction(2), mmap(2), "SIGBUS"; si_addr of `siginfo_t` as <bits/types/siginfo_t.h> of glibc has it.
"""

from __future__ import annotations

import ctypes
import signal
import weakref
from collections.abc import Callable
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap

_SA_SIGINFO = 4
_SA_RESTART = 0x1000_0000
_SI_ADDR = 16
_MAP_FIXED = 0x10
_MAP_NORESERVE = 0x4000
_MAP_FAILED = ctypes.c_void_p(-1).value

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class _Action(ctypes.Structure):
    """struct sigaction of glibc."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * (1024 // (8 * ctypes.sizeof(ctypes.c_ulong)))),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


class _Buffer(ctypes.Structure):
    """Py_buffer."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_void_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_libc = ctypes.PyDLL(None)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
]
_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = [ctypes.py_object, ctypes.POINTER(_Buffer), ctypes.c_int]
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = [ctypes.POINTER(_Buffer)]


class Guard:
    """One mapping, watched until `drop`, or until it is gone."""

    __slots__ = ("_dropped", "end", "lost", "start")

    def __init__(self, start: int, end: int, lost: Callable[[], None] | None) -> None:
        self.start = start
        self.end = end
        self.lost = lost
        self._dropped = False

    def drop(self) -> None:
        """It is not watched any more: before the mapping is closed."""
        if not self._dropped:
            self._dropped = True
            _guards.discard(self)


class _Guards:
    """All mappings that are watched.  Each step is one of the interpreter's: there is no lock to wait for."""

    def __init__(self) -> None:
        self._by_start: dict[int, Guard] = {}
        self._before = _Action()
        self._action: _Action | None = None
        self._callback = _Handler(self._handle)

    def add(self, guard: Guard) -> None:
        self._by_start[guard.start] = guard
        if self._action is None:
            flags = _SA_SIGINFO | _SA_RESTART
            self._action = _Action(ctypes.cast(self._callback, ctypes.c_void_p).value, flags=flags)
            _libc.sigaction(signal.SIGBUS, ctypes.byref(self._action), ctypes.byref(self._before))

    def discard(self, guard: Guard) -> None:
        self._by_start.pop(guard.start, None)

    def find(self, address: int) -> Guard | None:
        found = [each for each in list(self._by_start.values()) if each.start <= address < each.end]
        return found[0] if found else None

    def _handle(self, _number: int, info: int, _context: int) -> None:
        replaced = False
        try:
            guard = self.find(ctypes.c_uint64.from_address(info + _SI_ADDR).value)
            if guard is not None:
                replaced = _replace(guard)
                if replaced and guard.lost is not None:
                    guard.lost()
        finally:
            if not replaced:
                # The access is done again, and the signal is another one's this time.
                self._action = None
                _libc.sigaction(signal.SIGBUS, ctypes.byref(self._before), None)


def _replace(guard: Guard) -> bool:
    flags = MAP_PRIVATE | MAP_ANONYMOUS | _MAP_FIXED | _MAP_NORESERVE
    size = guard.end - guard.start
    found: int | None = _libc.mmap(guard.start, size, PROT_READ | PROT_WRITE, flags, -1, 0)
    return found != _MAP_FAILED


_guards = _Guards()


def guard(mapping: mmap, lost: Callable[[], None] | None) -> Guard:
    """Watch a shared mapping of a file; `lost` is called, on any thread and at any place, when its pages have gone.

    It may do little: `IoContext.post`.
    """
    buffer = _Buffer()
    _get_buffer(mapping, ctypes.byref(buffer), 0)
    start, size = buffer.buf, buffer.len
    _release_buffer(ctypes.byref(buffer))
    made = Guard(start, start + size, lost)
    _guards.add(made)
    weakref.finalize(mapping, made.drop).atexit = False
    return made
