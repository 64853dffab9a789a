"""Which guest memory a device has written, for whoever copies a running guest's memory elsewhere."""

from __future__ import annotations

import threading
from typing import Protocol

from bitarray import bitarray

PAGE_SIZE = 4096


class WriteLog(Protocol):
    """Who is told of every write of a device."""

    def mark(self, address: int, length: int) -> None:
        """Note a write of `length` bytes at `address`, which has been done."""
        ...


class DirtyLog:
    """One bit for each page of guest memory that a device has written (page size 4096).  Any thread may mark."""

    __slots__ = ("_lock", "pages")

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self.pages = bitarray((size + PAGE_SIZE - 1) // PAGE_SIZE)

    def mark(self, address: int, length: int) -> None:
        """Note a write of `length` bytes at `address`; addresses above the log's end are not kept."""
        if length:
            with self._lock:
                self.pages[address // PAGE_SIZE : (address + length - 1) // PAGE_SIZE + 1] = 1

    def take(self) -> list[int]:
        """Addresses of the pages written since the last call, in order."""
        with self._lock:
            found = [page * PAGE_SIZE for page in self.pages.search(bitarray("1"))]
            self.pages.setall(0)
        return found
