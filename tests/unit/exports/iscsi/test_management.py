"""Task management, logout, NOP, asynchronous messages, and what ends tasks (RFC 7143 §11.5, §11.9, §11.14, §11.18)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from devmodels.protocols.iscsi import pdu
from devmodels.protocols.iscsi.codes import (
    AsyncEvent,
    Function,
    FunctionResponse,
    LogoutReason,
    LogoutStatus,
    RejectReason,
)
from devmodels.protocols.iscsi.pdu import Opcode

from .initiator import LOGIN_KEYS, NOBODY, TEST_UNIT_READY, Initiator, Pdu, World, read_10, write_10

Make = Callable[..., World]
MS = 10**6


def ready(world: World, *, isid: int = 1, **keys: str) -> Initiator:
    initiator = world.connect()
    initiator.isid = bytes((0x80, 0, 0, 0, 0, isid))
    initiator.login(keys=keys)
    initiator.ready()
    return initiator


def manage(initiator: Initiator, function: int, tag: int = NOBODY, **fields: Any) -> int:
    fields.setdefault("immediate", True)
    return initiator.request(
        Opcode.TASK_MANAGEMENT_REQUEST, flags=pdu.FINAL | function, referenced_tag=tag, **fields
    )


def response_of(found: Pdu) -> FunctionResponse:
    assert found.opcode is Opcode.TASK_MANAGEMENT_RESPONSE
    return FunctionResponse(found["response"])


def test_a_task_is_aborted_and_nothing_more_is_heard_of_it(make: Make) -> None:
    world = make(delay_ns=MS)
    initiator = ready(world)
    tag = initiator.command(read_10(0, 1), reads=512)
    manage(initiator, Function.ABORT_TASK, tag)
    world.context.step(MS)
    assert response_of(initiator.receive()) is FunctionResponse.COMPLETE
    initiator.command(TEST_UNIT_READY)
    found = initiator.receive()
    assert found["max_cmd_sn"] - found["exp_cmd_sn"] == 127


def test_a_task_that_waits_for_data_is_aborted(world: World) -> None:
    initiator = ready(world, ImmediateData="No")
    tag = initiator.command(write_10(0, 1), writes=512)
    asked = initiator.receive()
    manage(initiator, Function.ABORT_TASK, tag)
    assert response_of(initiator.receive()) is FunctionResponse.COMPLETE
    initiator.data_out(tag, asked["ttt"], 0, 0, b"x" * 512, final=True)
    assert initiator.receive_all() == []
    assert initiator.read(0, 1) == bytes(512)


def test_a_task_that_is_over_cannot_be_aborted(world: World) -> None:
    initiator = ready(world)
    tag = initiator.command(TEST_UNIT_READY)
    initiator.receive()
    manage(initiator, Function.ABORT_TASK, tag, ref_cmd_sn=initiator.cmd_sn - 1)
    assert response_of(initiator.receive()) is FunctionResponse.NO_TASK


def test_a_task_that_has_not_come_yet_counts_as_received_and_is_not_done(world: World) -> None:
    initiator = ready(world)
    number = initiator.cmd_sn
    manage(initiator, Function.ABORT_TASK, 0x999, ref_cmd_sn=number, cmd_sn=number + 1)
    assert response_of(initiator.receive()) is FunctionResponse.COMPLETE
    initiator.command(TEST_UNIT_READY, itt=0x999, cmd_sn=number)
    assert initiator.receive_all() == []
    initiator.command(TEST_UNIT_READY, cmd_sn=number + 1)
    assert initiator.receive()["status"] == 0


def test_a_write_that_comes_with_its_own_abort_is_not_heard_of(make: Make) -> None:
    world = make(delay_ns=MS)
    initiator = ready(world)
    both = Recorder(initiator)
    tag = both.command(write_10(0, 1), b"x" * 512)
    manage(both, Function.ABORT_TASK, tag)
    both.play()
    world.context.step(MS)
    assert response_of(initiator.receive()) is FunctionResponse.COMPLETE


@pytest.mark.parametrize("function", [Function.ABORT_TASK_SET, Function.CLEAR_TASK_SET])
def test_all_tasks_of_a_unit_are_ended(make: Make, function: Function) -> None:
    world = make(delay_ns=MS)
    initiator = ready(world, ImmediateData="No")
    initiator.command(read_10(0, 1), reads=512)
    initiator.command(write_10(0, 1), writes=512)
    assert initiator.receive().opcode is Opcode.R2T
    manage(initiator, function)
    world.context.step(MS)
    assert response_of(initiator.receive()) is FunctionResponse.COMPLETE


@pytest.mark.parametrize("function", [Function.LOGICAL_UNIT_RESET, Function.TARGET_WARM_RESET])
def test_a_reset_ends_the_tasks_of_everybody(make: Make, function: Function) -> None:
    world = make(delay_ns=MS)
    one, other = ready(world, isid=1), ready(world, isid=2, ImmediateData="No")
    one.command(read_10(0, 1), reads=512)
    other.command(read_10(0, 1), reads=512)
    other.command(write_10(0, 1), writes=512)
    other.receive()
    manage(one, function)
    world.context.step(MS)
    assert response_of(one.receive()) is FunctionResponse.COMPLETE
    assert other.receive_all() == []
    other.command(TEST_UNIT_READY)
    assert other.receive().sense == (6, 0x2903)


def test_after_a_cold_reset_every_session_has_ended(world: World) -> None:
    one, other = ready(world, isid=1), ready(world, isid=2)
    manage(one, Function.TARGET_COLD_RESET)
    assert response_of(one.receive()) is FunctionResponse.COMPLETE
    assert one.gone
    assert other.gone
    assert not world.export.target.sessions


def test_what_is_not_there_is_said_not_to_be(world: World) -> None:
    initiator = ready(world)
    for function, fields, expected in (
        (Function.LOGICAL_UNIT_RESET, {"lun": 5 << 48}, FunctionResponse.NO_LUN),
        (Function.TASK_REASSIGN, {}, FunctionResponse.NO_REASSIGNMENT),
        (Function.QUERY_TASK, {}, FunctionResponse.NOT_SUPPORTED),
        (Function.I_T_NEXUS_RESET, {}, FunctionResponse.NOT_SUPPORTED),
        (99, {}, FunctionResponse.NOT_SUPPORTED),
    ):
        manage(initiator, function, **fields)
        assert response_of(initiator.receive()) is expected


def test_newer_functions_are_there_where_that_was_agreed_on(make: Make) -> None:
    world = make(delay_ns=MS)
    initiator = ready(world, iSCSIProtocolLevel="2", ImmediateData="No")
    running = initiator.command(read_10(0, 1), reads=512)
    waiting = initiator.command(write_10(0, 1), writes=512)
    initiator.receive()
    answers = []
    for function, tag in (
        (Function.QUERY_TASK, running),
        (Function.QUERY_TASK, waiting),
        (Function.QUERY_TASK, 0x999),
        (Function.QUERY_TASK_SET, NOBODY),
        (Function.QUERY_ASYNCHRONOUS_EVENT, NOBODY),
    ):
        manage(initiator, function, tag)
        answers.append(response_of(initiator.receive()))
    assert answers == [
        FunctionResponse.SUCCEEDED,
        FunctionResponse.SUCCEEDED,
        FunctionResponse.NO_TASK,
        FunctionResponse.SUCCEEDED,
        FunctionResponse.COMPLETE,
    ]
    manage(initiator, Function.I_T_NEXUS_RESET)
    world.context.step(MS)
    assert response_of(initiator.receive()) is FunctionResponse.COMPLETE
    initiator.command(TEST_UNIT_READY)
    assert initiator.receive().sense == (6, 0x2907)


def test_task_management_may_wait_for_its_turn(world: World) -> None:
    initiator = ready(world)
    number = initiator.cmd_sn
    manage(initiator, Function.LOGICAL_UNIT_RESET, immediate=False, cmd_sn=number + 1)
    assert initiator.receive_all() == []
    initiator.command(TEST_UNIT_READY, cmd_sn=number)
    first, second = initiator.receive_all()
    assert first.opcode is Opcode.SCSI_RESPONSE
    assert response_of(second) is FunctionResponse.COMPLETE


def test_immediate_commands_are_not_without_number(make: Make) -> None:
    world = make(delay_ns=MS)
    initiator = ready(world)
    for _ in range(34):
        initiator.command(read_10(0, 1), reads=512, immediate=True)
    rejected = initiator.receive_all()
    assert [each["reason"] for each in rejected] == [RejectReason.TOO_MANY_IMMEDIATE] * 2
    world.context.step(MS)
    assert len(initiator.receive_all()) == 32


# --- NOP


def test_a_ping_comes_back(world: World) -> None:
    initiator = ready(world)
    tag = initiator.request(Opcode.NOP_OUT, b"hello", flags=pdu.FINAL, ttt=NOBODY, lun=7)
    found = initiator.receive()
    assert (found.opcode, found["itt"], found["ttt"], found.data) == (Opcode.NOP_IN, tag, NOBODY, b"hello")
    assert found["exp_cmd_sn"] == initiator.cmd_sn


def test_no_more_comes_back_than_fits_a_pdu(world: World) -> None:
    initiator = ready(world, MaxRecvDataSegmentLength="512")
    initiator.request(Opcode.NOP_OUT, b"x" * 1000, flags=pdu.FINAL, ttt=NOBODY)
    assert initiator.receive().data == b"x" * 512


def test_a_silent_initiator_is_asked_and_then_given_up(world: World) -> None:
    initiator = ready(world)
    world.context.step(75 * 10**9)
    asked = initiator.receive()
    assert (asked.opcode, asked["itt"]) == (Opcode.NOP_IN, NOBODY)
    assert asked["ttt"] != NOBODY
    world.context.step(40 * 10**9)
    assert initiator.gone
    assert not world.export.target.sessions


def test_an_initiator_that_answers_stays(world: World) -> None:
    initiator = ready(world)
    for _ in range(10):
        world.context.step(75 * 10**9)
        (asked,) = initiator.receive_all()
        initiator.request(Opcode.NOP_OUT, immediate=True, itt=NOBODY, ttt=asked["ttt"], flags=pdu.FINAL)
        assert initiator.receive_all() == []
    assert initiator.read(0, 1) == bytes(512)


# --- logout


def logout(initiator: Initiator, reason: int, cid: int = 1) -> Pdu:
    initiator.request(Opcode.LOGOUT_REQUEST, flags=pdu.FINAL | reason, cid=cid, immediate=True)
    found = initiator.receive()
    assert found.opcode is Opcode.LOGOUT_RESPONSE
    return found


def test_a_session_is_logged_out(world: World) -> None:
    initiator = ready(world)
    assert logout(initiator, LogoutReason.CLOSE_SESSION)["response"] == LogoutStatus.CLOSED
    assert initiator.gone
    assert not world.export.target.sessions


def two_connections(world: World) -> tuple[Initiator, Initiator]:
    first = ready(world, MaxConnections="2", ImmediateData="No")
    second = world.connect()
    second.isid, second.tsih, second.cid, second.cmd_sn = first.isid, first.tsih, 2, first.cmd_sn
    second.login()
    return first, second


@pytest.mark.parametrize("by_itself", [True, False])
def test_one_connection_of_several_is_logged_out(world: World, by_itself: bool) -> None:
    first, second = two_connections(world)
    second.command(write_10(0, 1), writes=512)
    second.receive()
    first.cmd_sn = second.cmd_sn
    logout(second if by_itself else first, LogoutReason.CLOSE_CONNECTION, 2)
    assert second.gone
    assert not first.gone
    assert first.read(0, 1) == bytes(512)


def test_the_last_connection_takes_the_session_with_it(world: World) -> None:
    initiator = ready(world)
    logout(initiator, LogoutReason.CLOSE_CONNECTION)
    assert initiator.gone
    assert not world.export.target.sessions


def test_what_cannot_be_logged_out_stays(world: World) -> None:
    initiator = ready(world)
    assert logout(initiator, LogoutReason.CLOSE_CONNECTION, 9)["response"] == LogoutStatus.NO_CONNECTION
    assert logout(initiator, LogoutReason.REMOVE_FOR_RECOVERY)["response"] == LogoutStatus.NO_RECOVERY
    initiator.request(Opcode.LOGOUT_REQUEST, flags=pdu.FINAL | 9)
    assert initiator.receive()["reason"] == RejectReason.INVALID_PDU_FIELD
    assert not initiator.gone


def test_a_connection_that_breaks_takes_its_session_with_it(world: World) -> None:
    first, second = two_connections(world)
    first.close()
    assert second.gone
    assert not world.export.target.sessions


# --- asynchronous messages


def test_initiators_are_told_of_new_logical_units(world: World) -> None:
    initiator = ready(world)
    world.add_disk("d1")
    world.add_export("e1", "d1", lun=1)
    found = initiator.receive()
    assert (found.opcode, found["event"]) == (Opcode.ASYNC_MESSAGE, AsyncEvent.SCSI)
    assert found.sense == (6, 0x3F0E)


def test_initiators_are_told_when_their_target_goes(world: World) -> None:
    initiator = ready(world)
    world.exports.delete(world.exports.ids["e0"])
    found = initiator.receive()
    assert (found.opcode, found["event"]) == (Opcode.ASYNC_MESSAGE, AsyncEvent.DROPPING_SESSION)
    assert initiator.gone
    world.add_export("e0", "d0")
    world.connect().login_request(LOGIN_KEYS, following=3)


class Recorder(Initiator):
    """Keeps what an initiator says, so that it comes in one piece."""

    def __init__(self, initiator: Initiator) -> None:
        self.__dict__.update(initiator.__dict__)
        self._initiator = initiator
        self._said = b""

    def send_bytes(self, data: bytes) -> None:
        self._said += data

    def play(self) -> None:
        self._initiator.send_bytes(self._said)


def test_an_answer_to_a_ping_has_no_number_of_its_own(world: World) -> None:
    """RFC 7143 §11.18: one that has is noticed, and counted all the same."""
    initiator = ready(world)
    initiator.request(Opcode.NOP_OUT, flags=pdu.FINAL, itt=NOBODY, ttt=NOBODY)
    assert world.violations == ["RFC 7143 §11.18"]
    assert initiator.read(0, 1) == bytes(512)
