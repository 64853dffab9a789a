"""LOG SENSE, READ and WRITE BUFFER, SEND DIAGNOSTIC, REPORT and SET PRIORITY, and thin provisioning's thresholds."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from devmodels.blockbackend import Request
from devmodels.blockbackend.drivers.memory import CHUNK_SHIFT, MemoryNode, MemoryOptions
from devmodels.blockbackend.status import BlockStatus
from devmodels.blockbackend.status import Status as Place
from devmodels.iocontext import IoContext
from devmodels.scsi import Outcome, Status, sas_transport_id
from tests.unit.scsi.initiator import Initiator, World

GOOD = Status.GOOD
READY = "00 00 00 00 00 00"
CHUNK = 1 << CHUNK_SHIFT


# --- LOG SENSE


def log(
    world: World, page: int, subpage: int = 0, pointer: int = 0, room: int = 1024, control: int = 1
) -> bytes:
    cdb = struct.pack(">BBBBxHHB", 0x4D, 0, control << 6 | page, subpage, pointer, room, 0)
    return world.first.good(cdb, room=room)


def parameters(data: bytes) -> dict[int, bytes]:
    assert struct.unpack(">H", data[2:4])[0] == len(data) - 4
    out, at = {}, 4
    while at < len(data):
        out[struct.unpack(">H", data[at : at + 2])[0]] = data[at + 4 : at + 4 + data[at + 3]]
        at += 4 + data[at + 3]
    assert at == len(data)
    return out


def test_each_page_that_is_listed_can_be_had(world: World) -> None:
    pages = log(world, 0)[4:]
    assert list(pages) == [0x00, 0x02, 0x03, 0x0C, 0x19, 0x2F]
    for page in pages[1:]:
        assert parameters(log(world, page))
    assert log(world, 0, 0xFF)[4:8].hex() == "000000ff"


def test_counters_go_on(world: World) -> None:
    world.first.good("2a 00 00 00 00 00 00 00 02 00", out=bytes(1024))
    world.first.good("28 00 00 00 00 00 00 00 01 00", room=512)
    assert int.from_bytes(parameters(log(world, 2))[5], "big") == 1024
    assert int.from_bytes(parameters(log(world, 3))[5], "big") == 512
    reads, writes, received, sent = struct.unpack(">4Q", parameters(log(world, 0x19))[1][:32])
    assert (reads, writes, received, sent) == (1, 1, 2, 1)


@pytest.mark.parametrize(("control", "value"), [(0, b"\xff"), (2, b"\xff"), (3, b"\0")])
def test_counters_have_no_thresholds_and_begin_with_nothing(world: World, control: int, value: bytes) -> None:
    world.first.good("2a 00 00 00 00 00 00 00 02 00", out=bytes(1024))
    assert parameters(log(world, 2, control=control))[5] == value * 8
    assert parameters(log(world, 0x19, control=control))[1] == parameters(log(world, 0x19))[1]


def test_from_a_parameter_on(world: World) -> None:
    assert list(parameters(log(world, 2, pointer=6))) == [6]
    assert world.first.do(struct.pack(">BBBBxHHB", 0x4D, 0, 0x42, 0, 7, 64, 0), room=64).field == (5, None)


@pytest.mark.parametrize(
    ("cdb", "field"),
    [
        ("4d 00 7e 00 00 00 00 00 ff 00", (2, 5)),
        ("4d 00 42 01 00 00 00 00 ff 00", (3, None)),
        ("4d 00 40 01 00 00 00 00 ff 00", (3, None)),
        ("4d 00 40 00 00 00 01 00 ff 00", (5, None)),
        ("4d 01 40 00 00 00 00 00 ff 00", (1, 0)),
        ("4d 02 40 00 00 00 00 00 ff 00", (1, 1)),
    ],
)
def test_pages_that_are_not_there(world: World, cdb: str, field: tuple[int, int | None]) -> None:
    answer = world.first.do(cdb, room=255)
    assert (answer.code, answer.field) == (0x2400, field)


# --- buffers


def buffer(opcode: int, mode: int, offset: int, length: int, number: int = 0) -> bytes:
    return bytes((opcode, mode, number)) + offset.to_bytes(3, "big") + length.to_bytes(3, "big") + b"\0"


def test_a_buffer_is_written_and_read(world: World) -> None:
    assert world.first.good(buffer(0x3C, 3, 0, 4), room=4).hex() == "00010000"
    assert world.first.good(buffer(0x3C, 2, 10, 8), room=8) == bytes(8)
    world.first.good(buffer(0x3B, 2, 12, 3), out=b"abc")
    assert world.second.good(buffer(0x3C, 2, 10, 8), room=8) == b"\0\0abc\0\0\0"
    assert world.first.good(buffer(0x3C, 0, 12, 8), room=8) == b"\0\1\0\0abc\0"
    assert len(world.first.good(buffer(0x3C, 2, 65530, 100), room=100)) == 6


def test_an_echo_is_for_its_nexus(world: World) -> None:
    assert world.first.do(buffer(0x3C, 10, 0, 8), room=8).code == 0x2C00
    world.first.good(buffer(0x3B, 10, 0, 5), out=b"hello")
    assert world.first.good(buffer(0x3C, 10, 0, 252), room=252) == b"hello"
    assert world.second.do(buffer(0x3C, 10, 0, 8), room=8).code == 0x2C00
    world.second.good(buffer(0x3B, 10, 0, 3), out=b"you")
    assert world.first.good(buffer(0x3C, 10, 0, 252), room=252) == b"hello"
    assert world.first.good(buffer(0x3C, 11, 0, 4), room=4).hex() == "01001000"
    world.target.nexus_lost(world.first.nexus)
    assert world.first.nexus not in world.disk.buffers.echoes


def test_not_everybodys_echo_is_kept(world: World) -> None:
    for number in range(100):
        initiator = Initiator(world.target, 100 + number)
        initiator.clear()
        initiator.good(buffer(0x3B, 10, 0, 1), out=b"x")
    assert len(world.disk.buffers.echoes) == 64


@pytest.mark.parametrize(
    ("cdb", "field"),
    [
        (buffer(0x3C, 2, 0, 4, number=1), (2, None)),
        (buffer(0x3C, 2, 65537, 4), (3, None)),
        (buffer(0x3B, 2, 65530, 8), (6, None)),
        (buffer(0x3B, 10, 0, 4097), (6, None)),
        (buffer(0x3C, 5, 0, 4), (1, 4)),
        (buffer(0x3B, 4, 0, 4), (1, 4)),
        (buffer(0x3B, 0x22, 0, 4), (1, 7)),
    ],
)
def test_buffers_that_are_not_there(world: World, cdb: bytes, field: tuple[int, int | None]) -> None:
    answer = world.first.do(cdb, room=8, out=bytes(5000))
    assert (answer.code, answer.field) == (0x2400, field)


# --- SEND DIAGNOSTIC


def test_the_self_test_passes(world: World) -> None:
    assert world.first.do("1d 04 00 00 00 00").status is GOOD
    assert world.first.do("1d 24 00 00 00 00").field == (1, 5)
    assert world.first.do("1d 10 00 00 04 00", out=bytes(4)).field == (3, None)


# --- priorities


def test_priorities_are_kept_by_nexus(world: World) -> None:
    report = "a3 0e {:02x} 00 00 00 00 00 01 00 00 00"
    data = world.first.good(report.format(0), room=256)
    assert data[:4] == (32).to_bytes(4, "big")
    assert (data[4], data[12:]) == (0, sas_transport_id(1))
    world.first.good("a4 0e 00 00 00 00 00 00 00 08 00 00", out=b"\x05" + bytes(7))
    name = sas_transport_id(2)
    out = struct.pack(">BxHxxH", 9, 1, len(name)) + name
    world.first.good("a4 0e 80 00 00 00 00 00 00 20 00 00", out=out)
    assert world.second.good(report.format(0), room=256)[4] == 9
    data = world.first.good(report.format(0x40), room=256)
    assert [data[at] for at in range(4, len(data), 32)] == [5, 9]
    world.first.good("a4 0e 40 00 00 00 00 00 00 00 00 00")
    assert world.first.good(report.format(0), room=256)[4] == 0


@pytest.mark.parametrize(
    ("cdb", "out", "code"),
    [
        ("a3 0e 80 00 00 00 00 00 01 00 00 00", b"", 0x2400),
        ("a4 0e c0 00 00 00 00 00 00 08 00 00", bytes(8), 0x2400),
        ("a4 0e 00 00 00 00 00 00 00 07 00 00", bytes(7), 0x1A00),
        ("a4 0e 80 00 00 00 00 00 00 08 00 00", bytes(8), 0x2600),
        ("a4 0e 80 00 00 00 00 00 00 0c 00 00", bytes(12), 0x2600),
    ],
)
def test_priorities_that_are_none(world: World, cdb: str, out: bytes, code: int) -> None:
    assert world.first.do(cdb, out=out, room=256).code == code


# --- thin provisioning (SBC-4 §4.7.3.8)


def thin(make: Callable[..., World]) -> World:
    """A disk of eight threshold sets of 1 MiB."""
    return make({"driver": "memory", "size": 8 << 20})


def threshold(world: World, resource: int, count: int, *, downwards: bool = False) -> None:
    descriptor = struct.pack(">BBxxI", 0x80 | downwards, resource, count)
    page = bytes.fromhex("5c 02 00 2c") + bytes(12) + descriptor + bytes(24)
    data = bytes(4) + page
    world.first.good(f"15 10 00 00 {len(data):02x} 00", out=data)
    world.second.clear()


def write(world: World, megabytes: int, count: int = 1) -> None:
    for at in range(megabytes, megabytes + count):
        world.first.do(struct.pack(">BBIBHB", 0x2A, 0, at << 11, 0, 2048, 0), out=b"x" * (1 << 20))
    world.context.run_until_idle()


def test_what_is_used_and_what_is_left(make: Callable[..., World]) -> None:
    world = thin(make)
    write(world, 2, 3)
    found = parameters(log(world, 0x0C))
    assert struct.unpack(">IBxxx", found[1]) == (5, 1)
    assert struct.unpack(">IBxxx", found[2]) == (3, 1)
    # A part of a set is used, and not left.
    world.first.good(struct.pack(">BBIBHB", 0x2A, 0, 6 << 11, 0, 1, 0), out=b"x" * 512)
    found = parameters(log(world, 0x0C))
    assert struct.unpack(">IBxxx", found[1]) == (4, 1)
    assert struct.unpack(">IBxxx", found[2]) == (4, 1)


def test_a_threshold_that_is_crossed_is_told_once(make: Callable[..., World]) -> None:
    world = thin(make)
    threshold(world, 2, 3)
    write(world, 0, 2)
    assert world.second.do(READY).status is GOOD
    write(world, 2, 1)
    assert world.second.do(READY).code == 0x3807
    assert world.first.do(READY).code == 0x3807
    write(world, 3, 1)
    assert world.second.do(READY).status is GOOD


@pytest.mark.parametrize(
    ("cdb", "data"),
    [
        (struct.pack(">BBIBHB", 0x41, 0, 0, 0, 8192, 0), b"x" * 512),
        (struct.pack(">BBIBHB", 0x2E, 0, 0, 0, 8192, 0), b"x" * (4 << 20)),
        (struct.pack(">BBQIBB", 0x8B, 0, 0, 8192, 0, 0), b"x" * (4 << 20)),
    ],
)
def test_whatever_writes_may_cross_a_threshold(make: Callable[..., World], cdb: bytes, data: bytes) -> None:
    world = thin(make)
    threshold(world, 2, 3)
    world.first.good(cdb, out=data)
    world.context.run_until_idle()
    assert world.second.do(READY).code == 0x3807


def test_other_mode_pages_do_not_arm_a_threshold_anew(make: Callable[..., World]) -> None:
    world = thin(make)
    threshold(world, 2, 3)
    write(world, 0, 4)
    assert world.second.do(READY).code == 0x3807
    world.first.clear()
    exceptions = bytes(4) + bytes.fromhex("1c 0a 08") + bytes(9)
    world.first.good("15 10 00 00 10 00", out=exceptions)
    world.context.run_until_idle()
    assert world.second.do(READY).code == 0x2A01
    assert world.second.do(READY).status is GOOD


def test_a_threshold_of_what_is_left(make: Callable[..., World]) -> None:
    world = thin(make)
    threshold(world, 1, 6, downwards=True)
    write(world, 0, 1)
    assert world.second.do(READY).status is GOOD
    write(world, 1, 1)
    assert world.second.do(READY).code == 0x3807


def test_a_threshold_that_is_crossed_already(make: Callable[..., World]) -> None:
    world = thin(make)
    write(world, 0, 4)
    threshold(world, 2, 2)
    assert world.first.do(READY).code == 0x3807


class Stripes(MemoryNode):
    """16 MiB of which each second block of 4 KiB has a place, but for the last quarter; `asked` counts questions."""

    def __init__(self) -> None:
        super().__init__(MemoryOptions(driver="memory", size=16 << 20, discard="unmap"), IoContext.virtual())
        self.asked = 0

    async def block_status(self, request: Request) -> BlockStatus:
        self.asked += 1
        if request.offset >= 12 << 20:
            return BlockStatus(Place.ZERO, request.length)
        index, within = divmod(request.offset, 4096)
        return BlockStatus(Place.ZERO if index % 2 else Place.DATA, min(4096 - within, request.length))


def used_and_left(world: World) -> list[int]:
    found = parameters(log(world, 0x0C))
    return [struct.unpack(">IBxxx", found[resource])[0] for resource in (2, 1)]


def test_a_look_at_many_runs_is_bounded_and_the_next_one_goes_on(make: Callable[..., World]) -> None:
    node = Stripes()
    world = make(node)
    # A quarter of the disk, and what that says of the rest.
    assert used_and_left(world) == [8, 8]
    assert node.asked == 1024
    for _ in range(2):
        used_and_left(world)
    assert node.asked == 3 * 1024
    assert used_and_left(world) == [6, 10]


def test_a_threshold_looks_at_what_has_been_written_and_no_more(make: Callable[..., World]) -> None:
    node = Stripes()
    world = make(node)
    threshold(world, 2, 9)
    world.context.run_until_idle()
    node.asked = 0
    write(world, 0)
    assert 256 <= node.asked <= 512


def test_a_disk_that_is_taken_out_is_looked_at_no_more(make: Callable[..., World]) -> None:
    node = Stripes()
    world = make(node)
    world.run_state.stop("paused")
    task = world.first.send("4d 00 4c 00 00 00 00 00 ff 00", room=255)
    gone: list[bool] = []
    world.target.remove(0, lambda: gone.append(True))
    world.context.run_until_idle()
    assert (gone, task.outcome) == ([True], Outcome.RESET)


def test_nor_for_its_thresholds(make: Callable[..., World]) -> None:
    node = Stripes()
    world = make(node)
    world.run_state.stop("paused")
    descriptor = struct.pack(">BBxxI", 0x80, 2, 3)
    data = bytes(4) + bytes.fromhex("5c 02 00 2c") + bytes(12) + descriptor + bytes(24)
    world.first.send(f"15 10 00 00 {len(data):02x} 00", out=data)
    world.context.run_until_idle()
    gone: list[bool] = []
    world.target.remove(0, lambda: gone.append(True))
    world.context.run_until_idle()
    world.run_state.cont()
    world.context.run_until_idle()
    assert (gone, node.asked) == ([True], 0)


@pytest.mark.parametrize(
    ("descriptor", "byte", "bit"),
    [
        ("88 02 00 00 00 00 00 01", 20, 5),
        ("82 02 00 00 00 00 00 01", 20, 5),
        ("80 03 00 00 00 00 00 01", 21, None),
    ],
)
def test_thresholds_of_what_is_not_counted(
    make: Callable[..., World], descriptor: str, byte: int, bit: int | None
) -> None:
    world = thin(make)
    data = bytes(4) + bytes.fromhex("5c 02 00 2c") + bytes(12) + bytes.fromhex(descriptor) + bytes(24)
    answer = world.first.do(f"15 10 00 00 {len(data):02x} 00", out=data)
    assert (answer.code, answer.field) == (0x2600, (byte, bit))


@pytest.mark.parametrize("mode", ["00", "02", "03", "0b"])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 5])
def test_no_buffer_is_longer_than_there_is_room_for(world: World, mode: str, length: int) -> None:
    answer = world.first.do(f"3c {mode} 00 00 00 00 00 00 {length:02x} 00", room=64)
    assert len(answer.data) == (min(length, 4) if mode in ("03", "0b") else length)
