"""A SCSI target: SAM-5's task model, SPC-4's commands, and the kinds of logical units over them.

How a command goes.  A carrier (virtio-scsi, iSCSI, ATAPI) makes a `Task` of what its initiator sent: the nexus it
came by, the LUN, the CDB, and memoryviews for the data in both directions.  `ScsiTarget.submit` finds the
`LogicalUnit` by its LUN; where there is none, one that says so.  The unit's task set lets it begin, by its attribute
and those of the others (`taskset`).  A pending unit attention of its nexus is reported instead (`attentions`).  The
table of the unit's kind says what the command is (`table`): the layout of its CDB, the bits that must be 0, who
answers it.  The handler returns data for the initiator, or a coroutine, or has submitted a block request and ends the
task when that is over; what it finds wrong it raises as `CheckCondition` with `Sense`.  `finish` takes the task out
of its set, calls `task.done`, and begins what waited for it.

    task.done(task) ← finish ← handler ← table ← unit attention, reservations ← task set ← ScsiTarget.submit(task)

Data is never copied but for parameter lists, which are copied once and judged from the copy: a READ fills the
carrier's memory itself.  Nothing that an initiator sends raises out of `submit` or `manage`.

SAM-5 (INCITS 515), SPC-4 (INCITS 513), SBC-4 (INCITS 506).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.lazy import exports

if TYPE_CHECKING:
    from devmodels.scsi.constants import Failure, Function, Outcome, Protocol, Response, Status, TaskAttribute
    from devmodels.scsi.lun import format_lun, parse_lun
    from devmodels.scsi.nexus import Nexus, TargetPort, iscsi_transport_id, sas_transport_id
    from devmodels.scsi.target import ScsiTarget
    from devmodels.scsi.task import Task
    from devmodels.scsi.unit import LogicalUnit

__all__ = [
    "Failure",
    "Function",
    "LogicalUnit",
    "Nexus",
    "Outcome",
    "Protocol",
    "Response",
    "ScsiTarget",
    "Status",
    "TargetPort",
    "Task",
    "TaskAttribute",
    "format_lun",
    "iscsi_transport_id",
    "parse_lun",
    "sas_transport_id",
]

__getattr__ = exports(
    __name__,
    {
        "constants": "Failure Function Outcome Protocol Response Status TaskAttribute",
        "lun": "format_lun parse_lun",
        "nexus": "Nexus TargetPort iscsi_transport_id sas_transport_id",
        "target": "ScsiTarget",
        "task": "Task",
        "unit": "LogicalUnit",
    },
)
"""A target is slow to import, and options of its units are wanted where there is none."""
