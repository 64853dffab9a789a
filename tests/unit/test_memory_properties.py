"""`GuestMemory` against bytearrays: any layout of regions, any range, every kind of memory."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.dirtylog import PAGE_SIZE, DirtyLog
from devmodels.dma import Direction, DmaMap
from devmodels.memory import GuestMemory
from devmodels.memoryregions import GuestMemoryError
from devmodels.trace import EventKind, TraceEvent, Tracer
from tests.unit.virtio.plain import Block, Kind, PlainMemory, guest_memory

TOP = 1 << 64
kinds = st.sampled_from(Kind)


@st.composite
def layouts(draw: st.DrawFn) -> PlainMemory:
    """One to five blocks, neighbours or apart, sometimes up to the last address; some read-only."""
    sizes = draw(st.lists(st.integers(1, 20).map(lambda n: 8 * n), min_size=1, max_size=5))
    gaps = [draw(st.sampled_from((0, 0, 8, 4096))) for _ in sizes]
    total = sum(sizes) + sum(gaps)
    base = draw(st.sampled_from((0, 8, 4096 - 8, 0x1_0000_0000 - 16, TOP - total)))
    blocks = []
    for number, (size, gap) in enumerate(zip(sizes, gaps, strict=True)):
        readonly = draw(st.integers(0, 5)) == 0
        fill = bytearray((7 * number + at) & 0xFF for at in range(size))
        blocks.append(Block(base, fill, readonly))
        base += size + gap
    return PlainMemory(blocks)


@st.composite
def ranges(draw: st.DrawFn, plain: PlainMemory) -> tuple[int, int]:
    """Mostly near the edges of blocks, sometimes anywhere or far too long."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.integers(0, TOP - 1)), draw(st.integers(0, (1 << 32) - 1))
    block = draw(st.sampled_from(plain.blocks))
    address = draw(st.integers(max(0, block.base - 9), min(TOP - 1, block.end + 9)))
    return address, draw(st.integers(0, 120))


@given(st.data(), layouts(), kinds)
def test_read_gives_all_of_a_range_or_says_that_it_cannot(
    data: st.DataObject, plain: PlainMemory, kind: Kind
) -> None:
    memory = guest_memory(plain, kind)
    address, length = data.draw(ranges(plain))
    if plain.present(address, length):
        assert memory.contains(address, length)
        assert memory.read(address, length) == plain.load(address, length)
    else:
        assert not memory.contains(address, length)
        with pytest.raises(GuestMemoryError):
            memory.read(address, length)


@given(st.data(), layouts(), kinds)
def test_write_stores_all_or_nothing(data: st.DataObject, plain: PlainMemory, kind: Kind) -> None:
    memory = guest_memory(plain, kind)
    address, _ = data.draw(ranges(plain))
    payload = data.draw(st.binary(max_size=120))
    expected = plain.copy()
    if expected.present(address, len(payload), write=True):
        assert memory.contains(address, len(payload), write=True)
        expected.store(address, payload)
        memory.write(address, payload)
    else:
        assert not memory.contains(address, len(payload), write=True)
        with pytest.raises(GuestMemoryError):
            memory.write(address, payload)
    assert plain.differences(expected) == []


@given(st.data(), layouts(), kinds)
def test_a_map_to_the_device_shows_the_ranges_in_order(
    data: st.DataObject, plain: PlainMemory, kind: Kind
) -> None:
    memory = guest_memory(plain, kind)
    scatter = data.draw(st.lists(ranges(plain), max_size=5))
    if all(plain.present(*each) for each in scatter):
        dma = memory.map(scatter, Direction.TO_DEVICE)
        expected = b"".join(plain.load(*each) for each in scatter)
        assert b"".join(dma.views) == expected
        assert dma.nbytes == len(expected)
        dma.unmap(0)
    else:
        with pytest.raises(GuestMemoryError):
            memory.map(scatter, Direction.TO_DEVICE)
    assert all(region.pins == 0 for region in memory.regions)


def fill(dma: DmaMap, payload: bytes) -> None:
    at = 0
    for view in dma.views:
        piece = payload[at : at + len(view)]
        view[: len(piece)] = piece
        at += len(view)


def store_scatter(
    plain: PlainMemory, scatter: list[tuple[int, int]], payload: bytes, bounced: set[int], done: int
) -> None:
    """Blocks at the bases in `bounced` get the first `done` bytes only."""
    at = 0
    for address, length in scatter:
        for position in range(address, address + length):
            block = plain.block_at(position)
            assert block is not None
            if at < done or block.base not in bounced:
                block.data[position - block.base] = payload[at]
            at += 1


@given(st.data(), layouts(), kinds)
def test_a_map_from_the_device_stores_what_was_done(
    data: st.DataObject, plain: PlainMemory, kind: Kind
) -> None:
    memory = guest_memory(plain, kind)
    scatter = data.draw(st.lists(ranges(plain), max_size=5))
    expected = plain.copy()
    if not all(plain.present(*each, write=True) for each in scatter):
        with pytest.raises(GuestMemoryError):
            memory.map(scatter, Direction.FROM_DEVICE)
        assert plain.differences(expected) == []
        return
    total = sum(length for _, length in scatter)
    payload = data.draw(st.binary(min_size=total, max_size=total))
    done = data.draw(st.integers(0, total))
    dma = memory.map(scatter, Direction.FROM_DEVICE)
    # The device has written all that it may, and says that only a part of it counts: what is bounced ends there.
    fill(dma, payload)
    dma.unmap(done)
    bounced = {region.base for region in memory.regions if region.view is None}
    store_scatter(expected, scatter, payload, bounced, done)
    assert plain.differences(expected) == []


def page_numbers(scatter: list[tuple[int, int]]) -> set[int]:
    return {
        page
        for address, length in scatter
        if length
        for page in range(address // PAGE_SIZE, (address + length - 1) // PAGE_SIZE + 1)
    }


def cut(scatter: list[tuple[int, int]], done: int) -> list[tuple[int, int]]:
    """The first `done` bytes of a scatter list."""
    out = []
    for address, length in scatter:
        out.append((address, min(length, done)))
        done -= min(length, done)
    return out


LOGGED = 1 << 20


@given(st.data(), layouts(), kinds)
def test_the_dirty_log_holds_exactly_the_pages_written(
    data: st.DataObject, plain: PlainMemory, kind: Kind
) -> None:
    memory = guest_memory(plain, kind)
    log = DirtyLog(LOGGED)
    memory.observe(dirty_log=log)
    scatter = data.draw(st.lists(ranges(plain), max_size=5))
    address, length = data.draw(ranges(plain))
    written: set[int] = set()
    if length < 1000 and plain.present(address, length, write=True):
        memory.write(address, bytes(length))
        written |= page_numbers([(address, length)])
    memory.read(plain.blocks[0].base, 8)
    if all(plain.present(*each, write=True) for each in scatter):
        done = data.draw(st.integers(0, sum(length for _, length in scatter)))
        memory.map(scatter, Direction.FROM_DEVICE).unmap(done)
        written |= page_numbers(cut(scatter, done))
    if all(plain.present(*each) for each in scatter):
        memory.map(scatter, Direction.TO_DEVICE).unmap(0)
    assert log.take() == sorted(page * PAGE_SIZE for page in written if page < LOGGED // PAGE_SIZE)
    assert log.take() == []


@given(st.data(), layouts(), kinds)
def test_the_trace_names_every_byte_read_and_written(
    data: st.DataObject, plain: PlainMemory, kind: Kind
) -> None:
    memory = guest_memory(plain, kind)
    events: list[TraceEvent] = []
    tracer = Tracer(lambda: 0)
    tracer.sinks.append(events.append)
    memory.observe(trace=tracer)
    scatter = data.draw(st.lists(ranges(plain), max_size=4))
    with suppress(GuestMemoryError):
        memory.map(scatter, Direction.TO_DEVICE).unmap(0)
        assert seen(events) == [("dma-read", a, plain.load(a, n)) for a, n in scatter]
    events.clear()
    with suppress(GuestMemoryError):
        dma = memory.map(scatter, Direction.FROM_DEVICE)
        for view in dma.views:
            view[:] = b"\xa5" * len(view)
        done = data.draw(st.integers(0, dma.nbytes))
        dma.unmap(done)
        assert seen(events) == [("dma-write", a, b"\xa5" * n) for a, n in cut(scatter, done) if n]


def seen(events: list[TraceEvent]) -> list[tuple[str, int | str | bytes, int | str | bytes]]:
    return [(event.kind.value, event.detail[0], event.detail[1]) for event in events]


CODES = {"H": 2, "I": 4, "Q": 8}


@given(st.data(), layouts(), kinds, st.sampled_from(sorted(CODES)), st.booleans())
def test_words_are_little_endian_wherever_they_lie(
    data: st.DataObject, plain: PlainMemory, kind: Kind, code: str, observed: bool
) -> None:
    memory = guest_memory(plain, kind)
    log = DirtyLog(LOGGED)
    if observed:
        memory.observe(dirty_log=log)
    size = CODES[code]
    address, length = data.draw(ranges(plain))
    address -= address % size
    count = length // size
    if not plain.present(address, count * size, write=True):
        with pytest.raises(GuestMemoryError):
            memory.words(address, count, code, write=True)
        return
    words = memory.words(address, count, code, write=True)
    expected = plain.copy()
    for index in range(count):
        assert words[index] == expected.unpack(f"<{code}", address + index * size)[0]
        value = data.draw(st.integers(0, (1 << 8 * size) - 1))
        words[index] = value
        expected.pack(f"<{code}", address + index * size, value)
        assert words[index] == value
    assert plain.differences(expected) == []
    if observed:
        pages = page_numbers([(address, count * size)])
        assert log.take() == sorted(p * PAGE_SIZE for p in pages if p < LOGGED // PAGE_SIZE)
    with pytest.raises(IndexError):
        words[count]


@given(st.data(), layouts(), kinds, st.booleans())
def test_records_are_the_structures_at_their_places(
    data: st.DataObject, plain: PlainMemory, kind: Kind, traced: bool
) -> None:
    memory = guest_memory(plain, kind)
    if traced:
        memory.observe(trace=Tracer(lambda: 0))
    layout = struct.Struct("<HIB")
    address, length = data.draw(ranges(plain))
    count = length // layout.size
    if not plain.present(address, count * layout.size):
        with pytest.raises(GuestMemoryError):
            memory.records(address, count, layout)
        return
    fetch = memory.records(address, count, layout)
    for index in range(count):
        assert fetch(index * layout.size) == plain.unpack("<HIB", address + index * layout.size)


@given(st.data(), layouts(), kinds)
def test_a_region_that_leaves_is_released_when_its_last_map_ends(
    data: st.DataObject, plain: PlainMemory, kind: Kind
) -> None:
    memory = guest_memory(plain, kind)
    chosen = data.draw(st.sampled_from(memory.regions))
    block = next(b for b in plain.blocks if b.base == chosen.base)
    released: list[int] = []
    chosen.on_release = lambda: released.append(1)
    maps = [
        memory.map([(block.base, 8), (block.end - 8, 8)], Direction.TO_DEVICE)
        for _ in range(data.draw(st.integers(0, 3)))
    ]
    memory.remove(chosen)
    assert not memory.contains(block.base, 1)
    with pytest.raises(GuestMemoryError):
        memory.map([(block.base, 8)], Direction.TO_DEVICE)
    for dma in maps:
        assert released == []
        assert bytes(dma.views[0]) == bytes(block.data[:8])
        dma.unmap(0)
    assert released == [1]


@given(st.data(), layouts(), kinds)
def test_a_map_whose_region_has_left_still_stores(
    data: st.DataObject, plain: PlainMemory, kind: Kind
) -> None:
    for block in plain.blocks:
        block.readonly = False
    memory: GuestMemory = guest_memory(plain, kind)
    region = data.draw(st.sampled_from(memory.regions))
    dma = memory.map([(region.base, 8)], Direction.FROM_DEVICE)
    memory.remove(region)
    fill(dma, b"ABCDEFGH")
    dma.unmap(8)
    assert plain.load(region.base, 8) == b"ABCDEFGH"


def test_event_kinds_have_the_names_used_here() -> None:
    assert EventKind("dma-read") is EventKind.DMA_READ
    assert EventKind("dma-write") is EventKind.DMA_WRITE
