"""The in-flight area of split rings: death at any instruction loses nothing and uses nothing twice."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from devmodels.exports import vhost_inflight
from devmodels.exports.vhost_inflight import SplitRegion, TrackedSplitRing, region_size
from devmodels.memory import GuestMemory
from devmodels.memoryregions import SharedRegion
from devmodels.virtio import split
from devmodels.virtio.constants import IN_ORDER
from devmodels.virtio.ring import Chain

from .inflightarea import Moment, watching

SIZE = 4


RAM = 4096


DESC, AVAIL, USED = 0, 1024, 2048


class Driver:
    """The other side: it hands out heads that it has back, and counts."""

    def __init__(self) -> None:
        self.ram = bytearray(RAM)
        self.free = list(range(SIZE))
        self.made: list[int] = []
        """Heads in the order in which they were made available."""
        self.had_back: list[int] = []
        for head in range(SIZE):
            struct.pack_into("<QIHH", self.ram, DESC + 16 * head, 3072, 16, 2, 0)

    def add(self, count: int) -> None:
        for at in range(len(self.had_back), used_idx(self.ram)):
            self.had_back.append(used_head(self.ram, at))
            self.free.append(self.had_back[-1])
        for _ in range(min(count, len(self.free))):
            head = self.free.pop(0)
            at = len(self.made)
            struct.pack_into("<H", self.ram, AVAIL + 4 + 2 * (at % SIZE), head)
            self.made.append(head)
            struct.pack_into("<H", self.ram, AVAIL + 2, len(self.made))


def used_idx(ram: bytes | bytearray) -> int:
    return int(struct.unpack_from("<H", ram, USED + 2)[0])


def used_head(ram: bytes | bytearray, at: int) -> int:
    return int(struct.unpack_from("<I", ram, USED + 4 + 8 * (at % SIZE))[0])


class BackEnd:
    """A ring over memory and region that outlive it."""

    def __init__(self, ram: bytearray, area: bytearray, features: int) -> None:
        self.region = SplitRegion(memoryview(area), SIZE)
        index = used_idx(ram)
        base, self.again = self.region.resume(SIZE, index, index)
        self.last_avail = base
        self.ring = TrackedSplitRing(
            self.region,
            list(self.again),
            GuestMemory(SharedRegion(0, ram)),
            SIZE,
            (DESC, AVAIL, USED),
            features,
            {},
            last_avail=base,
            used_idx=index,
        )
        self.held: list[Chain] = []

    def take(self) -> None:
        while count := self.ring.available():
            self.ring.take(count, 100, self.held)

    def use(self, number: int) -> None:
        if self.held:
            chain = self.held.pop(number % len(self.held))
            del self.ring.in_flight[chain.head]
            self.ring.push(((chain, 0),))

    def publish(self) -> None:
        self.ring.publish()


FILES = {str(vhost_inflight.__file__), str(split.__file__)}


@contextmanager
def every_moment(ram: bytearray, area: bytearray, moments: dict[Moment, None]) -> Iterator[None]:
    """Collect what a death after each instruction would leave behind."""
    before = sys.gettrace()
    sys.settrace(watching(FILES, lambda: moments.setdefault((bytes(ram), bytes(area)))))
    try:
        yield
    finally:
        sys.settrace(before)


def check_account(driver: Driver, ram: bytes, area: bytes, features: int) -> set[Moment]:
    """Start a back end on what was left behind: every buffer was used, or comes again, or is still to be taken; once.

    Returns what a death during that start would leave behind.
    """
    second_ram, second_area = bytearray(ram), bytearray(area)
    moments: dict[Moment, None] = {}
    with every_moment(second_ram, second_area, moments):
        back_end = BackEnd(second_ram, second_area, features)
    waiting = driver.made[: back_end.last_avail]
    in_ring = [used_head(ram, at) for at in range(len(driver.had_back), used_idx(ram))]
    for head in driver.had_back + in_ring:
        waiting.remove(head)
    assert back_end.again == waiting
    back_end.take()
    assert [chain.head for chain in back_end.held] == waiting + driver.made[back_end.last_avail :]
    return set(moments)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, SIZE)),
        st.tuples(st.just("take"), st.just(0)),
        st.tuples(st.just("use"), st.integers(0, SIZE - 1)),
        st.tuples(st.just("use"), st.integers(0, SIZE - 1)),
        st.tuples(st.just("publish"), st.just(0)),
        st.tuples(st.just("die"), st.integers(0, 99)),
    ),
    min_size=4,
    max_size=20,
)


TWO_DEATHS = [
    ("add", 4),
    ("take", 0),
    ("use", 0),
    ("publish", 0),
    ("die", 1),
    ("add", 1),
    ("take", 0),
    ("use", 0),
]
"""The first between the ring's used index and the area's; the second with another batch begun."""


def check_every_death(sequence: list[tuple[str, int]], features: int) -> int:
    """Perform `sequence`, dying at every instruction; returns how many states were left behind."""
    driver = Driver()
    area = bytearray(region_size(SIZE))
    back_end = BackEnd(driver.ram, area, features)
    states = 0
    moments: dict[Moment, None] = {}
    for name, value in sequence:
        if name == "add":
            driver.add(value)
            moments.clear()
        elif name == "die":
            if moments:
                driver.ram[:], area[:] = list(moments)[value % len(moments)]
            back_end = BackEnd(driver.ram, area, features)
        else:
            moments.clear()
            with every_moment(driver.ram, area, moments):
                if name == "use":
                    back_end.use(value)
                else:
                    getattr(back_end, name)()
            states += check_all(driver, moments, features)
    return states


def check_all(driver: Driver, moments: Iterable[Moment], features: int) -> int:
    """Check each of `moments` and what a death during the start after it would leave behind."""
    checked = set()
    left = set(moments)
    while left:
        moment = left.pop()
        checked.add(moment)
        left |= check_account(driver, *moment, features) - checked
    return len(checked)


@pytest.mark.long
@pytest.mark.parametrize("features", [0, IN_ORDER])
@settings(max_examples=10)
@example(sequence=TWO_DEATHS)
@given(sequence=steps)
def test_death_at_any_instruction_loses_nothing_and_uses_nothing_twice(
    features: int, sequence: list[tuple[str, int]]
) -> None:
    check_every_death(sequence, features)


@pytest.mark.slow
@pytest.mark.parametrize("features", [0, IN_ORDER])
@settings(max_examples=500)
@given(sequence=steps)
def test_death_at_any_instruction_many_times(features: int, sequence: list[tuple[str, int]]) -> None:
    check_every_death(sequence, features)


def test_deaths_are_really_died() -> None:
    """Takes, uses and publications leave a state behind at each of their stores."""
    sequence = [("add", 3), ("take", 0), ("use", 1), ("use", 0)]
    assert check_every_death(sequence, 0) >= 10
