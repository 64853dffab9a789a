"""What answers where there is no logical unit (SAM-5 §4.8.4), and the REPORT LUNS well known unit (SPC-4 §8.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from devmodels.scsi import basic, inventory
from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import DeviceType, SenseKey
from devmodels.scsi.sense import Sense
from devmodels.scsi.table import Command
from devmodels.scsi.unit import LogicalUnit

NOT_SUPPORTED = Sense(SenseKey.ILLEGAL_REQUEST, Asc.LOGICAL_UNIT_NOT_SUPPORTED)
NOT_THERE = 0b011
"""The PERIPHERAL QUALIFIER where no unit can be."""
VERSIONS = (0x0460,)
"""SPC-4 (no version claimed)."""


class AbsentUnit(LogicalUnit):
    """Answers INQUIRY, REQUEST SENSE and REPORT LUNS, and all else with LOGICAL UNIT NOT SUPPORTED."""

    commands: Sequence[Command[Any]] = (basic.REQUEST_SENSE_COMMAND, basic.INQUIRY_COMMAND, inventory.COMMAND)

    def inquiry_data(self) -> bytes:
        """That there is none."""
        return basic.standard_inquiry(DeviceType.NONE, qualifier=NOT_THERE)

    def progress_sense(self) -> Sense | None:
        """That there is none."""
        return NOT_SUPPORTED

    def opcode_unknown(self, cdb: bytes) -> Sense:  # noqa: ARG002
        """No command is supported because no unit is there."""
        return NOT_SUPPORTED


class ReportLunsUnit(LogicalUnit):
    """The well known logical unit that lists the others."""

    commands: Sequence[Command[Any]] = (*basic.COMMANDS, inventory.COMMAND)

    def inquiry_data(self) -> bytes:
        """A well known logical unit."""
        return basic.standard_inquiry(DeviceType.WELL_KNOWN, product="REPORT LUNS", versions=VERSIONS)
