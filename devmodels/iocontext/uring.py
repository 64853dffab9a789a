"""io_uring(7): reads, writes and syncs that the kernel does beside us, many of them for one system call.

What is added in one turn of a context goes to the kernel at its end; completions make the ring's descriptor readable.
The kernel keeps the addresses of the buffers, so they are held until it is done with them, whatever else happens.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import select
import struct
from array import array
from collections.abc import Callable, Sequence
from typing import Protocol

from devmodels.iocontext.primitives import Future, Scheduler

ENTRIES = 256
IOV_MAX = 1024

_SYS_SETUP, _SYS_ENTER = 425, 426
_OFF_SQES = 0x1000_0000
_FEAT_SINGLE_MMAP, _FEAT_NODROP = 1, 2
_SETUP_CLAMP = 1 << 4
_ENTER_GETEVENTS = 1
_SQ_CQ_OVERFLOW = 2
_FSYNC_DATASYNC = 1

READV, WRITEV, FSYNC, READ, WRITE = 1, 2, 3, 22, 23
"""Operations (<linux/io_uring.h>)."""

_PARAMS_SIZE = 120
_FEATURES = struct.Struct("=20xI")
_OFFSETS = struct.Struct("=7I")
_SQ_OFFSETS, _CQ_OFFSETS = 40, 80
_SQE_SIZE, _CQE_SIZE = 64, 16
_SQE = struct.Struct("=BBHiQQIIQ")
_CQE = struct.Struct("=QiI")

# Handing requests over does not wait, so the interpreter's lock is kept; waiting for the last ones gives it up.
_syscall = ctypes.PyDLL(None, use_errno=True).syscall
_waiting_syscall = ctypes.CDLL(None, use_errno=True).syscall
for _call in (_syscall, _waiting_syscall):
    _call.argtypes = [ctypes.c_long] * 7
    _call.restype = ctypes.c_long
_byte_at = ctypes.c_char.from_buffer


class Owner(Scheduler, Protocol):
    """What a ring needs of its context."""

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback` when epoll reports `fd`."""
        ...

    def unwatch(self, fd: int) -> None:
        """Watch `fd` no longer."""
        ...


def _setup(params: bytearray) -> int:
    fd: int = _syscall(_SYS_SETUP, ENTRIES, ctypes.addressof(_byte_at(params)), 0, 0, 0, 0)
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"io_uring: {os.strerror(code)}")
    os.set_inheritable(fd, False)
    return fd


class Uring:
    """One ring of a context.  OSError where the host has none (before Linux 5.6, or forbidden)."""

    __slots__ = (
        "_busy",
        "_context",
        "_cq_head",
        "_cq_mask",
        "_cq_tail",
        "_cqes",
        "_due",
        "_fd",
        "_held",
        "_map",
        "_next",
        "_ring",
        "_sent",
        "_sq_flags",
        "_sq_head",
        "_sq_mask",
        "_sq_tail",
        "_sqes",
    )

    def __init__(self, context: Owner) -> None:
        self._context = context
        params = bytearray(_PARAMS_SIZE)
        params[8:12] = _SETUP_CLAMP.to_bytes(4, "little")
        self._fd = _setup(params)
        try:
            (features,) = _FEATURES.unpack_from(params)
            if not features & _FEAT_SINGLE_MMAP or not features & _FEAT_NODROP:
                raise OSError(errno.ENOSYS, "io_uring: the host's is older than Linux 5.6")
            self._attach(params)
        except BaseException:
            os.close(self._fd)
            raise
        self._next = self._sent = 0
        self._due = False
        self._held: dict[int, tuple[Future[int], object]] = {}
        """By the number of the operation: who waits for it, and its buffers."""
        self._busy = 0
        context.watch(self._fd, select.EPOLLIN, self._reap)

    def _attach(self, params: bytearray) -> None:
        """Map the rings; indices below are in words of 4 bytes."""
        entries, cq_entries = struct.unpack_from("=2I", params)
        sq_head, sq_tail, sq_mask, _, sq_flags, _, sq_array = _OFFSETS.unpack_from(params, _SQ_OFFSETS)
        cq_head, cq_tail, cq_mask, _, _, cqes, _ = _OFFSETS.unpack_from(params, _CQ_OFFSETS)
        size = max(sq_array + 4 * entries, cqes + _CQE_SIZE * cq_entries)
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        self._map = mmap.mmap(self._fd, size - size % -4096, flags)
        self._sqes = mmap.mmap(self._fd, _SQE_SIZE * entries, flags, offset=_OFF_SQES)
        self._ring = memoryview(self._map).cast("I")
        self._sq_head, self._sq_tail, self._sq_flags, self._cq_head, self._cq_tail = (
            at // 4 for at in (sq_head, sq_tail, sq_flags, cq_head, cq_tail)
        )
        self._sq_mask = self._ring[sq_mask // 4]
        self._cq_mask = self._ring[cq_mask // 4]
        self._cqes = cqes
        for number in range(entries):
            self._ring[sq_array // 4 + number] = number

    @property
    def busy(self) -> int:
        """How many operations are not over."""
        return self._busy

    def transfer(
        self, fd: int, vectors: Sequence[memoryview], offset: int, *, write: bool, flags: int = 0
    ) -> Future[int]:
        """Read into or write from `vectors` (the first 1024 of them): the bytes done, or OSError.

        `flags` are those of preadv2(2).  No coroutine: its frame, kept by the traceback of an error, would keep the
        buffers from being let go.
        """
        held: object
        if len(vectors) == 1:
            (vector,) = vectors
            held = buffer = _writable(vector)
            address, length, opcode = ctypes.addressof(buffer), len(vector), WRITE if write else READ
        else:
            buffers = [_writable(vector) for vector in vectors[:IOV_MAX]]
            iov = array("Q")
            for buffer, vector in zip(buffers, vectors, strict=False):
                iov.extend((ctypes.addressof(buffer), len(vector)))
            held = (buffers, iov)
            address, length, opcode = iov.buffer_info()[0], len(buffers), WRITEV if write else READV
        return self._add(opcode, fd, offset, address, length, flags, held)

    def datasync(self, fd: int) -> Future[int]:
        """fdatasync(2): 0, or OSError."""
        return self._add(FSYNC, fd, 0, 0, 0, _FSYNC_DATASYNC, None)

    def _add(
        self, opcode: int, fd: int, offset: int, address: int, length: int, flags: int, held: object
    ) -> Future[int]:
        ring = self._ring
        number = self._next
        while (number - ring[self._sq_head]) & 0xFFFF_FFFF > self._sq_mask:
            self._submit()
            if self._sent != number:
                self._wait()
        future: Future[int] = Future(self._context)
        self._held[number] = (future, held)
        self._busy += 1
        at = (number & self._sq_mask) * _SQE_SIZE
        _SQE.pack_into(self._sqes, at, opcode, 0, 0, fd, offset, address, length, flags, number)
        self._next = number + 1
        if not self._due:
            self._due = True
            self._context.call_soon(self._submit)
        return future

    def _submit(self) -> None:
        """Hand over what was added."""
        self._due = False
        self._ring[self._sq_tail] = self._next & 0xFFFF_FFFF
        while self._sent != self._next:
            count = _syscall(_SYS_ENTER, self._fd, self._next - self._sent, 0, 0, 0, 0)
            if count > 0:
                self._sent += count
            elif ctypes.get_errno() in (errno.EAGAIN, errno.EBUSY):
                # The kernel has no memory for more, or wants its completions to be taken first.
                self._reap(0)
                if not self._due:
                    self._due = True
                    self._context.call_soon(self._submit)
                return
            elif count < 0 and ctypes.get_errno() != errno.EINTR:
                raise OSError(ctypes.get_errno(), "io_uring_enter")

    def _reap(self, _events: int) -> None:
        """Take what is complete."""
        ring = self._ring
        head, tail = ring[self._cq_head], ring[self._cq_tail]
        done = []
        while head != tail:
            done.append(_CQE.unpack_from(self._map, self._cqes + (head & self._cq_mask) * _CQE_SIZE))
            head = (head + 1) & 0xFFFF_FFFF
        ring[self._cq_head] = head
        if ring[self._sq_flags] & _SQ_CQ_OVERFLOW:
            # The kernel keeps what the ring had no room for, and puts it there when asked.
            _syscall(_SYS_ENTER, self._fd, 0, 0, _ENTER_GETEVENTS, 0, 0)
        for number, result, _ in done:
            # The buffers are let go before anybody hears of it.
            future = self._held.pop(number)[0]
            self._busy -= 1
            if result >= 0:
                future.set_result(result)
            else:
                future.set_error(OSError(-result, os.strerror(-result)))

    def _wait(self) -> None:
        """Block until something is complete."""
        _waiting_syscall(_SYS_ENTER, self._fd, 0, 1, _ENTER_GETEVENTS, 0, 0)

    def close(self) -> None:
        """Wait until the kernel is done with every buffer, and give the ring up."""
        self._submit()
        while self._busy:
            self._reap(0)
            if self._busy:
                self._wait()
        self._context.unwatch(self._fd)
        self._ring.release()
        self._map.close()
        self._sqes.close()
        os.close(self._fd)


def _writable(vector: memoryview) -> ctypes.c_char:
    """A ctypes object at the place of `vector`, or of a copy of it where it cannot be written, that keeps it there."""
    if not len(vector):
        return ctypes.c_char()
    return _byte_at(bytearray(vector) if vector.readonly else vector)
