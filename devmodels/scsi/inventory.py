"""REPORT LUNS, which every logical unit answers, even one that is not there (SPC-4 §6.33)."""

from __future__ import annotations

from devmodels.scsi.asc import Asc
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import cdb, data
from devmodels.scsi.lun import LUN_BYTES, REPORT_LUNS, format_lun
from devmodels.scsi.sense import invalid_field
from devmodels.scsi.table import Access, Command, Data
from devmodels.scsi.task import Task
from devmodels.scsi.unit import LogicalUnit

_CDB = Layout(cdb.REPORT_LUNS)
_HEADER = Layout(data.REPORT_LUNS_HEADER)

MINIMUM_ALLOCATION = 16
WITHOUT_WELL_KNOWN, WELL_KNOWN_ONLY, EVERYTHING = 0x00, 0x01, 0x02


def report_luns(unit: LogicalUnit, task: Task, fields: Fields) -> bytes:
    """The LUNs of the target, in ascending order.  Whoever asks knows what has changed."""
    select = fields["select_report"]
    if select > EVERYTHING:
        raise invalid_field(_CDB, "select_report")
    if fields["allocation_length"] < MINIMUM_ALLOCATION:
        raise invalid_field(_CDB, "allocation_length")
    target = unit.target
    luns: list[int] = []
    if target is not None:
        if select != WELL_KNOWN_ONLY:
            luns += sorted(target.units)
        if select != WITHOUT_WELL_KNOWN:
            luns.append(REPORT_LUNS)
        for each in target.units.values():
            each.attentions.clear(task.nexus, Asc.REPORTED_LUNS_DATA_CHANGED)
    return _HEADER.pack(length=LUN_BYTES * len(luns)) + b"".join(map(format_lun, luns))


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
