"""The guest's allocator: a driver may trust it blindly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from guestsim.errors import GuestError
from guestsim.memory import Memory
from guestsim.targets import Window

from .fakes import FakeTarget

LOW, HIGH, FAR = Window(0x1000, 0x3000), Window(0x4000, 0x2000), Window(0x10000, 0x2000)


class Allocator(RuleBasedStateMachine):
    """Any order of taking and giving back, over windows of which two touch."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory(FakeTarget(LOW, HIGH, FAR), (LOW, HIGH, FAR))
        self.held: dict[int, int] = {}

    def keep(self, address: int, length: int, align: int) -> None:
        assert address % align == 0
        spans = [(LOW.base, HIGH.end), (FAR.base, FAR.end)]
        assert any(start <= address and address + length <= end for start, end in spans)
        self.held[address] = length

    @rule(length=st.integers(1, 0x900), align=st.sampled_from((1, 2, 16, 256, 4096)))
    def allocate(self, length: int, align: int) -> None:
        try:
            self.keep(self.memory.allocate(length, align), length, align)
        except GuestError:
            assert self.memory.in_use

    @rule(length=st.integers(1, 0x400), align=st.sampled_from((1, 8)))
    def allocate_far(self, length: int, align: int) -> None:
        try:
            self.keep(self.memory.allocate_far(length, align), length, align)
        except GuestError:
            assert self.memory.in_use

    @rule(number=st.integers(0, 100))
    def free(self, number: int) -> None:
        if self.held:
            address = sorted(self.held)[number % len(self.held)]
            self.memory.free(address)
            del self.held[address]

    @invariant()
    def nothing_overlaps(self) -> None:
        end = 0
        for address, length in sorted(self.held.items()):
            assert address >= end
            end = address + length
        assert self.memory.in_use == sum(self.held.values())

    def teardown(self) -> None:
        for address in self.held:
            self.memory.free(address)
        # Everything is there again, in one piece over the border of the two windows that touch.
        assert self.memory.allocate(HIGH.end - LOW.base, 1) == LOW.base
        assert self.memory.allocate(FAR.size, 1) == FAR.base


TestAllocator = Allocator.TestCase


def test_what_is_not_allocated_cannot_be_freed() -> None:
    memory = Memory(FakeTarget(LOW), (LOW,))
    address = memory.allocate(16)
    memory.free(address)
    with pytest.raises(GuestError, match=f"{address:#x}"):
        memory.free(address)


def test_an_exhausted_memory_says_so() -> None:
    memory = Memory(FakeTarget(LOW), (LOW,))
    with pytest.raises(GuestError, match="out of guest memory"):
        memory.allocate(LOW.size + 1)


@given(length=st.integers(1, 5000), pieces=st.integers(1, 300), seed=st.integers(0, 9))
def test_a_cut_loses_nothing(length: int, pieces: int, seed: int) -> None:
    cut = Memory(FakeTarget(LOW), (LOW,), seed=seed).cut(length, pieces)
    assert sum(cut) == length
    assert min(cut) > 0
    assert len(cut) == min(pieces, length)


def test_far_places_lie_over_the_border_of_windows() -> None:
    memory = Memory(FakeTarget(LOW, HIGH), (LOW, HIGH))
    places = [memory.allocate_far(64) for _ in range(30)]
    assert any(place < LOW.end < place + 64 for place in places)
    assert any(place + 64 <= LOW.end for place in places)
    assert any(place >= HIGH.base for place in places)
