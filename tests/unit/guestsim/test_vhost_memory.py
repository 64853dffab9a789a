"""Guest memory shared with back ends: two regions of one file, told in three kinds of addresses."""

from __future__ import annotations

import fcntl
import mmap
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guestsim.targets import TargetError
from guestsim.targets.vhost_memory import VhostMemory

BORDER = 16 << 20
SIZE = BORDER + (1 << 20)


@pytest.fixture(scope="module")
def memory() -> Iterator[VhostMemory]:
    found = VhostMemory(SIZE)
    yield found
    found.close()


near = st.one_of(st.integers(0, 64), st.integers(BORDER - 64, BORDER + 64), st.integers(SIZE - 80, SIZE - 40))


@settings(max_examples=60, deadline=None)
@given(writes=st.lists(st.tuples(near, st.binary(min_size=1, max_size=40)), max_size=8), at=near)
def test_what_was_written_is_read(memory: VhostMemory, writes: list[tuple[int, bytes]], at: int) -> None:
    model: dict[int, int] = {}
    memory.write(at, bytes(40))
    for address, data in writes:
        memory.write(address, data)
        model.update(enumerate(data, address))
    for address, data in writes:
        wanted = bytes(model[address + number] for number in range(len(data)))
        assert memory.read(address, len(data)) == wanted


@settings(max_examples=60, deadline=None)
@given(at=near, data=st.binary(min_size=1, max_size=40))
def test_a_back_end_finds_it_by_the_regions(memory: VhostMemory, at: int, data: bytes) -> None:
    """What it maps, by file offset, holds each byte at its guest address and at its user address."""
    memory.write(at, data)
    with mmap.mmap(memory.fd, SIZE) as seen:
        for number, byte in enumerate(data):
            address = at + number
            (region,) = (one for one in memory.regions if one.holds(address, 1))
            assert seen[region.offset + address - region.guest] == byte
            assert memory.user(address, 1) == region.user + address - region.guest


def test_the_three_kinds_of_addresses_have_nothing_in_common(memory: VhostMemory) -> None:
    low, high = memory.regions
    assert low.guest + low.size == high.guest
    assert high.offset + high.size == low.offset
    assert high.user + high.size < low.user


def test_a_ring_over_the_border_has_no_user_address(memory: VhostMemory) -> None:
    assert memory.user(BORDER - 1, 1) is not None
    assert memory.user(BORDER - 1, 2) is None


@pytest.mark.parametrize(("at", "length"), [(SIZE, 1), (SIZE - 1, 2), (1 << 60, 8), (SIZE - 4, 8)])
def test_nothing_lies_outside(memory: VhostMemory, at: int, length: int) -> None:
    with pytest.raises(TargetError, match="the guest has"):
        memory.read(at, length)
    with pytest.raises(TargetError, match="the guest has"):
        memory.write(at, bytes(length))


def test_it_cannot_be_cut_off(memory: VhostMemory) -> None:
    assert fcntl.fcntl(memory.fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK


def test_apart_no_buffer_lies_over_the_border() -> None:
    memory = VhostMemory(SIZE, apart=True)
    low, high = memory.windows
    assert low.end < high.base == BORDER
    memory.close()
    memory.close()
