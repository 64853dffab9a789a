"""How a command ends: its data in, its status, its residual (RFC 7143 §11.4, §11.7)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from devmodels.blockbackend.vectors import window
from devmodels.exports.iscsi.buffers import SMALL
from devmodels.protocols.iscsi.pdu import (
    BIDIRECTIONAL_OVERFLOW,
    BIDIRECTIONAL_UNDERFLOW,
    COMPLETED_AT_TARGET,
    DATA_IN,
    FINAL,
    OVERFLOW,
    RESERVED_TAG,
    SCSI_RESPONSE,
    SENSE_LENGTH,
    STATUS_PRESENT,
    UNDERFLOW,
    Opcode,
)
from devmodels.scsi.constants import Outcome, Status

if TYPE_CHECKING:
    from devmodels.exports.iscsi.command import Command
    from devmodels.exports.iscsi.connection import Connection

_GOOD = Status.GOOD
_COMPLETE = Outcome.COMPLETE
_DATA_IN = int(Opcode.DATA_IN)
_SCSI_RESPONSE = int(Opcode.SCSI_RESPONSE)
_SERIALS = 0xFFFFFFFF
_pack_data_in = DATA_IN.pack
_pack_response = SCSI_RESPONSE.pack


def respond(command: Command) -> None:
    """`command` is over: send what is to be sent of that."""
    connection = command.connection
    session = connection.session
    del session.tasks[command.tag]
    if command.immediate:
        session.immediate -= 1
    else:
        session.max_cmd_sn = (session.max_cmd_sn + 1) & _SERIALS
    if connection.closed or command.outcome is not _COMPLETE:
        command.release()
        return
    sent = command.sent
    if not sent:
        if command.need > SMALL or session.waiting:
            command.release()
        else:
            session.room += command.need
        if (
            command.status is _GOOD
            and command.gathering is None
            and command.received == command.expected_out == command.wanted
            and not command.expected_in
        ):
            _send_good(connection, command)
        else:
            _send_response(command)
    elif command.status is _GOOD and sent <= connection.one_segment and not command.expected_out:
        flags, residual = _residual(command) if command.wanted != command.expected_in else (0, 0)
        holding: Command | None = command
        if command.need <= SMALL:
            # Nothing of it is used again.
            holding = None
            session.give_back(command.need)
        connection.stream.send(
            _pack_data_in(
                _DATA_IN,
                FINAL | STATUS_PRESENT | flags,
                0,
                sent,
                0,
                command.tag,
                RESERVED_TAG,
                connection.take_stat_sn(),
                session.exp_cmd_sn,
                session.max_cmd_sn,
                0,
                0,
                residual,
            ),
            command.data_in if sent == command.expected_in else window(command.data_in, 0, sent),
            sent,
            holding,
        )
    else:
        _send_many(command)


def _send_many(command: Command) -> None:
    """Data in several PDUs; the last one has the status where that is GOOD (§11.7.3)."""
    connection = command.connection
    session = connection.session
    collapsed = command.status is _GOOD and not command.expected_out
    flags, residual = _residual(command)
    data_sn = 0
    for offset, length, ends in _segments(command):
        last = offset + length == command.sent
        with_status = last and collapsed
        connection.stream.send(
            _pack_data_in(
                _DATA_IN,
                (FINAL if ends else 0) | (STATUS_PRESENT | flags if with_status else 0),
                0,
                length,
                0,
                command.tag,
                RESERVED_TAG,
                connection.take_stat_sn() if with_status else 0,
                session.exp_cmd_sn,
                session.max_cmd_sn,
                data_sn,
                offset,
                residual if with_status else 0,
            ),
            window(command.data_in, offset, length),
            length,
            command if last else None,
        )
        data_sn += 1
    if not collapsed:
        _send_response(command, data_sn)


def _segments(command: Command) -> Iterator[tuple[int, int, bool]]:
    """Offset and length of each Data-In, and whether it ends a sequence (MaxBurstLength, §13.13)."""
    segment = command.connection.max_segment
    burst = command.connection.session.parameters.max_burst_length
    offset, total = 0, command.sent
    while offset < total:
        in_burst = burst - offset % burst
        length = min(segment, in_burst, total - offset)
        yield offset, length, length == in_burst or offset + length == total
        offset += length


def _residual(command: Command) -> tuple[int, int]:
    """The flags, and how many bytes more or less were wanted than the initiator expected (§11.4.5.2)."""
    writes = command.expected_out > 0
    expected = command.expected_out if writes else command.expected_in
    moved = command.received if writes else command.sent
    wanted = command.wanted
    if not moved and command.status is _GOOD and (0 < wanted <= expected or (writes and command.sent)):
        return UNDERFLOW, expected  # What was wanted goes the other way.
    if wanted > expected:
        return OVERFLOW, min(wanted - expected, _SERIALS)
    short = expected - min(moved, wanted) if command.status is not _GOOD else expected - wanted
    return (UNDERFLOW, short) if short else (0, 0)


def _residual_of_read(command: Command) -> tuple[int, int]:
    """The same for what a command reads that writes as well."""
    expected, wanted = command.expected_in, command.wanted
    if command.sent and wanted > expected:
        return BIDIRECTIONAL_OVERFLOW, min(wanted - expected, _SERIALS)
    short = expected - command.sent
    return (BIDIRECTIONAL_UNDERFLOW, short) if short else (0, 0)


def _send_good(connection: Connection, command: Command) -> None:
    """A SCSI Response with nothing to tell but that it is GOOD: most writes end so."""
    session = connection.session
    stat_sn = connection.stat_sn
    connection.stat_sn = (stat_sn + 1) & _SERIALS
    numbers = stat_sn, session.exp_cmd_sn, session.max_cmd_sn
    connection.stream.send(
        _pack_response(_SCSI_RESPONSE, FINAL, COMPLETED_AT_TARGET, 0, 0, command.tag, 0, *numbers, 0, 0, 0)
    )


def _send_response(command: Command, data_sn: int = 0) -> None:
    """A SCSI Response, §11.4, after so many Data-Ins."""
    if command.gathering is not None:
        data_sn += command.gathering.asked
    connection = command.connection
    session = connection.session
    expected = command.expected_out + command.expected_in
    exact = command.status is _GOOD and command.received + command.sent == command.wanted == expected
    flags, residual = (0, 0) if exact else _residual(command)
    second = 0
    if command.expected_in and command.expected_out:
        more, second = _residual_of_read(command)
        flags |= more
    sense = command.sense
    data = SENSE_LENGTH.pack(len(sense)) + sense if sense else b""
    connection.stream.send(
        _pack_response(
            _SCSI_RESPONSE,
            FINAL | flags,
            COMPLETED_AT_TARGET,
            command.status,
            len(data),
            command.tag,
            0,
            connection.take_stat_sn(),
            session.exp_cmd_sn,
            session.max_cmd_sn,
            data_sn,
            second,
            residual,
        ),
        (data,),
        len(data),
    )
