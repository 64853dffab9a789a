"""EXTENDED COPY and what RECEIVE COPY RESULTS tells of it."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend import BlockBackend, Op, open_node
from devmodels.scsi import Function, Outcome, Status
from devmodels.scsi.disk import Disk, DiskOptions
from tests.unit.blockbackend.support import WatchedNode
from tests.unit.scsi.initiator import BLOCKS, Answer, World
from tests.unit.scsi.slowdisk import SlowWorld

GOOD = Status.GOOD
DISCARD, NO_LIST = 2, 3


def target(name: int, kind: int = 0xE4, device: int = 0, size: int = 512) -> bytes:
    """A target descriptor by NAA name."""
    return struct.pack(">BBHBBxB8s12xBBH", kind, device, 0, 1, 3, 8, name.to_bytes(8, "big"), 0, 0, size)


def blocks(source: int, destination: int, count: int, start: int, end: int, dc: int = 0) -> bytes:
    return struct.pack(">BBHHHxxHQQ", 2, 2 * dc, 24, source, destination, count, start, end)


def by_bytes(length: int, start: int, end: int, from_byte: int = 0, to_byte: int = 0) -> bytes:
    return struct.pack(">BBHHHIQQHH", 0x0A, 0, 28, 0, 0, length, start, end, from_byte, to_byte)


def copy(
    world: World, targets: list[bytes], segments: list[bytes], *, list_id: int = 1, usage: int = 0
) -> Answer:
    lists = [b"".join(targets), b"".join(segments)]
    data = struct.pack(">BBH4xII", list_id, usage << 3, len(lists[0]), len(lists[1]), 0) + b"".join(lists)
    return world.first.do(struct.pack(">BB8xIxx", 0x83, 0, len(data)), out=data)


def receive(world: World, action: int, list_id: int = 1) -> Answer:
    return world.first.do(struct.pack(">BBB7xIxx", 0x84, action, list_id, 1024), room=1024)


def write(world: World, lba: int, data: bytes) -> None:
    world.first.good(struct.pack(">BBIBHB", 0x2A, 0, lba, 0, len(data) // 512, 0), out=data)


def read(world: World, lba: int, count: int, lun: int = 0) -> bytes:
    return world.first.good(struct.pack(">BBIBHB", 0x28, 0, lba, 0, count, 0), room=count * 512, lun=lun)


@pytest.fixture
def me(world: World) -> bytes:
    """The descriptor of the world's disk."""
    return target(world.disk.identity.naa)


def test_within_one_disk(world: World, me: bytes) -> None:
    write(world, 0, b"a" * 1024)
    assert copy(world, [me], [blocks(0, 0, 2, 0, 100), blocks(0, 0, 1, 100, 200)]).status is GOOD
    assert read(world, 100, 2) == b"a" * 1024
    assert read(world, 200, 2) == b"a" * 512 + bytes(512)


def test_by_bytes(world: World, me: bytes) -> None:
    write(world, 0, bytes(range(256)) * 4)
    assert copy(world, [me], [by_bytes(700, 0, 10, 3, 5)]).status is GOOD
    assert read(world, 10, 2)[5:705] == (bytes(range(256)) * 4)[3:703]


def test_between_disks_of_one_target(world: World, me: bytes) -> None:
    node = open_node({"driver": "memory", "size": 64 << 10}, world.context)
    backend = BlockBackend(node, name="d1")
    other = Disk(backend, DiskOptions(logical_block_size=4096, physical_block_size=4096, wwn=0x5000))
    world.target.add(1, other)
    world.first.clear()
    world.first.clear(1)
    write(world, 8, b"b" * 4096)
    targets = [me, target(0x5000)]
    assert copy(world, targets, [blocks(0, 1, 8, 8, 1)]).status is GOOD
    data = world.first.good("28 00 00 00 00 01 00 00 01 00", room=4096, lun=1)
    assert data == b"b" * 4096
    assert copy(world, targets, [blocks(1, 0, 1, 1, 16, dc=0)]).status is GOOD
    assert read(world, 16, 8) == b"b" * 4096
    assert copy(world, targets, [blocks(1, 0, 1, 1, 64, dc=1)]).status is GOOD
    assert read(world, 64, 2) == b"b" * 512 + bytes(512)
    world.target.remove(1)
    other.close()
    backend.close()
    node.close()


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 24))
def test_ranges_that_overlap(start: int, end: int, count: int) -> None:
    world = World()
    before = b"".join(bytes((number,)) * 512 for number in range(64))
    write(world, 0, before)
    assert copy(world, [target(world.disk.identity.naa)], [blocks(0, 0, count, start, end)]).status is GOOD
    model = bytearray(before)
    model[end * 512 : (end + count) * 512] = before[start * 512 : (start + count) * 512]
    assert read(world, 0, 64) == model
    world.close()


def test_a_long_overlapping_copy_goes_from_its_end() -> None:
    world = World({"driver": "memory", "size": 8 << 20})
    pattern = b"".join(number.to_bytes(4, "big") * 128 for number in range(3 * 2048))
    write(world, 0, pattern)
    assert copy(world, [target(world.disk.identity.naa)], [blocks(0, 0, 3 * 2048, 0, 1000)]).status is GOOD
    assert read(world, 1000, 3 * 2048) == pattern
    write(world, 1000, pattern)
    assert copy(world, [target(world.disk.identity.naa)], [blocks(0, 0, 3 * 2048, 1000, 0)]).status is GOOD
    assert read(world, 0, 3 * 2048) == pattern
    world.close()


def test_lists_that_are_wrong(world: World, me: bytes) -> None:
    one = blocks(0, 0, 1, 0, 1)
    for targets, segments, code in (
        ([target(1, kind=0xE0)], [one], 0x2607),
        ([me], [b"\x03" + one[1:]], 0x2609),
        ([me] * 17, [one], 0x2606),
        ([me], [one] * 65, 0x2608),
        ([me] * 17, [one] * 300, 0x1A00),
        ([me], [one[:20]], 0x1A00),
        ([me], [one[:3] + b"\x01" + one[4:]], 0x2600),
        ([target(1, device=5)], [one], 0x2600),
        ([me[:31]], [], 0x2600),
    ):
        answer = copy(world, targets, segments)
        assert (answer.key, answer.code) == (5, code)


def test_inline_data_and_lists_that_are_cut_off(world: World, me: bytes) -> None:
    data = struct.pack(">BBH4xII", 1, 0, 32, 28, 4) + me + blocks(0, 0, 1, 0, 1)
    assert world.first.do(struct.pack(">BB8xIxx", 0x83, 0, len(data)), out=data).code == 0x260B
    data = struct.pack(">BBH4xII", 1, 0, 32, 28, 0) + me + blocks(0, 0, 1, 0, 1)
    for length in (8, 47, 75):
        answer = world.first.do(struct.pack(">BB8xIxx", 0x83, 0, length), out=data[:length])
        assert answer.code == 0x1A00
    assert world.first.do(struct.pack(">BB8xIxx", 0x83, 0, 0)).status is GOOD
    assert world.first.do(struct.pack(">BB8xIxx", 0x83, 0, 1 << 20), out=data).code == 0x1A00


def test_segments_that_cannot_be_copied(world: World, me: bytes) -> None:
    for targets, segment in (
        ([me], blocks(0, 1, 1, 0, 1)),
        ([target(0x99)], blocks(0, 0, 1, 0, 1)),
        ([me], blocks(0, 0, 2, 0, BLOCKS - 1)),
        ([me], blocks(0, 0, 2, BLOCKS - 1, 0)),
        ([me], by_bytes(17 << 20, 0, 0)),
    ):
        answer = copy(world, targets, [blocks(0, 0, 1, 0, 1) if targets == [me] else segment, segment])
        assert answer.key == 0xA
        if targets == [me]:
            assert int.from_bytes(answer.task.sense[8:12], "big") == 1


def test_a_disk_that_fails_is_a_third_party() -> None:
    world = SlowWorld()
    world.watched.held = False
    world.watched.errors[Op.WRITE, 5 * 512] = OSError(errno.EIO, "as told")
    answer = copy(world, [target(world.disk.identity.naa)], [blocks(0, 0, 1, 0, 5)])
    assert (answer.key, answer.code) == (0xA, 0x0D01)
    details = receive(world, 4)
    assert details.data[56] == 2
    assert details.data[60 + 2] == 0xA
    assert receive(world, 4).code == 0x2400
    world.close()


def test_what_cannot_be_written(make: Callable[..., World]) -> None:
    world = make(read_only=True)
    assert copy(world, [target(world.disk.identity.naa)], [blocks(0, 0, 1, 0, 1)]).code == 0x0D02


def test_how_it_went(world: World, me: bytes) -> None:
    assert receive(world, 0).code == 0x2400
    copy(world, [me], [blocks(0, 0, 2, 0, 100)] * 3, list_id=7)
    data = receive(world, 0, 7).data
    assert struct.unpack(">IBHBI", data) == (8, 1, 3, 0, 3072)
    assert receive(world, 0, 7).code == 0x2400


@pytest.mark.parametrize("usage", [DISCARD, NO_LIST])
def test_results_that_are_not_held(world: World, me: bytes, usage: int) -> None:
    assert copy(world, [me], [blocks(0, 0, 1, 0, 1)], list_id=7, usage=usage).status is GOOD
    assert receive(world, 0, 7).code == 0x2400


def test_one_list_identifier_at_a_time() -> None:
    world = SlowWorld()
    me = target(world.disk.identity.naa)
    data = struct.pack(">BBH4xII", 1, 0, 32, 28, 0) + me + blocks(0, 0, 1, 0, 1)
    cdb = struct.pack(">BB8xIxx", 0x83, 0, len(data))
    world.backend._read_now = None
    running = world.first.send(cdb, out=data)
    assert world.first.do(cdb, out=data).code == 0x0016
    status = receive(world, 0)
    assert status.data[4] == 0
    world.watched.held = False
    world.release()
    assert running.status is GOOD
    world.close()


def test_not_all_results_are_held(world: World, me: bytes) -> None:
    for list_id in range(100):
        assert copy(world, [me], [blocks(0, 0, 1, 0, 1)], list_id=list_id).status is GOOD
    assert receive(world, 0, 0).code == 0x2400
    assert receive(world, 0, 99).status is GOOD
    world.target.nexus_lost(world.first.nexus)
    assert receive(world, 0, 98).code == 0x2400


def test_what_a_copy_may_be(world: World) -> None:
    data = receive(world, 3).data
    assert struct.unpack(">I", data[:4])[0] == len(data) - 4
    assert struct.unpack(">HHII", data[8:20]) == (16, 64, 8192, 16 << 20)
    assert data[43] == len(data[44:]) == 3
    assert world.first.good("12 00 00 00 24 00", room=36)[5] & 8


# --- the other disk


class Two(World):
    """A disk at LUN 0, and at LUN 1 one whose requests end when a test says so, to which LUN 0 copies 2 MiB."""

    def __init__(self) -> None:
        super().__init__({"driver": "memory", "size": 4 << 20}, wwn=0x5000)
        self.watched = WatchedNode(self.context, 4 << 20)
        self.far = BlockBackend(self.watched, name="d1", run_state=self.run_state)
        self.other = Disk(self.far, DiskOptions(wwn=0x5001))
        self.target.add(1, self.other)
        self.first.clear()
        self.first.clear(1)

    def start(self) -> Answer:
        lists = target(0x5000) + target(0x5001), blocks(0, 1, 4096, 0, 0)
        data = struct.pack(">BBH4xII", 1, 0, len(lists[0]), len(lists[1]), 0) + b"".join(lists)
        self.watched.held = True
        answer = self.first.send(struct.pack(">BB8xIxx", 0x83, 0, len(data)), out=data)
        self.context.run_until_idle()
        assert not answer.ended
        return answer

    def close(self) -> None:
        self.watched.held = False
        self.watched.release()
        self.context.run_until_idle()
        self.other.close()
        self.far.close()
        self.watched.close()
        super().close()


@pytest.mark.parametrize("function", [Function.LOGICAL_UNIT_RESET, Function.ABORT_TASK])
def test_what_the_other_disk_holds_back_is_dropped(function: Function) -> None:
    world = Two()
    world.far.quiesce()
    answer = world.start()
    done = world.first.manage(function, tag=answer.task.tag)
    world.context.run_until_idle()
    assert (len(done), answer.ended) == (1, True)
    assert not world.watched.seen or all(each.op is not Op.WRITE for each in world.watched.seen)
    world.far.unquiesce()
    world.close()


def test_others_that_the_other_disk_holds_back_stay() -> None:
    world = Two()
    world.second.clear(1)
    world.far.quiesce()
    other = world.second.send("2a 00 00 00 00 00 00 00 01 00", out=bytes(512), lun=1)
    answer = world.start()
    world.first.manage(Function.ABORT_TASK, tag=answer.task.tag)
    world.watched.held = False
    world.far.unquiesce()
    world.watched.release()
    world.context.run_until_idle()
    assert (answer.outcome, other.status) == (Outcome.ABORTED, Status.GOOD)
    world.close()


def test_a_disk_that_is_copied_to_is_taken_out_when_nothing_is_written_any_more() -> None:
    world = Two()
    answer = world.start()
    over: list[bool] = []
    world.target.remove(1, lambda: over.append(True))
    world.context.run_until_idle()
    assert not over, "its WRITE still runs"
    world.watched.release()
    world.context.run_until_idle()
    assert over
    assert not world.far.in_flight
    assert (answer.key, answer.code) == (0xA, 0x0D02), "COPY TARGET DEVICE NOT REACHABLE"
    world.close()


def test_a_disk_that_is_copied_to_is_sanitized_when_nothing_is_written_any_more() -> None:
    world = Two()
    copied = world.start()
    answer = world.second.send("48 82 00 00 00 00 00 00 00 00", lun=1)
    while answer.key == 6:
        answer = world.second.send("48 82 00 00 00 00 00 00 00 00", lun=1)
    world.context.run_until_idle()
    assert [each.op for each in world.watched.waiting] == [Op.WRITE]
    world.watched.held = False
    world.watched.release()
    world.context.run_until_idle()
    assert (copied.key, copied.code) == (0xA, 0x0D02)
    assert read(world, 0, 4, lun=1) == bytes(2048)
    world.close()
