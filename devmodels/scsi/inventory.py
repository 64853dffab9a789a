"""REPORT LUNS, which every logical unit answers, even one that is not there (SPC-4 §6.33)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from devmodels.scsi.asc import Asc
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import cdb, data
from devmodels.scsi.lun import LUN_BYTES, REPORT_LUNS, format_lun
from devmodels.scsi.nexus import Nexus
from devmodels.scsi.sense import invalid_field
from devmodels.scsi.table import Access, Command, Data
from devmodels.scsi.task import Task
from devmodels.scsi.unit import LogicalUnit

_CDB = Layout(cdb.REPORT_LUNS)
_HEADER = Layout(data.REPORT_LUNS_HEADER)

MINIMUM_ALLOCATION = 16
WITHOUT_WELL_KNOWN, WELL_KNOWN_ONLY, EVERYTHING = 0x00, 0x01, 0x02


class Selection(msgspec.Struct, frozen=True):
    """What SELECT REPORT asks for."""

    units: bool
    well_known: bool


def selection(fields: Fields) -> Selection:
    """What is asked for; CheckCondition where that is nothing there is."""
    select = fields["select_report"]
    if select > EVERYTHING:
        raise invalid_field(_CDB, "select_report")
    if fields["allocation_length"] < MINIMUM_ALLOCATION:
        raise invalid_field(_CDB, "allocation_length")
    return Selection(select != WELL_KNOWN_ONLY, select != WITHOUT_WELL_KNOWN)


def answer(luns: Sequence[bytes]) -> bytes:
    """The parameter data that lists these."""
    return _HEADER.pack(length=LUN_BYTES * len(luns)) + b"".join(luns)


def learned(units: Iterable[LogicalUnit], nexus: Nexus) -> None:
    """`nexus` has seen the list, and need not be told that it has changed."""
    for each in units:
        if not each.interlock:
            each.attentions.clear(nexus, Asc.REPORTED_LUNS_DATA_CHANGED)


def report_luns(unit: LogicalUnit, task: Task, fields: Fields) -> bytes:
    """The LUNs of the target, in ascending order.  Whoever asks knows what has changed."""
    select = selection(fields)
    target = unit.target
    luns: list[int] = []
    if target is not None:
        if select.units:
            luns += sorted(target.units)
        if select.well_known:
            luns.append(REPORT_LUNS)
        learned(target.units.values(), task.nexus)
    return answer([format_lun(lun) for lun in luns])


COMMAND: Command[LogicalUnit] = Command(
    0xA0,
    "REPORT LUNS",
    _CDB,
    report_luns,
    "SPC-4 §6.33",
    data=Data.IN,
    length="allocation_length",
    attention=False,
    access=Access.ALWAYS,
    ready=False,
)
