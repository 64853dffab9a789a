"""The in-flight area of packed rings: death at any instruction loses nothing and uses nothing twice."""

from __future__ import annotations

import copy
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from devmodels.exports import vhost_inflight_packed
from devmodels.exports.vhost_channel import RequestRefused
from devmodels.exports.vhost_inflight import region_size
from devmodels.exports.vhost_inflight_packed import PackedRegion, TrackedPackedRing
from devmodels.memory import GuestMemory
from devmodels.memoryregions import SharedRegion
from devmodels.virtio import packed
from devmodels.virtio.constants import IN_ORDER, Status
from devmodels.virtio.packed import PackedRing
from devmodels.virtio.ring import Chain

from . import frontend as fe
from .frontend import World
from .inflightarea import PROTOCOL, Area, Moment, watching
from .test_vhost_packed import FEATURES, PackedFrontEnd

SIZE = 4
DRIVER_EVENT, DEVICE_EVENT, DATA = 1024, 1028, 2048
AVAIL, USED, NEXT, WRITE = 1 << 7, 1 << 15, 1, 2


class Driver:
    """A driver of a packed ring: it gives each buffer a number, and counts."""

    def __init__(self) -> None:
        self.ram = bytearray(4096)
        self.place = 0
        self.seen = 0
        self.outstanding: list[tuple[int, int]] = []
        """(id, descriptors) of what was made available and not had back, in order."""
        self.free = list(range(20, 20 + SIZE))

    def add(self, count: int, length: int) -> None:
        """`count` buffers of `length` descriptors, as many as fit."""
        self.collect()
        for _ in range(count):
            if sum(held for _, held in self.outstanding) + length > SIZE:
                return
            ident = self.free.pop(0)
            first = self.place
            # The first descriptor's flags come last.
            for number in reversed(range(length)):
                offset, lap = (first + number) % SIZE, (first + number) // SIZE % 2
                flags = (USED if lap else AVAIL) | WRITE | (NEXT if number < length - 1 else 0)
                struct.pack_into("<QIHH", self.ram, 16 * offset, DATA, 16, ident, flags)
            self.place += length
            self.outstanding.append((ident, length))

    def collect(self) -> list[int]:
        """Take back what was used; the ids, in the ring's order."""
        found: list[int] = []
        while True:
            offset, lap = self.seen % SIZE, self.seen // SIZE % 2
            _, _, ident, flags = struct.unpack_from("<QIHH", self.ram, 16 * offset)
            turn = 0 if lap else AVAIL | USED
            if flags & (AVAIL | USED) != turn or not self.outstanding:
                return found
            held = dict(self.outstanding)
            assert ident in held, f"{ident} is used, and not outstanding"
            self.seen += held[ident]
            self.outstanding.remove((ident, held[ident]))
            self.free.append(ident)
            found.append(ident)


class BackEnd:
    """A ring over memory and region that outlive it."""

    def __init__(self, ram: bytearray, area: bytearray, features: int) -> None:
        self.region = PackedRegion(memoryview(area), SIZE)
        start = PackedRing.START
        available, used, again = self.region.resume(SIZE, (start, start), memoryview(ram).cast("H"))
        self.ring = TrackedPackedRing(
            self.region,
            again,
            GuestMemory(SharedRegion(0, ram)),
            SIZE,
            (0, DRIVER_EVENT, DEVICE_EVENT),
            features,
            {},
            last_avail=available,
            used_idx=used,
        )
        self.held: list[Chain] = []

    def take(self) -> None:
        while count := self.ring.available():
            before = len(self.held)
            self.ring.take(count, 100, self.held)
            assert len(self.held) > before

    def use(self, number: int) -> None:
        if self.held:
            chain = self.held.pop(number % len(self.held))
            del self.ring.in_flight[chain.head]
            self.ring.push(((chain, 0),))

    def publish(self) -> None:
        self.ring.publish()


FILES = {str(vhost_inflight_packed.__file__), str(packed.__file__)}


@contextmanager
def every_moment(ram: bytearray, area: bytearray, moments: dict[Moment, None]) -> Iterator[None]:
    before = sys.gettrace()
    sys.settrace(watching(FILES, lambda: moments.setdefault((bytes(ram), bytes(area)))))
    try:
        yield
    finally:
        sys.settrace(before)


def free_entries(area: bytes | bytearray) -> int:
    """How long the list of free entries is."""
    (entry,) = struct.unpack_from("<H", area, 12)
    count = 0
    while entry < SIZE:
        count += 1
        (entry,) = struct.unpack_from("<H", area, 32 + 32 * entry + 2)
    return count


def check_account(driver: Driver, ram: bytes, area: bytes, features: int) -> set[Moment]:
    """Start a back end on what was left behind, let it do everything; the driver has each buffer back, once.

    Returns what a death during that start would leave behind.
    """
    driver = copy.deepcopy(driver)
    driver.ram[:] = ram
    driver.collect()
    left = bytearray(area)
    moments: dict[Moment, None] = {}
    with every_moment(driver.ram, left, moments):
        back_end = BackEnd(driver.ram, left, features)
    again = sum(map(len, back_end.ring.again))
    assert free_entries(left) + again == SIZE
    back_end.take()
    assert [chain.head for chain in back_end.held] == [ident for ident, _ in driver.outstanding]
    assert [len(chain.writable) for chain in back_end.held] == [held for _, held in driver.outstanding]
    done: set[int] = set()
    while back_end.held:
        # One at a time: what the dead one wrote of a batch that it didn't show must not be taken for used.
        done.add(back_end.held[1 % len(back_end.held)].head)
        back_end.use(1)
        back_end.publish()
        found = set(driver.collect())
        assert found <= done, f"{found} are used, done were {done}"
        assert features or found
    assert driver.outstanding == []
    return set(moments)


def check_all(driver: Driver, moments: Iterable[Moment], features: int) -> int:
    checked = set()
    left = set(moments)
    while left:
        moment = left.pop()
        checked.add(moment)
        left |= check_account(driver, *moment, features) - checked
    return len(checked)


def check_every_death(sequence: list[tuple[str, int]], features: int) -> int:
    """Perform `sequence`, dying at every instruction; returns how many states were left behind."""
    driver = Driver()
    area = bytearray(region_size(SIZE, packed=True))
    back_end = BackEnd(driver.ram, area, features)
    states = 0
    moments: dict[Moment, None] = {}
    actions: dict[str, Callable[[int], None]] = {
        "take": lambda _: back_end.take(),
        "use": lambda value: back_end.use(value),
        "publish": lambda _: back_end.publish(),
    }
    for name, value in sequence:
        if name == "add":
            driver.add(1 + value % 4, 1 + value // 4)
            moments.clear()
        elif name == "die":
            if moments:
                driver.ram[:], area[:] = list(moments)[value % len(moments)]
            back_end = BackEnd(driver.ram, area, features)
        else:
            moments.clear()
            with every_moment(driver.ram, area, moments):
                actions[name](value)
            states += check_all(driver, moments, features)
    return states


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 15)),
        st.tuples(st.just("take"), st.just(0)),
        st.tuples(st.just("use"), st.integers(0, SIZE - 1)),
        st.tuples(st.just("use"), st.integers(0, SIZE - 1)),
        st.tuples(st.just("publish"), st.just(0)),
        st.tuples(st.just("die"), st.integers(0, 99)),
    ),
    min_size=4,
    max_size=16,
)

WHOLE_RING_AT_ONCE = [("add", 5), ("take", 0), ("use", 1), ("use", 0), ("publish", 0), ("add", 3)] * 2
"""The used position moves by the ring's size: its index is the same then, and only its wrap counter is not."""


@pytest.mark.long
@pytest.mark.parametrize("features", [0, IN_ORDER])
@settings(max_examples=4)
@example(sequence=WHOLE_RING_AT_ONCE)
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
    assert check_every_death(WHOLE_RING_AT_ONCE[:6], 0) > 30


# --- with a front end


def begin(front_end: fe.FrontEnd, area: Area | None, ring_size: int = 7) -> Area:
    front_end.introduce(PROTOCOL)
    front_end.set_features(FEATURES)
    area = Area(front_end, 2, ring_size) if area is None else area
    assert front_end.acknowledged(fe.SET_INFLIGHT_FD, area.payload(), [area.fd]) == 0
    return area


def test_what_was_in_flight_is_submitted_again(world: World) -> None:
    with world.front_end() as front_end:
        area = begin(front_end, None)
        p = PackedFrontEnd(front_end)
        p.set_up(None)
        p.add(4)
        front_end.kick(0)
        world.device.give_back(2)
        front_end.run()
        memory = bytes(front_end.memory.bytes)
    taken = [request.chain.head for request in world.device.held]
    while world.device.held:
        world.device.give_back()
    with world.front_end() as front_end:
        front_end.memory.bytes[:] = memory
        begin(front_end, area)
        p = PackedFrontEnd(front_end)
        front_end.memory.bytes[:] = memory
        p.set_up(0x1234_1234)
        assert [request.chain.head for request in world.device.held] == taken
        area.close()


@pytest.mark.parametrize(
    ("at", "data", "reason"),
    [
        (8, b"\2\0", "version 2"),
        (10, b"\7\0", "for 7 descriptors"),
        (16, b"\4\0", "used position"),
        (18, b"\xff\xff", "used position"),
        (32, b"\1", "holds 0 descriptors"),
        (32, b"\1\0\1\0\0\0\5\0", "holds 5 descriptors"),
        (32, b"\1\0\x63\0\0\0\2\0", "lists entry 99"),
    ],
)
def test_region_that_contradicts_itself_is_refused(at: int, data: bytes, reason: str) -> None:
    area = bytearray(region_size(SIZE, packed=True))
    ring = memoryview(bytearray(16 * SIZE)).cast("H")
    PackedRegion(memoryview(area), SIZE).resume(SIZE, (PackedRing.START, PackedRing.START), ring)
    struct.pack_into("<HH", area, 12, SIZE, SIZE)
    area[at : at + len(data)] = data
    with pytest.raises(RequestRefused, match=reason):
        PackedRegion(memoryview(area), SIZE).resume(SIZE, (PackedRing.START, PackedRing.START), ring)


def test_ring_that_is_larger_than_the_region_is_refused() -> None:
    region = PackedRegion(memoryview(bytearray(region_size(SIZE, packed=True))), SIZE)
    ring = memoryview(bytearray(16 * 2 * SIZE)).cast("H")
    with pytest.raises(RequestRefused, match="at least 8"):
        region.resume(2 * SIZE, (PackedRing.START, PackedRing.START), ring)


@pytest.mark.parametrize(
    ("when", "immediate"),
    [("before it is taken", False), ("before it is taken", True), ("before it is used", False)],
)
def test_area_that_is_damaged_while_the_ring_runs_breaks_the_ring(
    tidy: World, when: str, immediate: bool
) -> None:
    """The front end has the area mapped too, and may write to it what it likes."""
    tidy.device.immediate = immediate
    with tidy.front_end() as front_end:
        area = begin(front_end, None)
        p = PackedFrontEnd(front_end)
        p.set_up(None)
        if when == "before it is taken":
            area.poke(12, b"\xff\xff\xff\xff")
        p.add(4)
        front_end.kick(0)
        area.poke(32, b"\xff" * 32 * 7)
        while tidy.device.held:
            tidy.device.give_back()
        front_end.run()
        assert tidy.device.status & Status.DEVICE_NEEDS_RESET
        tidy.device.immediate = False
        area.close()
