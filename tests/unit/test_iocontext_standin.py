"""What may block is done by the loop's own thread; where it does block, another one goes on with the loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from devmodels.iocontext import IoContext, IoThread, standin
from devmodels.iocontext.alarm import Alarm
from devmodels.iocontext.threadstate import waits

TIMEOUT = 20.0
"""Seconds after which a test that hangs fails instead."""


class Job:
    """Notes where each of its parts runs; `work` does what it is told."""

    def __init__(self, work: Callable[[], None] | None = None) -> None:
        self.seen: dict[str, int] = {}
        self._work = work

    def work(self) -> None:
        if self._work is not None:
            self._work()
        self.seen["work"] = threading.get_ident()

    def over(self) -> None:
        self.seen["over"] = threading.get_ident()

    def held_up(self) -> None:
        self.seen["held up"] = threading.get_ident()


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> Iterator[IoContext]:
    monkeypatch.setattr(standin, "LONGEST_NS", int(TIMEOUT * 1e9))  # However busy the host is.
    context = IoContext.wall()
    context.have_stand_in()
    context.assert_owner()
    yield context
    context.close()


def in_a_turn(context: IoContext, *jobs: Job) -> list[bool]:
    """Give `jobs` from a callback, and run until all are over; whether this thread was to do them."""
    taken: list[bool] = []
    context.call_soon(lambda: taken.extend(context.aside(job, here=True) for job in jobs))
    until(context, lambda: all("over" in job.seen for job in jobs))
    return taken


def wait(event: threading.Event) -> None:
    assert event.wait(TIMEOUT), "nobody has gone on with the loop"


def until(context: IoContext, condition: Callable[[], bool]) -> None:
    deadline = context.now_ns() + int(TIMEOUT * 1e9)
    while not condition():
        assert context.now_ns() < deadline, "this should be so by now"
        context.run_once()


def blocked(context: IoContext, *, then: Callable[[], None] = lambda: None) -> Job:
    """A job that ends when the loop has done two turns more, the first of which does `then`: alone it never would."""
    goes_on = threading.Event()

    def turn() -> None:
        context.call_soon(goes_on.set)
        then()

    def work() -> None:
        context.post(turn)
        wait(goes_on)

    return Job(work)


def test_a_short_job_is_done_by_the_thread_of_the_loop(context: IoContext) -> None:
    job = Job()
    assert in_a_turn(context, job) == [True]
    assert job.seen == dict.fromkeys(("work", "over"), threading.get_ident())


def test_a_job_of_a_turn_is_done_in_the_same_round_with_what_follows_from_it(context: IoContext) -> None:
    told: list[int] = []

    class Answered(Job):
        def over(self) -> None:
            context.call_soon(lambda: told.append(threading.get_ident()))

    context.call_soon(lambda: told.append(context.aside(Answered(), here=True)))
    context.run_once()
    assert told == [True, threading.get_ident()]


def test_the_alarm_for_the_second_thread_lies_ahead_of_every_job(context: IoContext) -> None:
    """Else nobody would look after a job that comes when it has just gone off."""
    ahead: list[int] = []
    stand_in = context._stand_in
    assert stand_in is not None

    def note() -> None:
        ahead.append(stand_in._alarm.at_ns - stand_in._since)

    for _ in range(50):
        in_a_turn(context, Job(note))
    stand_in._alarm.set(0)
    in_a_turn(context, Job(note))
    assert all(standin.PATIENCE_NS <= each <= 2 * standin.PATIENCE_NS for each in ahead)


def test_an_alarm_that_is_put_off_wakes_nobody_before_its_time() -> None:
    alarm = Alarm()
    begun = time.monotonic_ns()
    alarm.set(begun + 10**12)
    alarm.set(begun + 2 * 10**6)
    alarm.wait()
    assert time.monotonic_ns() >= begun + 2 * 10**6
    alarm.set(0)
    alarm.wait()
    alarm.close()


def test_while_a_job_blocks_the_loop_goes_on_elsewhere_and_comes_back(context: IoContext) -> None:
    here, turns = threading.get_ident(), []

    def note() -> None:
        context.assert_owner()
        turns.append(threading.get_ident())

    job = blocked(context, then=note)
    assert in_a_turn(context, job) == [True]
    assert turns
    assert here not in turns
    assert job.seen["work"] == here
    assert job.seen["held up"] == turns[0]
    context.assert_owner()
    assert in_a_turn(context, short := Job()) == [True]
    assert short.seen["over"] == here


def test_what_waits_behind_a_job_that_blocks_goes_to_workers(context: IoContext) -> None:
    second = Job()
    goes_on = threading.Event()
    first = Job(partial(wait, goes_on))
    second.over = goes_on.set  # type: ignore[method-assign]

    def turn() -> None:
        for job in (first, second):
            context.aside(job, here=True)

    context.call_soon(turn)
    until(context, lambda: "over" in first.seen)
    assert second.seen["work"] not in (first.seen["work"], first.seen["held up"])
    assert second.seen["held up"] == first.seen["held up"]


def test_what_goes_wrong_meanwhile_is_told_to_whoever_runs_the_loop(context: IoContext) -> None:
    def fail() -> None:
        raise ValueError("a callback's")

    job = blocked(context, then=fail)
    with pytest.raises(ValueError, match="a callback's"):
        in_a_turn(context, job)
    until(context, lambda: "over" in job.seen)
    assert in_a_turn(context, Job()) == [True]


def test_a_callback_that_runs_the_loop_itself_has_jobs_done_by_workers(context: IoContext) -> None:
    early, late = Job(), Job()

    def callback() -> None:
        assert context.aside(early, here=True)
        context.run_until_idle()
        assert early.seen["over"] == threading.get_ident() != early.seen["work"]
        assert context.aside(late, here=True)

    context.call_soon(callback)
    until(context, lambda: "over" in late.seen)
    assert late.seen["work"] == threading.get_ident()


@pytest.mark.parametrize("here", [True, False])
def test_where_nobody_stands_in_and_for_long_jobs_there_are_workers(here: bool) -> None:
    context = IoContext.wall()
    if not here:
        context.have_stand_in()
    job, taken = Job(), []
    context.call_soon(lambda: taken.append(context.aside(job, here=here)))
    until(context, lambda: "over" in job.seen)
    assert taken == [False]
    assert job.seen["work"] != threading.get_ident() == job.seen["over"]
    context.close()


def test_somebody_who_stands_in_does_no_job_himself(context: IoContext) -> None:
    inner, taken = Job(), []
    outer = blocked(context, then=lambda: taken.append(context.aside(inner, here=True)))
    in_a_turn(context, outer)
    until(context, lambda: "over" in inner.seen)
    assert taken == [False]
    assert inner.seen["work"] not in outer.seen.values()


def test_a_thread_that_is_held_while_somebody_stands_in_is_his_again_afterwards() -> None:
    home = IoContext.wall()
    thread = IoThread("t", home)
    context = thread.context
    stuck, goes_on = threading.Event(), threading.Event()

    def work() -> None:
        stuck.set()
        wait(goes_on)

    job = Job(work)

    def turn() -> None:
        context.aside(job, here=True)

    context.post(turn)
    assert stuck.wait(TIMEOUT)
    with thread:
        context.assert_owner()
        stands_in = thread._owner
        assert stands_in not in (threading.get_ident(), thread.ident)
    assert context.owner == stands_in
    goes_on.set()
    thread.settle()
    with thread:
        assert thread._owner == thread.ident
    assert job.seen["over"]
    thread.close()
    home.close()


def test_whether_a_thread_waits_is_the_hosts_to_tell() -> None:
    assert not waits(threading.get_native_id())
    assert waits(0), "who is not there"
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    while not waits(thread.native_id or 0):
        pass
    stop.set()
    thread.join()


def test_a_job_that_comes_when_pollers_have_looked_for_the_last_time_is_not_slept_over(
    context: IoContext,
) -> None:
    job = Job()

    class Last:
        given = False

        def begin(self) -> None:
            pass

        def poll(self) -> bool:
            return False

        def end(self) -> bool:
            if not self.given:
                self.given = True
                assert context.aside(job, here=True)
            return False

    context.poll_max_ns = 1
    context.add_poller(Last())
    # Spins are tried once a wait was short.
    context._polling._spin_ns = 1
    woken: list[bool] = []
    alarm = threading.Timer(TIMEOUT / 4, context.post, [lambda: woken.append(True)])
    alarm.start()
    while "work" not in job.seen:
        context.run_once()
    alarm.cancel()
    assert not woken
