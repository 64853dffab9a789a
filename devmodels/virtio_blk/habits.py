"""What virtio-blk devices do one way or another: as VIRTIO has it, or as QEMU 7.2's.

A field says what is done where it is true; `STRICT` has none of it.
"""

from __future__ import annotations

import msgspec

from devmodels.conformance import ViolationLog


class Habits(msgspec.Struct, frozen=True):
    """Departures from VIRTIO 1.4, and what it leaves open, each with the clause."""

    short_types: bool = False
    """Bits 0 and 31 of a request's type are not looked at (§5.2.6)."""
    says_unmap: bool = False
    """`write_zeroes_may_unmap` is 1 whatever the drive does (§5.2.6.2)."""
    whole_tracks: bool = False
    """`sectors` are whole logical blocks where the capacity is not (§5.2.4)."""
    keeps_mode: bool = False
    """With CONFIG_WCE and without FLUSH the write-cache mode stays what it was (§5.2.5.2)."""
    writes_no_rest: bool = False
    """Buffers keep what they held where a request has nothing for them (§2.7.8.2)."""
    counts_all: bool = False
    """`used.len` is all that is device-writable, also where that is no memory (§2.7.8.2)."""
    one_range: bool = False
    """A discard and a write zeroes of more than one segment are not supported (§5.2.6.1)."""
    place_first: bool = False
    """The range of a segment is looked at before its flags (§5.2.6.2)."""
    ranges_always: bool = False
    """Discards and write zeroes are offered for a read-only drive, and served whatever was negotiated (§5.2.6.1)."""
    drive_refuses: bool = False
    """A write to a read-only drive comes to the drive, which fails it: the host hears of an error (§5.2.6.2)."""
    scsi_commands: bool = False
    """SCSI commands of old are known, and not supported: four bytes say so, however short the in-header (§2.7.5)."""
    flushes_in_turn: bool = False
    """A flush waits for one that is under way (§5.2.6)."""
    counts_no_discards: bool = False
    """The host's statistics know nothing of discards."""


STRICT = Habits()
AS_QEMU = Habits(
    short_types=True,
    says_unmap=True,
    whole_tracks=True,
    keeps_mode=True,
    writes_no_rest=True,
    counts_all=True,
    one_range=True,
    place_first=True,
    ranges_always=True,
    drive_refuses=True,
    scsi_commands=True,
    flushes_in_turn=True,
    counts_no_discards=True,
)


def habits_of(violations: ViolationLog) -> Habits:
    """Those of its profile."""
    return AS_QEMU if violations.as_qemu else STRICT
