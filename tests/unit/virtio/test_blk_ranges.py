"""virtio-blk: discard, write zeroes and secure erase, VIRTIO 1.4 §5.2.6."""

from __future__ import annotations

import pytest

from devmodels.blockbackend.request import Flags, Op
from tests.unit.virtio.blkrig import (
    DISCARD,
    IN,
    IOERR,
    OK,
    OPERATION,
    RANGES,
    SECURE_ERASE,
    UNSUPP,
    WRITE_ZEROES,
    Answer,
    blk,
    segment,
)
from tests.unit.virtio.plain import Kind, kinds

ranges = pytest.mark.parametrize(
    ("request_kind", "bit"), RANGES, ids=["discard", "write zeroes", "secure erase"]
)


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


@pytest.mark.parametrize(("request_kind", "flags"), UNKNOWN)
def test_no_more_segments_are_looked_at_than_a_request_may_have(request_kind: int, flags: int) -> None:
    """Else a request that is refused anyway costs what its driver likes."""
    limits = {f"max_{name}_seg": 3 for name in ("discard", "write_zeroes", "secure_erase")}
    r = blk(secure_erase=True, options=limits)
    assert r.send(request_kind, 0, segment(1, 1) * 3 + segment(0, 1, flags)) == Answer(IOERR, 1, b"")
    assert r.send(request_kind, 0, segment(1, 1) * 2 + segment(0, 1, flags) * 2) == Answer(UNSUPP, 1, b"")
    assert r.disk.log == []


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
