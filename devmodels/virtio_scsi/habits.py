"""What a SCSI host does with responses one way or another: as VIRTIO 1.4 has it, or as QEMU 7.2's."""

from __future__ import annotations

import msgspec

from devmodels.conformance import ViolationLog


class Habits(msgspec.Struct, frozen=True):
    """Departures from VIRTIO 1.4, each with the clause."""

    as_qemu: bool = False
    """Units are as QEMU's (`devmodels.scsi.qemu`), which has more data, and other, than the CDB says (§5.6.6.1.1)."""
    by_piece: bool = False
    """Without VIRTIO_F_ANY_LAYOUT data begin behind the first piece each way, as long as that is (§2.7.4)."""
    short_responses: bool = False
    """Nothing is written behind the sense data (§5.6.6.1)."""
    counts_all: bool = False
    """`used.len` is the room for the response and all data, given or returned, whatever became of it (§2.7.8.2)."""


STRICT = Habits()
AS_QEMU = Habits(
    as_qemu=True,
    by_piece=True,
    short_responses=True,
    counts_all=True,
)


def habits_of(violations: ViolationLog) -> Habits:
    """Those of its profile."""
    return AS_QEMU if violations.as_qemu else STRICT
