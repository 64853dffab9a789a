"""Commands of SCSI units whose answers are in tables: each byte that both write is known (SBC-4, MMC-6, SPC-4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from random import Random

from guestsim.diff.grammar.replies import Reply, Row, table
from guestsim.diff.grammar.virtio_chains import UNTOUCHED, Unequal
from guestsim.drivers.scsi_layouts import RESPONSE, SENSE_SIZE

HEAD = RESPONSE.size + SENSE_SIZE
STATUS_AT = 10
SENSE_AT = RESPONSE.size
UNWRITTEN = bytes([UNTOUCHED]) * SENSE_SIZE
FIXED = 18
"""Bytes of sense data in the fixed format (SPC-4 §4.5.3)."""

ALLOCATION = {0x12: (3, 2), 0x1A: (4, 1), 0x4D: (7, 2), 0x5A: (7, 2), 0xA3: (6, 4)}
"""Where operation codes have an allocation length that may be any, and how long it is."""
BY_LENGTH = frozenset({"inquiry", "cd-inquiry"})
"""Of these the table has rows for each length: QEMU's data say how long that is."""

INQUIRY_FIELDS = (
    (2, 3, "version"),
    (4, 5, "length"),
    (5, 6, "third-party"),
    (7, 8, "sync"),
    (32, 36, "revision"),
    (58, 74, "version-descriptors"),
    (36, 252, "length"),
)
"""Standard INQUIRY data: bytes of what is not the same, and its mask."""


COMMON = ("inquiry", "mode-sense", "read-capacity", "report-luns")
"""Names of what all drivers ask begin so."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The rows of one kind of unit."""

    rows: tuple[Row, ...]
    names: tuple[str, ...]
    often: tuple[str, ...]

    @classmethod
    def of(cls, name: str, prefix: str = "") -> Answers:
        """Those of `answers/NAME.txt`; their names begin with `prefix`."""
        rows = tuple(replace(row, name=prefix + row.name) for row in table(name))
        names = tuple(sorted({row.name for row in rows}))
        common = tuple(prefix + one for one in COMMON)
        return cls(rows, names, tuple(one for one in names if one.startswith(common)))

    def chosen(self, random: Random) -> Row:
        """One of them, with an allocation length of any kind."""
        name = random.choice(self.often if random.random() < 0.4 else self.names)
        row = random.choice([row for row in self.rows if row.name == name])
        if row.cdb[0] not in ALLOCATION or name in BY_LENGTH or random.random() < 0.5:
            return row
        return shortened(row, min(row.room, random.choice((0, 1, 4, 8, random.randint(0, row.room)))))


DISK, CD = Answers.of("disk"), Answers.of("scsi_cd", "cd-")


def shortened(row: Row, length: int) -> Row:
    """The same with another allocation length, which is not longer."""
    at, size = ALLOCATION[row.cdb[0]]
    cdb = row.cdb[:at] + length.to_bytes(size, "big") + row.cdb[at + size :]
    return replace(row, cdb=cdb, room=length, ours=row.ours.cut(length), theirs=row.theirs.cut(length))


def unequal(row: Row) -> Iterator[Unequal]:
    """What is not the same of response and data: both values, but for what is optional of our sense data."""
    mine, others = written(row.ours, row, ours=True), written(row.theirs, row, ours=False)
    alike = row.ours.fails == row.theirs.fails

    def kind(at: int) -> tuple[str, bool, bool] | None:
        # Where both are refused, or both succeed, all requests' masks are about the rest of sense data.
        nobodys = alike and SENSE_AT <= at < HEAD and (mine[at] is None or not row.ours.fails)
        wholly = row.theirs.fails and not row.ours.fails and SENSE_AT <= at < SENSE_AT + FIXED
        if nobodys or (mine[at] == others[at] and not wholly):
            return None
        return mask_of(row, at), mine[at] is None, others[at] is None

    for what, places in groupby(range(len(mine)), kind):
        if what is not None:
            some = [*places]
            ours, theirs = _bytes(mine, some), _bytes(others, some)
            if ours and not row.ours.fails and SENSE_AT <= some[0] < HEAD:
                # Under the profile `qemu` nothing is written there, as by QEMU's.
                yield Unequal(what[0], some[0], len(some), values=((ours, UNWRITTEN[: len(some)]), theirs))
            else:
                yield Unequal(what[0], some[0], len(some), values=(ours, theirs))


def mask_of(row: Row, at: int) -> str:
    """The mask of a byte of what is written."""
    if row.name in BY_LENGTH and not row.ours.fails:
        if at < HEAD:
            return f"scsi:{row.name}-length"
        return f"scsi:{row.name}-" + next(
            name for start, end, name in INQUIRY_FIELDS if start <= at - HEAD < end
        )
    return f"scsi:{row.name}"


Written = list[int | None]


def _bytes(side: Written, places: list[int]) -> bytes | None:
    known = [value for value in (side[at] for at in places) if value is not None]
    return bytes(known) if known else None


def written(reply: Reply, row: Row, *, ours: bool) -> Written:
    """Response and data as one side leaves them (VIRTIO 1.4 §5.6.6.1); None is a byte that may be any."""
    data = b"" if reply.fails else reply.filled(row.room)
    found: Written = [*bytes(SENSE_AT), *(UNTOUCHED,) * (HEAD - SENSE_AT + row.room)]
    found[4:8] = (row.room - len(data)).to_bytes(4, "little")
    found[HEAD : HEAD + len(data)] = data
    if ours:
        found[SENSE_AT : SENSE_AT + FIXED] = bytes(FIXED)
    if reply.codes is not None:
        key, code, qualifier = reply.codes
        found[0], found[STATUS_AT] = FIXED, 2
        found[4:8] = (None,) * 4
        sense: Written = [0x70, 0, key, 0, 0, 0, 0, 0x0A, 0, 0, 0, 0, code, qualifier, 0, 0, 0, 0]
        if ours:
            for at in (0, *range(3, 7), *range(15, 18)):
                sense[at] = None
        found[SENSE_AT : SENSE_AT + FIXED] = sense
    return found
