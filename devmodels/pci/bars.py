"""Base address registers: what a function wants mapped, of which kind and how large.

    31                                              4   3     2 1   0
   +-------------------------------------------------+------+-----+---+
   | memory base, aligned to the size                | pref | typ | 0 |   typ 00: 32 bits, 10: 64 bits (two registers)
   +-------------------------------------------------+------+-----+---+
   +---------------------------------------------------------+---+---+
   | I/O base, aligned to the size                           | 0 | 1 |
   +---------------------------------------------------------+---+---+

Size is found by writing ones: the address bits below the size are hardwired to 0.  Reference: PCI Local Bus 3.0
§6.2.5.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from devmodels.pci.decode import BarHandler, Claim, DecodeTable, Guard

__all__ = ["Bar", "BarHandler", "BarKind", "Windows"]

MIN_MEMORY = 16
MIN_IO = 4


class BarKind(Enum):
    """Address space and width; the value is what the register's low bits read."""

    MEMORY32 = 0b0000
    MEMORY64 = 0b0100
    PREFETCHABLE32 = 0b1000
    PREFETCHABLE64 = 0b1100
    IO = 0b01

    @property
    def is_io(self) -> bool:
        """Whether the BAR maps I/O ports."""
        return self is BarKind.IO

    @property
    def is_64bit(self) -> bool:
        """Whether the BAR takes two registers."""
        return self in (BarKind.MEMORY64, BarKind.PREFETCHABLE64)


class Bar:
    """One BAR: `size` bytes (a power of two) answered by `handler`."""

    __slots__ = ("handler", "index", "kind", "size")

    def __init__(self, index: int, size: int, handler: BarHandler, kind: BarKind) -> None:
        last = 4 if kind.is_64bit else 5
        smallest = MIN_IO if kind.is_io else MIN_MEMORY
        largest = 1 << (63 if kind.is_64bit else 31)
        if not 0 <= index <= last:
            raise ValueError(f"there is no BAR {index} of kind {kind.name}")
        if size & size - 1 or not smallest <= size <= largest:
            raise ValueError(f"BAR {index}: {size:#x} is no power of two from {smallest} to {largest:#x}")
        self.index = index
        self.size = size
        self.handler = handler
        self.kind = kind

    @property
    def top(self) -> int:
        """The end of the address space that the BAR can be put into."""
        return 1 << (64 if self.kind.is_64bit else 32)


class Windows:
    """Several register blocks in one BAR; what none of them covers reads 0 and ignores writes.

    Blocks are placed before the function is plugged: from then on they are part of the machine's own decode table.
    """

    __slots__ = ("_claims", "_made", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._claims: list[Claim] = []
        self._made: DecodeTable | None = None

    def place(self, offset: int, size: int, handler: BarHandler) -> None:
        """Give `size` bytes at `offset` to `handler`; ValueError where they overlap another or leave the BAR."""
        if offset < 0 or offset + size > self.size:
            raise ValueError(f"{size:#x} bytes at {offset:#x} leave a BAR of {self.size:#x}")
        for other in self._claims:
            if offset < other.base + other.size and other.base < offset + size:
                raise ValueError(f"{size:#x} bytes at {offset:#x} overlap the block at {other.base:#x}")
        self._claims.append(Claim(offset, size, handler, None))
        self._made = None

    @property
    def _table(self) -> DecodeTable:
        """For accesses that do not come through the machine's own table; made when the first one comes."""
        if self._made is None:
            self._made = DecodeTable(self._claims)
        return self._made

    def claims(self, base: int, owner: Guard) -> Iterator[Claim]:
        """The blocks' ranges where the BAR lies at `base`."""
        for claim in self._claims:
            yield Claim(base + claim.base, claim.size, claim.handler, owner)

    def read(self, offset: int, size: int) -> int:
        """Read through the block that holds the access, or piece by piece."""
        window = self._table.find(offset, size)
        if window is not None:
            return window.handler.read(offset - window.base, size)
        value = 0
        for part, at, length in self._table.pieces(offset, size):
            if part is not None:
                value |= part.handler.read(at - part.base, length) << 8 * (at - offset)
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """Write through the block that holds the access, or piece by piece."""
        window = self._table.find(offset, size)
        if window is not None:
            window.handler.write(offset - window.base, size, value)
            return
        for part, at, length in self._table.pieces(offset, size):
            if part is not None:
                piece = value >> 8 * (at - offset) & (1 << 8 * length) - 1
                part.handler.write(at - part.base, length, piece)
