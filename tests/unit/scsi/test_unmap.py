"""UNMAP and GET LBA STATUS."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from devmodels.blockbackend.drivers.memory import CHUNK_SHIFT
from devmodels.scsi import Status
from tests.unit.scsi.initiator import BLOCKS, SIZE, Answer, World

GOOD = Status.GOOD
CHUNK = (1 << CHUNK_SHIFT) // 512
"""Blocks of which the memory disk knows together whether anything is there."""


def unmap(world: World, *ranges: tuple[int, int], cut: int = 0) -> Answer:
    body = b"".join(struct.pack(">QI4x", lba, blocks) for lba, blocks in ranges)
    data = struct.pack(">HH4x", len(body) + 6, len(body)) + body
    data = data[: len(data) - cut]
    return world.first.do(struct.pack(">BBxxxxBHB", 0x42, 0, 0, len(data), 0), out=data)


def status(world: World, lba: int, room: int = 1024) -> list[tuple[int, int, int]]:
    data = world.first.good(struct.pack(">BBQIBB", 0x9E, 0x12, lba, room, 0, 0), room=room)
    assert struct.unpack(">I", data[:4])[0] >= len(data) - 4
    return [struct.unpack(">QIB", data[at : at + 13]) for at in range(8, len(data) - 15, 16)]


def write(world: World, lba: int, blocks: int) -> None:
    world.first.good(struct.pack(">BBIBHB", 0x2A, 0, lba, 0, blocks, 0), out=b"m" * 512 * blocks)


def read(world: World, lba: int, blocks: int) -> bytes:
    return world.first.good(struct.pack(">BBIBHB", 0x28, 0, lba, 0, blocks, 0), room=512 * blocks)


def test_what_is_unmapped_reads_as_zeroes(world: World) -> None:
    write(world, 0, 8)
    assert unmap(world, (1, 2), (5, 1)).status is GOOD
    data = read(world, 0, 8)
    assert [bool(data[at]) for at in range(0, 4096, 512)] == [1, 0, 0, 1, 1, 0, 1, 1]


def test_nothing_to_unmap(world: World) -> None:
    assert unmap(world).status is GOOD
    assert unmap(world, (0, 0), (BLOCKS, 0)).status is GOOD
    assert world.first.do("42" + " 00" * 9).status is GOOD


@pytest.mark.parametrize(
    ("ranges", "code"),
    [
        ([(BLOCKS, 1)], 0x2100),
        ([(0, BLOCKS + 1)], 0x2100),
        ([(2**64 - 1, 1)], 0x2100),
        ([(0, 1)] * 257, 0x2600),
    ],
)
def test_all_is_judged_before_anything_is_done(
    world: World, ranges: list[tuple[int, int]], code: int
) -> None:
    write(world, 0, 1)
    assert unmap(world, (0, 1), *ranges).code == code
    assert read(world, 0, 1) == b"m" * 512


def test_more_than_the_limit(make: Callable[..., World]) -> None:
    world = make(max_unmap_size=8 * 512)
    assert unmap(world, (0, 4), (8, 4)).status is GOOD
    answer = unmap(world, (0, 4), (8, 5))
    assert (answer.code, answer.field) == (0x2600, (32, None))


def test_more_descriptors_than_the_limit(world: World) -> None:
    assert unmap(world, *[(0, 1)] * 256).status is GOOD
    answer = unmap(world, *[(0, 1)] * 257)
    assert (answer.code, answer.field) == (0x2600, (2, None))


@pytest.mark.parametrize(
    ("lba", "blocks", "first"), [(0, BLOCKS + 1, BLOCKS), (BLOCKS, 1, BLOCKS), (BLOCKS + 3, 1, BLOCKS + 3)]
)
def test_ranges_name_the_first_block_that_is_not_there(
    world: World, lba: int, blocks: int, first: int
) -> None:
    answer = unmap(world, (0, 1), (lba, blocks))
    assert (answer.code, answer.information) == (0x2100, first)


def test_lists_that_are_cut_off(world: World) -> None:
    assert unmap(world, (0, 1), cut=1).code == 0x1A00
    assert unmap(world, cut=1).code == 0x1A00
    assert world.first.do("42 00 00 00 00 00 00 00 18 00", out=bytes(8)).code == 0x1A00


def test_anchoring_is_refused(world: World) -> None:
    assert world.first.do("42 01 00 00 00 00 00 00 00 00").field == (1, 0)


def test_on_a_write_protected_disk(make: Callable[..., World]) -> None:
    assert unmap(make(read_only=True), (0, 1)).key == 7
    world = make()
    write(world, 0, 1)
    control = bytes(4) + bytes.fromhex("0a 0a 00 10 08") + bytes(7)
    world.first.good("15 10 00 00 10 00", out=control)
    answer = unmap(world, (0, 1))
    assert (answer.key, answer.code) == (7, 0x2702)
    assert read(world, 0, 1) == b"m" * 512


def test_the_status_of_blocks(world: World) -> None:
    write(world, CHUNK, CHUNK)
    assert status(world, 0) == [
        (0, CHUNK, 1),
        (CHUNK, CHUNK, 0),
        (2 * CHUNK, BLOCKS - 2 * CHUNK, 1),
    ]
    assert status(world, CHUNK + 3)[0] == (CHUNK + 3, CHUNK - 3, 0)
    assert unmap(world, (CHUNK, CHUNK)).status is GOOD
    assert status(world, 0) == [(0, BLOCKS, 1)]


def test_as_much_as_there_is_room_for(world: World) -> None:
    write(world, CHUNK, CHUNK)
    assert status(world, 0, 24) == [(0, CHUNK, 1)]
    assert len(status(world, 0, 40)) == 2
    answer = world.first.do(struct.pack(">BBQIBB", 0x9E, 0x12, 0, 4, 0, 0), room=255)
    assert answer.data == struct.pack(">I", 20)


def test_a_status_beyond_the_end(world: World) -> None:
    for lba, told in ((BLOCKS, BLOCKS), (BLOCKS + 3, BLOCKS + 3), (2**64 - 1, None)):
        answer = world.first.do(struct.pack(">BBQIBB", 0x9E, 0x12, lba, 24, 0, 0), room=24)
        assert (answer.code, answer.information) == (0x2100, told)


def test_without_thin_provisioning_everything_is_mapped(make: Callable[..., World]) -> None:
    assert status(make(thin=False), 3) == [(3, BLOCKS - 3, 0)]


def test_what_cannot_be_freed_stays_as_it_is(make: Callable[..., World], tmp_path: Path) -> None:
    """On a node that cannot unmap, UNMAP allocates nothing, and nobody is told that it zeroes (LBPRZ)."""
    (tmp_path / "image").write_bytes(bytes(SIZE))
    world = make({"driver": "file", "filename": str(tmp_path / "image")})
    data = bytes.fromhex("0016 0010 0000 0000") + struct.pack(">QI4x", 0, BLOCKS)
    before = world.backend.stats.wr_operations
    assert world.first.do("42 00 00 00 00 00 00 00 18 00", out=data).status is Status.GOOD
    assert world.backend.stats.wr_operations == before
    assert world.first.good("9e 10" + " 00" * 11 + " 20 00 00", room=32)[14] >> 6 == 0b10
    assert not world.first.good("12 01 b2 00 ff 00", room=255)[5] & 4
