"""A disk as an operating system first sees it: found, measured, read, written."""

from __future__ import annotations

import struct
from collections.abc import Callable

from devmodels.conformance import Profile
from devmodels.scsi import Status
from tests.unit.scsi.initiator import BLOCKS, World


def test_inquiry_names_the_disk(world: World) -> None:
    data = world.first.good("12 00 00 00 ff 00", room=255)
    assert len(data) == 96
    assert data[0] == 0
    assert data[8:16] == b"DEVMODEL"


def test_inquiry_is_cut_to_its_allocation_length(world: World) -> None:
    answer = world.first.do("12 00 00 00 24 00", room=255)
    assert answer.task.sent == answer.task.wanted == 36


def test_what_was_written_is_read_back(world: World) -> None:
    data = bytes(range(256)) * 4
    write = world.first.do("2a 00 00 00 00 05 00 00 02 00", out=data)
    assert (write.status, write.task.received) == (Status.GOOD, 1024)
    assert world.first.good("28 00 00 00 00 05 00 00 02 00", room=1024) == data
    assert world.first.good("88 00 00 00 00 00 00 00 00 06 00 00 00 01 00 00", room=512) == data[512:]


def test_a_read_beyond_the_end_names_the_first_block_that_is_not_there(world: World) -> None:
    answer = world.first.do("28 00 00 00 03 ff 00 00 02 00", room=1024)
    assert (answer.status, answer.key, answer.code) == (Status.CHECK_CONDITION, 5, 0x2100)
    assert answer.information == BLOCKS


def test_a_read_with_less_room_than_it_asks_for_fills_the_room(world: World) -> None:
    answer = world.first.do("28 00 00 00 00 00 00 00 02 00", room=512)
    assert (answer.status, answer.task.sent, answer.task.wanted) == (Status.GOOD, 512, 1024)


def test_capacity(world: World) -> None:
    assert world.first.good("25 00 00 00 00 00 00 00 00 00", room=8) == struct.pack(">II", BLOCKS - 1, 512)
    data = world.first.good("9e 10 00 00 00 00 00 00 00 00 00 00 00 20 00 00", room=32)
    assert struct.unpack(">QI", data[:12]) == (BLOCKS - 1, 512)


def test_synchronize_cache(world: World) -> None:
    assert world.first.good("35 00 00 00 00 00 00 00 00 00") == b""


def test_luns(world: World) -> None:
    assert world.first.good("a0 00 00 00 00 00 00 00 00 40 00 00", room=64) == struct.pack(">I12x", 8)


def test_no_unit_there(world: World) -> None:
    assert world.first.good("12 00 00 00 24 00", room=36, lun=7)[0] == 0x7F
    answer = world.first.do("00 00 00 00 00 00", lun=7)
    assert (answer.key, answer.code) == (5, 0x2500)


def test_an_unknown_command(world: World) -> None:
    answer = world.first.do("ff 00 00 00 00 00")
    assert (answer.key, answer.code, answer.field) == (5, 0x2000, (0, None))


def test_reserved_bits_are_refused_under_strict_only(world: World, make: Callable[..., World]) -> None:
    answer = world.first.do("00 00 00 40 00 00")
    assert (answer.key, answer.code, answer.field) == (5, 0x2400, (3, 6))
    (wrong,) = world.violations.recent
    assert (wrong.clause, wrong.summary) == ("SPC-4 §4.2.5.1", "TEST UNIT READY: byte 3 is 0x40")
    assert wrong.place.startswith("d0 LUN 0 tag")
    assert wrong.data == bytes((0, 0, 0, 0x40, 0, 0))

    lenient = make(profile=Profile.LENIENT)
    assert lenient.first.do("00 00 00 40 00 00").status is Status.GOOD


def test_naca_is_refused(world: World) -> None:
    answer = world.first.do("00 00 00 00 00 04")
    assert (answer.key, answer.code, answer.field) == (5, 0x2400, (5, 2))


def test_the_caching_page(world: World) -> None:
    data = world.first.good("1a 08 08 00 ff 00", room=255)
    assert data[:4] == bytes([23, 0, 0x10, 0])
    assert data[4:7] == bytes([8, 18, 4])


def test_writes_to_a_read_only_disk(make: Callable[..., World]) -> None:
    world = make(read_only=True)
    answer = world.first.do("2a 00 00 00 00 05 00 00 01 00", out=bytes(512))
    assert (answer.key, answer.code) == (7, 0x2700)
    assert world.first.good("1a 08 08 00 ff 00", room=255)[2] & 0x80


def test_a_disk_without_blocks_has_no_last_one() -> None:
    world = World({"driver": "memory", "size": 0})
    for cdb in ("25" + " 00" * 9, "9e 10" + " 00" * 11 + " 20 00 00"):
        answer = world.first.do(cdb, room=32)
        assert (answer.key, answer.code) == (3, 0x3100)
    world.close()
