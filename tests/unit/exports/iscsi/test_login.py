"""Logins: who gets in, where to, and who does not (RFC 7143 §6.3, §11.12, §11.13)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from devmodels.protocols.iscsi.codes import LoginStatus
from devmodels.protocols.iscsi.pdu import Opcode

from .initiator import INITIATOR, LOGIN_KEYS, TARGET, TEST_UNIT_READY, World


def test_an_initiator_logs_in_through_both_stages(world: World) -> None:
    initiator = world.connect()
    first = initiator.login_request(LOGIN_KEYS | {"AuthMethod": "CHAP,None"}, stage=0, following=1)
    assert (first["status"], first["flags"]) == (0, 0x81)
    assert first.text == {"AuthMethod": "None", "TargetPortalGroupTag": "1"}
    assert first["tsih"] == 0
    last = initiator.login_request({"HeaderDigest": "None"}, following=3)
    assert last["flags"] == 0x87
    assert last["tsih"] != 0
    assert last.text == {"HeaderDigest": "None", "MaxRecvDataSegmentLength": "262144"}


def test_a_login_may_begin_with_the_operational_stage(world: World) -> None:
    initiator = world.login()
    initiator.command(TEST_UNIT_READY)
    assert initiator.receive().opcode is Opcode.SCSI_RESPONSE


def test_the_first_numbers_are_those_of_the_login(world: World) -> None:
    initiator = world.connect()
    initiator.cmd_sn = 0xFFFFFFFF
    initiator.login()
    response = initiator.command(TEST_UNIT_READY, cmd_sn=0xFFFFFFFF)
    found = initiator.receive()
    assert found["itt"] == response
    assert (found["exp_cmd_sn"], found["max_cmd_sn"]) == (0, 127)


@pytest.mark.parametrize(
    ("keys", "status"),
    [
        ({"TargetName": TARGET}, LoginStatus.MISSING_PARAMETER),
        ({"InitiatorName": INITIATOR}, LoginStatus.MISSING_PARAMETER),
        ({"InitiatorName": INITIATOR, "TargetName": "iqn.2026-11.org.example:other"}, LoginStatus.NOT_FOUND),
        ({"InitiatorName": INITIATOR, "TargetName": TARGET, "TargetAlias": "x"}, LoginStatus.INITIATOR_ERROR),
        ({"InitiatorName": INITIATOR, "TargetName": TARGET, "SessionType": "x"}, LoginStatus.INITIATOR_ERROR),
        ({**LOGIN_KEYS, "MaxRecvDataSegmentLength": "511"}, LoginStatus.INITIATOR_ERROR),
        ({**LOGIN_KEYS, "AuthMethod": "None"}, LoginStatus.INITIATOR_ERROR),
    ],
)
def test_who_does_not_say_what_is_needed_is_refused(
    world: World, keys: dict[str, str], status: LoginStatus
) -> None:
    initiator = world.connect()
    response = initiator.login_request(keys, following=3)
    assert LoginStatus(response["status"]) is status
    assert initiator.gone


@pytest.mark.parametrize(
    "data",
    [b"InitiatorName", b"=x\0", b"initiator=x\0", b"InitiatorName=\xff\0", b"A=1\0A=2\0", b"\xff\0"],
)
def test_text_of_another_form_ends_the_login(world: World, data: bytes) -> None:
    initiator = world.connect()
    response = initiator.login_request(b"InitiatorName=a\0TargetName=" + TARGET.encode() + b"\0" + data)
    assert response["status"] == LoginStatus.INITIATOR_ERROR
    assert initiator.gone


@pytest.mark.parametrize(
    "flags", [0x80, 0x81, 0x84, 0x85, 0x86, 0x88, 0x8F, 0x0C, 0x08, 0xC7], ids=lambda flags: f"{flags:#x}"
)
def test_stages_are_entered_in_order(world: World, flags: int) -> None:
    initiator = world.connect()
    response = initiator.login_request(LOGIN_KEYS, flags=flags)
    if flags == 0x81:
        assert response["status"] == 0
    else:
        assert response["status"] == LoginStatus.INITIATOR_ERROR


def test_another_stage_than_the_one_at_hand_ends_the_login(world: World) -> None:
    initiator = world.connect()
    initiator.login_request(LOGIN_KEYS, stage=1)
    assert initiator.login_request({}, stage=0)["status"] == LoginStatus.INITIATOR_ERROR


def test_a_version_that_is_not_known_is_refused(world: World) -> None:
    response = world.connect().login_request(LOGIN_KEYS, version_min=1, version_max=2)
    assert response["status"] == LoginStatus.UNSUPPORTED_VERSION


def test_a_login_is_for_one_session_and_connection(world: World) -> None:
    initiator = world.connect()
    initiator.login_request(LOGIN_KEYS)
    assert initiator.login_request({}, cid=9)["status"] == LoginStatus.INVALID_DURING_LOGIN


def test_text_may_come_in_several_requests(world: World) -> None:
    initiator = world.connect()
    text = b"".join(f"{key}={value}\0".encode() for key, value in LOGIN_KEYS.items())
    first = initiator.login_request(text[:20], flags=0x44)
    assert (first["status"], first["flags"], first.data) == (0, 0x04, b"")
    last = initiator.login_request(text[20:], following=3)
    assert last["flags"] == 0x87


def test_text_without_end_is_not_kept(world: World) -> None:
    initiator = world.connect()
    assert initiator.login_request(b"A=" + b"x" * 8000, flags=0x44)["status"] == 0
    assert initiator.login_request(b"x" * 8000, flags=0x44)["status"] == 0
    assert initiator.login_request(b"x" * 8000, flags=0x44)["status"] == LoginStatus.INITIATOR_ERROR


def test_a_login_does_not_go_on_for_ever(world: World) -> None:
    initiator = world.connect()
    initiator.login_request(LOGIN_KEYS)
    answers = [initiator.login_request({})["status"] for _ in range(63)]
    assert not any(answers)
    assert initiator.login_request({})["status"] == LoginStatus.INITIATOR_ERROR
    assert initiator.gone


# --- sessions


def test_a_session_begun_anew_takes_the_place_of_the_old_one(world: World) -> None:
    before = world.login()
    after = world.login()
    assert before.gone
    assert len(world.export.target.sessions) == 1
    assert after.tsih != before.tsih
    after.command(TEST_UNIT_READY)
    assert after.receive().sense == (6, 0x2900)


def test_initiator_ports_have_sessions_of_their_own(world: World) -> None:
    first, second = world.login(), world.connect()
    second.isid = b"\x80\x12\x34\x56\0\2"
    second.login()
    assert not first.gone
    assert len(world.export.target.sessions) == 2


def test_a_further_connection_joins_its_session(world: World) -> None:
    first, second = world.login(keys={"MaxConnections": "2"}), world.connect()
    second.tsih, second.cid = first.tsih, 2
    second.login()
    first.ready()
    second.command(TEST_UNIT_READY, cmd_sn=first.cmd_sn)
    assert second.receive()["status"] == 0


@pytest.mark.parametrize(
    ("field", "value"), [("tsih", 999), ("isid", b"\x80\x12\x34\x56\0\7")], ids=["tsih", "isid"]
)
def test_no_session_is_joined_that_is_another_ones(world: World, field: str, value: object) -> None:
    first, second = world.login(), world.connect()
    second.tsih = first.tsih
    setattr(second, field, value)
    response = second.login_request(LOGIN_KEYS, following=3)
    assert response["status"] == LoginStatus.SESSION_DOES_NOT_EXIST


def test_a_session_has_no_more_connections_than_were_agreed(world: World) -> None:
    first, second = world.login(), world.connect()
    second.tsih, second.cid = first.tsih, 2
    response = second.login_request(LOGIN_KEYS, following=3)
    assert response["status"] == LoginStatus.TOO_MANY_CONNECTIONS


def test_a_connection_begun_anew_takes_the_place_of_the_old_one(world: World) -> None:
    before, after = world.login(), world.connect()
    after.tsih = before.tsih
    after.login()
    assert before.gone
    after.command(TEST_UNIT_READY, cmd_sn=before.cmd_sn)
    assert after.receive().opcode is Opcode.SCSI_RESPONSE
    assert len(world.export.target.sessions) == 1


def test_keys_of_a_session_are_not_negotiated_on_a_further_connection(world: World) -> None:
    first, second = world.login(keys={"MaxConnections": "2"}), world.connect()
    second.tsih, second.cid = first.tsih, 2
    response = second.login_request(LOGIN_KEYS | {"MaxBurstLength": "512"}, following=3)
    assert response["status"] == LoginStatus.INITIATOR_ERROR


def test_too_many_sessions_are_refused(make: Callable[..., World]) -> None:
    world = make()
    for number in range(64):
        initiator = world.connect()
        initiator.isid = bytes([0x80, 0, 0, 0, 1, number])
        initiator.login()
    response = world.connect().login_request(LOGIN_KEYS, following=3)
    assert response["status"] == LoginStatus.OUT_OF_RESOURCES


@pytest.mark.parametrize(
    ("name", "formed"),
    [
        ("iqn.1993-08.org.debian:01:8a5c1e4f", True),
        ("iqn.2001-04.com.example", True),
        ("iqn.2001-04.com.example:größe", True),
        ("eui.02004567A425678D", True),
        ("naa.52004567BA64678D", True),
        ("naa.62004567BA64678D0123456789ABCDEF", True),
        ("iqn.2001-13.com.example", False),
        ("iqn.com.example:disk", False),
        ("eui.02004567A42567", False),
        ("naa.62004567BA64678D01234567", False),
        ("somebody", False),
    ],
)
def test_a_name_of_another_form_is_noticed_under_strict(
    make: Callable[..., World], name: str, formed: bool
) -> None:
    """RFC 7143 §4.2.7: nobody is kept out for it."""
    for strict in (True, False):
        world = make(strict=strict)
        world.login(keys={"InitiatorName": name})
        assert ("RFC 7143 §4.2.7" in world.violations) is (strict and not formed)
