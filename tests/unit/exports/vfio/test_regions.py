"""Reads and writes of regions: one by one, several in one message, in pieces, without an answer."""

from __future__ import annotations

import errno
import struct

import pytest

from .client import CONFIG, READ, WRITE, WRITE_MULTI, Client, World, access
from .function import BAR_SIZE, IO_SIZE, MSIX_BAR, SCRATCH


def one(region: int, offset: int, data: bytes, count: int | None = None) -> bytes:
    return struct.pack("<QII8s", offset, region, len(data) if count is None else count, data)


def several(*writes: bytes, count: int | None = None) -> bytes:
    return struct.pack("<Q", len(writes) if count is None else count) + b"".join(writes)


def test_configuration_space_is_a_region(client: Client) -> None:
    assert client.read(CONFIG, 0, 4) == b"\x34\x12\x78\x56"
    client.set(CONFIG, 0x3C, 0x55, 1)
    assert client.word(CONFIG, 0x3C, 1) == 0x55
    whole = client.read(CONFIG, 0, 256)
    assert whole[:4] == b"\x34\x12\x78\x56"
    assert whole[0x3C] == 0x55


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_an_access_stays_as_wide_as_it_is(world: World, client: Client, size: int) -> None:
    data = bytes(range(1, 1 + size))
    client.write(0, SCRATCH, data)
    assert client.read(0, SCRATCH, size) == data
    value = int.from_bytes(data, "little")
    assert world.function.accesses == [("write", SCRATCH, size, value), ("read", SCRATCH, size, 0)]


def test_other_lengths_are_done_in_aligned_pieces(world: World, client: Client) -> None:
    client.write(0, 0x21, bytes(range(13)))
    assert [each[1:3] for each in world.function.accesses] == [
        (0x21, 1),
        (0x22, 2),
        (0x24, 4),
        (0x28, 4),
        (0x2C, 2),
    ]
    world.function.accesses.clear()
    assert client.read(0, 0x21, 13) == bytes(range(13))
    assert [each[1:3] for each in world.function.accesses] == [
        (0x21, 1),
        (0x22, 2),
        (0x24, 4),
        (0x28, 4),
        (0x2C, 2),
    ]
    world.function.accesses.clear()
    assert len(client.read(0, 0, BAR_SIZE)) == BAR_SIZE
    assert {each[2] for each in world.function.accesses} == {8}


def test_a_bar_is_reached_wherever_it_is(client: Client) -> None:
    """Its register and the enables are the client's affair."""
    client.set(CONFIG, 4, 0, 2)
    client.set(CONFIG, 0x10, 0)
    client.set(0, SCRATCH, 0xABCD)
    assert client.word(0, SCRATCH) == 0xABCD


def test_ports_are_a_region(client: Client) -> None:
    client.write(1, 4, b"ports")
    assert client.read(1, 4, 5) == b"ports"


def test_a_posted_write_has_no_answer_and_comes_before_a_read(client: Client) -> None:
    for value in range(50):
        client.post(WRITE, access(0, SCRATCH, 4, value.to_bytes(4, "little")))
    assert client.silent()
    assert client.word(0, SCRATCH) == 49


def test_commands_can_be_sent_before_answers_are_awaited(client: Client) -> None:
    numbers = []
    for value in range(40):
        numbers.append((client.send(WRITE, access(0, SCRATCH, 1, bytes([value]))), WRITE, b""))
        numbers.append((client.send(READ, access(0, SCRATCH, 1)), READ, bytes([value])))
    for number, command, data in numbers:
        assert client.answer(number, command).payload[16:] == data


BAD = [
    (0, 0, 0),
    (0, BAR_SIZE, 1),
    (0, BAR_SIZE - 3, 4),
    (0, 1 << 40, 4),
    (0, (1 << 64) - 4, 4),
    (0, (1 << 64) - 1, 4),
    (0, 0, 0xFFFF_FFFF),
    (1, IO_SIZE, 1),
    (3, 0, 1),
    (6, 0, 1),
    (8, 0, 1),
    (9, 0, 4),
    (0xFFFF_FFFF, 0, 4),
    (CONFIG, 253, 4),
]


@pytest.mark.parametrize("place", BAD)
def test_what_lies_outside_is_refused(world: World, client: Client, place: tuple[int, int, int]) -> None:
    region, offset, count = place
    assert client.ask(READ, access(region, offset, count)).error == errno.EINVAL
    data = bytes(min(count, 8))
    assert client.ask(WRITE, access(region, offset, count, data)).error == errno.EINVAL
    client.post(WRITE, access(region, offset, count, data))
    assert client.ask(WRITE_MULTI, several(one(region, offset, data, count))).error == errno.EINVAL
    assert client.silent()
    assert world.function.accesses == []


@pytest.mark.parametrize("data", [b"", b"123", b"12345"])
def test_a_write_has_as_many_bytes_as_it_says(world: World, client: Client, data: bytes) -> None:
    assert client.ask(WRITE, access(0, SCRATCH, 4, data)).error == errno.EINVAL
    assert client.ask(READ, access(0, SCRATCH, 4, b"x")).error == errno.EINVAL
    assert world.function.accesses == []


def test_several_writes_in_one_message(world: World, client: Client) -> None:
    writes = [one(0, SCRATCH, b"\x01\x02"), one(CONFIG, 0x3C, b"\x77"), one(0, SCRATCH + 2, b"12345678")]
    assert client.ok(WRITE_MULTI, several(*writes)) == struct.pack("<Q", 3)
    assert client.read(0, SCRATCH, 10) == b"\x01\x0212345678"
    assert client.word(CONFIG, 0x3C, 1) == 0x77
    client.post(WRITE_MULTI, several(*[one(0, SCRATCH, bytes([n])) for n in range(200)]))
    assert client.silent()
    assert client.word(0, SCRATCH, 1) == 199
    assert client.ok(WRITE_MULTI, several()) == struct.pack("<Q", 0)
    assert world.function.accesses[0] == ("write", SCRATCH, 2, 0x0201)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        bytes(7),
        several(one(0, SCRATCH, b"1"), count=2),
        several(one(0, SCRATCH, b"1"), count=0),
        several(one(0, SCRATCH, b"1"), count=(1 << 64) - 1),
        several(one(0, SCRATCH, b"1"), one(0, SCRATCH, b"12345678", 9)),
        several(one(0, SCRATCH, b"1"), one(0, BAR_SIZE, b"1")),
        several(one(0, SCRATCH, b"1")) + b"\0",
        several(*[one(0, SCRATCH, b"1")] * 1025),
    ],
)
def test_several_writes_are_done_all_or_none(world: World, client: Client, payload: bytes) -> None:
    assert client.ask(WRITE_MULTI, payload).error == errno.EINVAL
    assert world.function.accesses == []


def test_the_msix_table_here_is_not_the_clients(client: Client) -> None:
    """It keeps its own; a write that only touches it is nothing, beside it there are the pending bits."""
    before = client.read(MSIX_BAR, 0, 64)
    client.write(MSIX_BAR, 0, b"\xff" * 64)
    client.write(MSIX_BAR, 60, b"\0" * 4)
    assert client.read(MSIX_BAR, 0, 64) == before
