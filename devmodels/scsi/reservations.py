"""What is reserved of a logical unit, for whom, and who is registered (SPC-4 §5.12, SPC-2 §5.5).

State only; the commands that change it are in `reserve` and `persistent_out`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from devmodels.scsi.nexus import Nexus, Registrant
from devmodels.scsi.table import Access

MAX_REGISTRATIONS = 256
"""How many nexuses can be registered with one unit."""


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

    def save(self) -> dict[str, object]:
        """What is kept, as plain data; nothing where APTPL is not set."""
        if not self.aptpl:
            return {}
        registrations = [
            [transport_id.hex(), port, key] for (transport_id, port), key in self.registrations.items()
        ]
        holder = None if self.holder is None else [self.holder[0].hex(), self.holder[1]]
        return {"registrations": registrations, "type": int(self.type), "holder": holder}

    def restore(self, state: dict[str, object]) -> None:
        """Take what `save` gave; ValueError where it is something else."""
        if not state:
            return
        try:
            self._restore(state)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"not a saved reservation: {error}") from None

    def _restore(self, state: dict[str, object]) -> None:
        entries = state["registrations"]
        if not isinstance(entries, list) or len(entries) > MAX_REGISTRATIONS:
            raise ValueError("registrations are no list")
        registrations = {(bytes.fromhex(name), int(port)): int(key) for name, port, key in entries}
        kind = ReservationType(state["type"])  # type: ignore[arg-type]
        holder = state["holder"]
        self.registrations = registrations
        self.type = kind
        self.holder = None if holder is None else (bytes.fromhex(holder[0]), int(holder[1]))  # type: ignore[index]
        self.aptpl = True

    def nexuses_of(self, nexuses: Iterable[Nexus], registrants: Iterable[Registrant]) -> list[Nexus]:
        """Those of the connected `nexuses` that are `registrants`."""
        wanted = set(registrants)
        return [nexus for nexus in nexuses if nexus.registrant in wanted]
