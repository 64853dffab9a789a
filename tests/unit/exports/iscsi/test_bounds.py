"""What a session takes is bounded, and nobody else's: room, text, buffers, immediate commands (RFC 7143 §4.2.2.1)."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from devmodels.exports.iscsi import portal as portals
from devmodels.exports.iscsi.session import MAX_IMMEDIATE, MAX_ROOM, Session
from devmodels.protocols.iscsi import pdu
from devmodels.protocols.iscsi.codes import Function, RejectReason
from devmodels.protocols.iscsi.pdu import Opcode

from .initiator import LOGIN_KEYS, NOBODY, TEST_UNIT_READY, Initiator, World, build, read_10, write_10

Make = Callable[..., World]
MS = 10**6
LONG = 1 << 17
"""Bytes whose room is used again."""


def only(world: World) -> Session:
    (session,) = world.export.target.sessions.values()
    return session


def cut_off(itt: int, ttt: int, data: bytes) -> bytes:
    """A Data-Out of LONG bytes of which only the beginning, `data`, is there."""
    header = build(Opcode.DATA_OUT, flags=pdu.FINAL, itt=itt, ttt=ttt)
    return header[:4] + LONG.to_bytes(4, "big") + header[8:] + data


def writes(initiator: Initiator, lba: int) -> tuple[int, int]:
    """A WRITE of LONG bytes, all of which are asked for: its tag, and that of the transfer."""
    itt = initiator.command(write_10(lba, LONG // 512), writes=LONG)
    return itt, initiator.receive()["ttt"]


# --- room


@pytest.mark.parametrize("keys", [{"ImmediateData": "No"}, {"FirstBurstLength": "512"}])
def test_data_that_was_refused_gives_back_no_room_that_it_had_not(world: World, keys: dict[str, str]) -> None:
    initiator = world.login(keys=keys)
    initiator.ready()
    for _ in range(3):
        initiator.command(write_10(0, 8), b"x" * 4096)
        assert initiator.receive()["status"] == 2
    assert only(world).room == MAX_ROOM


@pytest.mark.parametrize("ends", ["data", "abort", "reset"])
def test_nor_do_commands_whose_last_data_is_yet_to_come(world: World, ends: str) -> None:
    initiator = world.login()
    initiator.ready()
    tag = initiator.command(write_10(0, 200), flags=pdu.WRITE | 1, expected=200 * 512)
    match ends:
        case "data":
            initiator.data_out(tag, NOBODY, 0, 0, b"x" * 512, final=True)
        case "abort":
            abort = pdu.FINAL | Function.ABORT_TASK
            initiator.request(Opcode.TASK_MANAGEMENT_REQUEST, flags=abort, referenced_tag=tag, immediate=True)
        case _:
            reset = pdu.FINAL | Function.LOGICAL_UNIT_RESET
            initiator.request(Opcode.TASK_MANAGEMENT_REQUEST, flags=reset, immediate=True)
    initiator.receive()
    assert not only(world).tasks
    assert only(world).room == MAX_ROOM


# --- buffers


@pytest.mark.parametrize("there", [1000, 60000])
def test_data_on_its_way_for_a_task_that_was_ended_goes_into_nobodys_buffers(
    world: World, there: int
) -> None:
    one, other = world.login(), world.connect()
    other.isid = b"\x80\x77\x77\x77\x77\x77"
    other.login()
    one.ready()
    other.ready()
    one.send_bytes(cut_off(*writes(one, 0), b"1" * there))
    reset = pdu.FINAL | Function.LOGICAL_UNIT_RESET
    other.request(Opcode.TASK_MANAGEMENT_REQUEST, flags=reset, immediate=True)
    other.receive_all()
    other.ready()
    other.send_bytes(cut_off(*writes(other, 1000), b"2" * (LONG - 4)))
    one.send_bytes(b"1" * (LONG - there))
    other.send_bytes(b"2" * 4)
    assert other.receive()["status"] == 0
    assert other.read(1000, LONG // 512) == b"2" * LONG


# --- text


def test_text_that_was_refused_is_not_kept(world: World) -> None:
    initiator = world.login()
    initiator.request(Opcode.TEXT_REQUEST, b"A=", flags=pdu.CONTINUE, ttt=NOBODY)
    tag = initiator.receive()["ttt"]
    (connection,) = only(world).connections.values()
    for _ in range(4):
        initiator.request(Opcode.TEXT_REQUEST, b"x" * 100000, flags=pdu.CONTINUE, ttt=tag)
        assert initiator.receive().opcode is Opcode.REJECT
    assert not connection._texts._given


# --- immediate commands


def test_task_management_is_done_however_many_immediate_commands_there_are(make: Make) -> None:
    world = make(delay_ns=MS)
    initiator = world.login()
    initiator.ready()
    tags = [initiator.command(read_10(0, 1), reads=512, immediate=True) for _ in range(MAX_IMMEDIATE)]
    initiator.command(TEST_UNIT_READY, immediate=True)
    assert initiator.receive()["reason"] == RejectReason.TOO_MANY_IMMEDIATE
    initiator.request(Opcode.NOP_OUT, b"still there", flags=pdu.FINAL, ttt=NOBODY, immediate=True)
    assert initiator.receive().data == b"still there"
    for tag in tags:
        abort = pdu.FINAL | Function.ABORT_TASK
        initiator.request(Opcode.TASK_MANAGEMENT_REQUEST, flags=abort, referenced_tag=tag, immediate=True)
    assert initiator.receive_all() == []
    initiator.request(Opcode.TASK_MANAGEMENT_REQUEST, flags=abort, referenced_tag=tag, immediate=True)
    assert initiator.receive()["reason"] == RejectReason.TOO_MANY_IMMEDIATE
    world.context.step(MS)
    assert len(initiator.receive_all()) == MAX_IMMEDIATE
    assert only(world).immediate == 0


# --- who waits


def test_what_waits_for_room_begins_when_what_it_waits_for_has_ended(world: World) -> None:
    initiator = world.login()
    initiator.ready()
    only(world).room = 600
    first = initiator.command(write_10(0, 1), flags=pdu.FINAL | pdu.WRITE | 2, expected=512)
    asked = initiator.receive()
    second = initiator.command(read_10(0, 1), reads=512)
    third = initiator.command(read_10(0, 1), flags=pdu.FINAL | pdu.READ | 2, expected=512)
    assert initiator.receive_all() == []
    initiator.data_out(first, asked["ttt"], 0, 0, b"x" * 512, final=True)
    assert [each["itt"] for each in initiator.receive_all()] == [first, second, third]
    assert only(world).room == 600


@pytest.mark.parametrize("ends", ["data", "abort"])
def test_an_ordered_command_goes_on_where_what_is_before_it_fails(world: World, ends: str) -> None:
    initiator = world.login()
    initiator.ready()
    first = initiator.command(write_10(0, 1), flags=pdu.FINAL | pdu.WRITE | 1, expected=512)
    asked = initiator.receive()
    second = initiator.command(read_10(0, 1), flags=pdu.FINAL | pdu.READ | 2, expected=512)
    if ends == "data":
        initiator.data_out(first, asked["ttt"], 7, 0, b"x" * 512, final=True)
    else:
        abort = pdu.FINAL | Function.ABORT_TASK
        initiator.request(Opcode.TASK_MANAGEMENT_REQUEST, flags=abort, referenced_tag=first, immediate=True)
    answers = initiator.receive_all()
    assert len(answers) == 2
    assert second in [each["itt"] for each in answers]


# --- who needs no secret


def test_who_logs_in_does_not_wait_long_for_many_who_say_nothing(world: World) -> None:
    silent = []
    for _ in range(60):
        silent.append(socket.create_connection(world.export.portal.address))
        world.context.run_until_idle()
    assert not world.export.portal.accepting
    with socket.create_connection(world.export.portal.address) as sock:
        initiator = Initiator(sock, world.context)
        world.context.step(1100 * MS)
        initiator.login()
        initiator.close()
    for each in silent:
        each.close()
    world.context.run_until_idle()


def test_discovery_sessions_leave_room_for_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to prove anything for them: the oldest one makes room."""
    monkeypatch.setattr(portals, "MAX_DISCOVERIES", 3)
    keys = {"InitiatorName": LOGIN_KEYS["InitiatorName"], "SessionType": "Discovery"}
    mine = world.login()
    there = [world.login(instead=keys) for _ in range(5)]
    assert [each.gone for each in there] == [True, True, False, False, False]
    there[3].close()
    last = world.login(instead=keys)
    assert not there[2].gone
    world.login(instead=keys)
    assert (there[2].gone, last.gone, mine.gone) == (True, False, False)
