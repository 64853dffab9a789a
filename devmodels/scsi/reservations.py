"""What is reserved of a logical unit, for whom, and who is registered (SPC-4 §5.12, SPC-2 §5.5).

State only; the commands that change it are in `reserve` and `persistent_out`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

import msgspec

from devmodels.scsi.nexus import Nexus, Registrant
from devmodels.scsi.table import Access

MAX_REGISTRATIONS = 256
"""How many nexuses can be registered with one unit."""


class Image(NamedTuple):
    """What persistent reservations were at one moment."""

    registrations: dict[Registrant, int]
    type: ReservationType
    holder: Registrant | None
    aptpl: bool
    generation: int


class ReservationType(IntEnum):
    """SPC-4 §6.15.3.4."""

    NONE = 0
    WRITE_EXCLUSIVE = 1
    EXCLUSIVE_ACCESS = 3
    WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 5
    EXCLUSIVE_ACCESS_REGISTRANTS_ONLY = 6
    WRITE_EXCLUSIVE_ALL_REGISTRANTS = 7
    EXCLUSIVE_ACCESS_ALL_REGISTRANTS = 8


TYPES = frozenset(ReservationType) - {ReservationType.NONE}
_ALL_REGISTRANTS = {
    ReservationType.WRITE_EXCLUSIVE_ALL_REGISTRANTS,
    ReservationType.EXCLUSIVE_ACCESS_ALL_REGISTRANTS,
}
SHARED = _ALL_REGISTRANTS | {
    ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY,
    ReservationType.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY,
}
"""Types under which every registered nexus may do what the holder may."""
_EXCLUSIVE_ACCESS = {
    ReservationType.EXCLUSIVE_ACCESS,
    ReservationType.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY,
    ReservationType.EXCLUSIVE_ACCESS_ALL_REGISTRANTS,
}


class SavedReservations(msgspec.Struct, forbid_unknown_fields=True):
    """`registrations` as TransportID in hexadecimal, relative port, key; `holder` as the first two of these."""

    registrations: list[tuple[str, int, int]]
    type: ReservationType
    holder: tuple[str, int] | None

    def check(self) -> None:
        """ValueError where it is none that `Reservations` can have."""
        if len(self.registrations) > MAX_REGISTRATIONS:
            raise ValueError(f"{len(self.registrations)} registrations, expected at most {MAX_REGISTRATIONS}")
        known = {(bytes.fromhex(name), port) for name, port, _ in self.registrations}
        holder = None if self.holder is None else (bytes.fromhex(self.holder[0]), self.holder[1])
        has_holder = self.type is not ReservationType.NONE and self.type not in _ALL_REGISTRANTS
        if (holder in known) is not has_holder:
            raise ValueError("the holder of the reservation is not one that can be")


class Reservations:
    """`registrations`: the key of each registered nexus.  `type` and `holder`: the persistent reservation; with a type
    of all registrants each of them holds it, and `holder` is None.  `generation`: PRGENERATION.  `aptpl`: whether this
    outlives a loss of power.  `reserved_by`: who holds the unit by RESERVE (6) or (10).
    """

    __slots__ = ("aptpl", "generation", "holder", "registrations", "reserved_by", "type")

    def __init__(self) -> None:
        self.registrations: dict[Registrant, int] = {}
        self.type = ReservationType.NONE
        self.holder: Registrant | None = None
        self.generation = 0
        self.aptpl = False
        self.reserved_by: Nexus | None = None

    @property
    def held(self) -> bool:
        """Whether anything is reserved."""
        return self.type is not ReservationType.NONE or self.reserved_by is not None

    @property
    def all_registrants(self) -> bool:
        """Whether each registered nexus holds the reservation."""
        return self.type in _ALL_REGISTRANTS

    def holds(self, registrant: Registrant) -> bool:
        """Whether this nexus holds the persistent reservation."""
        if self.all_registrants:
            return registrant in self.registrations
        return self.type is not ReservationType.NONE and self.holder == registrant

    def conflicts(self, nexus: Nexus, access: Access) -> bool:
        """Whether a command of `nexus` that does `access` ends with RESERVATION CONFLICT."""
        if access is Access.ALWAYS or access is Access.OWN:
            return False
        if self.reserved_by is not None and self.reserved_by is not nexus:
            return True
        kind = self.type
        if kind is ReservationType.NONE or access is Access.FREE:
            return False
        registrant = nexus.registrant
        if kind in SHARED:
            if registrant in self.registrations:
                return False
        elif self.holder == registrant:
            return False
        return access is Access.WRITE or kind in _EXCLUSIVE_ACCESS

    # --- changes

    def reserve(self, registrant: Registrant, kind: ReservationType) -> None:
        """`registrant` holds the reservation from now on."""
        self.type = kind
        self.holder = None if kind in _ALL_REGISTRANTS else registrant

    def release(self) -> None:
        """Nobody holds it any more."""
        self.type = ReservationType.NONE
        self.holder = None

    def unregister(self, registrant: Registrant) -> bool:
        """Forget a registration; whether the reservation ended thereby (SPC-4 §5.12.11.2)."""
        held = self.holds(registrant)
        del self.registrations[registrant]
        if held and not (self.all_registrants and self.registrations):
            self.release()
            return True
        return False

    def clear(self) -> None:
        """Forget every registration and the reservation."""
        self.registrations.clear()
        self.release()

    # --- kept over a loss of power

    def save(self) -> SavedReservations | None:
        """What is kept; nothing where APTPL is not set."""
        return self.as_data() if self.aptpl else None

    def as_data(self) -> SavedReservations:
        """Registrations and the persistent reservation."""
        return SavedReservations(
            registrations=[(name.hex(), port, key) for (name, port), key in self.registrations.items()],
            type=self.type,
            holder=None if self.holder is None else (self.holder[0].hex(), self.holder[1]),
        )

    def restore(self, saved: SavedReservations | None) -> None:
        """Take what `save` gave; ValueError where it is something else."""
        if saved is not None:
            saved.check()
            self.take(saved)
            self.aptpl = True

    def take(self, saved: SavedReservations) -> None:
        """Take what `as_data` gave."""
        self.registrations = {(bytes.fromhex(name), port): key for name, port, key in saved.registrations}
        self.type = saved.type
        self.holder = None if saved.holder is None else (bytes.fromhex(saved.holder[0]), saved.holder[1])

    def image(self) -> Image:
        """All of it but RESERVE's."""
        return Image(dict(self.registrations), self.type, self.holder, self.aptpl, self.generation)

    def take_image(self, image: Image) -> None:
        """Be again as when `image` was taken."""
        self.registrations = dict(image.registrations)
        self.type, self.holder, self.aptpl, self.generation = image[1:]

    def nexuses_of(self, nexuses: Iterable[Nexus], registrants: Iterable[Registrant]) -> list[Nexus]:
        """Those of the connected `nexuses` that are `registrants`."""
        wanted = set(registrants)
        return [nexus for nexus in nexuses if nexus.registrant in wanted]
