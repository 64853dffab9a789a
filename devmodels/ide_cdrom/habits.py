"""What bus masters do with a table one way or another: as SFF-8038i has it, or as QEMU 7.2's."""

from __future__ import annotations

import msgspec

from devmodels.conformance import ViolationLog


class Habits(msgspec.Struct, frozen=True):
    """Departures from SFF-8038i, each with the clause."""

    table: int = 0x1_0000
    """The longest table, in bytes (SFF-8038i §1.2)."""
    zeroes: bool = False
    """Of a table that is not in memory all entries are zeroes, and that is no error (§2.2)."""


STRICT = Habits()
AS_QEMU = Habits(table=0x1000, zeroes=True)


def habits_of(violations: ViolationLog) -> Habits:
    """Those of its profile."""
    return AS_QEMU if violations.as_qemu else STRICT
