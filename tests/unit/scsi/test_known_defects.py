"""What has gone wrong in other SCSI targets does not go wrong here."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from devmodels.scsi import Status
from devmodels.scsi.absent import AbsentUnit
from devmodels.scsi.disk import DiskOptions
from devmodels.scsi.lun import FLAT_LIMIT
from tests.unit.scsi.initiator import World


@pytest.mark.parametrize("page", ["3f 0a", "7f ff 00 08", "3f 12"])
def test_cve_2021_3930_mode_select_of_page_3f(world: World, page: str) -> None:
    data = bytes(4) + bytes.fromhex(page) + bytes(18)
    answer = world.first.do(f"15 10 00 00 {len(data):02x} 00", out=data)
    assert (answer.key, answer.code) == (5, 0x2600)


@pytest.mark.parametrize("opcode", [0x7E, 0x7F, 0xC0, 0xE1, 0xFF, 0x60])
@pytest.mark.parametrize("length", [0, 1, 5, 16, 32, 255])
def test_cve_2015_5158_the_length_of_an_unknown_cdb(world: World, opcode: int, length: int) -> None:
    answer = world.first.do(bytes((opcode,) * length))
    assert (answer.status, answer.code) == (Status.CHECK_CONDITION, 0x2000)


def test_cve_2013_4344_report_luns_with_more_than_256_units(world: World) -> None:
    for lun in range(1, 300):
        world.target.add(lun, AbsentUnit(world.context))
    world.target.add(FLAT_LIMIT - 1, AbsentUnit(world.context))
    data = world.first.good("a0 00 00 00 00 00 00 00 10 00 00 00", room=4096)
    assert struct.unpack(">I", data[:4])[0] == 8 * 301 == len(data) - 8
    assert data[8 + 8 * 256 :][:2].hex() == "4100"
    for room in (16, 17, 100, 2056):
        answer = world.first.do("a0 00 00 00 00 00 00 00 10 00 00 00", room=room)
        assert (answer.task.sent, answer.task.wanted) == (room, len(data))


@pytest.mark.parametrize("size", [0, 1, 256, 511, 513, 8192])
def test_cve_2023_42467_a_block_of_256_bytes(make: Callable[..., World], size: int) -> None:
    with pytest.raises(ValueError, match="logical_block_size"):
        DiskOptions(logical_block_size=size)
    world = make()
    data = bytes.fromhex("00 00 00 08 00 00 00 00 00") + size.to_bytes(3, "big")
    assert world.first.do(f"15 10 00 00 {len(data):02x} 00", out=data).code == 0x2600
    assert world.disk.block_size == 512


def test_a_block_address_that_wraps(world: World) -> None:
    for lba, blocks in ((2**64 - 1, 2), (2**64 - 1, 2**32 - 1), (2**63, 2**31)):
        for opcode in (0x88, 0x8A, 0x8F, 0x8E, 0x93, 0x91, 0x90, 0x8B):
            answer = world.first.do(struct.pack(">BBQIBB", opcode, 0, lba, blocks, 0, 0), room=512)
            assert (answer.key, answer.code) == (5, 0x2100)


def test_source_and_destination_lengths_that_disagree(world: World) -> None:
    compare = struct.pack(">BBQ3xBBB", 0x89, 0, 0, 4, 0, 0)
    assert world.first.do(compare, out=bytes(4096 - 512)).code == 0x2400
    unmap = struct.pack(">HH4x", 0xFFFF, 0xFFF0)
    assert world.first.do("42 00 00 00 00 00 00 00 08 00", out=unmap).code == 0x1A00
    copy = struct.pack(">BBH4xII", 1, 0, 0xFFE0, 0xFFFF_FFFF, 0)
    assert world.first.do("83 00 00 00 00 00 00 00 00 00 00 00 00 10 00 00", out=copy).code == 0x1A00
    register = struct.pack(">QQ4xB3xI", 0, 1, 8, 0xFFFF_FFFF)
    assert world.first.do("5f 00 00 00 00 00 00 00 1c 00", out=register).code == 0x1A00


def test_a_size_that_the_initiator_chooses_takes_no_memory(world: World) -> None:
    for cdb in (
        "a3 0c 00 00 00 00 ff ff ff ff 00 00",
        "9e 12 00 00 00 00 00 00 00 00 ff ff ff ff 00 00",
        "a0 00 00 00 00 00 ff ff ff ff 00 00",
        "b7 18 00 00 00 00 ff ff ff ff 00 00",
        "84 03 00 00 00 00 00 00 00 00 ff ff ff ff 00 00",
    ):
        answer = world.first.do(cdb, room=8)
        assert (answer.status, answer.task.sent) == (Status.GOOD, 8)
    for cdb in (
        "5f 00 00 00 00 ff ff ff ff 00",
        "a4 0e 00 00 00 00 ff ff ff ff 00 00",
        "83 00 00 00 00 00 00 00 00 00 ff ff ff ff 00 00",
    ):
        assert world.first.do(cdb, out=bytes(64)).code == 0x1A00
