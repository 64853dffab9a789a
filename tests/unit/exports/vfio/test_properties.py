"""Whatever a client sends: the server does not raise, keeps nothing, and serves the next client."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.exports.frontend import open_files

from .client import (
    COMMANDS,
    CONFIG,
    NO_REPLY,
    PAGE,
    WRITE,
    Client,
    Eventfd,
    Shared,
    World,
    access,
    dma_map,
    dma_unmap,
    irq_set,
    message,
)
from .function import BAR_SIZE, MSIX_BAR

WORDS = st.one_of(
    st.sampled_from([0, 1, 2, 3, 4, 8, 16, 20, 24, 32, 255, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF]),
    st.integers(0, 0xFFFF_FFFF),
)
LONGS = st.one_of(
    st.sampled_from([0, PAGE, 2 * PAGE, 64 * PAGE, (1 << 64) - PAGE, (1 << 64) - 1, 1 << 40]),
    st.integers(0, (1 << 64) - 1),
)
PAGES = st.integers(0, 6).map(lambda page: page * PAGE)
REGIONS = st.sampled_from([0, 1, MSIX_BAR, CONFIG, 3, 8, 9, 0xFFFF_FFFF])
OFFSETS = st.one_of(st.integers(0, 0x80), st.sampled_from([BAR_SIZE - 1, 255, 4095]), LONGS)

ACCESSES = st.builds(
    lambda region, offset, count, data: access(region, offset, count, data),
    REGIONS,
    OFFSETS,
    st.one_of(st.integers(0, 16), WORDS),
    st.binary(max_size=16),
)
WRITES = st.builds(
    lambda region, offset, data: access(region, offset, len(data), data),
    st.sampled_from([0, 0, 1, MSIX_BAR, CONFIG]),
    st.integers(0, 0x60),
    st.binary(min_size=1, max_size=8),
)
COMMANDED = st.builds(
    lambda address, length, value, command: access(
        0, 0, 20, struct.pack("<QIII", address, length, value, command)
    ),
    st.one_of(PAGES, LONGS),
    st.integers(0, 200),
    st.integers(0, 5),
    st.integers(0, 9),
)
"""The function told to do something."""

PAYLOADS: dict[int, st.SearchStrategy[bytes]] = {
    2: st.builds(
        lambda flags, offset, address, size: dma_map(address, size, offset=offset, flags=flags),
        st.integers(0, 7),
        st.one_of(PAGES, LONGS),
        st.one_of(PAGES, LONGS),
        st.one_of(PAGES, LONGS),
    ),
    3: st.builds(
        lambda flags, address, size: dma_unmap(address, size, flags=flags),
        st.integers(0, 3),
        st.one_of(PAGES, LONGS),
        st.one_of(PAGES, LONGS),
    ),
    8: st.builds(
        irq_set, st.one_of(st.integers(0, 127), WORDS), WORDS, st.integers(0, 5), WORDS, st.binary(max_size=6)
    ),
    9: ACCESSES,
    10: st.one_of(ACCESSES, WRITES, COMMANDED),
    15: st.builds(
        lambda count, writes: struct.pack("<Q", count) + b"".join(writes),
        st.one_of(st.integers(0, 5), LONGS),
        st.lists(ACCESSES.map(lambda data: data.ljust(24, b"\0")[:24]), max_size=5),
    ),
}


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, list[int]]:
    """A message's bytes and which descriptors go with it: 0 memory, 1 an eventfd, 2 something else."""
    command = draw(st.sampled_from(COMMANDS))
    usual = PAYLOADS.get(
        command, st.tuples(WORDS, WORDS, WORDS, WORDS).map(lambda words: struct.pack("<4I", *words))
    )
    payload = draw(st.one_of(usual, usual, usual, st.binary(max_size=64)))
    flags = draw(st.sampled_from([0, 0, 0, NO_REPLY, 0x20]))
    fds = draw(st.lists(st.integers(0, 2), max_size=3))
    return message(command, payload, flags=flags), fds


def settle(world: World) -> None:
    """What the function holds comes to its end."""
    world.function.settle()
    while world.function.held:
        world.function.give_back()
    world.context.run_until_idle()


def play(world: World, pieces: list[tuple[bytes, list[int]]], *, greeted: bool) -> None:
    """Send pieces of whatever it is as long as the server takes them; afterwards nothing is left of it."""
    before = open_files()
    given: list[Shared | Eventfd] = [Shared(8 * PAGE), Eventfd(), Eventfd()]
    client = Client(world.path, world.context.run_until_idle)
    try:
        if greeted:
            client.greet()
            client.master()
        client.socket.setblocking(False)
        for data, fds in pieces:
            try:
                client.put(data, [given[each].fd for each in fds])
                while client.socket.recv(65536):
                    pass
            except BlockingIOError:
                continue
            except OSError:
                break
            settle(world)
    finally:
        client.close()
        for each in given:
            each.close()
        settle(world)
    assert not world.server.connected
    assert world.memory.regions == ()
    assert open_files() == before


def check_served(world: World) -> None:
    with world.client() as client:
        shared = client.memory()
        client.do(2, address=0, length=4, value=0x5A)
        assert shared.bytes[:5] == b"\x5a\x5a\x5a\x5a\0"


@given(st.lists(messages(), max_size=20))
def test_any_messages(served: World, pieces: list[tuple[bytes, list[int]]]) -> None:
    play(served, pieces, greeted=True)
    check_served(served)


@given(
    st.lists(st.tuples(st.binary(max_size=80), st.lists(st.integers(0, 2), max_size=2)), max_size=6),
    st.booleans(),
)
def test_any_bytes(served: World, pieces: list[tuple[bytes, list[int]]], greeted: bool) -> None:
    play(served, pieces, greeted=greeted)
    check_served(served)


@pytest.mark.slow
@settings(max_examples=750)
@given(st.lists(messages(), max_size=40))
def test_many_messages(served: World, pieces: list[tuple[bytes, list[int]]]) -> None:
    play(served, pieces, greeted=True)
    check_served(served)


@given(st.lists(st.one_of(WRITES, COMMANDED), max_size=30), st.integers(1, 7))
def test_a_message_may_be_cut_anywhere(served: World, writes: list[bytes], cut: int) -> None:
    """In whatever pieces a stream comes, it says the same."""
    stream = b"".join(message(WRITE, payload, number=number) for number, payload in enumerate(writes))
    answers = []
    for size in (len(stream) or 1, cut):
        with served.client() as client:
            client.memory()
            for at in range(0, len(stream), size):
                client.put(stream[at : at + size])
                settle(served)
            client.socket.setblocking(False)
            got = b""
            while True:
                try:
                    got += client.socket.recv(65536)
                except BlockingIOError:
                    break
            answers.append(got)
    assert answers[0] == answers[1]
    assert len(answers[0]) >= 16 * len(writes)
