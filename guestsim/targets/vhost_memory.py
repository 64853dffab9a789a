"""Guest memory that is shared with back ends: one memfd, cut into two regions that touch in the guest's address space.

In the file they lie the other way round, and their user addresses are far apart: a back end that mixes up guest
addresses, user addresses and offsets is found out, and so is one that takes a range over both regions for one piece.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
from dataclasses import dataclass

from guestsim.targets import TargetError, Window

_MIB = 1 << 20
_LOW = 16 * _MIB
_PAGE = 4096
_RESERVED = 1 * _MIB
_USER_BASE = 0x7E00_0000_0000
_USER_STEP = 0x0010_0000_0000


@dataclass(frozen=True, slots=True)
class SharedRegion:
    """Part of guest memory as a back end is told of it: `size` bytes at `offset` of the file."""

    guest: int
    size: int
    user: int
    offset: int

    def holds(self, address: int, length: int) -> bool:
        """Whether `length` bytes at guest-physical `address` lie inside."""
        return self.guest <= address and address + length <= self.guest + self.size


class VhostMemory:
    """`size` bytes of guest memory from address 0 on, a multiple of 4096 above 16 MiB.

    The guest's allocator is told of `windows`; those touch as the regions do, unless `apart`.
    """

    def __init__(self, size: int, *, apart: bool = False) -> None:
        self.size = size
        high = size - _LOW
        self.regions = (
            SharedRegion(0, _LOW, _USER_BASE + _USER_STEP, high),
            SharedRegion(_LOW, high, _USER_BASE, 0),
        )
        # The first MiB is not given out: an address that somebody took for 0 hits nobody's data.
        low = _LOW - _RESERVED - (_PAGE if apart else 0)
        self.windows = (Window(_RESERVED, low), Window(_LOW, high))
        try:
            self.fd = os.memfd_create("guestsim", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(self.fd, size)
            # A back end may rely on it that what it maps is not cut off (memfd_create(2), F_SEAL_SHRINK).
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
            self._map = mmap.mmap(self.fd, size)
        except OSError as error:
            raise TargetError(f"{size} bytes of shared memory: {error.strerror}") from error
        self._high = high
        view = memoryview(self._map)
        self._words = {1: view, 2: view.cast("H"), 4: view.cast("I"), 8: view.cast("Q")}
        self._fence = threading.Lock()

    def read(self, address: int, length: int) -> bytes:
        """Read guest memory; TargetError outside of it."""
        word = self._words.get(length)
        if word is not None and not address % length:
            return int.to_bytes(word[self._offset(address, length) // length], length, "little")
        if address < _LOW < address + length:
            return self.read(address, _LOW - address) + self.read(_LOW, address + length - _LOW)
        at = self._offset(address, length)
        return self._map[at : at + length]

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write guest memory; TargetError outside of it."""
        length = len(data)
        word = self._words.get(length)
        if word is not None and not address % length:
            # As one access: the back end polls such words. What is written before must be visible before, and
            # what is read afterwards be read afterwards (VIRTIO 1.4 §2.7.13.3.1, §2.7.13.4.1).
            word[self._offset(address, length) // length] = int.from_bytes(data, "little")
            with self._fence:
                return
        if address < _LOW < address + length:
            self.write(address, data[: _LOW - address])
            self.write(_LOW, data[_LOW - address :])
            return
        at = self._offset(address, length)
        self._map[at : at + length] = data

    def user(self, address: int, length: int) -> int | None:
        """The user address of guest memory in one region; None where `length` bytes don't lie in one."""
        for region in self.regions:
            if region.holds(address, length):
                return region.user + address - region.guest
        return None

    def _offset(self, address: int, length: int) -> int:
        """Where guest memory lies in the file."""
        for region in self.regions:
            if region.holds(address, length):
                return region.offset + address - region.guest
        raise TargetError(f"{length} bytes at {address:#x}: the guest has {self.size} bytes of memory")

    def close(self) -> None:
        """Give the memory up. Idempotent."""
        if self.fd >= 0:
            for view in (*(self._words[size] for size in (8, 4, 2)), self._words[1]):
                view.release()
            self._map.close()
            os.close(self.fd)
            self.fd = -1
