"""Guest memory, case by case; `test_memory_properties.py` has the general laws."""

from __future__ import annotations

import mmap
import struct

import pytest

from devmodels.dirtylog import PAGE_SIZE, DirtyLog
from devmodels.dma import Direction
from devmodels.memory import BOUNCE_LIMIT, GuestMemory
from devmodels.memoryregions import BouncedRegion, GuestMemoryError, Region, SharedRegion
from tests.unit.virtio.plain import Block, Kind, PlainMemory, bounced, guest_memory, shared


def blocks(*bases: int, size: int = 64) -> PlainMemory:
    return PlainMemory([Block(base, bytearray(size)) for base in bases])


@pytest.mark.parametrize(
    ("base", "size", "complaint"),
    [
        (0, 0, "do not fit"),
        (-8, 16, "do not fit"),
        ((1 << 64) - 8, 16, "do not fit"),
        (4, 16, "multiples of 8"),
        (8, 12, "multiples of 8"),
    ],
)
def test_an_impossible_region_is_refused(base: int, size: int, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Region(base, size)


def test_a_region_may_end_with_the_address_space() -> None:
    plain = blocks((1 << 64) - 64)
    memory = guest_memory(plain, Kind.SHARED)
    memory.write((1 << 64) - 1, b"x")
    assert plain.load((1 << 64) - 1, 1) == b"x"


@pytest.mark.parametrize("base", [0x1000 - 56, 0x1000, 0x1000 + 56])
def test_overlapping_regions_are_refused(base: int) -> None:
    memory = guest_memory(blocks(0x1000), Kind.SHARED)
    with pytest.raises(ValueError, match="overlaps"):
        memory.add(SharedRegion(base, bytearray(64)))
    assert len(memory.regions) == 1


def test_the_error_names_place_length_and_reason() -> None:
    memory = guest_memory(blocks(0x1000), Kind.SHARED)
    with pytest.raises(GuestMemoryError) as caught:
        memory.read(0x2000, 4)
    assert str(caught.value) == "4 bytes at 0x2000: no memory there"
    assert (caught.value.address, caught.value.length) == (0x2000, 4)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(("address", "length"), [(-1, 2), ((1 << 64) - 1, 2), (1 << 64, 1), (1 << 70, 1)])
def test_addresses_beyond_the_space_are_errors(kind: Kind, address: int, length: int) -> None:
    memory = guest_memory(blocks(0, (1 << 64) - 64), kind)
    with pytest.raises(GuestMemoryError):
        memory.read(address, length)
    with pytest.raises(GuestMemoryError):
        memory.write(address, bytes(length))
    for direction in Direction:
        with pytest.raises(GuestMemoryError):
            memory.map([(address, length)], direction)


def test_a_negative_length_is_an_error() -> None:
    memory = guest_memory(blocks(0x1000), Kind.SHARED)
    with pytest.raises(GuestMemoryError):
        memory.read(0x1010, -1)
    with pytest.raises(GuestMemoryError):
        memory.map([(0x1010, -1)], Direction.TO_DEVICE)


@pytest.mark.parametrize("kind", Kind)
def test_a_range_of_gigabytes_costs_nothing_where_memory_is_small(kind: Kind) -> None:
    memory = guest_memory(blocks(0x1000, 0x1040), kind)
    with pytest.raises(GuestMemoryError):
        memory.map([(0x1000, 0xFFFF_FFFF)] * 1000, Direction.FROM_DEVICE)
    assert all(region.pins == 0 for region in memory.regions)


def test_bounced_bytes_at_any_one_time_are_limited() -> None:
    size = 1 << 20
    memory = GuestMemory(BouncedRegion(0, size, lambda _a, n: bytes(n), lambda _a, _d: None))
    most = BOUNCE_LIMIT // size
    with pytest.raises(GuestMemoryError, match="bounce"):
        memory.map([(0, size)] * (most + 1), Direction.FROM_DEVICE)
    first = memory.map([(0, size)], Direction.FROM_DEVICE)
    with pytest.raises(GuestMemoryError, match="bounce"):
        memory.map([(0, size)] * most, Direction.FROM_DEVICE)
    first.unmap(0)
    memory.map([(0, 8)], Direction.FROM_DEVICE).unmap(0)
    assert memory.bounced_bytes == 0


@pytest.mark.parametrize("done", range(25))
def test_of_what_is_bounced_only_that_is_stored_which_was_done(done: int) -> None:
    """Though the device has filled all of its buffers, of which the second is not in one piece of memory."""
    plain = blocks(0, 64)
    dma = guest_memory(plain, Kind.BOUNCED).map([(8, 4), (56, 16), (80, 4)], Direction.FROM_DEVICE)
    for view in dma.views:
        view[:] = b"x" * len(view)
    dma.unmap(done)
    places = [*range(8, 12), *range(56, 72), *range(80, 84)]
    assert plain.differences(blocks(0, 64)) == places[:done]


def test_shared_memory_is_not_copied() -> None:
    plain = blocks(0x1000)
    memory = guest_memory(plain, Kind.SHARED)
    dma = memory.map([(0x1008, 4)], Direction.TO_DEVICE)
    plain.store(0x1008, b"late")
    assert bytes(dma.views[0]) == b"late"
    dma.unmap(0)


def test_an_mmap_and_a_memoryview_are_shared_memory_too() -> None:
    backing = mmap.mmap(-1, PAGE_SIZE)
    memory = GuestMemory(
        SharedRegion(0, backing), SharedRegion(PAGE_SIZE, memoryview(bytearray(128)).cast("Q"))
    )
    memory.write(PAGE_SIZE - 4, b"12345678")
    assert backing[-4:] == b"1234"
    assert memory.read(PAGE_SIZE, 4) == b"5678"


@pytest.mark.parametrize("kind", Kind)
def test_what_a_failed_map_had_begun_is_undone(kind: Kind) -> None:
    memory = guest_memory(blocks(0x1000, 0x9000), kind)
    with pytest.raises(GuestMemoryError):
        memory.map([(0x1000, 8), (0x9000, 8), (0x5000, 8)], Direction.FROM_DEVICE)
    assert [region.pins for region in memory.regions] == [0, 0]


def test_a_region_is_released_at_once_when_nothing_maps_it() -> None:
    released: list[str] = []
    region = shared(Block(0x1000, bytearray(64)), lambda: released.append("gone"))
    memory = GuestMemory(region)
    memory.remove(region)
    assert released == ["gone"]
    assert memory.regions == ()


def test_a_released_region_lets_its_buffer_go() -> None:
    backing = mmap.mmap(-1, PAGE_SIZE)
    region = SharedRegion(0, backing, on_release=backing.close)
    memory = GuestMemory(region)
    dma = memory.map([(0, 16)], Direction.FROM_DEVICE)
    memory.remove(region)
    assert not backing.closed
    dma.unmap(16)
    assert backing.closed


def test_a_region_may_come_back_after_it_was_removed() -> None:
    block = Block(0x1000, bytearray(64))
    first = shared(block)
    memory = GuestMemory(first)
    memory.remove(first)
    memory.add(bounced(block))
    memory.write(0x1000, b"again")
    assert block.data[:5] == b"again"


def test_every_change_that_spoils_cached_views_changes_the_generation() -> None:
    memory = guest_memory(blocks(0x1000), Kind.SHARED)
    seen = {memory.generation}
    region = shared(Block(0x2000, bytearray(64)))
    memory.add(region)
    seen.add(memory.generation)
    memory.remove(region)
    seen.add(memory.generation)
    memory.observe(dirty_log=DirtyLog(1 << 16))
    seen.add(memory.generation)
    memory.observe()
    seen.add(memory.generation)
    assert len(seen) == 5


def test_misaligned_words_are_the_callers_mistake() -> None:
    memory = guest_memory(blocks(0x1000), Kind.SHARED)
    with pytest.raises(ValueError, match="not aligned"):
        memory.words(0x1002, 2, "I")


@pytest.mark.parametrize("kind", Kind)
def test_words_to_be_written_must_be_writable(kind: Kind) -> None:
    plain = PlainMemory([Block(0, bytearray(64), readonly=True), Block(64, bytearray(64))])
    memory = guest_memory(plain, kind)
    assert memory.words(0, 4, "H")[0] == 0
    with pytest.raises(GuestMemoryError, match="read-only"):
        memory.words(56, 8, "H", write=True)


def test_words_over_an_edge_are_still_single_accesses() -> None:
    """The embedder's functions see one access a word."""
    sizes: list[int] = []

    def read(_address: int, length: int) -> bytes:
        sizes.append(length)
        return bytes(length)

    def write(_address: int, data: bytes) -> None:
        sizes.append(len(data))

    memory = GuestMemory(SharedRegion(0, bytearray(8)), BouncedRegion(8, 8, read, write))
    words = memory.words(0, 8, "H")
    for index in range(8):
        words[index] = words[index] + 1
    assert sizes == [2] * 8


def test_records_lie_over_regions_too() -> None:
    plain = blocks(0x1000, 0x1040)
    memory = guest_memory(plain, Kind.MIXED)
    layout = struct.Struct("<QQQ")
    plain.pack("<QQQ", 0x1000 + 48, 1, 2, 3)
    assert memory.records(0x1000, 4, layout)(2 * layout.size) == (1, 2, 3)


def test_the_dirty_log_ignores_what_lies_beyond_it() -> None:
    log = DirtyLog(2 * PAGE_SIZE)
    log.mark(PAGE_SIZE, 10 * PAGE_SIZE)
    log.mark((1 << 64) - 1, 1)
    log.mark(0, 0)
    assert log.take() == [PAGE_SIZE]


def test_the_dirty_log_of_an_uneven_size_has_its_last_page() -> None:
    log = DirtyLog(PAGE_SIZE + 8)
    log.mark(PAGE_SIZE, 1)
    assert log.take() == [PAGE_SIZE]


def test_switching_the_log_off_stops_it() -> None:
    memory = guest_memory(blocks(0), Kind.SHARED)
    log = DirtyLog(PAGE_SIZE)
    memory.observe(dirty_log=log)
    memory.observe()
    memory.write(0, b"x")
    assert log.take() == []


def test_a_buffer_that_cannot_be_written_is_read_only_memory() -> None:
    memory = GuestMemory(SharedRegion(0, memoryview(bytes(64))))
    assert memory.read(0, 64) == bytes(64)
    with pytest.raises(GuestMemoryError, match="read-only"):
        memory.write(0, b"x")
    with pytest.raises(GuestMemoryError, match="read-only"):
        memory.write_byte(0, 1)
    with pytest.raises(GuestMemoryError, match="read-only"):
        memory.map([(0, 8)], Direction.FROM_DEVICE)
