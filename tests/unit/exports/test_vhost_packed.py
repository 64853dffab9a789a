"""Packed rings of a front end: their positions in SET_VRING_BASE and GET_VRING_BASE, their sizes, a broken one."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest

from tests.unit.virtio.model import Buffer, Form
from tests.unit.virtio.packed_hostile import put
from tests.unit.virtio.packed_model import PackedDriverRing
from tests.unit.virtio.plain import Block, PlainMemory

from . import frontend as fe
from .frontend import Disconnected, FrontEnd, World, signalled, state

FEATURES = fe.F_PROTOCOL | fe.F_VERSION_1 | fe.F_PACKED
SIZE = 7
PARTS = (fe.GUEST_BASE, fe.GUEST_BASE + 0x800, fe.GUEST_BASE + 0x900)
DATA = fe.GUEST_BASE + 0x4000


class PackedFrontEnd:
    """The driver of one packed ring in a front end's memory."""

    def __init__(self, front_end: FrontEnd, *, start: int = 0, size: int = SIZE) -> None:
        self.front_end = front_end
        self.plain = PlainMemory([Block(fe.GUEST_BASE, bytearray())])
        self.plain.blocks[0].data = front_end.memory.bytes  # type: ignore[assignment]
        self.driver = PackedDriverRing(self.plain, size, PARTS, FEATURES, start=start)

    def position(self, place: int) -> int:
        return self.driver.position(self.driver.size, place)

    def set_up(self, base: int | None) -> None:
        front_end = self.front_end
        front_end.introduce()
        front_end.set_features(FEATURES)
        front_end.share()
        front_end.send(fe.SET_VRING_NUM, state(0, self.driver.size))
        if base is not None:
            front_end.send(fe.SET_VRING_BASE, state(0, base))
        desc, driver, device = (part - fe.GUEST_BASE + fe.USER_BASE for part in PARTS)
        front_end.send(fe.SET_VRING_ADDR, struct.pack("<IIQQQQ", 0, 0, desc, device, driver, 0))
        front_end.set_kick(0)
        front_end.set_call(0)
        front_end.enable(0)

    def add(self, count: int = 1) -> None:
        for number in range(count):
            self.driver.place(Buffer([], [(DATA + 16 * number, 16)]), Form.DIRECT, 0)
        self.driver.expose()

    def exchange(self, count: int) -> None:
        """`count` buffers, one after the other, to the device and back."""
        for _ in range(count):
            self.add()
            self.front_end.kick(0)
            assert [used.length for used in self.driver.collect()] == [16]


@pytest.mark.parametrize("base", [None, 0x8000_8000])
@pytest.mark.parametrize("count", [0, 3, 7, 12, 14, 20])
def test_a_packed_ring_stops_where_it_is(quick: World, base: int | None, count: int) -> None:
    """Bits 0 to 14 and 16 to 30 are offsets, bits 15 and 31 the wrap counters of what comes next."""
    with quick.front_end() as front_end:
        p = PackedFrontEnd(front_end)
        p.set_up(base)
        p.exchange(count)
        assert signalled(front_end.calls[0]) == count
        assert front_end.stop(0) == p.position(count) << 16 | p.position(count)


@pytest.mark.parametrize("start", [0, 4, 7, 11, 14])
def test_a_packed_ring_goes_on_where_another_back_end_stopped(quick: World, start: int) -> None:
    with quick.front_end() as front_end:
        p = PackedFrontEnd(front_end, start=start)
        p.add(2)
        p.set_up(p.position(start) << 16 | p.position(start))
        assert len(p.driver.collect()) == 2
        p.exchange(10)
        assert front_end.stop(0) == p.position(start + 12) * 0x1_0001


def test_stopping_waits_for_what_is_held(world: World) -> None:
    with world.front_end() as front_end:
        p = PackedFrontEnd(front_end)
        p.set_up(None)
        p.add(3)
        front_end.kick(0)
        assert len(world.device.held) == 3
        front_end.send(fe.GET_VRING_BASE, state(0, 0))
        assert front_end.reply() is None
        for at in (2, 0, 0):
            world.device.give_back(at)
            front_end.run()
        answer = front_end.reply()
        assert answer is not None
        assert struct.unpack("<II", answer[1]) == (0, p.position(3) * 0x1_0001)
        assert len(p.driver.collect()) == 3


def ends(front_end: FrontEnd) -> bool:
    """Whether the back end has ended the connection."""
    try:
        return front_end.number(fe.GET_FEATURES) == 0
    except Disconnected:
        return True


@pytest.mark.parametrize("base", [7, 0x8000_8007, 0x8001_8000])
def test_positions_that_no_ring_has_end_the_connection(world: World, base: int) -> None:
    with world.front_end() as front_end:
        with suppress(Disconnected):
            PackedFrontEnd(front_end).set_up(base)
        assert ends(front_end)


@pytest.mark.parametrize(
    ("features", "size"), [(FEATURES & ~fe.F_PACKED, 7), (FEATURES, 0), (FEATURES, 32769)]
)
def test_a_size_that_the_ring_cannot_have_ends_the_connection(world: World, features: int, size: int) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        front_end.set_features(features)
        front_end.send(fe.SET_VRING_NUM, state(0, size))
        assert ends(front_end)


def test_a_broken_packed_ring_is_not_polled_for_ever(quick: World) -> None:
    """It reads "not empty" for good: looking at it must end (CVE-2026-16457)."""
    with quick.front_end() as front_end:
        p = PackedFrontEnd(front_end)
        p.set_up(None)
        front_end.set_err(0)
        assert len(quick.pollers) == 1
        put(p.driver, (DATA, 16, 4))
        front_end.kick(0)
        assert signalled(front_end.errs[0]) == 1
        assert quick.pollers == []


def test_a_packed_ring_is_polled(quick: World) -> None:
    with quick.front_end() as front_end:
        p = PackedFrontEnd(front_end)
        p.set_up(None)
        (poller,) = quick.pollers
        poller.begin()
        assert p.plain.unpack("<H", PARTS[2] + 2) == (1,), "kicks are not needed while it is polled"
        assert not poller.poll()
        p.add(2)
        assert poller.poll()
        front_end.run()
        assert len(p.driver.collect()) == 2
        assert not poller.poll()
        p.add()
        assert poller.end()
        front_end.run()
        assert len(p.driver.collect()) == 1
        assert p.plain.unpack("<H", PARTS[2] + 2) == (0,)
