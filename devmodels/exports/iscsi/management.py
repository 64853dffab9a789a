"""Task management, and the ends of tasks that other things bring (RFC 7143 §4.2.3, §11.5, §11.6, RFC 7144)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from devmodels.protocols.iscsi import codes
from devmodels.protocols.iscsi.codes import FunctionResponse
from devmodels.protocols.iscsi.pdu import (
    FINAL,
    IMMEDIATE,
    TASK_MANAGEMENT_REQUEST,
    TASK_MANAGEMENT_RESPONSE,
    Opcode,
    serial_after,
)
from devmodels.scsi.constants import Function, Response

if TYPE_CHECKING:
    from devmodels.exports.iscsi.connection import Connection
    from devmodels.exports.iscsi.session import Session

FUNCTIONS: dict[int, Function] = {
    codes.Function.ABORT_TASK: Function.ABORT_TASK,
    codes.Function.ABORT_TASK_SET: Function.ABORT_TASK_SET,
    codes.Function.CLEAR_ACA: Function.CLEAR_ACA,
    codes.Function.CLEAR_TASK_SET: Function.CLEAR_TASK_SET,
    codes.Function.LOGICAL_UNIT_RESET: Function.LOGICAL_UNIT_RESET,
    codes.Function.TARGET_WARM_RESET: Function.TARGET_RESET,
    codes.Function.TARGET_COLD_RESET: Function.TARGET_RESET,
    codes.Function.QUERY_TASK: Function.QUERY_TASK,
    codes.Function.QUERY_TASK_SET: Function.QUERY_TASK_SET,
    codes.Function.I_T_NEXUS_RESET: Function.I_T_NEXUS_RESET,
    codes.Function.QUERY_ASYNCHRONOUS_EVENT: Function.QUERY_ASYNC_EVENT,
}
"""What the core calls them."""

_NEWER = frozenset(
    {
        codes.Function.QUERY_TASK,
        codes.Function.QUERY_TASK_SET,
        codes.Function.I_T_NEXUS_RESET,
        codes.Function.QUERY_ASYNCHRONOUS_EVENT,
    }
)
"""Those of RFC 7144: from iSCSIProtocolLevel 2 on."""

_OF_ONE_TASK = frozenset({Function.ABORT_TASK, Function.QUERY_TASK})
_OF_ONE_UNIT = frozenset(
    {
        Function.ABORT_TASK_SET,
        Function.CLEAR_TASK_SET,
        Function.LOGICAL_UNIT_RESET,
        Function.QUERY_TASK_SET,
    }
)
_OF_MANY_TASKS = _OF_ONE_UNIT - {Function.QUERY_TASK_SET} | {Function.TARGET_RESET, Function.I_T_NEXUS_RESET}
_OF_ALL_SESSIONS = frozenset({Function.CLEAR_TASK_SET, Function.LOGICAL_UNIT_RESET, Function.TARGET_RESET})
_QUERIES = frozenset({Function.QUERY_TASK, Function.QUERY_TASK_SET, Function.QUERY_ASYNC_EVENT})

RESPONSES = {
    Response.COMPLETE: FunctionResponse.COMPLETE,
    Response.SUCCEEDED: FunctionResponse.SUCCEEDED,
    Response.REJECTED: FunctionResponse.REJECTED,
    Response.INCORRECT_LUN: FunctionResponse.NO_LUN,
}


def request(connection: Connection, header: bytes) -> None:
    """A Task Management Function Request.

    One that ends many tasks is about all of a lower CmdSN, and waits for those that have not come (§11.5.1).
    """
    opcode, flags, _, _, _, _, cmd_sn, *_ = TASK_MANAGEMENT_REQUEST.unpack_from(header, 0)
    session = connection.session

    def later() -> None:
        if connection.closed:
            session.retire(immediate=True)
        else:
            _perform(connection, header)

    if opcode & IMMEDIATE and FUNCTIONS.get(flags & ~FINAL) in _OF_MANY_TASKS and session.lacks(cmd_sn):
        session.postponed.append((cmd_sn, later))
    else:
        _perform(connection, header)


def _perform(connection: Connection, header: bytes) -> None:
    """Do it; its response comes when the function is complete."""
    opcode, flags, _, lun, itt, referenced, cmd_sn, _, ref_cmd_sn, _ = TASK_MANAGEMENT_REQUEST.unpack_from(
        header, 0
    )
    session = connection.session
    immediate = bool(opcode & IMMEDIATE)
    number = flags & ~FINAL
    function = FUNCTIONS.get(number)
    newer = number in _NEWER and session.parameters.protocol_level < 2
    target = session.target
    if number == codes.Function.TASK_REASSIGN:
        _respond(connection, itt, FunctionResponse.NO_REASSIGNMENT, immediate=immediate)
    elif function is None or newer or target is None:
        _respond(connection, itt, FunctionResponse.NOT_SUPPORTED, immediate=immediate)
    elif function in _OF_ONE_TASK and not _with_core(session, referenced):
        response = _settle(session, function, referenced, cmd_sn, ref_cmd_sn)
        _respond(connection, itt, response, immediate=immediate)
    else:
        unit = session.lun(lun)
        if function in _OF_ONE_TASK:
            unit = session.tasks[referenced].lun
        elif function not in _QUERIES:
            _drop_unsubmitted(session, function, unit)

        def done(response: Response) -> None:
            _respond(connection, itt, RESPONSES[response], immediate=immediate)
            if number == codes.Function.TARGET_COLD_RESET:
                _end_all(session)

        assert session.nexus is not None
        target.scsi.manage(session.nexus, function, unit, referenced, done)


def _respond(connection: Connection, itt: int, response: FunctionResponse, *, immediate: bool) -> None:
    session = connection.session
    session.retire(immediate)
    if not connection.closed:
        numbers = connection.take_stat_sn(), session.exp_cmd_sn, session.max_cmd_sn
        connection.stream.send(
            TASK_MANAGEMENT_RESPONSE.pack(Opcode.TASK_MANAGEMENT_RESPONSE, FINAL, response, 0, itt, *numbers)
        )


# --- one task


def _with_core(session: Session, tag: int) -> bool:
    """Whether the core has a task of that tag."""
    command = session.tasks.get(tag)
    return command is not None and command.submitted


def _settle(session: Session, function: Function, tag: int, cmd_sn: int, ref_cmd_sn: int) -> FunctionResponse:
    """Abort, or find, a task that the core does not know (§11.6.1)."""
    command = session.tasks.get(tag)
    if command is not None:
        if function is Function.QUERY_TASK:
            return FunctionResponse.SUCCEEDED
        session.drop(lambda each: each is command)
        return FunctionResponse.COMPLETE
    if function is Function.ABORT_TASK and session.in_window(ref_cmd_sn) and serial_after(cmd_sn, ref_cmd_sn):
        # It is still on its way: it counts as received, and is not done.
        session.forestall(ref_cmd_sn)
        return FunctionResponse.COMPLETE
    return FunctionResponse.NO_TASK


# --- many tasks


def _drop_unsubmitted(session: Session, function: Function, lun: int | None) -> None:
    """Commands that wait for room or data and that `function` concerns."""
    assert session.target is not None
    sessions = session.target.sessions.values() if function in _OF_ALL_SESSIONS else [session]
    for each in list(sessions):
        each.drop(lambda command: function not in _OF_ONE_UNIT or command.lun == lun)


def _end_all(session: Session) -> None:
    """After a cold reset no session of the target is left (§11.5.1)."""
    assert session.target is not None
    for other in session.target.sessions.values():
        for connection in other.connections.values():
            connection.stream.finish()


def end_tasks_of(connections: Iterable[Connection], over: Callable[[], None]) -> None:
    """End the tasks of connections of one session, then call `over` (§4.2.3, §11.14)."""
    leaving = set(connections)
    (session,) = {connection.session for connection in leaving}
    target = session.target
    if target is None:
        over()
        return
    for connection in leaving:
        session.forget_early(connection)
    session.drop(lambda command: command.connection in leaving)
    mine = {command for command in session.tasks.values() if command.connection in leaving}
    ended = target.endings.begin(session.port)

    def all_over() -> None:
        ended()
        over()

    target.scsi.cancel(mine.__contains__, all_over)
