"""PERSISTENT RESERVE IN: who is registered, what is reserved, what can be (SPC-4 §6.15)."""

from __future__ import annotations

from functools import wraps

from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import cdb
from devmodels.scsi.layout import reservations as layout
from devmodels.scsi.reservable import ReservableUnit
from devmodels.scsi.reservations import ReservationType
from devmodels.scsi.table import Access, Command, Data, Handler, Reply
from devmodels.scsi.task import Task

CDB = Layout(cdb.PERSISTENT_RESERVE_IN)
_HEADER = Layout(layout.KEYS_HEADER)
_RESERVATION = Layout(layout.RESERVATION)
_CAPABILITIES = Layout(layout.CAPABILITIES)
_FULL_STATUS = Layout(layout.FULL_STATUS)

ALLOW_WITH_WRITE_EXCLUSIVE = 0b001
"""ALLOW COMMANDS: TEST UNIT READY is allowed through reservations of each type (SPC-4 Table 198)."""


def _with_header(unit: ReservableUnit, body: bytes) -> bytes:
    return _HEADER.pack(generation=unit.reservations.generation, length=len(body)) + body


def read_keys(unit: ReservableUnit, _task: Task, _fields: Fields) -> bytes:
    """Each registered key, as often as it is registered."""
    keys = unit.reservations.registrations.values()
    return _with_header(unit, b"".join(key.to_bytes(8, "big") for key in keys))


def read_reservation(unit: ReservableUnit, _task: Task, _fields: Fields) -> bytes:
    """The reservation, if there is one; its key is 0 where all registrants hold it."""
    reservations = unit.reservations
    if reservations.type is ReservationType.NONE:
        return _with_header(unit, b"")
    key = 0 if reservations.holder is None else reservations.registrations[reservations.holder]
    return _with_header(unit, _RESERVATION.pack(key=key, type=reservations.type))


def report_capabilities(unit: ReservableUnit, _task: Task, _fields: Fields) -> bytes:
    """Every type, SPEC_I_PT and ALL_TG_PT; APTPL where there is a file for it."""
    return _CAPABILITIES.pack(
        length=_CAPABILITIES.size,
        crh=1,
        sip_c=1,
        atp_c=1,
        ptpl_c=unit.state is not None,
        tmv=1,
        allow_commands=ALLOW_WITH_WRITE_EXCLUSIVE,
        ptpl_a=unit.reservations.aptpl,
        wr_ex_ar=1,
        ex_ac_ro=1,
        wr_ex_ro=1,
        ex_ac=1,
        wr_ex=1,
        ex_ac_ar=1,
    )


def read_full_status(unit: ReservableUnit, _task: Task, _fields: Fields) -> bytes:
    """Each registration, with its TransportID, and whether it holds the reservation."""
    reservations = unit.reservations
    parts = []
    for registrant, key in reservations.registrations.items():
        transport_id, port = registrant
        holds = reservations.holds(registrant)
        parts.append(
            _FULL_STATUS.pack(
                key=key,
                r_holder=holds,
                type=reservations.type if holds else 0,
                relative_port=port,
                additional_length=len(transport_id),
            )
            + transport_id
        )
    return _with_header(unit, b"".join(parts))


def _command(
    action: int, name: str, handler: Handler[ReservableUnit], clause: str
) -> Command[ReservableUnit]:
    @wraps(handler)
    def handle(unit: ReservableUnit, task: Task, fields: Fields) -> Reply:
        unit.check_not_reserved()
        return handler(unit, task, fields)

    return Command(
        0x5E,
        f"PERSISTENT RESERVE IN, {name}",
        CDB,
        handle,
        clause,
        action=action,
        data=Data.IN,
        length="allocation_length",
        access=Access.FREE,
        ready=False,
    )


COMMANDS = (
    _command(0x00, "READ KEYS", read_keys, "SPC-4 §6.15.2"),
    _command(0x01, "READ RESERVATION", read_reservation, "SPC-4 §6.15.3"),
    _command(0x02, "REPORT CAPABILITIES", report_capabilities, "SPC-4 §6.15.4"),
    _command(0x03, "READ FULL STATUS", read_full_status, "SPC-4 §6.15.5"),
)
