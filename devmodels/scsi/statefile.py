"""What a logical unit keeps over a loss of power, in a file."""

from __future__ import annotations

from typing import Literal

import msgspec

from devmodels.scsi.reservations import SavedReservations
from devmodels.statefile import Saved, SavedFile, StateFileError

__all__ = ["SavedState", "StateFile", "StateFileError", "WholeFailure"]

WholeFailure = Literal["", "sanitize", "format"]
"""What has left a medium as it is: a SANITIZE or a FORMAT UNIT that did not end well, or nothing."""


class SavedState(Saved, frozen=True):
    """`reservations` as of `Reservations.save`; `modes`: saved mode pages in hexadecimal, by "code.subpage".

    `failure`, `unrestricted`: as of an `Operation` of a disk, one that runs being one that failed.
    """

    reservations: SavedReservations | None = None
    modes: dict[str, str] = msgspec.field(default_factory=dict)
    failure: WholeFailure = ""
    unrestricted: bool = False


class StateFile(SavedFile[SavedState]):
    """That of a unit."""

    KIND = SavedState
    WHOSE = "a unit"
