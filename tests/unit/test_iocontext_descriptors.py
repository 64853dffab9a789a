"""Descriptors, and looking for work instead of sleeping."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from devmodels.iocontext import IoContext


@pytest.fixture
def wall() -> Iterator[IoContext]:
    context = IoContext.wall()
    yield context
    context.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    yield ends
    for end in ends:
        os.close(end)


def test_a_watch_is_called_until_it_is_taken_away(wall: IoContext, pipe: tuple[int, int]) -> None:
    seen: list[bytes] = []
    wall.watch(pipe[0], select.EPOLLIN, lambda _events: seen.append(os.read(pipe[0], 10)))
    wall.run_until_idle()
    os.write(pipe[1], b"one")
    wall.run_until_idle()
    os.write(pipe[1], b"two")
    wall.run_until_idle()
    wall.unwatch(pipe[0])
    wall.unwatch(pipe[0])
    os.write(pipe[1], b"three")
    wall.run_until_idle()
    assert seen == [b"one", b"two"]


@pytest.mark.parametrize("run", ["run_until_idle", "run_ready"])
def test_a_callback_that_never_rests_does_not_starve_descriptors(
    wall: IoContext, pipe: tuple[int, int], run: str
) -> None:
    seen: list[bytes] = []
    turns = 0

    def again() -> None:
        nonlocal turns
        turns += 1
        if not seen and turns < 10_000:
            wall.call_soon(again)

    wall.watch(pipe[0], select.EPOLLIN, lambda _events: seen.append(os.read(pipe[0], 10)))
    os.write(pipe[1], b"one")
    wall.call_soon(again)
    getattr(wall, run)()
    assert seen == [b"one"]
    assert turns < 100


def test_a_watch_taken_away_by_another_of_the_same_moment_is_not_called(wall: IoContext) -> None:
    pipes = [os.pipe() for _ in range(2)]
    seen: list[int] = []

    def first_wins(number: int) -> None:
        seen.append(number)
        for reader, _ in pipes:
            wall.unwatch(reader)

    for number, (reader, writer) in enumerate(pipes):
        wall.watch(reader, select.EPOLLIN, lambda _events, n=number: first_wins(n))  # type: ignore[misc]
        os.write(writer, b"x")
    wall.run_until_idle()
    assert len(seen) == 1
    for ends in pipes:
        for end in ends:
            os.close(end)


def test_a_second_watch_on_a_descriptor_is_refused(wall: IoContext, pipe: tuple[int, int]) -> None:
    wall.watch(pipe[0], select.EPOLLIN, lambda _events: None)
    with pytest.raises(FileExistsError):
        wall.watch(pipe[0], select.EPOLLIN, lambda _events: None)


def test_coroutines_wait_for_room_and_for_data(wall: IoContext, pipe: tuple[int, int]) -> None:
    sent = bytes(1 << 20)
    received = bytearray()

    async def send() -> None:
        rest = memoryview(sent)
        while rest:
            await wall.writable(pipe[1])
            rest = rest[os.write(pipe[1], rest) :]

    async def receive() -> None:
        while len(received) < len(sent):
            await wall.readable(pipe[0])
            received.extend(os.read(pipe[0], 1 << 16))

    wall.start(send())
    wall.run(receive())
    assert received == sent


def test_who_is_cancelled_no_longer_watches(wall: IoContext, pipe: tuple[int, int]) -> None:
    task = wall.start(wall.readable(pipe[0]), lambda *_: None)
    assert task is not None
    task.cancel()
    wall.run_until_idle()
    wall.watch(pipe[0], select.EPOLLIN, lambda _events: None)  # free again


def test_the_contexts_descriptor_tells_another_loop_of_posts_and_of_new_timers(wall: IoContext) -> None:
    def readable() -> bool:
        return bool(select.select([wall.fileno()], [], [], 0)[0])

    seen: list[str] = []
    assert wall.run_ready() is None
    assert not readable()
    wall.post(lambda: seen.append("posted"))
    assert readable()
    assert wall.run_ready() is None
    wall.call_soon(lambda: seen.append("soon"))
    assert readable()
    assert wall.run_ready() is None
    wall.call_at(wall.now_ns() + 10**9, lambda: None)
    assert readable()
    wait_ns = wall.run_ready()
    assert wait_ns is not None
    assert 0 < wait_ns <= 10**9
    assert not readable()
    assert seen == ["posted", "soon"]
