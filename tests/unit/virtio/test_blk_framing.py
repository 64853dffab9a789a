"""virtio-blk: how the parts of a request may lie, VIRTIO 1.4 §2.7.4, and memory that is not there."""

from __future__ import annotations

import pytest

from devmodels.virtio_blk.config import Lifetime
from tests.unit.virtio.arena import UNTOUCHED, payload
from tests.unit.virtio.blkrig import (
    ARENA,
    GET_ID,
    GET_LIFETIME,
    IN,
    IOERR,
    OK,
    OPERATION,
    OUT,
    SECTOR,
    Answer,
    blk,
    header,
)
from tests.unit.virtio.dut import NEEDS_RESET
from tests.unit.virtio.plain import Kind, kinds

NOWHERE = 0x4000_0000_0000


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
