"""What a unit can do, told from its table: REPORT SUPPORTED OPERATION CODES and TASK MANAGEMENT FUNCTIONS."""

from __future__ import annotations

from typing import Any

from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import cdb, parameters
from devmodels.scsi.sense import invalid_field
from devmodels.scsi.table import Access, Command, Data
from devmodels.scsi.task import Task
from devmodels.scsi.unit import LogicalUnit

CDB = Layout(cdb.REPORT_OPCODES)
_FUNCTIONS_CDB = Layout(cdb.REPORT_FUNCTIONS)
_ALL = Layout(parameters.ALL_COMMANDS_HEADER)
_DESCRIPTOR = Layout(parameters.COMMAND_DESCRIPTOR)
_ONE = Layout(parameters.ONE_COMMAND_HEADER)
_TIMEOUTS = Layout(parameters.TIMEOUTS)
_FUNCTIONS = Layout(parameters.FUNCTIONS)

ALL, OPCODE, ACTION, EITHER = range(4)
"""REPORTING OPTIONS, SPC-4 Table 249."""
NOT_SUPPORTED, SUPPORTED = 0b001, 0b011
"""SUPPORT, SPC-4 Table 252."""
EXTENDED_FUNCTIONS = 16
"""Bytes of the extended task management data; the time-outs in it say nothing."""


def _timeouts(command: Command[Any]) -> bytes:
    return _TIMEOUTS.pack(
        descriptor_length=_TIMEOUTS.size - 2, nominal=command.timeout, recommended=command.timeout
    )


def _all(unit: LogicalUnit, timeouts: bool) -> bytes:
    body = bytearray()
    for command in sorted(unit.commands, key=lambda each: (each.opcode, each.action or 0)):
        body += _DESCRIPTOR.pack(
            operation_code=command.opcode,
            service_action=command.action or 0,
            ctdp=timeouts,
            servactv=command.action is not None,
            cdb_length=command.layout.size,
        )
        if timeouts:
            body += _timeouts(command)
    return _ALL.pack(length=len(body)) + bytes(body)


def _find(unit: LogicalUnit, fields: Fields, option: int) -> Command[Any] | None:
    """The command that is asked for; None where there is none."""
    opcode, action = fields["requested_operation_code"], fields["requested_service_action"]
    same = [command for command in unit.commands if command.opcode == opcode]
    with_actions = any(command.action is not None for command in same)
    if same and with_actions is (option == OPCODE) and option != EITHER:
        # The option is not one for this operation code.
        raise invalid_field(CDB, "reporting_options")
    if not with_actions:
        return same[0] if same and not (option == EITHER and action) else None
    return next((command for command in same if command.action == action), None)


def report_opcodes(unit: LogicalUnit, _task: Task, fields: Fields) -> bytes:
    """All commands, or one with the bits of its CDB that are looked at (SPC-4 §6.35)."""
    option, timeouts = fields["reporting_options"], bool(fields["rctd"])
    if option == ALL:
        return _all(unit, timeouts)
    if option > EITHER:
        raise invalid_field(CDB, "reporting_options")
    command = _find(unit, fields, option)
    if command is None:
        return _ONE.pack(support=NOT_SUPPORTED)
    usage = command.usage(unit.absent_fields)
    head = _ONE.pack(ctdp=timeouts, support=SUPPORTED, cdb_size=len(usage))
    return head + usage + (_timeouts(command) if timeouts else b"")


def report_functions(_unit: LogicalUnit, _task: Task, fields: Fields) -> bytes:
    """SPC-4 §6.36."""
    extended = bool(fields["repd"])
    head = _FUNCTIONS.pack(
        ats=1,
        atss=1,
        ctss=1,
        lurs=1,
        qts=1,
        trs=1,
        qaes=1,
        qtss=1,
        itnrs=1,
        additional_length=EXTENDED_FUNCTIONS - _FUNCTIONS.size if extended else 0,
    )
    return head.ljust(EXTENDED_FUNCTIONS, b"\0") if extended else head


COMMANDS: tuple[Command[LogicalUnit], ...] = (
    Command(
        0xA3,
        "REPORT SUPPORTED OPERATION CODES",
        CDB,
        report_opcodes,
        "SPC-4 §6.35",
        action=0x0C,
        data=Data.IN,
        length="allocation_length",
        access=Access.READ,
        ready=False,
    ),
    Command(
        0xA3,
        "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
        _FUNCTIONS_CDB,
        report_functions,
        "SPC-4 §6.36",
        action=0x0D,
        data=Data.IN,
        length="allocation_length",
        access=Access.READ,
        ready=False,
    ),
)
