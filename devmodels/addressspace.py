"""One address space of a machine: its decode table, and the access that goes through it.

An access that lies over an edge is done in naturally aligned pieces.  A device that is accessed while one of its
registers is already being accessed (its own DMA came back to it) is not entered again.
"""

from __future__ import annotations

import sys
from typing import Literal, Protocol

from devmodels.memoryregions import Region
from devmodels.pci.decode import Claim, DecodeTable, Guard, Window
from devmodels.trace import EventKind, Tracer

_CODES: dict[int, Literal["B", "H", "I", "Q"]] = {1: "B", 2: "H", 4: "I", 8: "Q"}
_LITTLE = sys.byteorder == "little"
ONES = {1: 0xFF, 2: 0xFFFF, 4: 0xFFFF_FFFF, 8: 0xFFFF_FFFF_FFFF_FFFF}
"""What nobody answers reads, by size in bytes: the sizes that an access can have."""


class Accessed(Protocol):
    """The machine that a space belongs to."""

    trace: Tracer | None
    depth: int
    """How many accesses are going on, each within the one before it."""
    refused_inside: int
    """Accesses that found their device in the middle of another one."""

    def tell(self, handler: object) -> Tracer | None:
        """Who is told of an access to `handler` that begins."""
        ...

    def begin_access(self) -> None:
        """What follows, up to `end_access`, is one access: interrupts wait for its end."""
        ...

    def end_access(self) -> None:
        """The access is over."""
        ...


class AddressSpace:
    """One address space of a machine: its decode table, and the access that goes through it."""

    __slots__ = ("_absent", "_last", "_machine", "_name", "_table")

    def __init__(self, machine: Accessed, name: str, absent: int = 0xFF) -> None:
        """`absent` is what each byte reads that nobody claims."""
        self._machine = machine
        self._absent = absent
        self._name = name
        self.decode([])

    def decode(self, claims: list[Claim]) -> None:
        """Make the table again."""
        self._table = DecodeTable(claims)
        self._last = _NOWHERE

    def find(self, address: int, size: int) -> Window | None:
        """The window that holds the whole access."""
        return self._table.find(address, size)

    def unclaimed(self, address: int, end: int) -> int:
        """How many bytes from `address` on, up to `end`, nobody claims."""
        return self._table.unclaimed(address, end)

    def is_ram(self, address: int, size: int) -> bool:
        """Whether an aligned word lies in one region of guest memory that can be written."""
        window = None if address % size else self._table.find(address, size)
        return window is not None and isinstance(window.handler, Ram) and window.handler.writable

    def read(self, address: int, size: int) -> int:
        """Read `size` bytes: 1, 2, 4 or 8."""
        window = self._last
        if address < window.start or address + size > window.end:
            found = self._table.find(address, size)
            if found is None:
                return self._read_pieces(address, size)
            self._last = window = found
        machine = self._machine
        owner = window.owner
        if owner is not None:
            if owner.accessing:
                machine.refused_inside += 1
                return ONES[size]
            owner.accessing = True
        trace = None if machine.trace is None else machine.tell(window.handler)
        if trace is not None:
            trace.emit(self._name, EventKind.ACCESS_READ, address, size)
        machine.depth += 1
        try:
            value = window.handler.read(address - window.base, size)
            if trace is not None:
                trace.emit(self._name, EventKind.ACCESS_VALUE, address, size, value)
        finally:
            self._leave(owner)
        return value

    def write(self, address: int, size: int, value: int) -> None:
        """Write `size` bytes; excess bits of `value` are ignored."""
        window = self._last
        if address < window.start or address + size > window.end:
            found = self._table.find(address, size)
            if found is None:
                self._write_pieces(address, size, value)
                return
            self._last = window = found
        machine = self._machine
        value &= ONES[size]
        trace = None if machine.trace is None else machine.tell(window.handler)
        if trace is not None:
            trace.emit(self._name, EventKind.ACCESS_WRITE, address, size, value)
        owner = window.owner
        if owner is not None:
            if owner.accessing:
                machine.refused_inside += 1
                return
            owner.accessing = True
        machine.depth += 1
        try:
            window.handler.write(address - window.base, size, value)
        finally:
            self._leave(owner)

    def _leave(self, owner: Guard | None) -> None:
        if owner is not None:
            owner.accessing = False
        self._machine.end_access()

    def _read_pieces(self, address: int, size: int) -> int:
        self._machine.begin_access()
        try:
            value = 0
            for window, at, length in self._table.pieces(address, size):
                part = self._absent if window is None else self.read(at, length)
                value |= part << 8 * (at - address)
            return value
        finally:
            self._machine.end_access()

    def _write_pieces(self, address: int, size: int, value: int) -> None:
        self._machine.begin_access()
        try:
            for window, at, length in self._table.pieces(address, size):
                if window is not None:
                    self.write(at, length, value >> 8 * (at - address))
        finally:
            self._machine.end_access()


class Ram:
    """A region of guest memory as a handler; an aligned access is one load or store."""

    __slots__ = ("_region", "writable")

    def __init__(self, region: Region) -> None:
        self._region = region
        self.writable = not region.readonly

    def read(self, offset: int, size: int) -> int:
        """Read `size` bytes."""
        view = self._region.view
        if view is None or offset % size or not _LITTLE:
            return int.from_bytes(self._region.load(offset, size), "little")
        return memoryview.cast(view[offset : offset + size], _CODES[size])[0]

    def write(self, offset: int, size: int, value: int) -> None:
        """Write `size` bytes; nothing happens where memory is read-only."""
        if not self.writable:
            return
        view = self._region.view
        if view is None or offset % size or not _LITTLE:
            self._region.store(offset, value.to_bytes(size, "little"))
        else:
            memoryview.cast(view[offset : offset + size], _CODES[size])[0] = value


_NOWHERE = Window(0, 0, Claim(0, 0, Ram(Region(0, 8)), None))
"""A window that holds no access."""
