"""What a front end learns of the back end and agrees with it: features, queues, configuration, status."""

from __future__ import annotations

import struct

import pytest

from . import frontend as fe
from .frontend import Disconnected, World, state, u64

OFFERED = (
    fe.F_VERSION_1 | fe.F_EVENT_IDX | fe.F_INDIRECT | fe.F_PACKED | fe.F_PROTOCOL | fe.F_LOG_ALL | 1 << 5
)
PROTOCOL = fe.MQ | fe.LOG | fe.REPLY_ACK | fe.BACKEND_REQ | fe.CONFIG | fe.INFLIGHT | fe.RESET
PROTOCOL |= fe.MEM_SLOTS | fe.STATUS | fe.DEVICE_STATE


def config(offset: int, size: int, data: bytes | None = None, flags: int = 0) -> bytes:
    return struct.pack("<III", offset, size, flags) + (bytes(size) if data is None else data)


def test_features_are_the_devices_and_protocol_features(world: World) -> None:
    with world.front_end() as front_end:
        assert front_end.number(fe.GET_FEATURES) == OFFERED


def test_protocol_features_offered(world: World) -> None:
    with world.front_end() as front_end:
        assert front_end.number(fe.GET_PROTOCOL_FEATURES) == PROTOCOL


def test_queue_number(world: World) -> None:
    with world.front_end() as front_end:
        assert front_end.number(fe.GET_QUEUE_NUM) == 2


def test_owner_messages_have_no_effect(world: World) -> None:
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        assert front_end.acknowledged(fe.SET_OWNER) == 0
        assert front_end.acknowledged(fe.RESET_OWNER) == 0
        ring.add()
        front_end.kick(0)
        assert len(world.device.held) == 1


def test_device_learns_what_was_negotiated(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        front_end.set_features(fe.F_PROTOCOL | fe.F_VERSION_1 | 1 << 5)
        assert world.device.driver_features == fe.F_VERSION_1 | 1 << 5


def test_a_legacy_driver_is_accepted(world: World) -> None:
    """Whether the front end's device is transitional, it alone knows."""
    with world.front_end() as front_end:
        front_end.introduce()
        assert front_end.acknowledged(fe.SET_FEATURES, u64(fe.F_PROTOCOL)) == 0


def test_features_that_were_not_offered_are_refused(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        assert front_end.acknowledged(fe.SET_FEATURES, u64(fe.F_VERSION_1 | 1 << 7)) == 1
        assert front_end.connected


def test_protocol_features_that_were_not_offered_end_the_connection(world: World) -> None:
    with world.front_end() as front_end:
        front_end.send(fe.SET_PROTOCOL_FEATURES, u64(1 << 2))
        assert not front_end.connected


def test_features_do_not_change_while_rings_run(world: World) -> None:
    with world.front_end() as front_end:
        front_end.up()
        assert front_end.acknowledged(fe.SET_FEATURES, u64(fe.F_PROTOCOL)) == 1
        assert world.device.driver_features == fe.F_VERSION_1


def test_the_same_features_again_while_rings_run_are_fine(world: World) -> None:
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        ring.add()
        front_end.kick(0)
        assert front_end.acknowledged(fe.SET_FEATURES, u64(fe.F_PROTOCOL | fe.F_VERSION_1)) == 0
        assert len(world.device.held) == 1


# --- REPLY_ACK


def test_need_reply_is_answered_once_negotiated(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        assert front_end.acknowledged(fe.SET_OWNER) == 0


def test_need_reply_is_ignored_before(world: World) -> None:
    with world.front_end() as front_end:
        front_end.send(fe.SET_OWNER, flags=1 | fe.NEED_REPLY)
        assert front_end.reply() is None


def test_need_reply_adds_nothing_to_a_message_with_its_own_answer(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        assert front_end.ask(fe.GET_QUEUE_NUM, flags=1 | fe.NEED_REPLY) == u64(2)
        assert front_end.reply() is None


def test_unknown_request_with_need_reply_is_refused(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        assert front_end.acknowledged(99, b"abc") == 1
        assert front_end.connected


def test_unknown_request_without_it_ends_the_connection(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        front_end.send(99)
        assert not front_end.connected


# --- configuration space


def test_configuration_space_is_read_with_its_header_repeated(world: World) -> None:
    with world.front_end() as front_end:
        asked = config(8, 4)
        assert front_end.ask(fe.GET_CONFIG, asked) == asked[:12] + bytes([8, 9, 10, 11])


def test_configuration_space_ends_in_zeroes(world: World) -> None:
    with world.front_end() as front_end:
        assert front_end.ask(fe.GET_CONFIG, config(58, 4))[12:] == bytes([58, 59, 0, 0])


def test_configuration_beyond_the_largest_space_is_answered_with_nothing(world: World) -> None:
    with world.front_end() as front_end:
        assert front_end.ask(fe.GET_CONFIG, config(250, 10)) == b""
        assert front_end.connected


def test_reading_the_configuration_is_no_violation(world: World) -> None:
    with world.front_end() as front_end:
        front_end.ask(fe.GET_CONFIG, config(0, 60))
    assert world.device.violations.total == 0


def test_writable_configuration_is_written(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        assert front_end.acknowledged(fe.SET_CONFIG, config(32, 1, b"\x07")) == 0
        assert front_end.ask(fe.GET_CONFIG, config(32, 1))[12:] == b"\x07"


def test_read_only_configuration_is_refused(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        assert front_end.acknowledged(fe.SET_CONFIG, config(0, 1, b"\x07")) == 1
        assert front_end.ask(fe.GET_CONFIG, config(0, 1))[12:] == b"\x00"


def test_configuration_of_a_live_migration_is_refused(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        assert front_end.acknowledged(fe.SET_CONFIG, config(32, 1, b"\x07", flags=1)) == 1


@pytest.mark.parametrize("request_", [fe.GET_CONFIG, fe.SET_CONFIG])
def test_configuration_message_whose_length_is_wrong_ends_the_connection(world: World, request_: int) -> None:
    with world.front_end() as front_end:
        front_end.send(request_, struct.pack("<III", 0, 4, 0) + b"abc")
        assert not front_end.connected


# --- status


def test_status_is_kept(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        assert front_end.number(fe.GET_STATUS) == 0
        front_end.send(fe.SET_STATUS, u64(0xF))
        assert front_end.number(fe.GET_STATUS) == 0xF


def test_status_tells_of_a_broken_device(world: World) -> None:
    with world.front_end() as front_end:
        front_end.up()
        front_end.send(fe.SET_STATUS, u64(0xF))
        world.device.needs_reset()
        assert front_end.number(fe.GET_STATUS) == 0x4F


def test_status_beyond_eight_bits_is_refused(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        assert front_end.acknowledged(fe.SET_STATUS, u64(0x100)) == 1


def test_status_of_zero_does_not_stop_rings_that_run(world: World) -> None:
    """QEMU 7.2 sends it when its machine pauses, before it asks each ring where it stopped."""
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        front_end.send(fe.SET_STATUS, u64(0xF))
        head = ring.add()
        front_end.kick(0)
        assert front_end.acknowledged(fe.SET_STATUS, u64(0)) == 0
        front_end.enable(0, 0)
        front_end.send(fe.GET_VRING_BASE, state(0, 0))
        world.device.give_back()
        front_end.run()
        assert front_end.reply() == (fe.GET_VRING_BASE, state(0, 1))
        assert ring.taken_back() == [(head, 16)]
        front_end.set_features()
        front_end.start(0, ring, base=1)
        ring.add()
        front_end.kick(0)
        assert len(world.device.held) == 1


def test_status_of_zero_resets_a_device_whose_rings_rest(world: World) -> None:
    with world.front_end() as front_end:
        front_end.up()
        world.device.needs_reset()
        front_end.stop(0)
        assert front_end.acknowledged(fe.SET_STATUS, u64(0)) == 0
        assert front_end.number(fe.GET_STATUS) == 0


def test_reset_stops_rings_and_forgets_their_set_up(world: World) -> None:
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        assert front_end.acknowledged(fe.RESET_DEVICE) == 0
        ring.add()
        front_end.kick(0)
        assert world.device.held == []
        assert front_end.stop(0) == 0


def test_reset_is_answered_when_running_requests_have_come_back(world: World) -> None:
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        ring.add()
        front_end.kick(0)
        front_end.send(fe.RESET_DEVICE, flags=1 | fe.NEED_REPLY)
        front_end.send(fe.GET_QUEUE_NUM)
        assert front_end.reply() is None
        world.device.give_back()
        front_end.run()
        assert front_end.reply() == (fe.RESET_DEVICE, u64(0))
        assert front_end.reply() == (fe.GET_QUEUE_NUM, u64(2))
        assert ring.taken_back() == []


def test_device_starts_again_after_a_reset(quick: World) -> None:
    with quick.front_end() as front_end:
        (ring,) = front_end.up()
        front_end.acknowledged(fe.RESET_DEVICE)
        ring.clear()
        front_end.set_features()
        front_end.start(0, ring)
        head = ring.add()
        front_end.kick(0)
        assert ring.taken_back() == [(head, 16)]


def test_a_started_ring_needs_features_first(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        front_end.share()
        ring = fe.Ring(front_end.memory)
        front_end.set_ring(0, ring)
        front_end.set_kick(0)
        assert front_end.acknowledged(fe.SET_VRING_ENABLE, state(0, 1)) == 1


# --- one front end after the other


def test_second_front_end_waits_for_the_first_to_go(world: World) -> None:
    first = fe.FrontEnd(world.path, world.context)
    second = fe.FrontEnd(world.path, world.context)
    second.send(fe.GET_QUEUE_NUM)
    assert second.reply() is None
    first.close()
    second.run()
    assert second.reply() == (fe.GET_QUEUE_NUM, u64(2))
    second.close()


def test_nothing_negotiated_stays_for_the_next_front_end(world: World) -> None:
    with world.front_end() as first:
        first.up()
    with world.front_end() as second:
        assert world.device.driver_features == 0
        second.send(fe.SET_OWNER, flags=1 | fe.NEED_REPLY)
        assert second.reply() is None


def test_connection_closed_without_a_byte_is_survived(world: World) -> None:
    with world.front_end():
        pass
    with world.front_end() as following:
        assert following.number(fe.GET_QUEUE_NUM) == 2


def test_next_front_end_waits_for_requests_of_the_last(world: World) -> None:
    with world.front_end() as first:
        (ring,) = first.up()
        ring.add()
        first.kick(0)
    second = fe.FrontEnd(world.path, world.context)
    second.send(fe.GET_QUEUE_NUM)
    assert second.reply() is None
    world.device.give_back()
    second.run()
    assert second.reply() == (fe.GET_QUEUE_NUM, u64(2))
    second.close()


def test_server_that_closes_ends_the_connection_and_removes_its_socket(world: World) -> None:
    with world.front_end() as front_end:
        world.server.close()
        with pytest.raises(Disconnected):
            front_end.ask(fe.GET_FEATURES)
        assert not world.path.exists()
