"""The regions of guest memory: what they hold both have, or the embedder alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from mmap import mmap

ADDRESS_LIMIT = 1 << 64
WORD_ALIGNMENT = 8
"""Regions begin and end on multiples of 8, so that no aligned word lies across two of them."""

_releasing = threading.Lock()


class GuestMemoryError(Exception):
    """`length` bytes at guest address `address` cannot be accessed; `reason` says why."""

    def __init__(self, address: int, length: int, reason: str) -> None:
        super().__init__(f"{length} bytes at {address:#x}: {reason}")
        self.address = address
        self.length = length
        self.reason = reason


class Region:
    """A range of guest-physical addresses backed by memory.

    A region stays alive while it is mapped: `GuestMemory.remove` takes it out of the address space at once, and
    `on_release` is called when the last map of it has ended.
    """

    __slots__ = (
        "base",
        "end",
        "maps",
        "name",
        "on_release",
        "readonly",
        "released",
        "removed",
        "size",
        "view",
    )

    def __init__(
        self,
        base: int,
        size: int,
        *,
        readonly: bool = False,
        name: str = "ram",
        on_release: Callable[[], None] | None = None,
    ) -> None:
        if size <= 0 or base < 0 or base + size > ADDRESS_LIMIT:
            raise ValueError(f"region {name!r}: {size} bytes at {base:#x} do not fit below 2**64")
        if base % WORD_ALIGNMENT or size % WORD_ALIGNMENT:
            raise ValueError(f"region {name!r}: base {base:#x} and size {size:#x} must be multiples of 8")
        self.base = base
        self.size = size
        self.end = base + size
        self.readonly = readonly
        self.name = name
        self.on_release = on_release
        self.view: memoryview | None = None
        self.maps: list[None] = []
        """As many entries as maps hold it: threads add and take away at once, which a number would not stand."""
        self.removed = False
        self.released = False

    def load(self, offset: int, length: int) -> bytes:
        """Copy `length` bytes out."""
        raise NotImplementedError

    def store(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Copy `data` in."""
        raise NotImplementedError

    def detach(self) -> None:
        """The region has left the address space."""
        self.removed = True
        if not self.maps:
            self.let_go()

    def let_go(self) -> None:
        """Release it, once, whichever of several maps was the last one."""
        with _releasing:
            if self.released:
                return
            self.released = True
        self.release()

    @property
    def pins(self) -> int:
        """How many maps hold it."""
        return len(self.maps)

    def release(self) -> None:
        """Give the memory up: the region has left the address space and its last map has ended."""
        if self.view is not None:
            self.view.release()
            self.view = None
        if self.on_release is not None:
            self.on_release()


class SharedRegion(Region):
    """Memory that guest and device both have: a bytearray, an mmap, another process's memfd."""

    __slots__ = ()

    def __init__(
        self,
        base: int,
        buffer: bytearray | mmap | memoryview,
        *,
        readonly: bool = False,
        name: str = "ram",
        on_release: Callable[[], None] | None = None,
    ) -> None:
        view = memoryview(buffer).cast("B")
        readonly = readonly or view.readonly
        super().__init__(base, len(view), readonly=readonly, name=name, on_release=on_release)
        self.view = view

    def load(self, offset: int, length: int) -> bytes:
        """Copy `length` bytes out."""
        assert self.view is not None
        return bytes(self.view[offset : offset + length])

    def store(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Copy `data` in."""
        assert self.view is not None
        self.view[offset : offset + len(data)] = data


class BouncedRegion(Region):
    """Memory that belongs to an embedder, reached through two functions.

    `read(address, length)` returns bytes; `write(address, data)` stores them; both take guest-physical addresses.
    An access of 1, 2, 4 or 8 aligned bytes must be a single access of the embedder's.
    """

    __slots__ = ("_read", "_write")

    def __init__(
        self,
        base: int,
        size: int,
        read: Callable[[int, int], bytes | bytearray],
        write: Callable[[int, bytes], None],
        *,
        readonly: bool = False,
        name: str = "ram",
        on_release: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(base, size, readonly=readonly, name=name, on_release=on_release)
        self._read = read
        self._write = write

    def load(self, offset: int, length: int) -> bytes:
        """Copy `length` bytes out."""
        return bytes(self._read(self.base + offset, length))

    def store(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Copy `data` in."""
        self._write(self.base + offset, bytes(data))
