"""Initiators that mean ill: nothing they send is lost in silence, grows without bound, or harms others."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.protocols.iscsi import codes, pdu
from devmodels.protocols.iscsi.codes import RejectReason
from devmodels.protocols.iscsi.pdu import LAYOUTS, Opcode
from devmodels.protocols.iscsi.text import join

from .initiator import (
    LOGIN_KEYS,
    NOBODY,
    TARGET,
    TEST_UNIT_READY,
    Initiator,
    World,
    build,
    read_10,
    write_10,
)

SECOND = 10**9
Make = Callable[..., World]


def well(world: World) -> None:
    """Somebody else is served as if nothing had been."""
    other = world.connect()
    other.isid = b"\x80\x77\x77\x77\x77\x77"
    other.login()
    other.ready()
    assert other.read(4000, 8) == bytes(4096)


# --- before the login


def test_who_says_nothing_is_sent_away(world: World) -> None:
    """CVE-2024-7409's pattern: clients that connect and never negotiate."""
    initiator = world.connect()
    world.context.step(14 * SECOND)
    assert not initiator.gone
    world.context.step(2 * SECOND)
    assert initiator.gone
    well(world)


def test_who_says_little_is_sent_away_all_the_same(world: World) -> None:
    initiator = world.connect()
    for _ in range(15):
        initiator.login_request(LOGIN_KEYS if initiator.exp_stat_sn == 0 else {})
        world.context.step(SECOND)
    world.context.step(SECOND)
    assert initiator.gone


def test_so_many_may_be_logging_in_at_a_time(world: World) -> None:
    waiting = [world.connect() for _ in range(32)]
    portal = world.export.portal
    assert not portal.accepting
    waiting[0].close()
    assert portal.accepting
    world.context.step(16 * SECOND)
    assert all(each.gone for each in waiting[1:])
    well(world)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: example.org\r\nUser-Agent: a browser\r\n\r\n",
        bytes(48),
        b"\xff" * 48,
        build(Opcode.SCSI_COMMAND, flags=0x81),
        build(Opcode.LOGIN_REQUEST)[:4] + (8193).to_bytes(4, "big") + bytes(40),
        build(Opcode.LOGIN_REQUEST)[:4] + ((1 << 24) - 1).to_bytes(4, "big") + bytes(40),
    ],
    ids=["http", "zeroes", "ones", "command", "long", "longest"],
)
def test_what_is_no_login_ends_the_connection(world: World, data: bytes) -> None:
    initiator = world.connect()
    initiator.send_bytes(data)
    # Some look as if more were to come.
    world.context.step(16 * SECOND)
    assert initiator.gone
    well(world)


def test_a_login_byte_by_byte_is_a_login(world: World) -> None:
    initiator = world.connect()
    data = join(LOGIN_KEYS.items())
    header = build(Opcode.LOGIN_REQUEST, immediate=True, flags=0x87, isid=initiator.isid, cid=1, cmd_sn=100)
    header = header[:4] + len(data).to_bytes(4, "big") + header[8:]
    for byte in header + data + bytes(-len(data) % 4):
        initiator.send_bytes(bytes([byte]))
    assert initiator.receive()["status"] == 0


def test_who_leaves_in_the_middle_of_a_pdu_is_forgotten(world: World) -> None:
    initiator = world.login()
    initiator.send_bytes(build(Opcode.SCSI_COMMAND, flags=0x81)[:20])
    initiator.close()
    assert not world.export.target.sessions
    well(world)


# --- afterwards


def test_data_longer_than_was_declared_ends_the_session(world: World) -> None:
    initiator = world.login()
    initiator.send_bytes(build(Opcode.NOP_OUT)[:4] + (262145).to_bytes(4, "big") + bytes(40))
    assert initiator.gone
    assert not world.export.target.sessions
    well(world)


@pytest.mark.parametrize("ahs", [b"\0\0\1\0", b"\0\xff\1\0", b"\0\2\2\0", b"\0\1\1\0" * 255, b"\0\5\2\0\0\0"])
def test_malformed_header_segments_are_rejected(world: World, ahs: bytes) -> None:
    initiator = world.login()
    initiator.ready()
    initiator.command(TEST_UNIT_READY, ahs=ahs + bytes(-len(ahs) % 4))
    found = initiator.receive()
    assert found.opcode is Opcode.SCSI_RESPONSE or found["reason"] == RejectReason.INVALID_PDU_FIELD
    assert not initiator.gone


def test_a_long_cdb_comes_in_a_header_segment(world: World) -> None:
    initiator = world.login()
    initiator.ready()
    initiator.command(b"\x7f" + bytes(6) + b"\x18" + bytes(8), ahs=b"\0\x11\1\0" + bytes(16))
    assert initiator.receive().sense == (5, 0x2000)


@pytest.mark.long
@pytest.mark.parametrize("opcode", [*range(7, 0x10), *range(0x11, 0x40)])
def test_an_opcode_that_is_no_initiators_is_rejected(world: World, opcode: int) -> None:
    initiator = world.login()
    initiator.send(bytes([opcode]) + bytes(47), b"data")
    found = initiator.receive()
    assert (found.opcode, found["reason"]) == (Opcode.REJECT, RejectReason.COMMAND_NOT_SUPPORTED)
    assert found.data[:1] == bytes([opcode])


@pytest.mark.parametrize(
    ("opcode", "reason"),
    [(Opcode.SNACK_REQUEST, RejectReason.SNACK_REJECT), (Opcode.LOGIN_REQUEST, RejectReason.PROTOCOL_ERROR)],
)
def test_what_is_not_for_full_feature_phase_is_rejected(
    world: World, opcode: Opcode, reason: RejectReason
) -> None:
    initiator = world.login()
    initiator.send(build(opcode))
    assert initiator.receive()["reason"] == reason


def test_data_that_nobody_asked_for_goes_nowhere(world: World) -> None:
    initiator = world.login()
    for tag in (0, 1, NOBODY):
        initiator.data_out(tag, tag, 0, 0, b"x" * 4096, final=True)
    assert initiator.receive_all() == []
    well(world)


def test_who_does_not_read_is_not_read_from(world: World) -> None:
    initiator = world.login(keys={"MaxRecvDataSegmentLength": "262144"})
    initiator.ready()
    for sent in range(400):
        initiator.itt += 1
        header = build(
            Opcode.SCSI_COMMAND,
            flags=0xC1,
            expected=262144,
            cdb=read_10(0, 512).ljust(16, b"\0"),
            itt=initiator.itt,
            cmd_sn=initiator.cmd_sn + sent,
        )
        try:
            initiator._sock.send(header)
        except BlockingIOError:
            break
        world.context.run_until_idle()
    (session,) = world.export.target.sessions.values()
    assert session.room >= 0
    (connection,) = session.connections.values()
    assert connection.stream.unsent < (1 << 26) + (1 << 20)
    well(world)
    world.context.step(80 * SECOND)
    assert not [each for each in world.export.target.sessions.values() if each is session]


def test_what_is_sent_is_not_what_was_in_the_buffers_before(world: World) -> None:
    """Buffers are used again: a short answer must not be followed by another initiator's data."""
    writer = world.login(keys={"FirstBurstLength": "262144"})
    writer.ready()
    writer.command(write_10(0, 256), b"secret! " * 16384)
    assert writer.receive()["status"] == 0
    assert writer.read(0, 256) == b"secret! " * 16384
    writer.close()
    reader = world.login(keys={"MaxRecvDataSegmentLength": "262144"})
    reader.ready()
    reader.command(b"\x12\0\0\0\xff\0", reads=131072)
    assert b"secret" not in reader.receive().data
    reader.command(read_10(1 << 20, 256), reads=131072)
    assert b"secret" not in reader.receive().data


def test_memory_is_bounded_whatever_is_expected(make: Make) -> None:
    world = make(delay_ns=SECOND)
    initiator = world.login()
    initiator.ready()
    world.context.step(SECOND)
    tracemalloc.start()
    for _ in range(128):
        initiator.command(read_10(0, 1), reads=0xFFFFFFFF)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 80 << 20
    (session,) = world.export.target.sessions.values()
    assert len(session.tasks) == 128


def test_a_connection_lost_with_everything_under_way_leaves_nothing(make: Make) -> None:
    world = make(delay_ns=SECOND)
    initiator = world.login(keys={"InitialR2T": "No", "ImmediateData": "No"})
    for number in range(20):
        initiator.command(read_10(number, 1), reads=512)
        initiator.command(write_10(number, 2), flags=pdu.WRITE | 1, expected=1024)
        initiator.command(write_10(number, 2), writes=1024)
        initiator.command(TEST_UNIT_READY, cmd_sn=initiator.cmd_sn + 5)
    target = world.export.target
    (session,) = target.sessions.values()
    initiator.close()
    assert not target.sessions
    world.context.step(2 * SECOND)
    assert not session.tasks
    assert not target.scsi.nexuses
    assert session.room == 1 << 26


@pytest.mark.parametrize("ends", ["lost", "reset"])
def test_what_waits_does_not_begin_in_the_room_of_what_is_ended(world: World, ends: str) -> None:
    initiator = world.login()
    initiator.ready()
    big = initiator.command(write_10(0, 1), flags=0xE1, expected=1 << 31, ahs=b"\0\5\2\0\x80\0\0\0")
    assert initiator.receive().opcode is Opcode.R2T
    initiator.command(write_10(0, 1), b"x" * 512)
    initiator.command(read_10(0, 1), reads=512)
    assert initiator.receive_all() == []
    if ends == "lost":
        initiator.close()
    else:
        function = codes.Function.LOGICAL_UNIT_RESET
        initiator.request(Opcode.TASK_MANAGEMENT_REQUEST, flags=0x80 | function, immediate=True)
        assert initiator.receive()["response"] == 0
        assert big not in next(iter(world.export.target.sessions.values())).tasks
    other = world.connect()
    other.isid = b"\x80\x77\x77\x77\x77\x77"
    other.login()
    other.ready()
    assert other.read(0, 1) == bytes(512)


# --- anything at all


pdus = st.builds(
    lambda opcode, flags, rest, data: (bytes([opcode, flags]) + b"\0\0" + rest, data),
    st.sampled_from([*map(int, Opcode), *(opcode | 0x40 for opcode in Opcode)]),
    st.integers(0, 255),
    st.binary(min_size=44, max_size=44),
    st.binary(max_size=64),
)


@st.composite
def near_pdus(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """PDUs whose numbers and tags are mostly right, so that they get somewhere."""
    opcode = draw(st.sampled_from([each for each in Opcode if each < 0x20]))
    fields = {
        name: draw(st.sampled_from([0, 1, 2, 100, 101, 512, NOBODY]))
        for name in LAYOUTS[opcode].names
        if name in ("itt", "ttt", "cmd_sn", "expected", "offset", "data_sn", "referenced_tag", "ref_cmd_sn")
    }
    cdb = draw(st.sampled_from([read_10(0, 1), write_10(0, 1), TEST_UNIT_READY, b"\x12\0\0\0\xff\0"]))
    if opcode is Opcode.SCSI_COMMAND:
        fields["cdb"] = cdb.ljust(16, b"\0")  # type: ignore[assignment]
    flags = draw(st.sampled_from([0x80, 0x81, 0xC1, 0xA1, 0x21, 0x01, 0xE1, 0x82, 0x85, 0x40]))
    immediate = draw(st.booleans())
    data = draw(st.sampled_from([b"", b"x", b"y" * 512, b"SendTargets=All\0"]))
    return build(opcode, immediate=immediate, flags=flags, **fields), data


@given(st.lists(st.one_of(pdus, near_pdus()), max_size=12), st.booleans(), st.integers(0, 2**32 - 1))
def test_any_pdus_leave_the_target_well(sent: list[tuple[bytes, bytes]], digests: bool, seed: int) -> None:
    world = World()
    try:
        keys = {"InitialR2T": "No"} | ({"HeaderDigest": "CRC32C", "DataDigest": "CRC32C"} if digests else {})
        initiator = world.login(keys=keys)
        pieces = Pieces(initiator, random.Random(seed))
        for header, data in sent:
            if initiator.gone:
                break
            pieces.send(header, data)
        initiator.receive_all()
        initiator.close()
        assert not world.export.target.sessions
        well(world)
    finally:
        world.close()


@given(st.binary(max_size=400))
def test_any_bytes_leave_the_target_well(data: bytes) -> None:
    world = World()
    try:
        world.connect().send_bytes(data)
        initiator = world.login()
        initiator.send_bytes(data)
        initiator.receive_all()
        well(world)
    finally:
        world.close()


@given(st.binary(max_size=1100))
def test_header_segments_are_read_or_refused(data: bytes) -> None:
    try:
        found = pdu.parse_ahs(data)
    except ValueError:
        return
    assert len(found.cdb_rest) <= len(data)


@given(st.sampled_from(Opcode), st.data())
def test_a_header_is_read_as_it_was_written(opcode: Opcode, data: st.DataObject) -> None:
    layout = LAYOUTS[opcode]
    values = [data.draw(st.integers(0, 2 ** (8 * layout.sizes[name]) - 1)) for name in layout.names]
    typed = [
        value.to_bytes(layout.sizes[name], "big") if name in ("isid", "cdb") else value
        for name, value in zip(layout.names, values, strict=True)
    ]
    header = layout.pack(*typed)
    assert len(header) == pdu.BHS_SIZE
    assert list(layout.unpack_from(header, 0)) == typed
    parsed = layout.parse(header)
    assert parsed.flags == typed[layout.names.index("flags")]


class Pieces(Initiator):
    """Says what an initiator says, in pieces of any size."""

    def __init__(self, initiator: Initiator, chance: random.Random) -> None:
        self.__dict__.update(initiator.__dict__)
        self._whole = initiator
        self._chance = chance

    def send_bytes(self, data: bytes) -> None:
        while data and not self._whole.gone:
            size = self._chance.choice([1, 7, 48, 100, 1000])
            try:
                self._whole.send_bytes(data[:size])
            except (BrokenPipeError, ConnectionResetError):
                return
            data = data[size:]


def test_a_name_is_shown_in_one_line(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for keys in (
        {"InitiatorName": "a", "TargetName": "x\ny\x1b[31m" * 50},
        {"InitiatorName": "a\nb", "TargetName": TARGET},
        {"InitiatorName": "a", "TargetName": TARGET, "\x1b=": "\n"},
        {"InitiatorName": "a", "TargetName": TARGET, "TaskReporting": "\n", "InitiatorAlias": "a\nb"},
    ):
        world.connect().login_request(keys, following=3)
    assert caplog.records
    for record in caplog.records:
        assert "\n" not in record.getMessage()
        assert "\x1b" not in record.getMessage()
