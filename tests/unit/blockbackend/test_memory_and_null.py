"""The two disks that need no file."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import pytest

from devmodels.blockbackend import Flags, Op
from tests.unit.blockbackend.support import DIRT, Disk

PAGE = 4096
SIZE = 16 * PAGE


@pytest.fixture
def unmapping() -> Iterator[Disk]:
    disk = Disk({"driver": "memory", "size": SIZE, "discard": "unmap"})
    disk.write(0, b"\xaa" * SIZE)
    yield disk
    disk.close()


def test_a_new_memory_disk_is_zero_and_costs_nothing() -> None:
    disk = Disk({"driver": "memory", "size": 1 << 44})
    assert disk.read((1 << 44) - 8, 8) == bytes(8)
    disk.write(1 << 43, b"x")
    assert disk.read(1 << 43, 2) == b"x\0"
    disk.close()


def test_sizes_are_whole_sectors() -> None:
    for driver in ("memory", "null-co"):
        disk = Disk({"driver": driver, "size": 513})
        assert disk.backend.size == 1024
        disk.close()


def test_an_empty_disk_has_no_first_byte() -> None:
    disk = Disk({"driver": "memory", "size": 0})
    assert disk.do(Op.READ, 0, 1) != 0
    assert disk.do(Op.FLUSH) == 0
    disk.close()


def test_a_discard_frees_whole_pages_only(unmapping: Disk) -> None:
    assert unmapping.do(Op.DISCARD, 100, 3 * PAGE) == 0
    expected = b"\xaa" * PAGE + bytes(2 * PAGE) + b"\xaa" * (SIZE - 3 * PAGE)
    assert unmapping.read(0, SIZE) == expected


def test_without_unmap_a_discard_leaves_the_data() -> None:
    disk = Disk({"driver": "memory", "size": SIZE})
    disk.write(0, b"\xaa" * SIZE)
    assert disk.do(Op.DISCARD, 0, SIZE) == 0
    assert disk.read(0, SIZE) == b"\xaa" * SIZE
    disk.close()


@pytest.mark.parametrize("flags", [Flags.NONE, Flags.MAY_UNMAP])
@pytest.mark.parametrize(
    ("start", "end"), [(0, SIZE), (5, 6), (100, 3 * PAGE + 7), (PAGE, PAGE * 2), (7, PAGE)]
)
def test_zeroes_are_exact_however_they_are_made(unmapping: Disk, flags: Flags, start: int, end: int) -> None:
    assert unmapping.do(Op.WRITE_ZEROES, start, end - start, flags=flags) == 0
    expected = b"\xaa" * start + bytes(end - start) + b"\xaa" * (SIZE - end)
    assert unmapping.read(0, SIZE) == expected


def test_secure_erase_overwrites(unmapping: Disk) -> None:
    assert unmapping.do(Op.SECURE_ERASE, 10, 2 * PAGE) == 0
    assert unmapping.read(0, 3 * PAGE) == b"\xaa" * 10 + bytes(2 * PAGE) + b"\xaa" * (PAGE - 10)


@pytest.mark.parametrize("mode", ["on", "unmap"])
def test_detected_zeroes_read_back_as_zeroes(mode: str) -> None:
    disk = Disk({"driver": "memory", "size": SIZE, "discard": "unmap", "detect-zeroes": mode})
    disk.write(0, b"\xaa" * SIZE)
    assert disk.write(512, bytes(3 * PAGE)) == 0
    assert disk.read(0, 4 * PAGE) == b"\xaa" * 512 + bytes(3 * PAGE) + b"\xaa" * (PAGE - 512)
    assert disk.backend.stats.wr_operations == 2
    disk.close()


def test_a_memory_disk_that_cannot_grow_stays_as_it_is() -> None:
    disk = Disk({"driver": "memory", "size": SIZE})
    disk.write(0, b"kept")
    with pytest.raises(OSError, match="no room"):
        disk.context.run(disk.backend.resize(1 << 62))
    assert disk.backend.size == SIZE
    assert disk.read(0, 4) == b"kept"
    disk.close()


def test_a_write_with_zeroes_at_its_ends_is_not_taken_for_zeroes() -> None:
    disk = Disk({"driver": "memory", "size": 1 << 20, "detect-zeroes": "on"})
    for length in (3, 4096, 200_001):
        data = bytearray(length)
        data[length // 2] = 1
        assert disk.write(100, bytes(data)) == 0
        assert disk.read(100, length) == data
    disk.close()


def test_null_leaves_buffers_alone_unless_told_to_clear_them() -> None:
    disk = Disk({"driver": "null-co"})
    assert disk.backend.size == 1 << 30
    assert disk.read(0, 4) == DIRT * 4
    disk.close()
    disk = Disk({"driver": "null-co", "read-zeroes": True})
    assert disk.read(0, 100_000) == bytes(100_000)
    disk.close()


@pytest.mark.parametrize("op", [op for op in Op if op is not Op.PASSTHROUGH])
def test_each_request_to_null_takes_its_latency(op: Op) -> None:
    disk = Disk({"driver": "null-co", "latency-ns": 5000, "discard": "unmap"})
    data = b"x" if op is Op.WRITE else None
    assert disk.do(op, 0, 0 if op is Op.FLUSH else 1, data) == 0
    assert disk.context.now_ns() == 5000
    disk.close()


def test_null_keeps_its_size() -> None:
    disk = Disk({"driver": "null-co", "size": 1 << 50})
    with pytest.raises(OSError, match="does not support resize"):
        disk.context.run(disk.backend.resize(1 << 49))
    assert disk.do(Op.READ, (1 << 50) - 512, 512) == 0
    disk.close()


def test_closing_twice_is_no_error() -> None:
    disk = Disk({"driver": "memory", "size": SIZE})
    disk.node.close()
    disk.node.close()
    disk.close()


HUGE = 1 << 36
PART = 2 << 30


def resident() -> int:
    """How many bytes of memory this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


@pytest.mark.parametrize("op", [Op.WRITE_ZEROES, Op.SECURE_ERASE])
def test_zeroing_what_was_never_written_takes_no_memory(op: Op) -> None:
    """A guest may ask for 64 GiB in one request; nothing of it is there to be zeroed."""
    disk = Disk({"driver": "memory", "size": HUGE})
    disk.write(PART + 5, b"\xaa" * 3 * PAGE)
    before = resident()
    for at in range(0, HUGE, PART):
        assert disk.do(op, at, PART) == 0
    assert disk.read(PART, 4 * PAGE) == bytes(4 * PAGE)
    assert resident() - before < 4 << 20
    disk.close()


@pytest.mark.parametrize("op", [Op.WRITE_ZEROES, Op.SECURE_ERASE])
def test_zeroed_memory_is_given_back(op: Op) -> None:
    disk = Disk({"driver": "memory", "size": 64 << 20})
    data = b"\xaa" * (1 << 20)
    for at in range(0, 64 << 20, len(data)):
        disk.write(at, data)
    before = resident()
    assert disk.do(op, 0, 64 << 20) == 0
    assert before - resident() > 60 << 20
    disk.close()


def test_a_huge_disk_is_resized_at_once() -> None:
    disk = Disk({"driver": "memory", "size": 1 << 41})
    disk.write(PAGE, b"kept" * 1000)
    disk.context.run(disk.backend.resize(1 << 40))
    disk.context.run(disk.backend.resize(PAGE + 512))
    disk.context.run(disk.backend.resize(1 << 41))
    assert disk.read(PAGE, PAGE) == (b"kept" * 128) + bytes(PAGE - 512)
    disk.write((1 << 41) - 4, b"last")
    assert disk.do(Op.SECURE_ERASE, 0, 1 << 41) == 0
    assert disk.read((1 << 41) - 4, 4) == bytes(4)
    disk.close()
