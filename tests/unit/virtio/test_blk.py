"""virtio-blk, VIRTIO 1.4 §5.2: each kind of request, each way in which it can go wrong, and `used.len` every time."""

from __future__ import annotations

import errno

import pytest

from devmodels.blockbackend.request import Flags, Op
from devmodels.iocontext import Event
from devmodels.virtio_blk.config import Lifetime
from tests.unit.virtio.arena import UNTOUCHED, payload
from tests.unit.virtio.blkrig import (
    ARENA,
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
    OUT,
    SECTOR,
    SECURE_ERASE,
    UNSUPP,
    WRITE_ZEROES,
    Answer,
    BlkRig,
    blk,
    header,
    segment,
)
from tests.unit.virtio.dut import NEEDS_RESET
from tests.unit.virtio.model import VERSION_1, DriverRing
from tests.unit.virtio.plain import Kind

OPERATION = "VIRTIO 1.4 §5.2.6.1"
LIMITS = "VIRTIO 1.4 §5.2.3"
kinds = pytest.mark.parametrize("kind", Kind)
RANGES = [(DISCARD, F_DISCARD), (WRITE_ZEROES, F_WRITE_ZEROES), (SECURE_ERASE, F_SECURE_ERASE)]
ranges = pytest.mark.parametrize(
    ("request_kind", "bit"), RANGES, ids=["discard", "write zeroes", "secure erase"]
)
NOWHERE = 0x4000_0000_0000


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


# --- framing (§2.7.4)


@pytest.mark.long
@kinds
@pytest.mark.parametrize("cut", range(1, 17))
def test_the_header_may_lie_in_pieces(kind: Kind, cut: int) -> None:
    r = blk(kind=kind)
    data = payload(1024)
    assert r.send(OUT, 1, data, cuts=((cut, 16 + cut), ())) == Answer(OK, 1, b"")
    assert bytes(r.disk.data[512:1536]) == data
    assert r.send(IN, 1, room=1024, cuts=((cut,), (1024,))) == Answer(OK, 1025, data)


@kinds
def test_header_and_data_may_share_a_descriptor(kind: Kind) -> None:
    r = blk(kind=kind)
    data = payload(1024)
    assert r.send(OUT, 1, data, cuts=((), ())) == Answer(OK, 1, b"")
    assert bytes(r.disk.data[512:1536]) == data


@kinds
@pytest.mark.parametrize("cuts", [(), (1,), (512,), (511,), (512, 512), (1, 2, 3, 511, 512)])
def test_data_and_status_may_share_a_descriptor(kind: Kind, cuts: tuple[int, ...]) -> None:
    """cloud-hypervisor #6586: the status is the last byte of the writable part, wherever that is."""
    r = blk(kind=kind)
    assert r.send(IN, 0, room=512, cuts=((16,), cuts)) == Answer(OK, 513, bytes(r.disk.data[:512]))


@pytest.mark.parametrize("empty", [1, 3])
def test_empty_descriptors_after_the_status_are_passed_over(empty: int) -> None:
    r = blk()
    writable = [*r.writable(512), *r.writable(1), *[(NOWHERE, 0)] * empty]
    sent = r.place(r.readable(header(IN)), writable)
    r.go()
    assert r.answer(sent) == Answer(OK, 513, bytes(r.disk.data[:512]))


@pytest.mark.parametrize("length", [0, 1, 15])
@pytest.mark.parametrize("room", [0, 512])
def test_a_header_that_is_too_short_is_an_error(length: int, room: int) -> None:
    r = blk()
    sent = r.place(r.readable(header(IN)[:length]), r.writable(room + 1))
    r.go()
    assert r.answer(sent) == Answer(IOERR, room + 1, bytes(room))
    assert r.clauses == [OPERATION]


@pytest.mark.parametrize("writable", [[], [(0, 0)]])
def test_a_request_without_room_for_the_status_comes_back_unanswered(writable: list[tuple[int, int]]) -> None:
    r = blk()
    before = bytes(r.disk.data)
    sent = r.place(r.readable(header(OUT) + bytes(512)), writable)
    r.go()
    assert sent.length == 0
    assert r.disk.data == before
    assert r.clauses == [OPERATION]
    assert not r.device.status & NEEDS_RESET


# --- memory that is not there


@kinds
def test_a_header_outside_memory_is_an_error(kind: Kind) -> None:
    r = blk(kind=kind)
    sent = r.place([(NOWHERE, 16)], r.writable(513))
    r.go()
    assert r.answer(sent) == Answer(IOERR, 513, bytes(512))
    assert r.clauses == [OPERATION]


@kinds
@pytest.mark.parametrize("address", [NOWHERE, ARENA - 8, (1 << 64) - 8, (1 << 64) - 512])
def test_data_to_be_written_to_nowhere_is_an_error_with_nothing_written(kind: Kind, address: int) -> None:
    """`used.len` must not claim what is not there: 0, though the status is (§2.7.8.2)."""
    r = blk(kind=kind)
    writable = [*r.writable(512), (address, 512), *r.writable(1)]
    sent = r.place(r.readable(header(IN)), writable)
    r.go()
    assert sent.length == 0
    assert r.plain.load(*writable[-1]) == bytes([IOERR])
    assert r.disk.log == []
    assert r.clauses == [OPERATION]


@kinds
@pytest.mark.parametrize("address", [NOWHERE, ARENA - 8, (1 << 64) - 8])
def test_data_to_be_read_from_nowhere_is_an_error(kind: Kind, address: int) -> None:
    r = blk(kind=kind)
    before = bytes(r.disk.data)
    sent = r.place([*r.readable(header(OUT)), *r.readable(bytes(512)), (address, 512)], r.writable(1))
    r.go()
    assert r.answer(sent) == Answer(IOERR, 1, b"")
    assert r.disk.data == before
    assert r.clauses == [OPERATION]


@kinds
@pytest.mark.parametrize("address", [NOWHERE, ARENA, (1 << 64) - 1])
def test_a_status_that_cannot_be_written_leaves_used_len_at_0(kind: Kind, address: int) -> None:
    r = blk(kind=kind)
    data = r.writable(512)
    sent = r.place(r.readable(header(IN)), [*data, (address, 1)])
    r.go()
    assert sent.length == 0
    assert r.clauses == [OPERATION]
    assert r.send(IN, 0, room=512).status == OK


@pytest.mark.parametrize("part", ["header", "data", "status"])
@kinds
def test_a_read_near_an_edge_between_regions_is_served(kind: Kind, part: str) -> None:
    rig = blk(kind=kind)
    at = {"header": 0x1000, "data": 0x2000, "status": 0x3000}
    at[part] = ARENA // 2 - 8 if part != "status" else ARENA // 2
    rig.plain.store(at["header"], header(IN, 3))
    sent = rig.place([(at["header"], 16)], [(at["data"], SECTOR), (at["status"], 1)])
    rig.go()
    answer = rig.answer(sent)
    assert answer == Answer(OK, SECTOR + 1, bytes(rig.disk.data[3 * SECTOR : 4 * SECTOR]))


@pytest.mark.parametrize("part", ["header", "data", "status"])
@kinds
def test_a_read_over_the_end_of_memory_is_refused(kind: Kind, part: str) -> None:
    rig = blk(kind=kind)
    at = {"header": 0x1000, "data": 0x2000, "status": 0x3000}
    at[part] = ARENA if part == "status" else ARENA - 8
    rig.plain.store(at["header"], header(IN, 3)[: ARENA - at["header"]])
    rig.plain.store(0x3000, bytes([UNTOUCHED]))
    sent = rig.place([(at["header"], 16)], [(at["data"], SECTOR), (at["status"], 1)])
    rig.go()
    assert rig.clauses == ["VIRTIO 1.4 §5.2.6.1"]
    assert sent.length == 0 or rig.plain.load(0x3000, 1) == bytes([IOERR])


@kinds
def test_data_over_the_edge_of_two_regions_is_whole(kind: Kind) -> None:
    r = blk(kind=kind)
    edge = ARENA // 2
    r.plain.store(edge - 512, payload(1024))
    sent = r.place([*r.readable(header(OUT, 4)), (edge - 512, 1024)], r.writable(1))
    r.go()
    assert r.answer(sent).status == OK
    assert bytes(r.disk.data[2048:3072]) == payload(1024)
    sent = r.place(r.readable(header(IN, 0)), [(edge - 511, 1024), *r.writable(1)])
    r.go()
    assert r.answer(sent) == Answer(OK, 1025, bytes(r.disk.data[:1024]))


@pytest.mark.parametrize("request_kind", [GET_ID, GET_LIFETIME])
def test_an_answer_that_has_no_place_is_an_error(request_kind: int) -> None:
    r = blk(lifetime=Lifetime(1))
    writable = [(NOWHERE, 20 if request_kind == GET_ID else 6), *r.writable(1)]
    sent = r.place(r.readable(header(request_kind)), writable)
    r.go()
    assert sent.length == 0
    assert r.plain.load(*writable[-1]) == bytes([IOERR])


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


# --- discard, write zeroes, secure erase


def test_discard_names_each_range() -> None:
    r = blk()
    assert r.send(DISCARD, 0, segment(0, 8) + segment(100, 1)) == Answer(OK, 1, b"")
    assert r.disk.log == [(Op.DISCARD, 0, 4096, Flags.NONE), (Op.DISCARD, 51200, 512, Flags.NONE)]
    assert r.clauses == []


@pytest.mark.parametrize(("flags", "wanted"), [(0, Flags.NONE), (1, Flags.MAY_UNMAP)])
def test_write_zeroes_may_unmap_where_the_driver_says_so(flags: int, wanted: Flags) -> None:
    r = blk()
    assert r.send(WRITE_ZEROES, 0, segment(2, 3, flags)) == Answer(OK, 1, b"")
    assert r.disk.log == [(Op.WRITE_ZEROES, 1024, 1536, wanted)]
    assert bytes(r.disk.data[1024:2560]) == bytes(1536)
    assert r.send(IN, 2, room=1536) == Answer(OK, 1537, bytes(1536))


def test_secure_erase() -> None:
    r = blk(secure_erase=True)
    assert r.send(SECURE_ERASE, 0, segment(2, 3)) == Answer(OK, 1, b"")
    assert r.used_operations == [Op.SECURE_ERASE]


@ranges
def test_a_range_request_needs_its_feature(request_kind: int, bit: int) -> None:
    r = blk(secure_erase=True, without=1 << bit)
    assert r.send(request_kind, 0, segment(0, 1)) == Answer(UNSUPP, 1, b"")
    assert r.disk.log == []
    r = blk(secure_erase=False, discard=False, write_zeroes=False)
    assert r.send(request_kind, 0, segment(0, 1)) == Answer(UNSUPP, 1, b"")


UNKNOWN = [(kind, flags) for kind, _ in RANGES for flags in (2, 3, 0x8000_0000, 0xFFFF_FFFF)]


@pytest.mark.parametrize(("request_kind", "flags"), [*UNKNOWN, (DISCARD, 1), (SECURE_ERASE, 1)])
def test_flags_that_mean_nothing_are_unsupported(request_kind: int, flags: int) -> None:
    """§5.2.6.2: any unknown flag, and `unmap` with everything but write zeroes."""
    r = blk(secure_erase=True)
    before = bytes(r.disk.data)
    assert r.send(request_kind, 0, segment(0, 1) + segment(1, 1, flags)) == Answer(UNSUPP, 1, b"")
    assert r.disk.log == []
    assert r.disk.data == before
    assert r.clauses == [OPERATION]


@pytest.mark.parametrize(("request_kind", "flags"), [*UNKNOWN, (DISCARD, 1), (SECURE_ERASE, 1)])
@pytest.mark.parametrize("rest", [segment(1, 1) * 3, segment(1, 1)[:8]], ids=["too many", "not whole"])
def test_unknown_flags_come_before_the_number_of_segments(request_kind: int, flags: int, rest: bytes) -> None:
    """§5.2.6.2: UNSUPP is a MUST where any unknown flag is set."""
    limits = {f"max_{name}_seg": 3 for name in ("discard", "write_zeroes", "secure_erase")}
    r = blk(secure_erase=True, options=limits)
    assert r.send(request_kind, 0, segment(0, 1, flags) + rest) == Answer(UNSUPP, 1, b"")
    assert r.disk.log == []
    assert r.clauses == [OPERATION]


@ranges
@pytest.mark.parametrize("length", [0, 1, 15, 17, 31])
def test_segments_must_be_whole(request_kind: int, bit: int, length: int) -> None:
    r = blk(secure_erase=True)
    assert r.send(request_kind, 0, (segment(0, 1) * 2)[:length]) == Answer(IOERR, 1, b"")
    assert r.disk.log == []
    assert r.clauses == [OPERATION]


@ranges
def test_only_so_many_segments(request_kind: int, bit: int) -> None:
    limits = {f"max_{name}_seg": 3 for name in ("discard", "write_zeroes", "secure_erase")}
    r = blk(secure_erase=True, options=limits)
    assert r.send(request_kind, 0, segment(0, 1) * 3).status == OK
    r.disk.log.clear()
    assert r.send(request_kind, 0, segment(0, 1) * 4) == Answer(IOERR, 1, b"")
    assert r.disk.log == []
    assert r.clauses == [OPERATION]


@ranges
def test_only_so_many_sectors(request_kind: int, bit: int) -> None:
    limits = {f"max_{name}_sectors": 16 for name in ("discard", "write_zeroes", "secure_erase")}
    r = blk(secure_erase=True, options=limits)
    assert r.send(request_kind, 0, segment(0, 16)).status == OK
    r.disk.log.clear()
    assert r.send(request_kind, 0, segment(0, 1) + segment(0, 17)) == Answer(IOERR, 1, b"")
    assert r.disk.log == []
    assert r.clauses == [OPERATION]


@ranges
@pytest.mark.parametrize(
    ("sector", "count"), [(512, 1), (511, 2), (0, 513), ((1 << 64) - 1, 1), (1 << 63, 1), (0, 0xFFFF_FFFF)]
)
def test_ranges_beyond_the_capacity_are_an_error(
    request_kind: int, bit: int, sector: int, count: int
) -> None:
    r = blk(secure_erase=True)
    assert r.send(request_kind, 0, segment(0, 1) + segment(sector, count)) == Answer(IOERR, 1, b"")
    assert r.disk.log == []
    assert r.clauses == [OPERATION]


@ranges
def test_the_last_sector_is_inside(request_kind: int, bit: int) -> None:
    r = blk(secure_erase=True)
    assert r.send(request_kind, 0, segment(511, 1) + segment(0, 512)).status == OK


@kinds
@ranges
def test_segments_may_lie_in_pieces(kind: Kind, request_kind: int, bit: int) -> None:
    r = blk(kind=kind, secure_erase=True)
    data = segment(4, 2) + segment(9, 1)
    assert r.send(request_kind, 0, data, cuts=((3, 16, 20, 33), ())).status == OK
    assert [entry[1:3] for entry in r.disk.log] == [(2048, 1024), (4608, 512)]


@ranges
def test_one_bad_segment_fails_the_request_once_all_have_ended(request_kind: int, bit: int) -> None:
    r = blk(secure_erase=True)
    r.disk.bad_sectors = {50}
    assert r.send(request_kind, 0, segment(0, 1) + segment(50, 1) + segment(60, 1)) == Answer(IOERR, 1, b"")
    assert [entry[1] // 512 for entry in r.disk.log] == [0, 50, 60]


@ranges
def test_a_range_request_with_room_for_data_fills_it(request_kind: int, bit: int) -> None:
    r = blk(secure_erase=True)
    assert r.send(request_kind, 0, segment(0, 1), room=10) == Answer(OK, 11, bytes(10))


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


# --- resets with requests about


def hold(r: BlkRig) -> Event:
    gate = Event(r.device.context)
    r.disk.gate = gate
    return gate


@kinds
def test_a_reset_waits_for_the_disk_and_then_writes_nothing_more(kind: Kind) -> None:
    """CVE-2023-5088's lesson: the reset is over when the request is."""
    r = blk(kind=kind)
    gate = hold(r)
    sent = r.start(IN, 0, room=512)
    r.go()
    r.device.write_status(0)
    assert r.device.status != 0
    before = r.plain.copy()
    gate.set()
    for _ in range(100):
        if not r.device.context.turn():
            break
    assert r.device.status == 0
    changed = r.plain.differences(before)
    first, last = sent.writable[0][0], sent.writable[0][0] + 512
    assert all(first <= address < last for address in changed), "only the payload that was on its way"
    assert r.notifications.used == []


def test_a_reset_drops_what_the_machine_holds_back() -> None:
    r = blk()
    resets: list[int] = []
    r.device.on_reset = lambda: resets.append(1)
    r.run_state.stop()
    for sector in range(3):
        r.start(OUT, sector, bytes(512))
    r.start(DISCARD, 0, segment(0, 1) + segment(5, 1))
    r.go()
    r.device.write_status(0)
    assert r.device.status == 0
    assert resets == [1]
    r.run_state.cont()
    r.settle()
    assert r.disk.log == []
    assert not r.backend.in_flight


def test_a_queue_reset_leaves_other_queues_alone() -> None:
    """What is held back of another queue still comes to its end."""
    r = blk(num_queues=2)
    other = r.device.queues[1]
    parts = tuple(address + 0x3F_0000 - r.driver.parts[0] for address in r.driver.parts)
    assert r.plain.present(parts[2], 0x400)
    first = r.driver
    r.driver = DriverRing(r.plain, 8, (parts[0], parts[1], parts[2]), first.features)
    other.size, other.desc, other.driver, other.device = 8, *parts
    r.device.enable_queue(other)
    r.run_state.stop()
    sent = r.start(OUT, 9, payload(512))
    r.driver.expose()
    r.device.kick(1)
    r.device.reset_queue(r.device.queues[0])
    assert not r.device.queues[0].resetting
    r.settle()
    assert sent.length is None
    r.run_state.cont()
    r.settle()
    assert r.answer(sent) == Answer(OK, 1, b"")
    assert bytes(r.disk.data[9 * 512 :][:512]) == payload(512)


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
