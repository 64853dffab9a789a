"""The REPORT LUNS well known logical unit of the whole domain (VIRTIO 1.4 §5.6.6.1): its list names targets, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from devmodels.conformance import ViolationLog
from devmodels.iocontext import IoContext
from devmodels.scsi import LogicalUnit, basic, format_lun, inventory
from devmodels.scsi.absent import ReportLunsUnit
from devmodels.scsi.fields import Fields
from devmodels.scsi.lun import REPORT_LUNS
from devmodels.scsi.table import Command
from devmodels.scsi.task import Task

WELL_KNOWN_LUN = bytes((0xC1, 0x01)) + bytes(6)
"""Its name in a `lun` field."""


def lun_field(target: int, lun: int) -> bytes:
    """The eight bytes that name a logical unit, in `lun` fields, in events and in the domain's list."""
    return bytes((1, target)) + format_lun(lun)[:2] + bytes(4)


def _report(unit: LogicalUnit, _task: Task, fields: Fields) -> bytes:
    """The units of all targets."""
    assert isinstance(unit, DomainUnit)
    select = inventory.selection(fields)
    luns = [lun_field(*each) for each in unit.listed()] if select.units else []
    unit.seen()
    return inventory.answer(luns + [format_lun(REPORT_LUNS)] * select.well_known)


class DomainUnit(ReportLunsUnit):
    """Lists what `listed` gives: targets and LUNs, in ascending order.  `seen` hears that the driver has seen them."""

    commands: Sequence[Command[Any]] = (
        *basic.COMMANDS,
        msgspec.structs.replace(inventory.COMMAND, handler=_report),
    )

    def __init__(
        self,
        context: IoContext,
        listed: Callable[[], Iterable[tuple[int, int]]],
        seen: Callable[[], None],
        *,
        name: str,
        violations: ViolationLog,
    ) -> None:
        super().__init__(context, name=name, violations=violations)
        self.listed = listed
        self.seen = seen
