"""virtio-blk, VIRTIO 1.4 §5.2: reads, writes, and what has no data; each way to go wrong; `used.len`."""

from __future__ import annotations

import errno

import pytest

from devmodels.blockbackend.request import Flags, Op
from devmodels.iocontext import Event
from devmodels.virtio_blk.config import Lifetime
from tests.unit.virtio.arena import UNTOUCHED, payload
from tests.unit.virtio.blkrig import (
    DISCARD,
    F_DISCARD,
    F_LIFETIME,
    F_SECURE_ERASE,
    F_SEG_MAX,
    F_SIZE_MAX,
    F_WRITE_ZEROES,
    FLUSH,
    GET_ID,
    GET_LIFETIME,
    IN,
    IOERR,
    OK,
    OPERATION,
    OUT,
    RANGES,
    SECTOR,
    UNSUPP,
    WRITE_ZEROES,
    Answer,
    blk,
    segment,
)
from tests.unit.virtio.model import VERSION_1
from tests.unit.virtio.plain import Kind, kinds

LIMITS = "VIRTIO 1.4 §5.2.3"


# --- reads and writes


@kinds
@pytest.mark.parametrize(("sector", "sectors"), [(0, 1), (3, 8), (511, 1), (0, 512)])
def test_a_read_fills_the_buffer(kind: Kind, sector: int, sectors: int) -> None:
    r = blk(kind=kind)
    length = SECTOR * sectors
    answer = r.send(IN, sector, room=length)
    assert answer == Answer(OK, length + 1, bytes(r.disk.data[SECTOR * sector :][:length]))
    assert r.clauses == []
    assert r.backend.stats.rd_bytes == length


@kinds
@pytest.mark.parametrize(("sector", "sectors"), [(0, 1), (3, 8), (511, 1), (0, 512)])
def test_a_write_is_stored(kind: Kind, sector: int, sectors: int) -> None:
    r = blk(kind=kind)
    expected = bytearray(r.disk.data)
    data = payload(SECTOR * sectors)
    expected[SECTOR * sector :][: len(data)] = data
    expected = bytearray(r.disk.data[: SECTOR * sector] + data + r.disk.data[SECTOR * (sector + sectors) :])
    assert r.send(OUT, sector, data) == Answer(OK, 1, b"")
    assert r.disk.data == expected
    assert r.clauses == []
    assert r.backend.stats.wr_bytes == len(data)


@kinds
@pytest.mark.parametrize("request_kind", [IN, OUT])
def test_nothing_can_be_read_or_written(kind: Kind, request_kind: int) -> None:
    r = blk(kind=kind)
    assert r.send(request_kind, 5) == Answer(OK, 1, b"")


@pytest.mark.parametrize("length", [1, 511, 513, 4096 + 16])
@pytest.mark.parametrize("request_kind", [IN, OUT])
def test_a_length_that_is_no_multiple_of_512_is_an_error(request_kind: int, length: int) -> None:
    r = blk()
    before = bytes(r.disk.data)
    if request_kind == IN:
        assert r.send(IN, 0, room=length) == Answer(IOERR, length + 1, bytes(length))
    else:
        assert r.send(OUT, 0, bytes(length)) == Answer(IOERR, 1, b"")
    assert r.clauses == [OPERATION]
    assert r.disk.data == before
    assert r.disk.log == []
    stats = r.backend.stats
    assert stats.invalid_rd_operations + stats.invalid_wr_operations == 1


@pytest.mark.parametrize(
    "sector", [511, 512, 513, 1 << 40, (1 << 55) - 1, 1 << 55, (1 << 64) - 1, (1 << 64) - 2]
)
@pytest.mark.parametrize("request_kind", [IN, OUT])
def test_sectors_beyond_the_capacity_are_an_error(request_kind: int, sector: int) -> None:
    r = blk()
    length = 2 * SECTOR
    if request_kind == IN:
        assert r.send(IN, sector, room=length) == Answer(IOERR, length + 1, bytes(length))
    else:
        assert r.send(OUT, sector, bytes(length)) == Answer(IOERR, 1, b"")
    assert r.clauses == [OPERATION]
    assert r.disk.log == []


def test_what_could_not_be_read_is_zero() -> None:
    """Nothing of the host's shows in the buffer, and all of it has been written."""
    r = blk()
    r.disk.fail[Op.READ] = errno.EIO
    assert r.send(IN, 0, room=1024) == Answer(IOERR, 1025, bytes(1024))
    assert r.clauses == []
    assert r.backend.stats.failed_rd_operations == 1


BESIDES = {(Op.WRITE_ZEROES, errno.ENOTSUP), (Op.DISCARD, errno.ENOTSUP)}
"""What a disk may refuse without harm: zeroes without a quick way are written as data, a discard is advice."""


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EPERM, errno.ENOTSUP])
@pytest.mark.parametrize(
    ("request_kind", "op"),
    [(OUT, Op.WRITE), (FLUSH, Op.FLUSH), (DISCARD, Op.DISCARD), (WRITE_ZEROES, Op.WRITE_ZEROES)],
)
def test_what_the_disk_refuses_is_an_io_error(request_kind: int, op: Op, code: int) -> None:
    r = blk()
    r.disk.fail[op] = code
    data = {OUT: bytes(512), FLUSH: b""}.get(request_kind, segment(0, 1))
    helped = (op, code) in BESIDES
    assert r.send(request_kind, 0, data) == Answer(OK if helped else IOERR, 1, b"")
    assert r.clauses == []


def test_a_write_to_a_read_only_disk_is_an_error_and_writes_nothing() -> None:
    """§5.2.6.2"""
    r = blk(read_only=True)
    assert r.device.device_features >> 5 & 1
    before = bytes(r.disk.data)
    assert r.send(OUT, 0, bytes(512)) == Answer(IOERR, 1, b"")
    assert r.disk.data == before
    assert r.clauses == ["VIRTIO 1.4 §5.2.6.2"]
    assert r.send(IN, 0, room=512).status == OK


def test_a_read_only_disk_offers_no_way_to_change_it() -> None:
    r = blk(read_only=True, secure_erase=True)
    assert not r.device.device_features & (1 << F_DISCARD | 1 << F_WRITE_ZEROES | 1 << F_SECURE_ERASE)
    for request_kind, _ in RANGES:
        assert r.send(request_kind, 0, segment(0, 1)) == Answer(UNSUPP, 1, b"")
    assert r.send(FLUSH).status == OK


# --- limits


def test_seg_max_counts_segments_of_data() -> None:
    r = blk(seg_max=3)
    cuts = ((16,), (512, 1024, 1536))
    assert r.send(IN, 0, room=1536, cuts=cuts).status == OK
    assert r.send(IN, 0, room=2048, cuts=((16,), (512, 1024, 1536, 2048))) == Answer(IOERR, 2049, bytes(2048))
    assert r.send(OUT, 0, bytes(1536), cuts=((16, 528, 1040), ())).status == OK
    assert r.send(OUT, 0, bytes(1536), cuts=((8, 16, 528, 1040), ())).status == OK, (
        "the header's are not counted"
    )
    assert r.send(OUT, 0, bytes(2048), cuts=((16, 528, 1040, 1552), ())) == Answer(IOERR, 1, b"")
    assert r.clauses == [LIMITS, LIMITS]


def test_size_max_limits_each_segment() -> None:
    r = blk(size_max=1024)
    assert r.device.device_features >> F_SIZE_MAX & 1
    assert r.send(IN, 0, room=2048, cuts=((16,), (1024, 2048))).status == OK
    assert r.send(IN, 0, room=2048, cuts=((16,), (512, 2048))) == Answer(IOERR, 2049, bytes(2048))
    assert r.send(OUT, 0, bytes(1536)) == Answer(IOERR, 1, b"")
    assert r.clauses == [LIMITS, LIMITS]


def test_limits_that_were_not_negotiated_do_not_bind() -> None:
    """§2.2: a driver that has not accepted SEG_MAX and SIZE_MAX does not know them."""
    r = blk(seg_max=2, size_max=512, without=1 << F_SEG_MAX | 1 << F_SIZE_MAX)
    assert r.send(IN, 0, room=2048, cuts=((16,), (512, 1024, 2048))).status == OK
    assert r.send(OUT, 0, bytes(2048), cuts=((16, 528, 1040), ())).status == OK
    assert r.clauses == []


# --- flush, and what else has no data


def test_flush() -> None:
    r = blk()
    assert r.send(FLUSH) == Answer(OK, 1, b"")
    assert r.used_operations == [Op.FLUSH]
    assert r.clauses == []


def test_flush_with_a_sector_works_and_is_reported() -> None:
    r = blk()
    assert r.send(FLUSH, 7).status == OK
    assert r.clauses == [OPERATION]


def test_a_flush_with_room_for_data_fills_it() -> None:
    r = blk()
    assert r.send(FLUSH, room=100) == Answer(OK, 101, bytes(100))


@pytest.mark.parametrize(
    "request_kind", [2, 3, 5, 6, 7, 9, 12, 15, 16, 18, 20, 22, 24, 26, 0x8000_0000, 0xFFFF_FFFF]
)
@pytest.mark.parametrize("room", [0, 64])
def test_an_unknown_request_is_unsupported(request_kind: int, room: int) -> None:
    """Those of zoned devices among them (§5.2.6.2)."""
    r = blk()
    assert r.send(request_kind, room=room) == Answer(UNSUPP, room + 1, bytes(room))
    assert r.clauses == [OPERATION]
    assert r.disk.log == []


@kinds
@pytest.mark.parametrize(
    ("serial", "expected"), [("", bytes(20)), ("abc", b"abc" + bytes(17)), ("x" * 20, b"x" * 20)]
)
def test_get_id(kind: Kind, serial: str, expected: bytes) -> None:
    r = blk(kind=kind, serial=serial)
    assert r.send(GET_ID, room=20) == Answer(OK, 21, expected)
    assert r.clauses == []


@pytest.mark.parametrize("room", [0, 1, 19, 21, 64])
def test_get_id_into_a_buffer_of_another_size(room: int) -> None:
    """Cut or zero-padded; the driver should have made it 20 bytes long."""
    r = blk(serial="0123456789abcdefghij")
    expected = b"0123456789abcdefghij"[:room].ljust(room, b"\0")
    assert r.send(GET_ID, room=room) == Answer(OK, room + 1, expected)
    assert r.clauses == [OPERATION]


def test_get_lifetime() -> None:
    r = blk(lifetime=Lifetime(2, 11, 3))
    assert r.send(GET_LIFETIME, room=6) == Answer(OK, 7, bytes([2, 0, 11, 0, 3, 0]))
    assert r.clauses == []


def test_get_lifetime_needs_its_feature() -> None:
    assert blk().send(GET_LIFETIME, room=6) == Answer(UNSUPP, 7, bytes(6))
    r = blk(lifetime=Lifetime(2), without=1 << F_LIFETIME)
    assert r.send(GET_LIFETIME, room=6) == Answer(UNSUPP, 7, bytes(6))


# --- several at a time


def test_neighbours_of_one_doorbell_are_merged() -> None:
    r = blk()
    sents = [r.start(IN, sector, room=512) for sector in range(8)]
    r.go()
    assert [r.answer(sent).data for sent in sents] == [bytes(r.disk.data[512 * n :][:512]) for n in range(8)]
    assert r.disk.log == [(Op.READ, 0, 4096, Flags.NONE)]
    assert r.backend.stats.rd_merged == 7
    assert r.backend.stats.rd_operations == 8


def test_merging_can_be_switched_off() -> None:
    r = blk(request_merging=False)
    for sector in range(8):
        r.start(IN, sector, room=512)
    r.go()
    assert len(r.disk.log) == 8
    assert r.backend.stats.rd_merged == 0


def test_only_the_right_one_of_merged_requests_fails() -> None:
    r = blk()
    r.disk.bad_sectors = {3}
    sents = [r.start(OUT, sector, bytes([sector]) * 512) for sector in range(8)]
    r.go()
    assert [r.answer(sent).status for sent in sents] == [IOERR if n == 3 else OK for n in range(8)]


def test_different_kinds_side_by_side_are_not_merged() -> None:
    r = blk()
    first = r.start(OUT, 0, b"a" * 512)
    second = r.start(IN, 1, room=512)
    third = r.start(OUT, 2, b"b" * 512)
    r.go()
    assert [r.answer(sent).status for sent in (first, second, third)] == [OK] * 3
    assert sorted(r.used_operations) == [Op.READ, Op.WRITE, Op.WRITE]


def test_requests_end_in_any_order() -> None:
    r = blk()
    gate = Event(r.device.context)
    r.disk.gate = gate
    slow = r.start(IN, 0, room=512)
    r.go()
    r.disk.gate = None
    fast = r.send(IN, 100, room=512)
    assert fast.status == OK
    assert slow.length is None
    gate.set()
    r.settle()
    assert r.answer(slow) == Answer(OK, 513, bytes(r.disk.data[:512]))


def test_the_write_part_of_memory_is_left_alone() -> None:
    """A write touches its status byte and nothing else of the guest's memory."""
    r = blk()
    sent = r.start(OUT, 0, payload(1024), room=0)
    before = r.plain.copy()
    r.go()
    _, avail, used = r.driver.parts
    ring = range(used, used + 6 + 8 * r.driver.size)
    changed = set(r.plain.differences(before)) - set(ring) - set(range(avail, avail + 4))
    assert changed == {sent.writable[-1][0]}
    assert r.plain.load(*sent.writable[-1]) != bytes([UNTOUCHED])


def test_version_1_is_what_is_left() -> None:
    """A driver that accepts nothing but VERSION_1 can read and write."""
    r = blk(features=VERSION_1)
    assert r.send(OUT, 0, payload(512)).status == OK
    assert r.send(IN, 0, room=512) == Answer(OK, 513, payload(512))
