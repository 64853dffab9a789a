"""RESERVE and RELEASE (6) and (10): a unit for one nexus (SPC-2 §7.16, §7.17, §7.21, §7.22).

Beside persistent reservations they do what SPC-4 §5.12.3 says (CRH): nothing, with GOOD, for a nexus to which the
persistent reservation gives access already, and else RESERVATION CONFLICT.
"""

from __future__ import annotations

from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import cdb
from devmodels.scsi.nexus import Nexus
from devmodels.scsi.reservable import ReservableUnit
from devmodels.scsi.reservations import SHARED
from devmodels.scsi.sense import Conflict, invalid_field
from devmodels.scsi.table import Access, Command
from devmodels.scsi.task import Task

RESERVE_6 = Layout(cdb.RESERVE_6)
RESERVE_10 = Layout(cdb.RESERVE_10)


def _compatible(unit: ReservableUnit, nexus: Nexus) -> bool:
    """Whether persistent reservations let this pass as if it were done; Conflict where they forbid it."""
    reservations = unit.reservations
    if not reservations.registrations:
        return False
    registrant = nexus.registrant
    registered = registrant in reservations.registrations
    if registered and (reservations.holds(registrant) or reservations.type in SHARED):
        return True
    raise Conflict


def reserve(unit: ReservableUnit, task: Task, fields: Fields) -> None:
    """The unit is for this nexus from now on."""
    _refuse_parameters(fields)
    if _compatible(unit, task.nexus):
        return
    holder = unit.reservations.reserved_by
    if holder is not None and holder is not task.nexus:
        raise Conflict
    unit.reservations.reserved_by = task.nexus
    unit.reservations_changed()


def release(unit: ReservableUnit, task: Task, fields: Fields) -> None:
    """It is for everybody again, if this nexus holds it."""
    _refuse_parameters(fields)
    if not _compatible(unit, task.nexus) and unit.reservations.reserved_by is task.nexus:
        unit.reservations.reserved_by = None
        unit.reservations_changed()


def _refuse_parameters(fields: Fields) -> None:
    if fields["parameter_list_length"]:
        layout = RESERVE_6 if "extent" in fields else RESERVE_10
        raise invalid_field(layout, "parameter_list_length")


_EXTENT = ("third_party", "third_party_id", "extent", "reservation_id")
_THIRD_PARTY = ("third_party", "longid")
"""Parts of a unit and third parties are not served."""

COMMANDS: tuple[Command[ReservableUnit], ...] = (
    Command(
        0x16,
        "RESERVE (6)",
        RESERVE_6,
        reserve,
        "SPC-2 §7.21",
        refused=_EXTENT,
        access=Access.OWN,
        ready=False,
    ),
    Command(
        0x17,
        "RELEASE (6)",
        RESERVE_6,
        release,
        "SPC-2 §7.16",
        refused=_EXTENT,
        access=Access.OWN,
        ready=False,
    ),
    Command(
        0x56,
        "RESERVE (10)",
        RESERVE_10,
        reserve,
        "SPC-2 §7.22",
        refused=_THIRD_PARTY,
        access=Access.OWN,
        ready=False,
    ),
    Command(
        0x57,
        "RELEASE (10)",
        RESERVE_10,
        release,
        "SPC-2 §7.17",
        refused=_THIRD_PARTY,
        access=Access.OWN,
        ready=False,
    ),
)
