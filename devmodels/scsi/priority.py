"""REPORT PRIORITY and SET PRIORITY: the priority of commands by nexus, for whoever looks (SPC-4 §6.34, §6.44).

Task priority may be ignored by a device server (SAM-5 §8.7), and this one does.
"""

from __future__ import annotations

from devmodels.scsi.asc import Asc
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import cdb
from devmodels.scsi.layout import reservations as layout
from devmodels.scsi.nexus import Registrant
from devmodels.scsi.sense import illegal, invalid_field, invalid_parameter
from devmodels.scsi.table import Access, Command, Data
from devmodels.scsi.task import Task
from devmodels.scsi.transportid import transport_id_size
from devmodels.scsi.unit import LogicalUnit

REPORT = Layout(cdb.REPORT_PRIORITY)
SET = Layout(cdb.SET_PRIORITY)
_DESCRIPTOR = Layout(layout.PRIORITY)
_PARAMETERS = Layout(layout.SET_PRIORITY)

THIS_NEXUS, SOME_NEXUSES = 0, 1
"""PRIORITY REPORTED: of the nexus that asks, or of each whose priority has been set."""
INITIAL, GIVEN_NEXUS = 1, 2
"""PRIORITY TO SET: THIS_NEXUS, back to the initial one, or that of a nexus in the parameter list."""
MAX_PRIORITIES = 256
MAX_PARAMETERS = 1 << 12


class HasPriorities(LogicalUnit):
    """A unit that keeps priorities; a nexus that is not in them has priority 0."""

    priorities: dict[Registrant, int]


def _descriptor(registrant: Registrant, priority: int) -> bytes:
    transport_id, port = registrant
    head = _DESCRIPTOR.pack(
        current_priority=priority, relative_port=port, additional_length=len(transport_id)
    )
    return head + transport_id


def report_priority(unit: HasPriorities, task: Task, fields: Fields) -> bytes:
    """SPC-4 §6.34."""
    reported = fields["priority_reported"]
    if reported > SOME_NEXUSES:
        raise invalid_field(REPORT, "priority_reported")
    if reported == THIS_NEXUS:
        mine = task.nexus.registrant
        body = _descriptor(mine, unit.priorities.get(mine, 0))
    else:
        body = b"".join(_descriptor(*entry) for entry in unit.priorities.items())
    return len(body).to_bytes(4, "big") + body


def set_priority(unit: HasPriorities, task: Task, fields: Fields) -> None:
    """SPC-4 §6.44."""
    which, length = fields["priority_to_set"], fields["parameter_list_length"]
    if which == INITIAL:
        unit.priorities.pop(task.nexus.registrant, None)
        return
    if which > GIVEN_NEXUS:
        raise invalid_field(SET, "priority_to_set")
    if not _PARAMETERS.size <= length <= MAX_PARAMETERS:
        raise illegal(Asc.PARAMETER_LIST_LENGTH_ERROR)
    data = unit.parameters(task, length)
    values = _PARAMETERS.unpack(data)
    registrant = task.nexus.registrant
    if which == GIVEN_NEXUS:
        name = data[_PARAMETERS.size :]
        try:
            whole = transport_id_size(name) == len(name) == values["additional_length"]
        except ValueError:
            whole = False
        if not whole:
            raise invalid_parameter(_PARAMETERS.size)
        registrant = (name, values["relative_port"])
    if registrant not in unit.priorities and len(unit.priorities) >= MAX_PRIORITIES:
        raise illegal(Asc.INSUFFICIENT_RESOURCES)
    unit.priorities[registrant] = values["priority_to_set"]


COMMANDS: tuple[Command[HasPriorities], ...] = (
    Command(
        0xA3,
        "REPORT PRIORITY",
        REPORT,
        report_priority,
        "SPC-4 §6.34",
        action=0x0E,
        data=Data.IN,
        length="allocation_length",
        access=Access.FREE,
        ready=False,
    ),
    Command(
        0xA4,
        "SET PRIORITY",
        SET,
        set_priority,
        "SPC-4 §6.44",
        action=0x0E,
        data=Data.OUT,
        length="parameter_list_length",
        ready=False,
    ),
)
