"""The life of a ring: started, kicked, disabled, stopped, started again; its descriptors; what runs meanwhile."""

from __future__ import annotations

import os
import struct

import pytest

from . import frontend as fe
from .frontend import Ring, World, signalled, state, u64


def test_kick_brings_a_buffer_to_the_device_and_back(quick: World) -> None:
    with quick.front_end() as front_end:
        (ring,) = front_end.up()
        head = ring.add()
        front_end.kick(0)
        assert ring.taken_back() == [(head, 16)]
        assert signalled(front_end.calls[0]) == 1


def test_buffers_that_were_there_before_the_ring_are_taken(quick: World) -> None:
    with quick.front_end() as front_end:
        front_end.introduce()
        front_end.set_features()
        front_end.share()
        ring = Ring(front_end.memory)
        head = ring.add()
        front_end.start(0, ring)
        assert ring.taken_back() == [(head, 16)]


def test_every_kick_is_noticed_though_none_is_read(quick: World) -> None:
    with quick.front_end() as front_end:
        (ring,) = front_end.up()
        for _ in range(20):
            head = ring.add()
            front_end.kick(0)
            assert ring.taken_back() == [(head, 16)]
        assert os.eventfd_read(front_end.kicks[0]) == 20


def test_descriptors_stay_as_blocking_as_they_were(world: World) -> None:
    """The open file description is shared: changing its flags would hang the front end."""
    with world.front_end() as front_end:
        front_end.introduce()
        blocking = os.eventfd(0, os.EFD_CLOEXEC)
        unblocking = fe.eventfd()
        front_end.send(fe.SET_VRING_KICK, u64(0), [blocking])
        front_end.send(fe.SET_VRING_CALL, u64(0), [unblocking])
        assert os.get_blocking(blocking)
        assert not os.get_blocking(unblocking)
        os.close(blocking)
        os.close(unblocking)


def test_full_blocking_call_descriptor_blocks_nobody(quick: World) -> None:
    with quick.front_end() as front_end:
        (ring,) = front_end.up()
        full = os.eventfd(0, os.EFD_CLOEXEC)
        front_end.send(fe.SET_VRING_CALL, u64(0), [full])
        os.eventfd_write(full, 2**64 - 3)
        for _ in range(3):
            ring.add()
            front_end.kick(0)
        assert len(ring.taken_back()) == 3
        os.close(full)


@pytest.mark.parametrize("ring_count", [1, 2])
def test_each_ring_has_its_own_call(quick: World, ring_count: int) -> None:
    with quick.front_end() as front_end:
        rings = front_end.up(rings=2)
        rings[ring_count - 1].add()
        front_end.kick(ring_count - 1)
        assert [signalled(front_end.calls[n]) for n in (0, 1)] == [int(ring_count == n + 1) for n in (0, 1)]


# --- disabled


def test_disabled_ring_is_left_alone(world: World) -> None:
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        front_end.enable(0, 0)
        ring.add()
        front_end.kick(0)
        assert world.device.held == []


def test_enabling_a_ring_takes_what_came_meanwhile(world: World) -> None:
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        front_end.enable(0, 0)
        ring.add()
        front_end.kick(0)
        front_end.enable(0, 1)
        assert len(world.device.held) == 1


def test_requests_of_a_disabled_ring_are_given_back_to_it(world: World) -> None:
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        head = ring.add()
        front_end.kick(0)
        front_end.enable(0, 0)
        world.device.give_back()
        front_end.run()
        assert ring.taken_back() == [(head, 16)]


def test_one_disabled_ring_does_not_stop_the_other(quick: World) -> None:
    with quick.front_end() as front_end:
        rings = front_end.up(rings=2)
        front_end.enable(0, 0)
        head = rings[1].add()
        front_end.kick(1)
        assert rings[1].taken_back() == [(head, 16)]


def test_rings_are_enabled_from_the_start_without_protocol_features(quick: World) -> None:
    with quick.front_end() as front_end:
        front_end.set_features(fe.F_VERSION_1)
        front_end.share()
        ring = Ring(front_end.memory)
        front_end.set_ring(0, ring)
        front_end.set_kick(0)
        head = ring.add()
        front_end.kick(0)
        assert ring.taken_back() == [(head, 16)]


@pytest.mark.parametrize("num", [2, 0xFFFFFFFF])
def test_enabling_takes_only_0_and_1(world: World, num: int) -> None:
    with world.front_end() as front_end:
        front_end.up()
        assert front_end.acknowledged(fe.SET_VRING_ENABLE, state(0, num)) == 1


# --- stopped, and started again


def test_stop_is_answered_when_the_running_request_has_come_back(world: World) -> None:
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        head = ring.add()
        front_end.kick(0)
        front_end.send(fe.GET_VRING_BASE, state(0, 0))
        front_end.run()
        assert front_end.reply() is None
        assert ring.used_idx == 0
        world.device.give_back()
        front_end.run()
        assert front_end.reply() == (fe.GET_VRING_BASE, state(0, 1))
        assert ring.taken_back() == [(head, 16)]


def test_messages_behind_a_waiting_stop_are_answered_after_it(world: World) -> None:
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        ring.add()
        front_end.kick(0)
        front_end.send(fe.GET_VRING_BASE, state(0, 0))
        front_end.send(fe.GET_QUEUE_NUM)
        world.device.give_back()
        front_end.run()
        assert front_end.reply() == (fe.GET_VRING_BASE, state(0, 1))
        assert front_end.reply() == (fe.GET_QUEUE_NUM, u64(2))


def test_message_in_one_piece_with_a_waiting_stop_is_answered_after_it(world: World) -> None:
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        ring.add()
        front_end.kick(0)
        stop = struct.pack("<III", fe.GET_VRING_BASE, 1, 8) + state(0, 0)
        front_end.put(stop + struct.pack("<III", fe.GET_QUEUE_NUM, 1, 0))
        assert front_end.reply() is None
        world.device.give_back()
        front_end.run()
        assert front_end.reply() == (fe.GET_VRING_BASE, state(0, 1))
        assert front_end.reply() == (fe.GET_QUEUE_NUM, u64(2))


def test_waiting_for_a_request_does_not_keep_the_server_busy(world: World) -> None:
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        ring.add()
        front_end.kick(0)
        front_end.send(fe.GET_VRING_BASE, state(0, 0))
        front_end.send(fe.GET_QUEUE_NUM)
        assert not fe.readable(world.context.fileno())
        world.device.give_back()


@pytest.mark.parametrize(
    ("message", "payload"), [(fe.GET_VRING_BASE, state(0, 0)), (fe.RESET_DEVICE, b"")], ids=["stop", "reset"]
)
def test_front_end_that_leaves_before_its_answer_makes_way_for_the_next(
    world: World, message: int, payload: bytes
) -> None:
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        ring.add()
        front_end.kick(0)
        front_end.send(message, payload)
        front_end.run()
    world.context.run_until_idle()
    world.device.give_back()
    world.context.run_until_idle()
    assert not world.server.connected
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        head = ring.add()
        front_end.kick(0)
        front_end.run()
        world.device.give_back()
        front_end.run()
        assert ring.taken_back() == [(head, 16)]


def test_stopped_ring_takes_nothing(world: World) -> None:
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        assert front_end.stop(0) == 0
        ring.add()
        os.eventfd_write(front_end.kicks[0], 1)
        front_end.run()
        assert world.device.held == []


def test_stop_of_a_ring_that_never_ran_gives_the_base_it_was_told(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        front_end.send(fe.SET_VRING_BASE, state(1, 77))
        assert front_end.stop(1) == 77


def test_ring_goes_on_where_it_stopped(quick: World) -> None:
    with quick.front_end() as front_end:
        (ring,) = front_end.up()
        for _ in range(3):
            ring.add()
        front_end.kick(0)
        base = front_end.stop(0)
        assert base == 3
        ring.taken_back()
        head = ring.add()
        front_end.start(0, ring, base)
        assert ring.taken_back() == [(head, 16)]


def test_kick_and_enable_alone_start_a_stopped_ring_where_it_was(quick: World) -> None:
    with quick.front_end() as front_end:
        (ring,) = front_end.up()
        ring.add()
        front_end.kick(0)
        ring.taken_back()
        front_end.stop(0)
        head = ring.add()
        front_end.set_kick(0)
        assert ring.taken_back() == [(head, 16)]


def test_ring_starts_near_the_end_of_its_indices(quick: World) -> None:
    with quick.front_end() as front_end:
        front_end.introduce()
        front_end.set_features()
        front_end.share()
        ring = Ring(front_end.memory)
        ring.avail_idx = ring.used_seen = 0xFFFE
        front_end.memory.bytes[ring.avail + 2 : ring.avail + 4] = b"\xfe\xff"
        front_end.memory.bytes[ring.used + 2 : ring.used + 4] = b"\xfe\xff"
        front_end.start(0, ring, 0xFFFE)
        heads = [ring.add() for _ in range(4)]
        front_end.kick(0)
        assert [head for head, _ in ring.taken_back()] == heads
        assert front_end.stop(0) == 2


def test_firmware_then_operating_system(quick: World) -> None:
    """SeaBIOS uses the device and leaves it; Linux comes with other features, memory, rings and descriptors."""
    with quick.front_end() as front_end:
        front_end.introduce()
        for features in (fe.F_PROTOCOL | fe.F_VERSION_1, fe.F_PROTOCOL | fe.F_VERSION_1 | fe.F_EVENT_IDX):
            front_end.set_features(features)
            front_end.share()
            ring = Ring(front_end.memory, 0x2000 if features & fe.F_EVENT_IDX else 0)
            front_end.start(0, ring)
            head = ring.add()
            front_end.kick(0)
            assert ring.taken_back() == [(head, 16)]
            front_end.enable(0, 0)
            front_end.stop(0)


# --- set-up


@pytest.mark.parametrize("num", [0, 3, 65536, 0xFFFFFFFF])
def test_impossible_sizes_are_refused(world: World, num: int) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        assert front_end.acknowledged(fe.SET_VRING_NUM, state(0, num)) == 1


def test_impossible_base_is_refused(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        assert front_end.acknowledged(fe.SET_VRING_BASE, state(0, 0x10000)) == 1


@pytest.mark.parametrize("request_", [fe.SET_VRING_NUM, fe.SET_VRING_BASE])
@pytest.mark.parametrize("enabled", [0, 1])
def test_size_and_base_do_not_change_under_a_started_ring(world: World, request_: int, enabled: int) -> None:
    with world.front_end() as front_end:
        front_end.up()
        front_end.enable(0, enabled)
        assert front_end.acknowledged(request_, state(0, 4)) == 1


def test_addresses_do_not_change_under_a_started_ring(world: World) -> None:
    with world.front_end() as front_end:
        front_end.up()
        elsewhere = Ring(front_end.memory, 0x8000)
        assert front_end.acknowledged(fe.SET_VRING_ADDR, elsewhere.addresses(0)) == 1


def test_the_same_addresses_again_are_fine(world: World) -> None:
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        assert front_end.acknowledged(fe.SET_VRING_ADDR, ring.addresses(0)) == 0


def test_addresses_outside_memory_are_refused(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        front_end.share()
        ring = Ring(front_end.memory)
        assert front_end.acknowledged(fe.SET_VRING_ADDR, ring.addresses(0, user=0x1000)) == 1


def test_ring_that_runs_over_the_end_of_memory_is_refused(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        front_end.set_features()
        front_end.share()
        ring = Ring(front_end.memory)
        front_end.send(fe.SET_VRING_NUM, state(0, 32768))
        end = fe.USER_BASE + front_end.memory.size - 16
        front_end.send(fe.SET_VRING_ADDR, ring.addresses(0, user=end - ring.used))
        front_end.set_kick(0)
        assert front_end.acknowledged(fe.SET_VRING_ENABLE, state(0, 1)) == 1


def test_misaligned_ring_is_refused(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        front_end.set_features()
        front_end.share()
        ring = Ring(front_end.memory)
        front_end.send(fe.SET_VRING_NUM, state(0, 8))
        front_end.send(fe.SET_VRING_ADDR, ring.addresses(0, user=fe.USER_BASE + 1))
        front_end.set_kick(0)
        assert front_end.acknowledged(fe.SET_VRING_ENABLE, state(0, 1)) == 1
        assert front_end.connected


def test_polling_instead_of_kicks_is_refused(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        assert front_end.acknowledged(fe.SET_VRING_KICK, u64(fe.NO_FD)) == 1


# --- descriptors that change under a running ring


def test_new_call_descriptor_is_signalled_at_once_and_from_then_on(quick: World) -> None:
    """Something may have been used between the old descriptor and the new one."""
    with quick.front_end() as front_end:
        (ring,) = front_end.up()
        front_end.set_call(0)
        assert signalled(front_end.calls[0]) == 1
        ring.add()
        front_end.kick(0)
        assert signalled(front_end.calls[0]) == 1


def test_ring_without_call_descriptor_works_in_silence(quick: World) -> None:
    with quick.front_end() as front_end:
        (ring,) = front_end.up()
        old = os.dup(front_end.calls[0])
        front_end.send(fe.SET_VRING_CALL, u64(fe.NO_FD))
        head = ring.add()
        front_end.kick(0)
        assert ring.taken_back() == [(head, 16)]
        assert signalled(old) == 0
        os.close(old)


def test_new_kick_descriptor_takes_over_and_nothing_is_lost(world: World) -> None:
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        ring.add()
        front_end.set_kick(0)
        assert len(world.device.held) == 1
        ring.add()
        front_end.kick(0)
        assert len(world.device.held) == 2


# --- a broken ring


def break_ring(front_end: fe.FrontEnd, ring: Ring) -> None:
    """Name a descriptor that the ring does not have."""
    ring.add()
    front_end.memory.bytes[ring.avail + 4 : ring.avail + 6] = b"\xff\xff"
    front_end.kick(0)


def test_broken_ring_is_signalled_on_the_error_descriptor(world: World) -> None:
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        front_end.set_err(0)
        break_ring(front_end, ring)
        assert signalled(front_end.errs[0]) == 1


def test_device_with_a_broken_ring_starts_again_after_a_stop(quick: World) -> None:
    with quick.front_end() as front_end:
        (ring,) = front_end.up()
        break_ring(front_end, ring)
        front_end.stop(0)
        front_end.set_features()
        ring.clear()
        front_end.start(0, ring)
        head = ring.add()
        front_end.kick(0)
        assert ring.taken_back() == [(head, 16)]


def test_violations_of_one_connection_fill_no_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with world.front_end():
        for number in range(100):
            world.device.violations.report("clause", f"wrong {number}", "place")
    assert len([record for record in caplog.records if "wrong" in record.message]) == 20
    with world.front_end():
        world.device.violations.report("clause", "a later wrong", "place")
    assert "a later wrong" in caplog.text


# --- busy polling


def test_broken_ring_is_no_longer_looked_at(world: World) -> None:
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        break_ring(front_end, ring)
        assert world.pollers == []


def test_broken_device_is_not_looked_at_again_when_a_ring_is_touched(world: World) -> None:
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        break_ring(front_end, ring)
        front_end.enable(0, 1)
        assert world.pollers == []


def test_disabled_and_stopped_rings_are_not_looked_at(world: World) -> None:
    with world.front_end() as front_end:
        front_end.up(rings=2)
        assert len(world.pollers) == 2
        front_end.enable(0, 0)
        assert len(world.pollers) == 1
        front_end.stop(1)
        assert world.pollers == []


def test_looking_serves_what_is_there_without_a_kick(quick: World) -> None:
    with quick.front_end() as front_end:
        (ring,) = front_end.up()
        (poller,) = quick.pollers
        poller.begin()
        assert not ring.kicks_wanted()
        assert not poller.poll()
        head = ring.add()
        assert poller.poll()
        assert ring.taken_back() == [(head, 16)]
        assert not poller.end()
        assert ring.kicks_wanted()


def test_end_of_looking_finds_what_came_last(quick: World) -> None:
    with quick.front_end() as front_end:
        (ring,) = front_end.up()
        (poller,) = quick.pollers
        poller.begin()
        head = ring.add()
        assert poller.end()
        assert ring.taken_back() == [(head, 16)]
