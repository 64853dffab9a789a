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
    """`residual` is 0 where a command has not ended well, or has moved nothing (§5.6.6.1)."""
    less_than_nothing: frozenset[int] = frozenset()
    """Operation codes whose `residual` is what was moved less what was given, or there was room for (§5.6.6.1)."""

    def residual(self, opcode: int, expected: int, moved: int, *, good: bool) -> int:
        """What is told of a command that has moved so much of what was expected; below 0 modulo 2³²."""
        if self.untold_residual and not (good and moved):
            return 0
        return moved - expected if opcode in self.less_than_nothing else expected - moved


STRICT = Habits()
AS_QEMU = Habits(
    short_responses=True,
    counts_all=True,
    untold_residual=True,
    # READ, WRITE, and WRITE AND VERIFY (SBC-3 §5).
    less_than_nothing=frozenset((0x08, 0x0A, 0x28, 0x2A, 0x2E, 0x88, 0x8A, 0x8E, 0xA8, 0xAA, 0xAE)),
)


def habits_of(violations: ViolationLog) -> Habits:
    """Those of its profile."""
    return AS_QEMU if violations.as_qemu else STRICT
