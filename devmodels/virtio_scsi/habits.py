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
    less_than_nothing: frozenset[int] = frozenset()
    """Operation codes whose `residual` is what the CDB says less what was given, or there was room for (§5.6.6.1)."""

    def residual(self, opcode: int, expected: int, moved: int, wanted: int) -> int:
        """What is told of a command whose CDB says `wanted`, and that has moved so much of what was expected; below 0
        modulo 2³²."""
        return wanted - expected if opcode in self.less_than_nothing else expected - moved


STRICT = Habits()
AS_QEMU = Habits(
    as_qemu=True,
    by_piece=True,
    short_responses=True,
    counts_all=True,
    # READ, WRITE, and WRITE AND VERIFY (SBC-3 §5).
    less_than_nothing=frozenset((0x08, 0x0A, 0x28, 0x2A, 0x2E, 0x88, 0x8A, 0x8E, 0xA8, 0xAA, 0xAE)),
)


def habits_of(violations: ViolationLog) -> Habits:
    """Those of its profile."""
    return AS_QEMU if violations.as_qemu else STRICT
