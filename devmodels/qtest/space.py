"""A board's memory space and ports as a qtest client reaches them: accesses of any length, RAM and registers alike.

As on QEMU, memory that nobody claims reads zeroes and ports that nobody claims read ones; registers see accesses of at
most four bytes, naturally aligned.  Fixed ports of IDE channels but those of their data are there for bytes and words.
"""

from __future__ import annotations

from devmodels.machine import Machine

MAX_LENGTH = 1 << 30
"""The most bytes that one request may have, ours: a client's slip is no reason to fill the host's memory."""
TOP = 1 << 64
ONES = 0xFFFF_FFFF


class RangeError(Exception):
    """So many bytes cannot be there; the text is one line."""


class Space:
    """Accesses of one client.  With `ports` False there is no I/O space (machine `none`)."""

    __slots__ = ("_machine", "_memory", "_ports", "narrow")

    def __init__(self, machine: Machine, *, ports: bool = True) -> None:
        self._machine = machine
        self._memory = machine.memory
        self._ports = ports
        self.narrow: frozenset[int] = frozenset()
        """Ports at which four bytes read ones, and write nothing."""

    def read(self, address: int, size: int) -> int:
        """Read 1, 2, 4 or 8 bytes."""
        if not address % size and size < 8:
            return self._machine.read(address, size)
        return int.from_bytes(self.load(address, size), "little")

    def write(self, address: int, size: int, value: int) -> None:
        """Write 1, 2, 4 or 8 bytes; excess bits are ignored."""
        if not address % size and size < 8:
            self._machine.write(address, size, value)
        else:
            self.store(address, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))

    def io_read(self, port: int, size: int) -> int:
        """Read I/O ports."""
        if size == 4 and port in self.narrow:
            return ONES
        return self._machine.io_read(port, size) if self._ports else ONES >> 8 * (4 - size)

    def io_write(self, port: int, size: int, value: int) -> None:
        """Write I/O ports."""
        if self._ports and not (size == 4 and port in self.narrow):
            self._machine.io_write(port, size, value)

    def load(self, address: int, length: int) -> bytes:
        """Read any number of bytes; RangeError where they are too many or do not fit below 2**64."""
        _check(address, length)
        if length <= 4 and length & (length - 1) == 0 and not address % (length or 1):
            return self._machine.read(address, length).to_bytes(length, "little") if length else b""
        if self._memory.contains(address, length):
            return self._memory.load(address, length)
        pieces = []
        end = address + length
        while address < end:
            ram = self._ram(address, end)
            if ram:
                pieces.append(self._memory.load(address, ram))
                address += ram
            elif hole := self._machine.unclaimed(address, end):
                pieces.append(bytes(hole))
                address += hole
            else:
                size = _aligned(address, end - address)
                pieces.append(self._machine.read(address, size).to_bytes(size, "little"))
                address += size
        return b"".join(pieces)

    def store(self, address: int, data: bytes) -> None:
        """Write any number of bytes; RangeError where they are too many or do not fit below 2**64."""
        length = len(data)
        _check(address, length)
        if self._memory.contains(address, length, write=True):
            self._memory.store(address, data)
            return
        done = 0
        while done < length:
            at = address + done
            ram = self._ram(at, address + length)
            if ram:
                self._memory.store(at, data[done : done + ram])
                done += ram
            elif hole := self._machine.unclaimed(at, address + length):
                done += hole
            else:
                size = _aligned(at, length - done)
                self._machine.write(at, size, int.from_bytes(data[done : done + size], "little"))
                done += size

    def _ram(self, address: int, end: int) -> int:
        """How many bytes from `address` on are guest memory."""
        for region in self._memory.regions:
            if region.base <= address < region.end:
                return min(end, region.end) - address
        return 0


def _check(address: int, length: int) -> None:
    if length > MAX_LENGTH:
        raise RangeError(f"{length} bytes: expected at most {MAX_LENGTH}")
    if address + length > TOP:
        raise RangeError(f"{length} bytes at {address:#x} go beyond the 64-bit address space")


def _aligned(address: int, room: int) -> int:
    size = 4
    while size > room or address % size:
        size //= 2
    return size
