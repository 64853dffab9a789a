"""Sectors that cannot be read: those that WRITE UNCORRECTABLE EXT has made so (ACS-3 §7.71), those that have failed.

A write repairs either; one that had failed by itself has got another place then (SMART counts it).
"""

from __future__ import annotations

from devmodels.ata.command import AtaError, MediumError
from devmodels.ata.constants import Error

MAX_SECTORS = 1 << 16
"""How many sectors can be made unreadable at a time."""
MAX_PENDING = 1 << 16


class BadSectors:
    """`made` were made unreadable, of which errors of those that are `flagged` are not logged.

    `pending` have failed and not been written since; `most_pending` were there at once, `reallocated` were repaired,
    and `reported` is how many reads have failed.
    """

    __slots__ = ("flagged", "made", "most_pending", "pending", "reallocated", "reported")

    def __init__(self) -> None:
        self.made: set[int] = set()
        self.flagged: set[int] = set()
        self.pending: set[int] = set()
        self.most_pending = self.reallocated = self.reported = 0

    def make(self, lba: int, count: int, *, flagged: bool) -> bool:
        """Make sectors unreadable; False where these would be too many."""
        sectors = range(lba, lba + count)
        if len(self.made) + count > MAX_SECTORS:
            return False
        self.made.update(sectors)
        if flagged:
            self.flagged.update(sectors)
        else:
            self.flagged.difference_update(sectors)
        return True

    def first(self, lba: int, count: int) -> int | None:
        """The first one of a range that was made unreadable."""
        made, end = self.made, lba + count
        if not made:
            return None
        if count < len(made):
            return next((each for each in range(lba, end) if each in made), None)
        return min((each for each in made if lba <= each < end), default=None)

    def error(self, lba: int) -> AtaError:
        """How a command ends that wanted to read it."""
        if lba in self.flagged:
            return AtaError(Error.UNC, lba=lba)
        return MediumError(Error.UNC, lba=lba)

    def failed(self, lba: int) -> None:
        """It could not be read, and a host has been told so."""
        self.reported += 1
        if len(self.pending) < MAX_PENDING:
            self.pending.add(lba)
            self.most_pending = max(self.most_pending, len(self.pending))

    def written(self, lba: int, count: int) -> None:
        """They can be read again."""
        if not self.made and not self.pending:
            return
        sectors = range(lba, lba + count)
        repaired = self.pending.intersection(sectors)
        self.reallocated += len(repaired - self.made)
        self.pending -= repaired
        self.made.difference_update(sectors)
        self.flagged.difference_update(sectors)

    def forget(self) -> None:
        """All sectors have been written."""
        self.reallocated += len(self.pending - self.made)
        for sectors in (self.made, self.flagged, self.pending):
            sectors.clear()
