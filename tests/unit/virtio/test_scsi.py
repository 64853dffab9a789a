"""virtio-scsi's request queues, VIRTIO 1.4 §5.6.6.1: LUNs, responses, residuals, and `used.len` every time."""

from __future__ import annotations

import errno

import pytest

from devmodels.blockbackend import Flags, Op
from devmodels.iocontext import Event
from tests.unit.virtio.arena import UNTOUCHED, payload
from tests.unit.virtio.plain import Kind, kinds
from tests.unit.virtio.scsirig import (
    CHECK_CONDITION,
    F_INOUT,
    GOOD,
    INQUIRY,
    S_BAD_TARGET,
    S_BUSY,
    S_FAILURE,
    S_NEXUS_FAILURE,
    S_OK,
    S_OVERRUN,
    S_TARGET_FAILURE,
    S_TRANSPORT_FAILURE,
    TEST_UNIT_READY,
    bring_up,
    lun_of,
    read_10,
    scsi,
    write_10,
)

COMMAND = "VIRTIO 1.4 §5.6.6.1"
RESPONSE = 12 + 96


# --- data


@kinds
def test_a_read_fills_the_buffer(kind: Kind) -> None:
    r = scsi(kind=kind)
    r.ready()
    answer = r.send(read_10(3, 4), room=2048)
    assert (answer.response, answer.status, answer.residual) == (S_OK, GOOD, 0)
    assert answer.data == r.disk.data[3 * 512 : 7 * 512]
    assert answer.length == RESPONSE + 2048
    assert r.clauses == []


@kinds
def test_a_write_is_stored(kind: Kind) -> None:
    r = scsi(kind=kind)
    r.ready()
    data = payload(1536)
    answer = r.send(write_10(5, 3), data)
    assert (answer.response, answer.status, answer.residual, answer.length) == (S_OK, GOOD, 0, RESPONSE)
    assert r.disk.data[5 * 512 : 8 * 512] == data


def test_what_is_not_transferred_is_the_residual() -> None:
    r = scsi()
    r.ready()
    answer = r.send(read_10(0, 1), room=4096)
    assert (answer.response, answer.status, answer.residual) == (S_OK, GOOD, 4096 - 512)
    assert answer.length == RESPONSE + 512
    assert answer.data[512:] == bytes([UNTOUCHED]) * (4096 - 512)
    answer = r.send(write_10(0, 1), bytes(4096))
    assert (answer.response, answer.residual) == (S_OK, 4096 - 512)
    answer = r.send(TEST_UNIT_READY, room=10)
    assert (answer.response, answer.residual) == (S_OK, 10)


def test_a_command_that_asks_for_more_than_was_given_overruns() -> None:
    r = scsi()
    r.ready()
    answer = r.send(read_10(0, 2), room=512)
    assert (answer.response, answer.status, answer.sense) == (S_OVERRUN, GOOD, b"")
    assert answer.data == bytes([UNTOUCHED]) * 512
    before = bytes(r.disk.data)
    answer = r.send(write_10(0, 2), bytes(512))
    assert (answer.response, answer.length) == (S_OVERRUN, RESPONSE)
    assert r.disk.data == before, "a write is done as a whole or not at all"
    assert r.send(read_10(0, 1), bytes(512)).response == S_OVERRUN
    assert r.send(bytes((0x15, 0x10, 0, 0, 24, 0)), bytes(4)).response == S_OVERRUN
    assert r.send(INQUIRY, room=35).response == S_OVERRUN


def test_header_response_and_data_may_be_cut_anywhere() -> None:
    r = scsi()
    r.ready()
    answer = r.send(read_10(1, 2), room=1024, cuts=((1, 8, 20, 50), (1, 11, 12, 107, 109, 700)))
    assert answer.data == r.disk.data[512 : 3 * 512]
    data = payload(1024)
    r.send(write_10(1, 2), data, cuts=((7, 50, 52, 600), (3,)))
    assert r.disk.data[512 : 3 * 512] == data
    assert r.clauses == []


# --- sense data


def test_sense_data_is_padded_with_zeroes() -> None:
    r = scsi()
    answer = r.send(TEST_UNIT_READY)
    assert (answer.response, answer.status) == (S_OK, CHECK_CONDITION)
    assert answer.sense_triple == (0x6, 0x29, 0x00)
    assert answer.padding == bytes(96 - len(answer.sense))
    assert answer.length == RESPONSE


@pytest.mark.parametrize("size", [0, 4, 18, 252, 65535])
def test_sense_data_is_cut_to_the_driver_s_room(size: int) -> None:
    r = scsi()
    r.device.store_config(20, 4, size)
    r.sense_size = size
    answer = r.send(TEST_UNIT_READY)
    assert (answer.status, len(answer.sense)) == (CHECK_CONDITION, min(size, 18))
    assert answer.length == 12 + size


@pytest.mark.parametrize("size", [6, 10, 16, 255])
def test_the_cdb_has_the_size_that_the_driver_chose(size: int) -> None:
    r = scsi()
    r.device.store_config(24, 4, size)
    r.cdb_size = size
    r.ready()
    assert r.send(INQUIRY, room=36).data[8:16] == b"DEVMODEL"
    answer = r.send(read_10(0, 1)[:size], room=512)
    if size < 10:
        assert answer.status == CHECK_CONDITION
    else:
        assert answer.data == r.disk.data[:512]


def test_commands_in_flight_keep_the_sizes_that_they_came_with() -> None:
    r = scsi()
    r.ready()
    r.disk.gate = Event(r.device.context)
    sent = r.start(read_10(0, 1), room=512)
    r.go()
    r.device.store_config(20, 4, 18)
    r.disk.gate.set()
    r.settle()
    assert r.answer(sent).data == r.disk.data[:512]
    assert sent.length == RESPONSE + 512


# --- LUNs


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (0, 255), (0, 256), (0, 16383), (255, 0), (255, 16383)])
def test_every_target_and_lun_can_be_reached(place: tuple[int, int]) -> None:
    r = scsi(place)
    target, lun = place
    r.ready(lun_of(target, lun))
    answer = r.send(INQUIRY, room=36, lun=lun_of(target, lun))
    assert (answer.response, answer.status, answer.data[0]) == (S_OK, GOOD, 0x00)


def test_a_lun_below_256_may_be_written_with_peripheral_addressing() -> None:
    r = scsi((3, 7))
    answer = r.send(INQUIRY, room=36, lun=bytes((1, 3, 0, 7, 0, 0, 0, 0)))
    assert (answer.response, answer.data[0]) == (S_OK, 0x00)


@pytest.mark.parametrize(
    "lun",
    [lun_of(1), bytes(8), bytes((2, 0, 0x40, 0, 0, 0, 0, 0)), bytes((1, 0, 0x40, 0, 0, 0, 0, 1))],
    ids=["no target", "zeroes", "first byte", "last byte"],
)
def test_where_no_target_is_the_command_was_never_processed(lun: bytes) -> None:
    r = scsi()
    answer = r.send(INQUIRY, room=36, lun=lun)
    assert (answer.response, answer.length) == (S_BAD_TARGET, RESPONSE)
    assert answer.data == bytes([UNTOUCHED]) * 36


@pytest.mark.parametrize(
    "lun", [lun_of(0, 1), bytes((1, 0, 0x80, 0, 0, 0, 0, 0)), bytes((1, 0, 1, 0, 0, 0, 0, 0))]
)
def test_a_target_says_that_a_unit_is_not_there(lun: bytes) -> None:
    r = scsi()
    answer = r.send(INQUIRY, room=36, lun=lun)
    assert (answer.response, answer.status, answer.data[0]) == (S_OK, GOOD, 0x7F)
    answer = r.send(TEST_UNIT_READY, lun=lun)
    assert answer.sense_triple == (0x5, 0x25, 0x00)


def report_luns(select: int = 0) -> bytes:
    return bytes((0xA0, 0, select, 0, 0, 0, 0, 0, 4, 0, 0, 0))


def test_report_luns_lists_the_units_of_one_target() -> None:
    r = scsi((0, 1), (0, 300), (1, 5))
    data = r.send(report_luns(), room=1024, lun=lun_of(0, 0)).data
    assert data[:8] == bytes((0, 0, 0, 16, 0, 0, 0, 0))
    assert data[8:24] == bytes((0, 1, 0, 0, 0, 0, 0, 0)) + bytes((0x41, 0x2C, 0, 0, 0, 0, 0, 0))


def test_the_well_known_unit_lists_those_of_all_targets() -> None:
    r = scsi((0, 1), (0, 300), (1, 5))
    well_known = bytes((0xC1, 1, 0, 0, 0, 0, 0, 0))
    data = r.send(report_luns(2), room=1024, lun=well_known).data
    assert data[3] == 32
    assert data[8:40] == (
        bytes((1, 0, 0, 1, 0, 0, 0, 0))
        + bytes((1, 0, 0x41, 0x2C, 0, 0, 0, 0))
        + bytes((1, 1, 0, 5, 0, 0, 0, 0))
        + well_known
    )
    assert r.send(INQUIRY, room=36, lun=well_known).data[0] == 0x1E


def test_whoever_has_seen_that_list_is_not_told_that_it_has_changed() -> None:
    r = scsi((0, 0), (1, 5))
    well_known = bytes((0xC1, 1, 0, 0, 0, 0, 0, 0))
    for lun in (lun_of(0, 0), lun_of(1, 5), well_known):
        r.ready(lun)
    r.plug(0, 1)
    r.plug(1, 0)
    r.send(report_luns(0), room=1024, lun=well_known)
    for lun in (lun_of(0, 0), lun_of(1, 5)):
        assert r.send(TEST_UNIT_READY, lun=lun).status == GOOD
    r.ready(lun_of(0, 1))
    r.plug(0, 2)
    assert r.send(TEST_UNIT_READY, lun=lun_of(0, 1)).sense_triple == (0x6, 0x3F, 0x0E)


def test_the_well_known_unit_is_reset_with_the_others() -> None:
    r = scsi()
    well_known = bytes((0xC1, 1, 0, 0, 0, 0, 0, 0))
    r.ready(well_known)
    r.device.write_status(0)
    bring_up(r, r.device.device_features)
    assert r.send(TEST_UNIT_READY, lun=well_known).sense_triple == (0x6, 0x29, 0x00)


# --- what a driver gets wrong


def test_data_both_ways_needs_inout() -> None:
    r = scsi(without=1 << F_INOUT)
    r.ready()
    answer = r.send(read_10(0, 1), bytes(512), room=512)
    assert (answer.response, answer.length) == (S_FAILURE, RESPONSE)
    assert r.clauses == [COMMAND]
    r = scsi()
    r.ready()
    answer = r.send(read_10(0, 1), bytes(512), room=512)
    assert (answer.response, answer.status, answer.residual) == (S_OK, GOOD, 512)


@pytest.mark.parametrize("size", [0, 8, 50])
def test_a_short_header_is_a_failure(size: int) -> None:
    r = scsi()
    sent = r.place(2, r.readable(bytes(size)), r.writable(RESPONSE))
    r.go()
    answer = r.answer(sent)
    assert (answer.response, answer.length) == (S_FAILURE, RESPONSE)
    assert r.clauses == [COMMAND]


@pytest.mark.parametrize(("room", "length"), [(0, 0), (11, 0), (12, 12), (107, 107)])
def test_a_short_response_is_written_as_far_as_it_makes_sense(room: int, length: int) -> None:
    r = scsi()
    sent = r.place(2, r.readable(lun_of() + bytes(43)), r.writable(room))
    r.go()
    assert sent.length == length
    content = r.content(sent.writable)
    if length:
        assert content[11] == S_FAILURE
    else:
        assert content == bytes([UNTOUCHED]) * room
    assert r.clauses == [COMMAND]
    r.ready()


@pytest.mark.parametrize("part", ["header", "data out", "data in", "response"])
def test_what_lies_outside_memory_is_a_failure(part: str) -> None:
    r = scsi()
    r.ready()
    nowhere = 0x4000_0000_0000
    header = r.readable(lun_of() + bytes(11) + write_10(0, 1).ljust(32, b"\0"))
    readable, writable = [*header, *r.readable(bytes(512))], [*r.writable(RESPONSE)]
    if part == "header":
        readable[0] = nowhere, 51
    elif part == "data out":
        readable[1] = nowhere, 512
    elif part == "data in":
        readable = r.readable(lun_of() + bytes(11) + read_10(0, 1).ljust(32, b"\0"))
        writable.append((nowhere, 512))
    else:
        writable = [(nowhere, RESPONSE)]
    sent = r.place(2, readable, writable)
    r.go()
    assert r.clauses == [COMMAND]
    if part == "response":
        assert sent.length == 0
    else:
        assert r.content(writable[:1])[11] == S_FAILURE
        assert sent.length == RESPONSE
    r.ready()


# --- the configuration space


def test_the_configuration_space() -> None:
    r = scsi(num_queues=3, seg_max=100, max_sectors=2048, cmd_per_lun=32)
    words = [r.device.load_config(at, 4) for at in range(0, 28, 4)]
    assert words == [3, 100, 2048, 32, 16, 96, 32]
    assert [r.device.load_config(28, 2), r.device.load_config(30, 2), r.device.load_config(32, 4)] == [
        0,
        255,
        16383,
    ]


@pytest.mark.parametrize(("at", "value"), [(20, 65536), (24, 256), (24, 0xFFFF_FFFF)])
def test_sizes_beyond_what_there_can_be_are_not_taken(at: int, value: int) -> None:
    r = scsi()
    r.device.store_config(at, 4, value)
    assert (r.device.load_config(20, 4), r.device.load_config(24, 4)) == (96, 32)
    assert r.clauses == ["VIRTIO 1.4 §5.6.4.1"]


def test_nothing_else_can_be_written() -> None:
    r = scsi()
    for at in (0, 4, 8, 12, 16, 28, 32):
        before = r.device.load_config(at, 4)
        r.device.store_config(at, 4, 7)
        assert r.device.load_config(at, 4) == before
    assert r.clauses == ["VIRTIO 1.4 §5.6.4.1"] * 7


def test_a_reset_restores_the_sizes() -> None:
    r = scsi()
    r.device.store_config(20, 4, 18)
    r.device.store_config(24, 4, 16)
    r.device.write_status(0)
    assert (r.device.load_config(20, 4), r.device.load_config(24, 4)) == (96, 32)


# --- the way to the disk


@pytest.mark.parametrize(
    ("number", "response"),
    [
        (errno.ENOLINK, S_TRANSPORT_FAILURE),
        (errno.ECONNRESET, S_TRANSPORT_FAILURE),
        (errno.EREMOTEIO, S_TARGET_FAILURE),
        (errno.EBADE, S_NEXUS_FAILURE),
        (errno.EAGAIN, S_BUSY),
        (errno.EBUSY, S_BUSY),
    ],
)
@pytest.mark.parametrize("op", [Op.READ, Op.WRITE, Op.FLUSH])
def test_what_is_wrong_on_the_way_to_the_disk_is_not_the_command_s(
    op: Op, number: int, response: int
) -> None:
    """VIRTIO 1.4 §5.6.6.1.1: the responses that tell a driver whether another path, or another time, helps."""
    r = scsi()
    r.ready()
    r.disk.fail[op] = number
    cdbs = {Op.READ: read_10(0, 1), Op.WRITE: write_10(0, 1), Op.FLUSH: bytes((0x35,)) + bytes(9)}
    given, room = bytes(512) if op is Op.WRITE else b"", 512 if op is Op.READ else 0
    answer = r.send(cdbs[op], given, room)
    assert (answer.response, answer.status, answer.sense) == (response, GOOD, b"")
    assert answer.residual == len(given) + room
    assert r.clauses == []


def test_what_is_wrong_with_the_medium_is() -> None:
    r = scsi()
    r.ready()
    r.disk.bad_sectors.add(1)
    answer = r.send(read_10(0, 2), room=1024)
    assert (answer.response, answer.status) == (S_OK, CHECK_CONDITION)
    assert answer.sense_triple == (3, 0x11, 0)


# --- several at once


def test_writes_that_come_together_go_together() -> None:
    r = scsi()
    r.ready()
    data = payload(4096)
    for at in range(8):
        r.start(write_10(at, 1), data[512 * at : 512 * at + 512])
    r.go()
    assert r.disk.log == [(Op.WRITE, 0, 4096, Flags.NONE)]
    assert r.disk.data[:4096] == data
    assert [r.answer(sent).response for sent in r.order[-8:]] == [S_OK] * 8


def test_what_comes_between_writes_finds_the_first_begun() -> None:
    r = scsi((0, 0), (1, 0))
    for lun in (lun_of(0), lun_of(1)):
        r.ready(lun)
    write = [r.start(write_10(at, 1), bytes(512), lun=lun_of(at & 1)) for at in range(4)]
    read = r.start(read_10(0, 1), room=512)
    ordered = [r.start(write_10(at, 1), payload(512), attribute=2) for at in (0, 1)]
    last = r.start(write_10(2, 1), payload(512))
    r.go()
    assert r.answer(read).data == bytes(512)
    assert {r.answer(sent).response for sent in (*write, *ordered, last)} == {S_OK}
    assert r.disk.log == [
        *((Op.WRITE, 512 * at, 512, Flags.NONE) for at in (0, 2)),
        (Op.READ, 0, 512, Flags.NONE),
        *((Op.WRITE, 512 * at, 512, Flags.NONE) for at in (0, 1, 2)),
    ]
    assert r.disk.data[: 3 * 512] == payload(512) * 3


def test_writes_to_units_that_are_not_there_are_answered() -> None:
    r = scsi()
    r.ready()
    for lun in (lun_of(0, 7), lun_of(0), lun_of(5)):
        r.start(write_10(0, 1), bytes(512), lun=lun)
    r.go()
    answers = [r.answer(sent) for sent in sorted(r.order[-3:], key=lambda sent: sent.readable[0])]
    assert [(each.response, each.status) for each in answers] == [
        (S_OK, CHECK_CONDITION),
        (S_OK, GOOD),
        (S_BAD_TARGET, GOOD),
    ]
