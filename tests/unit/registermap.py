"""Register maps written down by hand from a specification, against what a guest finds.

A generic check of a register file works from its declarations: it cannot see a declaration that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from devmodels.registers import RegisterFile


class Row(NamedTuple):
    """A register: `there` are bits that can read 1; `plain` ones are as they are written; a written 1 clears `clears`
    and sets `sets`."""

    offset: int
    width: int
    there: int
    reset: int = 0
    plain: int = 0
    clears: int = 0
    sets: int = 0


def check_map(make: Callable[[], RegisterFile], rows: Collection[Row]) -> None:
    """Read, write zeros and ones, and write ones over ones; between the registers there is nothing."""
    for row in rows:
        offset, width, there, reset, plain, clears, sets = row
        ones = (1 << 8 * width) - 1
        registers = make()
        assert registers.read(offset, width) == reset, row
        registers.write(offset, width, ones)
        assert registers.read(offset, width) == reset & ~clears | plain | sets, row
        registers.write(offset, width, 0)
        assert registers.read(offset, width) == reset & ~clears & ~plain | sets, row
        registers = make()
        names = [each.name for each in registers.layout().registers if each.offset == offset]
        registers.restore(dict.fromkeys(names, ones))
        registers.write(offset, width, ones)
        assert registers.read(offset, width) == there & ~clears, row
    places = {row.offset + at for row in rows for at in range(row.width)}
    registers = make()
    for offset in set(range(registers.size)) - places:
        registers.write(offset, 1, 0xFF)
        assert registers.read(offset, 1) == 0, hex(offset)
