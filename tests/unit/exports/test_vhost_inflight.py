"""The in-flight area: what was in flight goes on with another connection and another process."""

from __future__ import annotations

import fcntl
import os
import struct

import pytest

from devmodels.exports.vhost_inflight import region_size
from devmodels.virtio import split

from . import frontend as fe
from .frontend import Ring, World, inflight
from .inflightarea import PROTOCOL, Area, begin, entry, region_fields, tracked


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
