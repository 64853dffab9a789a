"""Any sequence of messages, ring edits, completions and partings: the server never raises and keeps nothing."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from . import frontend as fe
from .frontend import GUEST_BASE, USER_BASE, Disconnected, FrontEnd, Ring, Unanswered, World, eventfd

SIZE = fe.MEMORY_SIZE

Act = Callable[[World, FrontEnd], None]

indices = st.sampled_from([0, 0, 0, 1, 1, 2, 255, 0xFFFF_FFFF])
flags = st.sampled_from([1, 1, 1, 1 | fe.NEED_REPLY, 1 | fe.NEED_REPLY, 0, 5])
small = st.integers(0, 300)
words = st.one_of(small, st.integers(0, 2**32 - 1), st.sampled_from([8, 16, 256, 32768]))
longs = st.one_of(
    small,
    st.integers(0, 2**64 - 1),
    st.sampled_from([SIZE, SIZE // 2, GUEST_BASE, USER_BASE, USER_BASE + SIZE // 2, 2**64 - SIZE]),
    st.sampled_from(
        [
            fe.F_PROTOCOL | fe.F_VERSION_1,
            fe.F_LOG_ALL | fe.F_VERSION_1,
            fe.F_VERSION_1,
            fe.F_EVENT_IDX | fe.F_VERSION_1,
        ]
    ),
)
user_addresses = st.one_of(longs, st.integers(0, 63).map(lambda n: USER_BASE + 64 * n))
descriptor_kinds = st.lists(
    st.sampled_from(["memory", "memory", "event", "event", "file", "pipe"]), max_size=9
)

u64s = longs.map(lambda value: struct.pack("<Q", value))
ring_u64s = st.builds(
    lambda index, rest: struct.pack("<Q", (index & 0xFF) | rest),
    indices,
    st.sampled_from([0, 0, 0, 256, 512]),
)
states = st.builds(lambda index, num: struct.pack("<II", index, num), indices, words)
small_states = st.builds(
    lambda index, num: struct.pack("<II", index, num), indices, st.sampled_from([0, 1, 2, 8])
)
regions = st.builds(lambda *fields: struct.pack("<QQQQ", *fields), longs, longs, longs, longs)
good_regions = st.sampled_from(
    [
        fe.region(GUEST_BASE, SIZE, USER_BASE),
        fe.region(GUEST_BASE, SIZE // 2, USER_BASE),
        fe.region(GUEST_BASE + SIZE // 2, SIZE // 2, USER_BASE + SIZE // 2, SIZE // 2),
        fe.region(8 * GUEST_BASE, SIZE, USER_BASE),
    ]
)
any_regions = st.one_of(good_regions, good_regions, regions)
inflights = st.builds(
    fe.inflight,
    st.sampled_from([0, 384, 768, SIZE, 2**64 - 1]),
    st.integers(0, 3),
    st.sampled_from([0, 2, 8, 16, 65535]),
    st.sampled_from([0, 0, 64, SIZE // 2, 2**64 - 64]),
)
configs = st.builds(
    lambda offset, size, flags, data: struct.pack("<III", offset, size, flags) + data,
    st.one_of(st.integers(0, 64), words),
    st.one_of(st.integers(0, 64), words),
    st.integers(0, 2),
    st.binary(max_size=64),
)
addresses = st.builds(
    lambda index, flags, log, desc, used, avail: struct.pack("<IIQQQQ", index, flags, desc, used, avail, log),
    indices,
    st.sampled_from([0, 0, 1]),
    longs,
    user_addresses,
    user_addresses,
    user_addresses,
)

PAYLOADS: dict[int, st.SearchStrategy[bytes]] = dict.fromkeys(fe.REQUESTS, st.just(b"")) | {
    fe.SET_FEATURES: u64s,
    fe.SET_PROTOCOL_FEATURES: u64s,
    fe.SET_STATUS: u64s,
    fe.SET_MEM_TABLE: st.lists(any_regions, max_size=9).map(lambda found: fe.table(*found)),
    fe.ADD_MEM_REG: any_regions.map(lambda found: bytes(8) + found),
    fe.REM_MEM_REG: any_regions.map(lambda found: bytes(8) + found),
    fe.SET_VRING_NUM: states,
    fe.SET_VRING_BASE: states,
    fe.GET_VRING_BASE: small_states,
    fe.SET_VRING_ENABLE: small_states,
    fe.SET_VRING_ADDR: addresses,
    fe.SET_VRING_KICK: ring_u64s,
    fe.SET_VRING_CALL: ring_u64s,
    fe.SET_VRING_ERR: ring_u64s,
    fe.GET_CONFIG: configs,
    fe.SET_CONFIG: configs,
    fe.SET_LOG_BASE: st.builds(
        lambda size, offset: struct.pack("<QQ", size, offset),
        st.sampled_from([0, 8, 4096, SIZE, 2**64 - 8]),
        st.sampled_from([0, 8, SIZE - 4096, 2**64 - 8]),
    ),
    fe.SET_DEVICE_STATE_FD: st.builds(
        lambda direction, phase: struct.pack("<II", direction, phase),
        st.sampled_from([0, 1, 1, 2]),
        st.sampled_from([0, 0, 1]),
    ),
    fe.GET_INFLIGHT_FD: inflights,
    fe.SET_INFLIGHT_FD: inflights,
}


def send(request: int, payload: bytes, bits: int, kinds: list[str]) -> Act:
    def act(_world: World, front_end: FrontEnd) -> None:
        made: list[int] = []
        with tempfile.TemporaryFile() as file:
            for kind in kinds:
                if kind == "pipe":
                    made += os.pipe()
                elif kind == "socket":
                    made.append(socket.socket(socket.AF_UNIX).detach())
                else:
                    source = front_end.memory.fd if kind == "memory" else file.fileno()
                    made.append(eventfd() if kind == "event" else os.dup(source))
            try:
                front_end.send(request, payload, made[:20], flags=bits)
            finally:
                for fd in made:
                    os.close(fd)

    return act


def fitting_kinds(request: int, payload: bytes) -> list[str]:
    """The descriptors that belong to a message."""
    if request == fe.SET_MEM_TABLE:
        return ["memory"] * struct.unpack_from("<I", payload)[0]
    if request == fe.SET_LOG_FD:
        return ["event"]
    if request == fe.SET_BACKEND_REQ_FD:
        return ["socket"]
    if request == fe.SET_DEVICE_STATE_FD:
        return ["file"]
    if request in (fe.ADD_MEM_REG, fe.SET_INFLIGHT_FD, fe.SET_LOG_BASE):
        return ["memory"]
    if request in (fe.SET_VRING_KICK, fe.SET_VRING_CALL, fe.SET_VRING_ERR):
        return [] if payload[1] & 1 else ["event"]
    return []


@st.composite
def messages(draw: st.DrawFn) -> Act:
    request = draw(st.sampled_from(list(PAYLOADS)))
    payload = draw(PAYLOADS[request])
    kinds = draw(st.one_of(st.just(fitting_kinds(request, payload)), descriptor_kinds))
    return send(request, payload, draw(flags), kinds)


def raw(data: bytes) -> Act:
    return lambda _world, front_end: front_end.put(data)


def up(world: World, front_end: FrontEnd) -> None:
    """Running rings, however the connection was before."""
    del world
    front_end.up(rings=2)


def drive(index: int, count: int) -> Act:
    def act(_world: World, front_end: FrontEnd) -> None:
        ring = Ring(front_end.memory, 0x1000 * index, fresh=False)
        for _ in range(count):
            ring.add()
        if index in front_end.kicks:
            front_end.kick(index)

    return act


def scribble(offset: int, data: bytes) -> Act:
    def act(_world: World, front_end: FrontEnd) -> None:
        front_end.memory.bytes[offset : offset + len(data)] = data
        for index in list(front_end.kicks):
            front_end.kick(index)

    return act


def give_back(number: int) -> Act:
    def act(world: World, front_end: FrontEnd) -> None:
        if world.device.held:
            world.device.give_back(number % len(world.device.held))
        front_end.run()

    return act


def read_replies(_world: World, front_end: FrontEnd) -> None:
    while front_end.reply() is not None:
        pass


acts = st.one_of(
    messages(),
    messages(),
    messages(),
    st.binary(min_size=1, max_size=40).map(raw),
    st.just(up),
    st.builds(drive, st.integers(0, 1), st.integers(1, 9)),
    st.builds(scribble, st.integers(0, 0x1200), st.binary(min_size=1, max_size=8)),
    st.integers(0, 7).map(give_back),
    st.just(read_replies),
)


def perform(world: World, sequence: list[Act]) -> None:
    """One front end's life; the end of its connection is not its end as a writer of memory and descriptors."""
    with world.front_end() as front_end:
        for act in sequence:
            with suppress(Disconnected, Unanswered, BlockingIOError):
                act(world, front_end)


def check_any_sequence(sequences: list[list[Act]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        before = fe.open_files()
        for sequence in sequences:
            perform(world, sequence)
            while world.device.held:
                world.device.give_back()
            world.context.run_until_idle()
            assert not world.server.connected
            assert fe.open_files() == before
            assert fe.front_end_mappings() == []
            assert world.pollers == []
        with world.front_end() as front_end:
            (ring,) = front_end.up()
            head = ring.add()
            front_end.kick(0)
            world.device.give_back()
            front_end.run()
            assert ring.taken_back() == [(head, 16)]
        world.close()


sequences = st.lists(st.lists(acts, max_size=25), min_size=1, max_size=3)


@given(sequences)
def test_any_sequence_is_survived_without_a_trace(found: list[list[Act]]) -> None:
    check_any_sequence(found)


@pytest.mark.slow
@settings(max_examples=1_250)
@given(sequences)
def test_any_sequence_is_survived_without_a_trace_many_times(found: list[list[Act]]) -> None:
    check_any_sequence(found)
