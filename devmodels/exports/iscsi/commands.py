"""SCSI Command and Data-Out PDUs: from a header and its data to a command of the core (RFC 7143 §11.3, §11.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.exports.iscsi.command import Command
from devmodels.exports.iscsi.gathering import (
    NOT_ENOUGH_UNSOLICITED_DATA,
    PROTOCOL_SERVICE_CRC_ERROR,
    UNEXPECTED_UNSOLICITED_DATA,
    Burst,
    Gathering,
)
from devmodels.exports.iscsi.session import MAX_ROOM
from devmodels.protocols.iscsi.codes import RejectReason
from devmodels.protocols.iscsi.pdu import (
    ATTRIBUTE_MASK,
    DATA_OUT,
    FINAL,
    IMMEDIATE,
    READ,
    RESERVED_TAG,
    WRITE,
    parse_ahs,
    unpack_command,
)
from devmodels.scsi.constants import TaskAttribute

if TYPE_CHECKING:
    from devmodels.exports.iscsi.connection import Connection

_ATTRIBUTES = (
    TaskAttribute.SIMPLE,  # Untagged, as a task of this kind.
    TaskAttribute.SIMPLE,
    TaskAttribute.ORDERED,
    TaskAttribute.HEAD_OF_QUEUE,
    TaskAttribute.ACA,
)
"""By the ATTR field of a SCSI Command, §11.3.1."""


# --- commands


def place(connection: Connection, header: bytes, length: int) -> memoryview | None:
    """Room for immediate data that is still on its way, and for what follows it unasked; None where none may come."""
    _, flags, _, _, _, expected, _, _, _ = unpack_command(header, 0)
    limit = _limit(connection, flags, expected)
    if length > limit:
        return None
    (room,) = connection.session.pool.take(length if flags & FINAL else limit)
    connection.placed = room
    return room[:length]


def _limit(connection: Connection, flags: int, expected: int) -> int:
    """How much data may come with a command (§4.2.5.2)."""
    agreed = connection.session.parameters
    if not flags & WRITE or not agreed.immediate_data or connection.session.target is None:
        return 0
    return min(expected, agreed.first_burst_length)


def request(connection: Connection, header: bytes, ahs: bytes, data: memoryview) -> None:
    """A SCSI Command; its `data` is in `connection.placed`, or still where it was received."""
    opcode, flags, _, lun, itt, expected, _, _, cdb = unpack_command(header, 0)
    session = connection.session
    nexus = session.nexus
    expected_in = expected if flags & READ else 0
    expected_out = expected if flags & WRITE else 0
    attribute = flags & ATTRIBUTE_MASK
    immediate = opcode & IMMEDIATE != 0
    reason = None
    if nexus is None:
        reason = RejectReason.COMMAND_NOT_SUPPORTED
    elif itt in session.tasks:
        reason = RejectReason.TASK_IN_PROGRESS
    elif attribute >= len(_ATTRIBUTES) or itt == RESERVED_TAG:
        reason = RejectReason.INVALID_PDU_FIELD
    elif ahs:
        try:
            extra = parse_ahs(ahs)
        except ValueError:
            reason = RejectReason.INVALID_PDU_FIELD
        else:
            cdb += extra.cdb_rest
            if expected_in and expected_out:
                expected_in = extra.read_length or 0
    if reason is not None or nexus is None:
        connection.drop_placed()
        session.retire(immediate)
        connection.reject(reason or RejectReason.COMMAND_NOT_SUPPORTED, header, "a command that cannot be")
        return
    command = Command(
        connection, nexus, lun, itt, cdb, _ATTRIBUTES[attribute], expected_in, expected_out, immediate
    )
    session.tasks[itt] = command
    _take(connection, command, flags, data)


def _take(connection: Connection, command: Command, flags: int, data: memoryview) -> None:
    """A new command: it is done where all its data is there, and there is room."""
    session = connection.session
    length = len(data)
    need = command.need
    if length != command.expected_out or session.unsubmitted or need > session.room != MAX_ROOM:
        # Its data is to come, others that came before it wait, or it has to wait for room itself.
        _gather(connection, command, flags, data)
        return
    if length:
        if length > _limit(connection, flags, length):
            _gather(connection, command, flags, data)
            return
        command.data_out = (_take_placed(connection, data, length),)
    session.room -= need
    command.start()


def _take_placed(connection: Connection, data: memoryview, room: int) -> memoryview:
    """Where a command's data lies, with so much room at least: it is copied where it has not been placed."""
    placed = connection.placed
    if placed is None and room == len(data):
        return memoryview(bytearray(data))
    connection.placed = None
    if placed is not None:
        return placed
    (view,) = connection.session.pool.take(room)
    view[: len(data)] = data
    return view


def _gather(connection: Connection, command: Command, flags: int, data: memoryview) -> None:
    """A command that waits, for its data or for room (§4.2.5.2, §11.3.4)."""
    session = connection.session
    gathering = command.gathering = Gathering(command)
    session.unsubmitted[command] = None
    length = len(data)
    more = not flags & FINAL and command.expected_out > length
    limit = _limit(connection, flags, command.expected_out)
    if length > limit or (more and session.parameters.initial_r2t):
        connection.drop_placed()
        command.need = 0  # It has no room to give back.
        gathering.fail(UNEXPECTED_UNSOLICITED_DATA, final=not more)
        return
    if more:
        room = min(command.expected_out, session.parameters.first_burst_length)
        gathering.begin(_take_placed(connection, data, room), length, more=True)
    elif length:
        gathering.begin(_take_placed(connection, data, length), length, more=False)
    session.admit(command)


# --- Data-Out


def place_data_out(connection: Connection, header: bytes, length: int) -> memoryview | None:
    """Where the data of a Data-Out goes that is still on its way: nowhere, if it is not the next of a sequence."""
    connection.filling = burst = _sequence(connection, header, length)
    return None if burst is None else burst.view[burst.filled : burst.filled + length]


def _sequence(connection: Connection, header: bytes, length: int) -> Burst | None:
    """The burst that a Data-Out goes on with; None where it goes on with none."""
    _, _, _, _, itt, ttt, _, data_sn, offset = DATA_OUT.unpack_from(header, 0)
    command = connection.session.tasks.get(itt)
    if command is None or command.ready or command.connection is not connection or command.gathering is None:
        return None
    return command.gathering.burst(ttt, data_sn, offset, length)


def data_out(connection: Connection, header: bytes, _ahs: bytes, data: memoryview) -> None:
    """A Data-Out; its data is where `place_data_out` said, or still where it was received."""
    _, flags, _, _, itt, ttt, _, data_sn, offset = DATA_OUT.unpack_from(header, 0)
    connection.filling = None
    final = bool(flags & FINAL)
    command = connection.session.tasks.get(itt)
    gathering = None if command is None or command.ready else command.gathering
    burst = _sequence(connection, header, len(data))
    if gathering is None:
        # Of a command that has been aborted, or has failed: passed over.
        connection.violated("RFC 7143 §11.7", f"data for no task: tag {itt:#x}", header)
    elif burst is not None:
        place = burst.view[burst.filled : burst.filled + len(data)]
        if place.obj is not data.obj:
            place[:] = data
        gathering.came(burst, len(data), final=final)
    else:
        what = f"DataSN {data_sn} at {offset} for transfer tag {ttt:#x}"
        connection.violated("RFC 7143 §11.7", f"out of sequence: {what}", header)
        wrong = UNEXPECTED_UNSOLICITED_DATA if ttt == RESERVED_TAG else NOT_ENOUGH_UNSOLICITED_DATA
        gathering.fail(wrong, final=final)


def corrupt_data_out(connection: Connection, header: bytes) -> None:
    """The data of a Data-Out has a wrong digest: with its sequence the command ends (§7.8)."""
    _, flags, _, _, itt, *_ = DATA_OUT.unpack_from(header, 0)
    connection.filling = None
    command = connection.session.tasks.get(itt)
    if command is not None and command.gathering is not None and not command.ready:
        command.gathering.fail(PROTOCOL_SERVICE_CRC_ERROR, final=bool(flags & FINAL))
