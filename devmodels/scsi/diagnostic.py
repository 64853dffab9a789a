"""SEND DIAGNOSTIC: the default self-test, which passes (SPC-4 §6.42)."""

from __future__ import annotations

from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import cdb
from devmodels.scsi.sense import invalid_field
from devmodels.scsi.table import Command, Data
from devmodels.scsi.task import Task
from devmodels.scsi.unit import LogicalUnit

CDB = Layout(cdb.SEND_DIAGNOSTIC)


def send_diagnostic(_unit: LogicalUnit, _task: Task, fields: Fields) -> None:
    """There is nothing to test, and there are no diagnostic pages."""
    if fields["parameter_list_length"]:
        raise invalid_field(CDB, "parameter_list_length")


COMMAND: Command[LogicalUnit] = Command(
    0x1D,
    "SEND DIAGNOSTIC",
    CDB,
    send_diagnostic,
    "SPC-4 §6.42",
    data=Data.OUT,
    length="parameter_list_length",
    refused=("self_test_code",),
    ignored=("pf", "devoffl", "unitoffl"),
    ready=False,
)
