"""The in-flight area: a back end that dies at any instruction loses nothing and uses nothing twice."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

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

from . import frontend as fe
from .frontend import Ring, World, inflight

PROTOCOL = fe.MQ | fe.REPLY_ACK | fe.CONFIG | fe.RESET | fe.INFLIGHT | fe.STATUS

# --- the layout, as the protocol's document draws it


def region_fields(data: bytes) -> tuple[int, ...]:
    """features, version, desc_num, last_batch_head, used_idx."""
    return struct.unpack_from("<QHHHH", data)


def entry(data: bytes, head: int) -> tuple[int, ...]:
    """inflight, next, counter."""
    return struct.unpack_from("<B5xHQ", data, 16 + 16 * head)


class Area:
    """What a front end keeps: the area's descriptor, and its bytes for a test to look at."""

    def __init__(self, front_end: fe.FrontEnd, num_queues: int = 2, queue_size: int = 8) -> None:
        answer, self.fd = front_end.ask_fd(fe.GET_INFLIGHT_FD, inflight(0, num_queues, queue_size))
        self.size, self.offset, self.num_queues, self.queue_size = struct.unpack_from("<QQHH", answer)

    def region(self, queue: int = 0) -> bytes:
        each = self.size // self.num_queues
        return os.pread(self.fd, each, self.offset + queue * each)

    def marked(self, queue: int = 0) -> list[int]:
        """Heads in flight, by counter."""
        region = self.region(queue)
        found = [head for head in range(self.queue_size) if entry(region, head)[0]]
        return sorted(found, key=lambda head: entry(region, head)[2])

    def poke(self, at: int, data: bytes) -> None:
        os.pwrite(self.fd, data, self.offset + at)

    def payload(self) -> bytes:
        return inflight(self.size, self.num_queues, self.queue_size, self.offset)

    def close(self) -> None:
        os.close(self.fd)


def begin(front_end: fe.FrontEnd, area: Area | None = None) -> Area:
    """Everything up to the rings, in the order that QEMU keeps; with an area of an earlier connection or a new one."""
    front_end.introduce(PROTOCOL)
    front_end.set_features()
    area = Area(front_end) if area is None else area
    assert front_end.acknowledged(fe.SET_INFLIGHT_FD, area.payload(), [area.fd]) == 0
    front_end.share()
    return area


@contextmanager
def tracked(world: World) -> Iterator[tuple[fe.FrontEnd, Area, Ring]]:
    with world.front_end() as front_end:
        area = begin(front_end)
        ring = Ring(front_end.memory)
        front_end.start(0, ring)
        yield front_end, area, ring
        area.close()


def test_area_holds_a_region_for_each_queue(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce(PROTOCOL)
        area = Area(front_end, 2, 8)
        assert (area.num_queues, area.queue_size, area.offset) == (2, 8, 0)
        assert area.size == 2 * region_size(8) >= 2 * (16 + 8 * 16)
        assert os.fstat(area.fd).st_size >= area.size
        area.close()


def test_area_cannot_be_cut_off(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce(PROTOCOL)
        area = Area(front_end)
        assert fcntl.fcntl(area.fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
        area.close()


def test_answer_without_the_padding_of_c(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce(PROTOCOL)
        answer, fd = front_end.ask_fd(fe.GET_INFLIGHT_FD, inflight(0, 1, 8)[:20])
        os.close(fd)
        assert len(answer) == 20


def test_area_follows_a_buffer(world: World) -> None:
    with tracked(world) as (front_end, area, ring):
        assert region_fields(area.region()) == (0, 1, 8, 0, 0)
        for _ in range(3):
            ring.add()
        front_end.kick(0)
        assert area.marked() == [0, 1, 2]
        assert [entry(area.region(), head)[2] for head in range(3)] == [0, 1, 2]
        world.device.give_back(1)
        front_end.run()
        assert area.marked() == [0, 2]
        assert region_fields(area.region())[3:] == (1, 1)
        world.device.give_back()
        world.device.give_back()
        front_end.run()
        assert area.marked() == []
        assert region_fields(area.region())[4] == 3
        assert area.marked(1) == []


def test_without_the_area_a_ring_is_a_plain_one(world: World) -> None:
    with world.front_end() as front_end:
        front_end.up()
        assert type(world.device.queues[0].ring) is split.SplitRing


# --- another connection, another process


def test_what_was_in_flight_is_submitted_again_in_order_before_what_is_new(world: World) -> None:
    with world.front_end() as front_end:
        area = begin(front_end)
        ring = Ring(front_end.memory)
        front_end.start(0, ring)
        for _ in range(5):
            ring.add()
        front_end.kick(0)
        world.device.give_back(3)
        world.device.give_back(0)
        front_end.run()
        memory = bytes(front_end.memory.bytes)
    # What ran is not shown any more: the next back end does it again.
    while world.device.held:
        world.device.give_back()
    with world.front_end() as front_end:
        front_end.memory.bytes[:] = memory
        begin(front_end, area)
        ring = Ring(front_end.memory, fresh=False)
        ring.used_seen = 0
        ring.add()
        front_end.start(0, ring, base=2)
        assert [request.chain.head for request in world.device.held] == [1, 2, 4, 5]
        assert area.marked() == [1, 2, 4, 5]
        while world.device.held:
            world.device.give_back()
        front_end.run()
        assert [head for head, _ in ring.taken_back()] == [3, 0, 1, 2, 4, 5]
        assert fe.signalled(front_end.calls[0])
        assert area.marked() == []
    area.close()


def test_driver_is_notified_anew_after_a_restart(world: World) -> None:
    """The earlier back end may have died between the used index and the notification."""
    with world.front_end() as front_end:
        area = begin(front_end)
        ring = Ring(front_end.memory)
        front_end.set_call(0)
        front_end.set_ring(0, ring)
        front_end.set_kick(0)
        front_end.enable(0)
        assert fe.signalled(front_end.calls[0])
        area.close()


def test_ring_that_was_stopped_goes_on_with_the_same_area(world: World) -> None:
    with tracked(world) as (front_end, area, ring):
        for round_ in range(3):
            ring.add()
            front_end.kick(0)
            world.device.give_back()
            base = front_end.stop(0)
            assert base == round_ + 1
            assert front_end.acknowledged(fe.SET_INFLIGHT_FD, area.payload(), [area.fd]) == 0
            front_end.start(0, ring, base)
        assert len(ring.taken_back()) == 3


def test_reset_forgets_what_was_in_flight(world: World) -> None:
    with tracked(world) as (front_end, area, ring):
        ring.add()
        front_end.kick(0)
        assert area.marked() == [0]
        front_end.send(fe.RESET_DEVICE)
        world.device.give_back()
        front_end.run()
        ring.clear()
        front_end.set_features()
        front_end.start(0, ring)
        assert world.device.held == []
        assert area.marked() == []


def test_a_new_ring_begins_where_the_front_end_says_after_the_old_one_came_to_rest(world: World) -> None:
    """The driver has reset the queue alone: the used index of the new ring has nothing to do with the old one's."""
    with tracked(world) as (front_end, area, ring):
        for _ in range(20):
            ring.add()
            front_end.kick(0)
            world.device.give_back()
            front_end.run()
            ring.taken_back()
        assert front_end.stop(0) == 20
        ring.clear()
        front_end.start(0, ring)
        ring.add()
        front_end.kick(0)
        assert [request.chain.head for request in world.device.held] == area.marked()
        world.device.give_back()
        front_end.run()
        assert len(ring.taken_back()) == 1


@pytest.mark.parametrize("enabled", [0, 1])
def test_a_ring_that_stops_at_once_gives_back_what_was_in_flight_first(world: World, enabled: int) -> None:
    """The front end pauses before the back end has looked at the ring: its base must not leave requests out."""
    with world.front_end() as front_end:
        area = begin(front_end)
        ring = Ring(front_end.memory)
        front_end.start(0, ring)
        for _ in range(3):
            ring.add()
        front_end.kick(0)
        memory = bytes(front_end.memory.bytes)
    while world.device.held:
        world.device.give_back()
    with world.front_end() as front_end:
        front_end.memory.bytes[:] = memory
        begin(front_end, area)
        ring = Ring(front_end.memory, fresh=False)
        ring.used_seen = 0
        front_end.set_ring(0, ring)
        front_end.set_kick(0)
        messages = [
            (fe.SET_VRING_ENABLE, fe.state(0, 1)),
            (fe.SET_VRING_ENABLE, fe.state(0, enabled)),
            (fe.GET_VRING_BASE, fe.state(0, 0)),
        ]
        front_end.put(b"".join(struct.pack("<III", number, 1, 8) + data for number, data in messages))
        assert front_end.reply() is None
        while world.device.held:
            world.device.give_back()
        front_end.run()
        assert front_end.reply() == (fe.GET_VRING_BASE, fe.state(0, 3))
        assert [head for head, _ in ring.taken_back()] == [0, 1, 2]
        assert area.marked() == []
    area.close()


# --- areas that do not fit


def test_ring_that_is_larger_than_the_area_is_refused(tidy: World, caplog: pytest.LogCaptureFixture) -> None:
    with tidy.front_end() as front_end:
        front_end.introduce(PROTOCOL)
        front_end.set_features()
        area = Area(front_end, 2, 4)
        front_end.share()
        front_end.set_ring(0, Ring(front_end.memory))
        front_end.set_kick(0)
        assert front_end.acknowledged(fe.SET_VRING_ENABLE, fe.state(0, 1)) == 1
        area.close()
    assert any("in-flight area for 4 descriptors" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (inflight(383, 2, 8), "383 bytes, expected at least 384"),
        (inflight(0, 2, 8), "0 bytes, expected at least 384"),
        (inflight(384, 3, 8), "3 queues of 2"),
        (inflight(384, 0, 8), "0 queues of 2"),
        (inflight(384, 2, 0), "queues of 0, expected 1 to 32768"),
        (inflight(1 << 30, 2, 8), "holds only 1048576"),
        (inflight(384, 2, 8, 1 << 20), "holds only 1048576"),
        (inflight(384, 2, 8, 2**64 - 64), "holds only 1048576"),
        (inflight(384, 2, 8, 8), "not aligned"),
    ],
)
def test_area_that_does_not_fit_is_refused(
    tidy: World, caplog: pytest.LogCaptureFixture, payload: bytes, reason: str
) -> None:
    with tidy.front_end() as front_end:
        front_end.introduce(PROTOCOL)
        assert front_end.acknowledged(fe.SET_INFLIGHT_FD, payload, [front_end.memory.fd]) == 1
        assert front_end.connected
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert reason in line


@pytest.mark.parametrize("path", ["/dev/null", "/"])
def test_area_that_is_no_file_is_refused(tidy: World, path: str) -> None:
    with tidy.front_end() as front_end:
        front_end.introduce(PROTOCOL)
        fd = os.open(path, os.O_RDONLY)
        assert front_end.acknowledged(fe.SET_INFLIGHT_FD, inflight(384, 2, 8), [fd]) == 1
        os.close(fd)


def test_area_that_cannot_be_written_is_refused(tidy: World) -> None:
    with tidy.front_end() as front_end:
        front_end.introduce(PROTOCOL)
        fd = os.open(f"/proc/self/fd/{front_end.memory.fd}", os.O_RDONLY)
        assert front_end.acknowledged(fe.SET_INFLIGHT_FD, inflight(384, 2, 8), [fd]) == 1
        os.close(fd)


def test_area_does_not_change_while_rings_run(world: World) -> None:
    with tracked(world) as (front_end, area, _ring):
        assert front_end.acknowledged(fe.SET_INFLIGHT_FD, area.payload(), [area.fd]) == 1


def test_a_second_area_replaces_the_first(tidy: World) -> None:
    with tidy.front_end() as front_end:
        front_end.introduce(PROTOCOL)
        mappings = []
        for _ in range(4):
            Area(front_end).close()
            with open("/proc/self/maps") as maps:
                mappings.append(sum("vhost-user-inflight" in line for line in maps))
        assert mappings == [1] * 4


@pytest.mark.parametrize(
    ("at", "data", "reason"),
    [
        (8, b"\2\0", "version 2"),
        (10, b"\7\0", "for 7 descriptors"),
        (14, b"\x80\0", "too far apart"),
        (16, b"\1" + bytes(7) + b"\xff" * 8, "counter"),
        (12, b"\x08\0\xff\xff", "lists descriptor 8"),
        (12, b"\xff\xff\xff\xff", "lists descriptor 65535"),
    ],
)
def test_area_that_contradicts_the_ring_is_refused(
    tidy: World, caplog: pytest.LogCaptureFixture, at: int, data: bytes, reason: str
) -> None:
    with tidy.front_end() as front_end:
        area = begin(front_end)
        ring = Ring(front_end.memory)
        area.poke(0, struct.pack("<QHHHH", 0, 1, 8, 0, 0))
        area.poke(at, data)
        front_end.set_ring(0, ring)
        front_end.set_kick(0)
        assert front_end.acknowledged(fe.SET_VRING_ENABLE, fe.state(0, 1)) == 1
        area.close()
    assert any(reason in record.getMessage() for record in caplog.records)


def test_head_beyond_the_ring_is_refused(tidy: World) -> None:
    with tidy.front_end() as front_end:
        area = begin(front_end)
        area.poke(0, struct.pack("<QHHHH", 0, 1, 8, 0, 0))
        area.poke(16 + 16 * 4, b"\1")
        front_end.set_ring(0, Ring(front_end.memory, size=4))
        front_end.set_kick(0)
        assert front_end.acknowledged(fe.SET_VRING_ENABLE, fe.state(0, 1)) == 1
        area.close()


def test_list_that_goes_in_a_circle_ends(world: World) -> None:
    with world.front_end() as front_end:
        area = begin(front_end)
        ring = Ring(front_end.memory)
        struct.pack_into("<H", front_end.memory.bytes, ring.used + 2, 8)
        struct.pack_into("<H", front_end.memory.bytes, ring.avail + 2, 8)
        area.poke(0, struct.pack("<QHHHH", 0, 1, 8, 0, 0))
        front_end.start(0, ring, base=8)
        assert world.device.held == []
        area.close()


# --- death at any instruction

Moment = tuple[bytes, bytes]
"""What is in memory and in the area."""

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


def watching(files: set[str], look: Callable[[], None]) -> Callable[[FrameType, str, Any], Any]:
    """A trace function that looks after each instruction of these files."""

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        look()
        return trace

    return trace


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
