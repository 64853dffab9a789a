"""What was begun before is over before something takes its place, or is said to be over (RFC 7143 §6.3.5, §11.14)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from devmodels.protocols.iscsi import codes, pdu
from devmodels.protocols.iscsi.codes import Function, LogoutReason
from devmodels.protocols.iscsi.pdu import Opcode

from .initiator import LOGIN_KEYS, TEST_UNIT_READY, Initiator, World, write_10

Make = Callable[..., World]
SECOND = 10**9
OLD, NEW = b"old!" * 128, b"new!" * 128


@pytest.fixture
def slow(make: Make) -> World:
    """The disk takes a second."""
    return make(delay_ns=SECOND)


def busy(world: World, **keys: str) -> Initiator:
    """An initiator with a WRITE that runs."""
    initiator = world.login(keys=keys)
    initiator.ready()
    initiator.command(write_10(0, 1), OLD)
    world.context.step(SECOND // 2)
    return initiator


def again(world: World, *, tsih: int = 0) -> Initiator:
    """The same initiator port logs in anew, or one connection of it."""
    initiator = world.connect()
    initiator.tsih = tsih
    initiator.send_login_request(LOGIN_KEYS, following=3)
    return initiator


def enter(initiator: Initiator) -> None:
    response = initiator.receive()
    assert response["status"] == 0
    initiator.enter(response)
    initiator.ready()


def last(world: World, initiator: Initiator) -> bytes:
    """What is on the disk when all is over: after a write of NEW."""
    initiator.command(write_10(0, 1), NEW)
    world.context.step(3 * SECOND)
    assert initiator.receive()["status"] == 0
    initiator.command(b"\x28" + bytes(7) + b"\1\0", reads=512)
    world.context.step(SECOND)
    return initiator.receive().data


@pytest.mark.parametrize("before", ["there", "lost"])
def test_a_session_begins_anew_when_the_writes_of_the_old_one_are_over(slow: World, before: str) -> None:
    first = busy(slow)
    if before == "lost":
        first.close()
    second = again(slow)
    assert before == "lost" or first.gone
    assert second.receive_all() == []
    slow.context.step(SECOND // 2)
    enter(second)
    assert last(slow, second) == NEW


def test_a_connection_begins_anew_when_the_writes_of_the_old_one_are_over(slow: World) -> None:
    first = busy(slow)
    second = again(slow, tsih=first.tsih)
    assert first.gone
    assert second.receive_all() == []
    slow.context.step(SECOND // 2)
    response = second.receive()
    assert (response["status"], response["tsih"]) == (0, first.tsih)
    second.enter(response)
    second.cmd_sn = first.cmd_sn
    assert last(slow, second) == NEW


def test_even_those_that_were_aborted(slow: World) -> None:
    first = busy(slow)
    abort = pdu.FINAL | Function.ABORT_TASK
    first.request(Opcode.TASK_MANAGEMENT_REQUEST, flags=abort, referenced_tag=first.itt, immediate=True)
    second = again(slow)
    assert second.receive_all() == []
    slow.context.step(SECOND // 2)
    enter(second)


def test_others_do_not_wait_for_it(slow: World) -> None:
    busy(slow)
    again(slow)
    other = slow.connect()
    other.isid = b"\x80\x77\x77\x77\x77\x77"
    other.login()


def test_who_sends_commands_without_waiting_for_the_answer_has_them_done_afterwards(slow: World) -> None:
    busy(slow)
    second = again(slow)
    second.command(TEST_UNIT_READY)
    assert second.receive_all() == []
    slow.context.step(SECOND // 2)
    response, unit_attention = second.receive_all()
    assert (response.opcode, unit_attention.sense) == (Opcode.LOGIN_RESPONSE, (6, 0x2900))


def test_of_two_that_wait_the_last_one_stays(slow: World) -> None:
    busy(slow)
    second, third = again(slow), again(slow)
    slow.context.step(SECOND // 2)
    assert second.receive()["status"] == 0
    assert second.gone
    enter(third)
    assert len(slow.export.target.sessions) == 1


@pytest.mark.parametrize("leaves", [True, False])
def test_who_waits_may_leave_or_may_have_waited_too_long(make: Make, leaves: bool) -> None:
    world = make(delay_ns=30 * SECOND)
    initiator = world.login()
    initiator.ready()
    initiator.command(write_10(0, 1), OLD)
    waiting = again(world)
    if leaves:
        waiting.close()
    world.context.step(20 * SECOND)
    assert leaves or waiting.gone
    assert not world.export.target.sessions
    assert not world.export.target.endings._waiting[initiator_port(waiting)]
    world.context.step(10 * SECOND)
    enter(again(world))


def initiator_port(initiator: Initiator) -> tuple[str, bytes]:
    return LOGIN_KEYS["InitiatorName"], initiator.isid


def test_the_target_may_have_gone_when_the_wait_is_over(slow: World) -> None:
    busy(slow)
    slow.add_disk("d1")
    port = slow.export.portal.address[1]
    addr = {"type": "inet", "host": "127.0.0.1", "port": port}
    slow.add_export("e1", "d1", target="iqn.2026-11.org.example:other", addr=addr)
    waiting = again(slow)
    slow.exports.delete(slow.exports.ids["e0"])
    slow.context.step(SECOND)
    assert waiting.receive()["status"] == codes.LoginStatus.TARGET_REMOVED


# --- logout


@pytest.mark.parametrize("reason", [LogoutReason.CLOSE_SESSION, LogoutReason.CLOSE_CONNECTION])
def test_a_logout_is_answered_when_the_writes_are_over(slow: World, reason: LogoutReason) -> None:
    initiator = busy(slow)
    initiator.request(Opcode.LOGOUT_REQUEST, flags=pdu.FINAL | reason, cid=1, immediate=True)
    initiator.command(write_10(0, 1), NEW)  # Too late.
    assert initiator.receive_all() == []
    slow.context.step(SECOND // 2)
    assert initiator.receive().opcode is Opcode.LOGOUT_RESPONSE
    assert initiator.gone
    assert not slow.export.target.sessions


def test_one_connection_may_log_out_another_one(slow: World) -> None:
    first = busy(slow, MaxConnections="2")
    second = slow.connect()
    second.tsih, second.cid, second.cmd_sn = first.tsih, 2, first.cmd_sn
    second.login()
    second.command(TEST_UNIT_READY, cmd_sn=first.cmd_sn + 1)
    first.command(write_10(0, 1), NEW, cmd_sn=first.cmd_sn + 1)
    flags = pdu.FINAL | LogoutReason.CLOSE_CONNECTION
    second.request(Opcode.LOGOUT_REQUEST, flags=flags, cid=1, immediate=True)
    assert first.gone
    assert second.receive_all() == []
    slow.context.step(SECOND // 2)
    assert second.receive().opcode is Opcode.LOGOUT_RESPONSE


def test_who_leaves_before_the_logout_is_answered_is_gone(slow: World) -> None:
    initiator = busy(slow)
    initiator.request(Opcode.LOGOUT_REQUEST, flags=pdu.FINAL, immediate=True)
    initiator.close()
    slow.context.step(SECOND)
    assert not slow.export.target.sessions
