"""Physical region descriptor tables: where in memory a command's data is (AHCI 1.3.1 §4.2.3.3)."""

from __future__ import annotations

from typing import NamedTuple

from devmodels.ahci.layout import DBC, DBC_INTERRUPT, PRD, PRD_SIZE
from devmodels.memory import GuestMemory

AT_ONCE = 256
"""How many entries are read at a time."""


class Regions(NamedTuple):
    """Memory for a command: its pieces, together `length` bytes.

    `interrupt`: one of them has its interrupt bit.  `odd`: one has an odd address or an odd number of bytes.
    """

    pieces: list[tuple[int, int]]
    length: int
    interrupt: bool
    odd: bytes


def walk(memory: GuestMemory, table: int, entries: int, wanted: int) -> Regions:
    """The first `wanted` bytes that the table describes, or all where there are fewer; GuestMemoryError.

    No entry behind these is looked at.
    """
    if entries == 1 and wanted:
        # As it is most often.
        low, high, last = memory.unpack(table, PRD.layout)
        size = (last & DBC) + 1
        length = min(size, wanted)
        interrupt = size <= wanted and bool(last & DBC_INTERRUPT)
        odd = PRD.pack(low, high, last) if low & 1 or size & 1 else b""
        return Regions([(high << 32 | low & ~1, length)], length, interrupt, odd)
    pieces: list[tuple[int, int]] = []
    length = done = 0
    interrupt, odd = False, b""
    while done < entries and length < wanted:
        count = min(entries - done, AT_ONCE)
        data = memory.read(table + done * PRD_SIZE, count * PRD_SIZE)
        for low, high, last in PRD.layout.iter_unpack(data):
            size = (last & DBC) + 1
            if not odd and (low & 1 or size & 1):
                odd = PRD.pack(low, high, last)
            if length + size <= wanted:
                interrupt = interrupt or bool(last & DBC_INTERRUPT)
            else:
                size = wanted - length
            pieces.append((high << 32 | low & ~1, size))
            length += size
            if length == wanted:
                break
        done += count
    return Regions(pieces, length, interrupt, odd)
