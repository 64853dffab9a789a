"""Looking for work instead of sleeping: who is asked when, and for how long it is tried."""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import pytest

from devmodels.iocontext import IoContext
from devmodels.iocontext.polling import FIRST_SPIN_NS, BusyPolling

LONG = 3600 * 10**9


class Ring:
    """A source of work as a virtqueue is one; `at_end`: work comes just before notifications are asked for."""

    def __init__(self) -> None:
        self.has_work = False
        self.at_end = False
        self.calls: list[str] = []
        self._then: tuple[str, Callable[[], object]] | None = None

    def from_a_thread(self, when: str, call: Callable[[], object]) -> None:
        """Let another thread do `call` once this has been asked to `poll` or to `end`."""
        self._then = when, call

    def _tell(self, what: str) -> None:
        if self._then is not None and self._then[0] == what:
            threading.Thread(target=self._then[1]).start()
            self._then = None

    def begin(self) -> None:
        self.calls.append("begin")

    def poll(self) -> bool:
        self._tell("poll")
        found, self.has_work = self.has_work, False
        if found:
            self.calls.append("found")
        return found

    def end(self) -> bool:
        self.calls.append("end")
        self._tell("end")
        found, self.at_end = self.at_end, False
        return found


@pytest.fixture
def ring() -> Ring:
    return Ring()


@pytest.fixture
def wall(ring: Ring) -> Iterator[IoContext]:
    """A context that looks at `ring` for an hour, or for a nanosecond where a test says so."""
    context = IoContext.wall()
    context.poll_max_ns = LONG
    context.add_poller(ring)
    context._polling._spin_ns = LONG
    yield context
    context.close()


def test_work_found_by_looking_needs_no_sleep_and_no_notification(wall: IoContext, ring: Ring) -> None:
    for _ in range(3):
        ring.has_work = True
        wall.run_once()
    assert ring.calls == ["begin", "found", "found", "found"]


def test_notifications_are_asked_for_before_sleeping(wall: IoContext, ring: Ring) -> None:
    wall._polling._spin_ns = 1
    ring.from_a_thread("end", lambda: wall.post(lambda: None))
    wall.run_once()
    assert ring.calls == ["begin", "end"]


def test_work_that_came_while_looking_ended_is_not_slept_over(wall: IoContext, ring: Ring) -> None:
    """`end` looks once more after asking for notifications; nothing else would wake the context."""
    wall._polling._spin_ns = 1
    ring.at_end = True
    wall.run_once()
    assert ring.calls == ["begin", "end"]


def test_descriptors_are_served_however_much_looking_finds(wall: IoContext, ring: Ring) -> None:
    reader, writer = os.pipe()
    seen: list[bytes] = []
    wall.watch(reader, select.EPOLLIN, lambda _events: seen.append(os.read(reader, 10)))
    os.write(writer, b"stop")
    ring.has_work = True
    wall.run_once()
    assert seen == [b"stop"]
    wall.unwatch(reader)
    os.close(reader)
    os.close(writer)


def test_a_post_ends_the_looking(wall: IoContext, ring: Ring) -> None:
    seen: list[str] = []
    ring.from_a_thread("poll", lambda: wall.post(lambda: seen.append("posted")))
    while not seen:
        wall.run_once()
    assert ring.calls == ["begin"]


def test_a_timer_ends_the_looking(wall: IoContext) -> None:
    seen: list[str] = []
    wall.call_at(wall.now_ns() + 1_000_000, lambda: seen.append("due"))
    while not seen:
        wall.run_once()


def test_who_comes_while_looking_is_told_to_begin_and_who_leaves_to_end(wall: IoContext, ring: Ring) -> None:
    ring.has_work = True
    wall.run_once()
    other = Ring()
    wall.add_poller(other)
    wall.remove_poller(other)
    wall.remove_poller(other)
    wall.remove_poller(ring)
    assert other.calls == ["begin", "end"]
    assert ring.calls == ["begin", "found", "end"]


def test_the_first_wait_is_a_sleep_and_short_waits_make_looking_longer() -> None:
    ring = Ring()
    polling = BusyPolling()
    polling.max_ns = 50_000
    polling.add(ring)
    assert not polling.spin(None, deque())
    assert ring.calls == [], "nothing is known yet: no looking"
    spins = []
    for _ in range(6):
        polling.learn(45_000)
        spins.append(polling._spin_ns)
    assert spins == [FIRST_SPIN_NS, 8_000, 16_000, 32_000, 50_000, 50_000]


def test_one_long_wait_ends_the_looking() -> None:
    polling = BusyPolling()
    polling.max_ns = 50_000
    polling.learn(20_000)
    polling.learn(50_001)
    assert polling._spin_ns == 0


def looks(polling: BusyPolling, waits: int) -> list[int]:
    """Which of so many long waits began with looking."""
    found = []
    for number in range(waits):
        if polling._spin_ns:
            found.append(number)
        polling.learn(polling.max_ns + 1)
    return found


def test_looking_is_tried_again_ever_more_seldom_while_it_finds_nothing() -> None:
    """A wait that ends by a wake-up is long by the wake-up alone: only a trial tells what looking would find."""
    polling = BusyPolling()
    polling.max_ns = 50_000
    assert looks(polling, 70) == [2, 5, 9, 15, 25, 43]


def test_trials_never_cease() -> None:
    polling = BusyPolling()
    polling.max_ns = 50_000
    looks(polling, 10_000)
    assert len(looks(polling, 10_000)) >= 9


def test_trial_that_finds_something_is_followed_by_the_next_at_once() -> None:
    ring = Ring()
    polling = BusyPolling()
    polling.max_ns = LONG
    polling.add(ring)
    looks(polling, 30)
    while not polling._spin_ns:
        polling.learn(LONG + 1)
    ring.has_work = True
    assert polling.spin(None, deque())
    assert polling._spin_ns == LONG
    assert looks(polling, 4) == [0, 3]


def test_a_wait_is_as_long_as_the_sleep_and_not_as_the_work_after_it(wall: IoContext) -> None:
    learned: list[int] = []

    class Recorder(BusyPolling):
        def learn(self, waited_ns: int) -> None:
            learned.append(waited_ns)

    wall._polling = Recorder()
    wall.poll_max_ns = 1
    wall.add_poller(Ring())
    reader, writer = os.pipe()
    os.write(writer, b"x")
    work = 200_000_000

    def watch(_events: int) -> None:
        end = time.monotonic_ns() + work
        while time.monotonic_ns() < end:
            pass

    wall.watch(reader, select.EPOLLIN, watch)
    wall.run_once()
    assert learned[0] < work
    wall.unwatch(reader)
    os.close(reader)
    os.close(writer)


def test_nobody_looks_while_a_worker_is_at_work(wall: IoContext, ring: Ring) -> None:
    """Looking keeps the interpreter's lock, for which the worker waits; notifications are asked for instead."""
    ring.has_work = True
    wall.run_once()
    go_on = threading.Event()
    ring.from_a_thread("end", go_on.set)
    assert wall.run(wall.worker(lambda: go_on.wait(20)))
    assert ring.calls == ["begin", "found", "end"]
    ring.has_work = True
    wall.run_once()
    assert ring.calls == ["begin", "found", "end", "begin", "found"]


def test_work_that_came_meanwhile_is_not_slept_over(wall: IoContext, ring: Ring) -> None:
    ring.has_work = True
    wall.run_once()
    go_on = threading.Event()
    wall.start(wall.worker(lambda: go_on.wait(20)))
    ring.at_end = True
    wall.run_once()
    assert ring.calls == ["begin", "found", "end"]
    go_on.set()
    wall.run_until_idle()
