"""Front ends that break the protocol: one log line, nothing left behind, and the next one is served."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from . import frontend as fe
from .frontend import USER_BASE, Disconnected, World, eventfd, region, state, table, u64

SIZE = fe.MEMORY_SIZE

GOOD: dict[int, bytes] = {
    fe.GET_FEATURES: b"",
    fe.SET_FEATURES: u64(fe.F_PROTOCOL | fe.F_VERSION_1),
    fe.SET_OWNER: b"",
    fe.RESET_OWNER: b"",
    fe.SET_MEM_TABLE: table(region(0, SIZE, USER_BASE)),
    fe.SET_LOG_BASE: struct.pack("<QQ", 4096, 0),
    fe.SET_LOG_FD: b"",
    fe.SET_VRING_NUM: state(0, 8),
    fe.SET_VRING_ADDR: struct.pack("<IIQQQQ", 0, 0, USER_BASE, USER_BASE + 0x200, USER_BASE + 0x400, 0),
    fe.SET_VRING_BASE: state(0, 0),
    fe.GET_VRING_BASE: state(0, 0),
    fe.SET_VRING_KICK: u64(0),
    fe.SET_VRING_CALL: u64(0),
    fe.SET_VRING_ERR: u64(0),
    fe.GET_PROTOCOL_FEATURES: b"",
    fe.SET_PROTOCOL_FEATURES: u64(fe.REPLY_ACK),
    fe.GET_QUEUE_NUM: b"",
    fe.SET_VRING_ENABLE: state(0, 1),
    fe.SET_BACKEND_REQ_FD: b"",
    fe.GET_CONFIG: struct.pack("<III", 0, 4, 0) + bytes(4),
    fe.SET_CONFIG: struct.pack("<III", 32, 1, 0) + b"\1",
    fe.GET_INFLIGHT_FD: fe.inflight(0, 2, 8),
    fe.SET_INFLIGHT_FD: fe.inflight(SIZE, 2, 8),
    fe.RESET_DEVICE: b"",
    fe.GET_MAX_MEM_SLOTS: b"",
    fe.ADD_MEM_REG: bytes(8) + region(0, SIZE, USER_BASE),
    fe.REM_MEM_REG: bytes(8) + region(0, SIZE, USER_BASE),
    fe.SET_STATUS: u64(1),
    fe.GET_STATUS: b"",
    fe.SET_DEVICE_STATE_FD: bytes(8),
    fe.CHECK_DEVICE_STATE: b"",
}
"""Each request with a payload that is right."""

NEEDED = dict.fromkeys(GOOD, 0) | {
    fe.SET_MEM_TABLE: 1,
    fe.ADD_MEM_REG: 1,
    fe.SET_INFLIGHT_FD: 1,
    fe.SET_LOG_BASE: 1,
    fe.SET_LOG_FD: 1,
    fe.SET_DEVICE_STATE_FD: 1,
    fe.SET_BACKEND_REQ_FD: 1,
    fe.SET_VRING_KICK: 1,
    fe.SET_VRING_CALL: 1,
    fe.SET_VRING_ERR: 1,
}
"""How many descriptors it needs."""

EVENT_REQUESTS = (fe.SET_VRING_KICK, fe.SET_VRING_CALL, fe.SET_VRING_ERR)

requests = pytest.mark.parametrize("request_", list(GOOD))


def test_every_request_is_here() -> None:
    assert set(GOOD) == set(fe.REQUESTS)


@contextmanager
def descriptors(front_end: fe.FrontEnd, request: int, count: int) -> Iterator[list[int]]:
    """`count` descriptors of the kind that the request wants."""
    if request in (*EVENT_REQUESTS, fe.SET_LOG_FD):
        fds = [eventfd() for _ in range(count)]
    elif request == fe.SET_BACKEND_REQ_FD:
        fds = [socket.socket(socket.AF_UNIX).detach() for _ in range(count)]
    else:
        fds = [os.dup(front_end.memory.fd) for _ in range(count)]
    yield fds
    for fd in fds:
        os.close(fd)


def one_line(caplog: pytest.LogCaptureFixture) -> str:
    """The one warning that was logged."""
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1, warnings
    assert "\n" not in warnings[0]
    return warnings[0]


# --- a message's size and descriptors


def wrong_sizes(good: bytes) -> list[bytes]:
    """A byte less, a byte more, nothing, and the most that a message can have."""
    return [payload for payload in {good[:-1], good + b"\0", b"", bytes(4096)} if payload != good]


@pytest.mark.long
@pytest.mark.parametrize(
    ("request_", "payload"),
    [
        pytest.param(request, payload, id=f"{request}-{len(payload)} bytes")
        for request, good in GOOD.items()
        for payload in sorted(wrong_sizes(good), key=len)
    ],
)
def test_wrong_size_ends_the_connection(
    tidy: World, caplog: pytest.LogCaptureFixture, request_: int, payload: bytes
) -> None:
    with tidy.front_end() as front_end, descriptors(front_end, request_, NEEDED[request_]) as fds:
        front_end.introduce()
        front_end.send(request_, payload, fds, flags=1 | fe.NEED_REPLY)
        assert not front_end.connected
    assert "payload" in one_line(caplog) or "regions" in one_line(caplog)


@pytest.mark.long
@pytest.mark.parametrize(
    ("request_", "count"),
    [
        (request, count)
        for request, needed in NEEDED.items()
        for count in (0, 1, 2, 8)
        # One more with REM_MEM_REG is allowed by the protocol, since some front ends send it.
        if count != needed and (request, count) != (fe.REM_MEM_REG, 1)
    ],
)
def test_wrong_number_of_descriptors_ends_the_connection(
    tidy: World, caplog: pytest.LogCaptureFixture, request_: int, count: int
) -> None:
    with tidy.front_end() as front_end, descriptors(front_end, request_, count) as fds:
        front_end.introduce()
        front_end.send(request_, GOOD[request_], fds, flags=1 | fe.NEED_REPLY)
        assert not front_end.connected
    assert "file descriptors" in one_line(caplog)


@pytest.mark.long
@requests
def test_more_descriptors_than_any_message_has_end_the_connection(tidy: World, request_: int) -> None:
    with tidy.front_end() as front_end, descriptors(front_end, request_, 20) as fds:
        front_end.send(request_, GOOD[request_], fds)
        assert not front_end.connected


@pytest.mark.parametrize("request_", EVENT_REQUESTS)
def test_descriptor_with_the_flag_for_none_ends_the_connection(tidy: World, request_: int) -> None:
    with tidy.front_end() as front_end, descriptors(front_end, request_, 1) as fds:
        front_end.send(request_, u64(fe.NO_FD), fds)
        assert not front_end.connected


@pytest.mark.parametrize("request_", EVENT_REQUESTS)
@pytest.mark.parametrize("kind", ["file", "pipe", "socket", "epoll", "null device"])
def test_descriptor_that_is_no_eventfd_is_refused(tidy: World, request_: int, kind: str) -> None:
    with tidy.front_end() as front_end, tempfile.TemporaryFile() as file:
        front_end.introduce()
        made: list[int] = []
        if kind == "file":
            fd = file.fileno()
        elif kind == "pipe":
            made += os.pipe()
            fd = made[request_ % 2]
        elif kind == "socket":
            made += [end.detach() for end in socket.socketpair()]
            fd = made[0]
        elif kind == "epoll":
            fd = os.dup(tidy.context.fileno())
            made.append(fd)
        else:
            fd = os.open("/dev/null", os.O_RDWR)
            made.append(fd)
        assert front_end.acknowledged(request_, u64(0), [fd]) == 1
        assert front_end.connected
        for number in made:
            os.close(number)


# --- indices


RING_REQUESTS = (
    fe.SET_VRING_NUM,
    fe.SET_VRING_ADDR,
    fe.SET_VRING_BASE,
    fe.SET_VRING_ENABLE,
    fe.SET_VRING_KICK,
    fe.SET_VRING_CALL,
    fe.SET_VRING_ERR,
)


@pytest.mark.long
@pytest.mark.parametrize("request_", RING_REQUESTS)
@pytest.mark.parametrize("index", [2, 255, 0xFFFF_FFFF])
def test_ring_that_is_not_there_is_refused(
    tidy: World, caplog: pytest.LogCaptureFixture, request_: int, index: int
) -> None:
    with tidy.front_end() as front_end, descriptors(front_end, request_, NEEDED[request_]) as fds:
        front_end.introduce()
        if request_ in EVENT_REQUESTS:
            payload = u64(index & 0xFF)
        else:
            payload = struct.pack("<I", index) + GOOD[request_][4:]
        assert front_end.acknowledged(request_, payload, fds) == 1
        assert front_end.connected
    assert "of 2" in one_line(caplog)


def test_stop_of_a_ring_that_is_not_there_ends_the_connection(tidy: World) -> None:
    """Its answer has no room for an error."""
    with tidy.front_end() as front_end:
        front_end.introduce()
        front_end.send(fe.GET_VRING_BASE, state(2, 0), flags=1 | fe.NEED_REPLY)
        assert not front_end.connected


# --- headers


@pytest.mark.parametrize("flags", [0, 2, 3, 5, 1 << 2])
@pytest.mark.parametrize("request_", [fe.GET_FEATURES, 99])
def test_wrong_version_or_a_reply_ends_the_connection(
    tidy: World, caplog: pytest.LogCaptureFixture, request_: int, flags: int
) -> None:
    with tidy.front_end() as front_end:
        front_end.send(request_, flags=flags)
        assert not front_end.connected
    assert f"flags {flags:#x}" in one_line(caplog)


def test_unused_flags_are_ignored(world: World) -> None:
    with world.front_end() as front_end:
        assert front_end.ask(fe.GET_QUEUE_NUM, flags=0xFFFF_FFF1 & ~4) == u64(2)


@pytest.mark.parametrize("size", [4097, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_payload_beyond_all_bounds_ends_the_connection_before_it_is_read(
    tidy: World, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    with tidy.front_end() as front_end:
        front_end.put(struct.pack("<III", fe.SET_FEATURES, 1, size))
        assert not front_end.connected
    assert str(size) in one_line(caplog)


# --- messages in pieces


@requests
def test_message_may_come_byte_by_byte(world: World, request_: int) -> None:
    with world.front_end() as front_end, descriptors(front_end, request_, NEEDED[request_]) as fds:
        front_end.introduce()
        if request_ == fe.REM_MEM_REG:
            front_end.acknowledged(fe.ADD_MEM_REG, GOOD[request_], [front_end.memory.fd])
        if request_ == fe.SET_VRING_ADDR:
            front_end.acknowledged(fe.SET_MEM_TABLE, GOOD[fe.SET_MEM_TABLE], [front_end.memory.fd])
        message = struct.pack("<III", request_, 1 | fe.NEED_REPLY, len(GOOD[request_])) + GOOD[request_]
        front_end.put(message[:1], fds)
        for at in range(1, len(message)):
            assert front_end.reply() is None
            front_end.put(message[at : at + 1])
        answer = front_end.reply()
        assert answer is not None
        assert answer[0] == request_


@pytest.mark.long
@requests
def test_message_cut_anywhere_is_survived(
    tidy: World, caplog: pytest.LogCaptureFixture, request_: int
) -> None:
    message = struct.pack("<III", request_, 1, len(GOOD[request_])) + GOOD[request_]
    for cut in range(1, len(message)):
        caplog.clear()
        with tidy.front_end() as front_end, descriptors(front_end, request_, NEEDED[request_]) as fds:
            front_end.put(message[:cut], fds)
        assert "in the middle of a message" in one_line(caplog)


def test_descriptors_in_the_middle_of_a_message_end_the_connection(tidy: World) -> None:
    with tidy.front_end() as front_end:
        message = struct.pack("<III", fe.SET_MEM_TABLE, 1, 40) + GOOD[fe.SET_MEM_TABLE]
        front_end.put(message[:12])
        front_end.put(message[12:], [front_end.memory.fd])
        assert not front_end.connected


def test_many_messages_in_one_piece_are_all_answered(world: World) -> None:
    with world.front_end() as front_end:
        front_end.put(struct.pack("<III", fe.GET_QUEUE_NUM, 1, 0) * 100)
        assert [front_end.reply() for _ in range(100)] == [(fe.GET_QUEUE_NUM, u64(2))] * 100


# --- floods


def flood(front_end: fe.FrontEnd, message: bytes) -> int:
    """Send as often as the socket takes it, with the server at work, and never read a reply."""
    sent = 0
    for _ in range(10_000):
        try:
            sent += front_end.socket.send(message)
        except BlockingIOError:
            front_end.run()
            if not fe.writable(front_end.socket.fileno()):
                return sent
    raise AssertionError("the server takes messages without end")


def test_replies_that_nobody_reads_stop_the_flood(tidy: World) -> None:
    with tidy.front_end() as front_end:
        message = struct.pack("<III", fe.GET_CONFIG, 1, 268) + struct.pack("<III", 0, 256, 0) + bytes(256)
        assert flood(front_end, message) < 4 << 20


def test_flood_goes_on_when_replies_are_read(world: World) -> None:
    with world.front_end() as front_end:
        message = struct.pack("<III", fe.GET_CONFIG, 1, 268) + struct.pack("<III", 0, 256, 0) + bytes(256)
        whole, rest = divmod(flood(front_end, message), len(message))
        answers = 0
        while (answer := front_end.reply()) is not None:
            assert answer[0] == fe.GET_CONFIG
            answers += 1
            front_end.run()
        assert answers == whole
        if rest:
            front_end.put(message[rest:])
            assert front_end.reply() is not None


def test_front_end_that_goes_with_replies_unread(tidy: World) -> None:
    with tidy.front_end() as front_end:
        flood(front_end, struct.pack("<III", fe.GET_FEATURES, 1, 0))


def test_flood_leaves_others_their_turn(world: World) -> None:
    with world.front_end() as front_end:
        front_end.socket.send(struct.pack("<III", fe.SET_OWNER, 1, 0) * 5000)
        done = False

        def ours() -> None:
            nonlocal done
            done = True

        world.context.run_once()
        world.context.call_soon(ours)
        world.context.run_once()
        assert done
        assert fe.readable(world.context.fileno())


# --- disconnection anywhere


STAGES = ["connected", "introduced", "features", "memory", "ring", "kick", "running", "in flight", "stopping"]


@pytest.mark.parametrize("stage", STAGES)
def test_front_end_that_leaves_at_any_stage(tidy: World, stage: str) -> None:
    ring: fe.Ring

    def go(front_end: fe.FrontEnd) -> Iterator[str]:
        nonlocal ring
        yield "connected"
        front_end.introduce()
        yield "introduced"
        front_end.set_features()
        yield "features"
        front_end.share()
        yield "memory"
        ring = fe.Ring(front_end.memory)
        front_end.set_ring(0, ring)
        yield "ring"
        front_end.set_kick(0)
        front_end.set_call(0)
        front_end.set_err(0)
        yield "kick"
        front_end.enable(0)
        yield "running"
        ring.add()
        front_end.kick(0)
        yield "in flight"
        front_end.send(fe.GET_VRING_BASE, state(0, 0))
        yield "stopping"

    with tidy.front_end() as front_end:
        for reached in go(front_end):
            if reached == stage:
                break


def test_front_end_that_leaves_during_a_reset(tidy: World) -> None:
    with tidy.front_end() as front_end:
        (ring,) = front_end.up()
        ring.add()
        front_end.kick(0)
        front_end.send(fe.RESET_DEVICE)


def test_completion_after_the_front_end_has_left_touches_nothing(world: World) -> None:
    memory = fe.SharedMemory()
    with world.front_end() as front_end:
        front_end.introduce()
        front_end.set_features()
        front_end.send(fe.SET_MEM_TABLE, table(region(fe.GUEST_BASE, SIZE, USER_BASE)), [memory.fd])
        ring = fe.Ring(memory)
        front_end.start(0, ring)
        ring.add()
        front_end.kick(0)
    before = memory.bytes[: ring.data]
    world.device.give_back()
    world.context.run_until_idle()
    assert memory.bytes[: ring.data] == before
    memory.close()


def test_server_that_closes_while_a_request_runs(world: World) -> None:
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        ring.add()
        front_end.kick(0)
        world.server.close()
        with pytest.raises(Disconnected):
            front_end.ask(fe.GET_FEATURES)
        world.device.give_back()
        front_end.run()
        assert fe.front_end_mappings() != []  # the front end's own
    assert fe.front_end_mappings() == []


# --- no descriptors left


@contextmanager
def no_free_descriptors() -> Iterator[None]:
    """Nothing more can be opened in this process."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(fe.open_files()) + 1, hard))
    filled = []
    try:
        while True:
            try:
                filled.append(os.dup(0))
            except OSError:
                break
        yield
    finally:
        for fd in filled:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_connection_that_cannot_be_accepted_is_accepted_later(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = socket.socket(socket.AF_UNIX)
    waiting.connect(str(world.path))
    with no_free_descriptors():
        world.context.run_once()
    assert "no connection can be accepted" in one_line(caplog)
    assert not fe.readable(world.context.fileno())  # nor is it tried again and again
    world.context.run_until_idle()  # the virtual clock goes on to the next attempt
    waiting.settimeout(5)
    waiting.sendall(struct.pack("<III", fe.GET_QUEUE_NUM, 1, 0))
    world.context.run_until_idle()
    assert waiting.recv(20)[12:] == u64(2)
    waiting.close()


def test_front_ends_that_never_negotiate_cost_one_descriptor_and_go_one_by_one(tidy: World) -> None:
    waiting = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) for _ in range(20)]
    before = fe.open_files()
    for sock in waiting:
        with suppress(BlockingIOError):
            sock.connect(str(tidy.path))
        tidy.context.run_until_idle()
    assert len(fe.open_files()) == len(before) + 1
    for sock in waiting:
        sock.close()
        tidy.context.run_until_idle()


def test_memory_that_cannot_be_mapped_is_refused(tidy: World) -> None:
    with tidy.front_end() as front_end, no_free_descriptors():
        front_end.put(struct.pack("<III", fe.SET_MEM_TABLE, 1, 40) + GOOD[fe.SET_MEM_TABLE], [0])
        assert not front_end.connected
