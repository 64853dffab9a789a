"""Discovery, targets with several units and portals, text requests (RFC 7143 §4.4, §11.10, Appendix C)."""

from __future__ import annotations

import socket
from typing import cast

import pytest

from devmodels.exports.recorder import ExportRecorder
from devmodels.options import OptionError
from devmodels.protocols.iscsi import codes, pdu
from devmodels.protocols.iscsi.codes import RejectReason
from devmodels.protocols.iscsi.pdu import Opcode
from devmodels.protocols.iscsi.text import split

from .initiator import INITIATOR, INQUIRY, LOGIN_KEYS, NOBODY, TARGET, TEST_UNIT_READY, Initiator, Pdu, World

DISCOVERY = {"InitiatorName": INITIATOR, "SessionType": "Discovery"}
OTHER = "iqn.2026-11.org.example:other"


def discover(world: World, wanted: str = "All") -> list[tuple[str, str]]:
    initiator = world.login(instead=DISCOVERY)
    said = ask(initiator, f"SendTargets={wanted}\0".encode())
    return split(said.data)


def ask(initiator: Initiator, text: bytes, **fields: int) -> Pdu:
    fields.setdefault("flags", pdu.FINAL)
    fields.setdefault("ttt", NOBODY)
    initiator.request(Opcode.TEXT_REQUEST, text, **fields)
    return initiator.receive()


def test_all_targets_are_told_with_their_addresses(world: World) -> None:
    world.add_disk("d1")
    second = world.add_export("e1", "d1", target=OTHER)
    port, other = world.export.portal.address[1], second.portal.address[1]
    assert discover(world) == [
        ("TargetName", TARGET),
        ("TargetAddress", f"127.0.0.1:{port},1"),
        ("TargetName", OTHER),
        ("TargetAddress", f"127.0.0.1:{other},1"),
    ]


def test_one_target_is_told_by_its_name(world: World) -> None:
    world.add_disk("d1")
    world.add_export("e1", "d1", target=OTHER)
    assert [value for name, value in discover(world, OTHER) if name == "TargetName"] == [OTHER]
    assert discover(world, "iqn.2026-11.org.example:none") == []


def test_a_session_with_a_target_hears_of_that_one_alone(world: World) -> None:
    world.add_disk("d1")
    world.add_export("e1", "d1", target=OTHER)
    initiator = world.login()
    assert dict(split(ask(initiator, b"SendTargets=\0").data))["TargetName"] == TARGET
    assert split(ask(initiator, b"SendTargets=All\0").data) == [("SendTargets", "Reject")]
    assert split(ask(initiator, f"SendTargets={OTHER}\0".encode()).data) == [("SendTargets", "Reject")]


def test_a_discovery_session_has_no_commands(world: World) -> None:
    initiator = world.login(instead=DISCOVERY)
    initiator.command(TEST_UNIT_READY)
    assert initiator.receive()["reason"] == RejectReason.COMMAND_NOT_SUPPORTED
    initiator.command(bytes(10), b"x" * 512)
    assert initiator.receive()["reason"] == RejectReason.COMMAND_NOT_SUPPORTED


def test_a_discovery_session_ends_where_nothing_is_asked(world: World) -> None:
    initiator = world.login(instead=DISCOVERY)
    world.context.step(80 * 10**9)
    assert initiator.gone


def test_a_discovery_session_is_joined_by_nobody(world: World) -> None:
    first, second = world.login(instead=DISCOVERY), world.connect()
    second.tsih = first.tsih
    assert second.login_request(DISCOVERY, following=3)["status"] == codes.LoginStatus.CANNOT_INCLUDE


def test_a_long_answer_comes_in_pieces(world: World) -> None:
    for number in range(8):
        world.add_disk(f"n{number}")
        world.add_export(f"n{number}", f"n{number}", target=f"{OTHER}:{'x' * 100}:{number}")
    initiator = world.login(instead=DISCOVERY, keys={"MaxRecvDataSegmentLength": "512"})
    said = ask(initiator, b"SendTargets=All\0")
    text = said.data
    while not said["flags"] & pdu.FINAL:
        assert said["flags"] & pdu.CONTINUE
        said = ask(initiator, b"", ttt=said["ttt"])
        text += said.data
    assert said["ttt"] == NOBODY
    assert sum(name == "TargetName" for name, _ in split(text)) == 9
    assert ask(initiator, b"", ttt=77).opcode is Opcode.REJECT


def test_a_long_question_may_come_in_pieces(world: World) -> None:
    initiator = world.login(instead=DISCOVERY)
    said = ask(initiator, b"SendTar", flags=pdu.CONTINUE)
    assert (said.data, said["flags"]) == (b"", 0)
    said = ask(initiator, b"gets=All\0", ttt=said["ttt"])
    assert dict(split(said.data))["TargetName"] == TARGET


def test_what_a_pdu_can_have_may_change(world: World) -> None:
    initiator = world.login(keys={"MaxRecvDataSegmentLength": "512"})
    initiator.ready()
    said = ask(initiator, b"MaxRecvDataSegmentLength=4096\0MaxBurstLength=512\0Colour=blue\0")
    assert dict(split(said.data)) == {"MaxBurstLength": "Reject", "Colour": "NotUnderstood"}
    initiator.command(b"\x28" + bytes(7) + b"\x04\0", reads=2048)
    assert len(initiator.receive().data) == 2048


@pytest.mark.parametrize("text", [b"\xff=\0", b"nothing", b"A=1\0A=2\0", b"AuthMethod=None\0"])
def test_text_that_is_wrong_is_rejected(world: World, text: bytes) -> None:
    initiator = world.login()
    assert ask(initiator, text).opcode is Opcode.REJECT
    assert not initiator.gone


# --- targets, units, portals


def inquiry(initiator: Initiator, lun: int) -> bytes:
    initiator.command(INQUIRY, reads=255, lun=lun << 48)
    return initiator.receive().data


def test_exports_of_one_target_are_its_logical_units(world: World) -> None:
    world.add_disk("d1")
    world.add_export("e1", "d1", lun=5, product="FIFTH")
    initiator = world.login()
    assert inquiry(initiator, 0)[16:20] == b"DISK"
    assert inquiry(initiator, 5)[16:21] == b"FIFTH"
    assert inquiry(initiator, 1)[0] == 0x7F


def test_a_unit_goes_and_its_target_stays(world: World) -> None:
    world.add_disk("d1")
    world.add_export("e1", "d1", lun=1)
    initiator = world.login()
    world.exports.delete(world.exports.ids["e1"])
    world.context.run_until_idle()
    assert list(world.exports.ids) == ["e0"]
    assert initiator.receive().opcode is Opcode.ASYNC_MESSAGE
    assert inquiry(initiator, 1)[0] == 0x7F


def test_a_target_may_have_several_portals(world: World) -> None:
    world.add_disk("d1")
    second = world.add_export("e1", "d1", lun=1)
    assert second.portal is not world.export.portal
    assert len([value for name, value in discover(world) if name == "TargetAddress"]) == 2


def test_targets_may_share_a_portal(world: World) -> None:
    world.add_disk("d1")
    port = world.export.portal.address[1]
    second = world.add_export(
        "e1", "d1", target=OTHER, addr={"type": "inet", "host": "127.0.0.1", "port": port}
    )
    assert second.portal is world.export.portal
    world.exports.delete(world.exports.ids["e0"])
    assert world.exports.iscsi.portals


def test_a_target_is_reached_at_its_own_portals_only(world: World) -> None:
    world.add_disk("d1")
    world.add_export("e1", "d1", target=OTHER)
    keys = {"InitiatorName": INITIATOR, "TargetName": OTHER}
    assert world.connect().login_request(keys, following=3)["status"] == codes.LoginStatus.NOT_FOUND


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, r'lun: 0 is given; "iqn.2026-11.org.example:d0" has one already'),
        ({"lun": 16384}, "lun: 16384 is given; expected a number from 0 to 16383"),
        ({"target": "disk"}, 'target: "disk" is given; expected a name that begins with iqn., eui. or naa.'),
        ({"target": "iqn." + "x" * 230}, "expected at most 223 bytes"),
        ({"lun": 1, "user": "me", "password_secret": "secret"}, "user: expected the same user"),
        ({"lun": 1, "addr": {"type": "inet", "host": "127.0.0.1", "port": 70000}}, "expected 0 to 65535"),
        ({"lun": 1, "addr": {"type": "inet", "host": "192.0.2.1", "port": 0}}, "addr: cannot listen"),
        ({"lun": 1, "addr": {"type": "unix", "path": "x"}}, 'addr.type: "unix" is given; expected "inet"'),
        ({"lun": 1, "logical_block_size": 100}, "logical_block_size is 100"),
    ],
)
def test_options_that_cannot_be(world: World, options: dict[str, object], line: str) -> None:
    world.add_disk("d1")
    with pytest.raises(OptionError, match=line) as caught:
        world.add_export("e1", "d1", **options)
    assert "\n" not in str(caught.value)
    assert len(world.exports.iscsi.portals) == 1


def test_a_portal_listens_where_it_says(world: World) -> None:
    with socket.create_connection(world.export.portal.address) as sock:
        initiator = Initiator(sock, world.context)
        initiator.login()
        initiator.ready()
        assert initiator.read(0, 8) == bytes(4096)
        initiator.close()


def test_an_address_in_use_is_said_to_be(world: World) -> None:
    world.add_disk("d1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        addr = {"type": "inet", "host": "127.0.0.1", "port": taken.getsockname()[1]}
        with pytest.raises(OptionError, match="Address already in use"):
            world.add_export("e1", "d1", lun=1, addr=addr)


def test_whoever_records_is_told_once_that_this_export_is_not(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.add_disk("d1")
    world.exports.recorder = cast("ExportRecorder", object())
    world.add_export("e1", "d1", lun=1)
    world.exports.recorder = None
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "--record: an export of type iscsi is not recorded"
    ]


def test_nobody_logs_in_to_a_target_that_has_gone_meanwhile(world: World) -> None:
    world.add_disk("d1")
    port = world.export.portal.address[1]
    addr = {"type": "inet", "host": "127.0.0.1", "port": port}
    world.add_export("e1", "d1", target=OTHER, addr=addr)
    target, initiator = world.export.target, world.connect()
    assert initiator.login_request(LOGIN_KEYS)["status"] == 0
    world.exports.delete(world.exports.ids["e0"])
    world.context.run_until_idle()
    assert initiator.login_request({}, following=3)["status"] == codes.LoginStatus.TARGET_REMOVED
    assert not target.sessions


def test_who_comes_to_any_address_by_ipv4_is_told_an_ipv4_address(world: World) -> None:
    world.add_disk("d1")
    addr = {"type": "inet", "host": "0.0.0.0", "port": 0}
    port = world.add_export("e1", "d1", target=OTHER, addr=addr).portal.address[1]
    for local in (("192.0.2.1", 1), ("::ffff:192.0.2.1", 1, 0, 0)):
        assert world.exports.iscsi.listing(local)[OTHER] == [f"192.0.2.1:{port},1"]
    assert world.exports.iscsi.listing(("2001:db8::1", 1, 0, 0))[OTHER] == [f"[2001:db8::1]:{port},1"]
