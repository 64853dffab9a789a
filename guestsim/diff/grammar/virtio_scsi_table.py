"""Commands of a disk without data whose answers are in a table (SBC-4, SPC-4)."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from guestsim.diff.grammar.replies import Reply, Row, table
from guestsim.diff.grammar.virtio_chains import Unequal

ROWS = tuple(table("disk"))
NAMES = sorted({row.name for row in ROWS})
FIXED = 18
"""Bytes of sense data in the fixed format (SPC-4 §4.5.3)."""


def chosen(random: Random) -> Row:
    """One of them."""
    name = random.choice(NAMES)
    return random.choice([row for row in ROWS if row.name == name])


def unequal(row: Row, status_at: int, sense_at: int) -> Iterator[Unequal]:
    """What of the response is not the same: length of the sense data, status, key and codes (VIRTIO 1.4 §5.6.6.1)."""
    if row.ours == row.theirs:
        return
    reason = f"scsi:{row.name}"
    sense = _sense(row.ours, b"\0"), _sense(row.theirs, UNTOUCHED)
    pieces = [
        (0, _length(row.ours), _length(row.theirs)),
        (status_at, _status(row.ours), _status(row.theirs)),
    ]
    for at, size in ((1, 2), (7, 8)):
        pieces.append((sense_at + at, sense[0][at : at + size], sense[1][at : at + size]))
    for at, mine, others in pieces:
        yield Unequal(reason, at, len(mine), values=(mine, others))


UNTOUCHED = b"\xee"


def _sense(side: Reply, nothing: bytes) -> bytes:
    """Sense data in the fixed format; where there are none, ours writes zeroes, and QEMU's nothing."""
    if side.codes is None:
        return nothing * FIXED
    key, code, qualifier = side.codes
    return bytes((0x70, 0, key, 0, 0, 0, 0, 0x0A, 0, 0, 0, 0, code, qualifier, 0, 0, 0, 0))


def _length(side: Reply) -> bytes:
    return (FIXED if side.fails else 0).to_bytes(4, "little")


def _status(side: Reply) -> bytes:
    return b"\x02" if side.fails else b"\0"
