"""Descriptors, and looking for work instead of sleeping."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator

import pytest

from devmodels.iocontext import Event, IoContext


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


class Ring:
    """A source of work as a virtqueue is one; what comes while it asks for notifications rings the bell."""

    def __init__(self) -> None:
        self.work: list[str] = []
        self.done: list[str] = []
        self.calls: list[str] = []
        self.at_end: str | None = None

    def begin(self) -> None:
        self.calls.append("begin")

    def poll(self) -> bool:
        found, self.work = bool(self.work), []
        if found:
            self.calls.append("found")
        return found

    def end(self) -> bool:
        self.calls.append("end")
        return self.poll() if self.at_end is None else bool(self.at_end)


def wake_later(context: IoContext, times: int, pause_ns: int) -> None:
    """Let `context` wait `times` times for `pause_ns`."""
    for _ in range(times):
        reached = Event(context)
        context.call_at(context.now_ns() + pause_ns, reached.set)
        while not reached.is_set:
            context.run_once()


def test_looking_begins_when_waits_are_short_and_each_begin_has_its_end(wall: IoContext) -> None:
    ring = Ring()
    wall.poll_max_ns = 50_000_000
    wall.add_poller(ring)
    wake_later(wall, 5, 100_000)
    assert ring.calls[0] == "begin"
    assert ring.calls.count("begin") - ring.calls.count("end") in (0, 1)
    wall.remove_poller(ring)
    assert ring.calls.count("begin") == ring.calls.count("end")
    wall.remove_poller(ring)
    before = list(ring.calls)
    wake_later(wall, 3, 100_000)
    assert ring.calls == before


def test_work_found_by_looking_needs_no_sleep(wall: IoContext) -> None:
    ring = Ring()
    wall.poll_max_ns = 50_000_000
    wall.add_poller(ring)
    wake_later(wall, 5, 100_000)
    ring.work = ["request"]
    ring.calls.clear()
    wall.run_once()
    assert "found" in ring.calls
    assert "end" not in ring.calls


def test_work_that_came_while_looking_ended_is_not_slept_over(wall: IoContext) -> None:
    """`end` looks once more after asking for notifications: what it finds keeps the context from sleeping."""
    ring = Ring()
    wall.poll_max_ns = 200_000
    wall.add_poller(ring)
    wake_later(wall, 5, 100_000)
    ring.at_end = "came at the last moment"
    ring.calls.clear()
    for _ in range(3):  # would sleep for ever otherwise: nothing else is there to wake it
        wall.run_once()
    assert "end" in ring.calls


def test_descriptors_are_served_however_much_looking_finds(wall: IoContext, pipe: tuple[int, int]) -> None:
    class Busy(Ring):
        def poll(self) -> bool:
            return True

    seen: list[bytes] = []
    wall.poll_max_ns = 50_000_000
    wall.add_poller(Busy())
    wake_later(wall, 5, 100_000)
    wall.watch(pipe[0], select.EPOLLIN, lambda _events: seen.append(os.read(pipe[0], 10)))
    os.write(pipe[1], b"stop")
    for _ in range(10):
        wall.run_once()
    assert seen == [b"stop"]


def test_a_post_ends_the_looking(wall: IoContext) -> None:
    seen: list[str] = []
    wall.poll_max_ns = 3600 * 10**9
    ring = Ring()
    wall.add_poller(ring)
    wall._polling._spin_ns = wall.poll_max_ns
    threading.Timer(0.01, lambda: wall.post(lambda: seen.append("posted"))).start()
    while not seen:
        wall.run_once()
    assert ring.calls == ["begin"]


def test_looking_stops_where_waits_are_long(wall: IoContext) -> None:
    ring = Ring()
    wall.poll_max_ns = 100_000
    wall.add_poller(ring)
    wake_later(wall, 3, 3_000_000)
    ring.calls.clear()
    wake_later(wall, 1, 3_000_000)
    assert "begin" not in ring.calls
