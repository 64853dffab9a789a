"""What a SCSI host does with responses one way or another: as VIRTIO 1.4 has it, or as QEMU 7.2's."""

from __future__ import annotations

import msgspec

from devmodels.conformance import ViolationLog


class Habits(msgspec.Struct, frozen=True):
    """Departures from VIRTIO 1.4, each with the clause."""

    short_responses: bool = False
    """Nothing is written behind the sense data (§5.6.6.1)."""
    counts_all: bool = False
    """`used.len` is the room for the response and all data, given or returned, whatever became of it (§2.7.8.2)."""
    untold_residual: bool = False
    """`residual` is 0 where a command has not ended well (§5.6.6.1)."""


STRICT = Habits()
AS_QEMU = Habits(short_responses=True, counts_all=True, untold_residual=True)


def habits_of(violations: ViolationLog) -> Habits:
    """Those of its profile."""
    return AS_QEMU if violations.as_qemu else STRICT
