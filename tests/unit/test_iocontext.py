"""Clocks, timers, coroutines: what every device and driver builds on."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator

import pytest

from devmodels.iocontext import Cancelled, Coro, Event, Future, IoContext, Lock, WrongContextError

MS = 1_000_000


@pytest.fixture
def virtual() -> Iterator[IoContext]:
    context = IoContext.virtual()
    yield context
    context.close()


@pytest.fixture
def stepped() -> Iterator[IoContext]:
    context = IoContext.stepped()
    yield context
    context.close()


# --- timers and clocks


def test_a_virtual_clock_jumps_from_timer_to_timer(virtual: IoContext) -> None:
    seen: list[tuple[str, int]] = []
    virtual.call_at(3600 * 1000 * MS, lambda: seen.append(("late", virtual.now_ns())))
    virtual.call_at(5, lambda: seen.append(("early", virtual.now_ns())))
    virtual.run_until_idle()
    assert seen == [("early", 5), ("late", 3600 * 1000 * MS)]


def test_timers_of_one_instant_run_in_the_order_made(virtual: IoContext) -> None:
    seen: list[int] = []
    for number in range(20):
        virtual.call_at(7, lambda n=number: seen.append(n))  # type: ignore[misc]
    virtual.run_until_idle()
    assert seen == list(range(20))


def test_a_cancelled_timer_does_not_run_and_does_not_move_the_clock(virtual: IoContext) -> None:
    seen: list[str] = []
    timer = virtual.call_at(9 * MS, lambda: seen.append("no"))
    virtual.call_at(2 * MS, timer.cancel)
    virtual.run_until_idle()
    assert seen == []
    assert virtual.now_ns() == 2 * MS
    assert virtual.deadline() is None


def test_a_timer_in_the_past_runs_at_once_and_the_clock_does_not_go_back(virtual: IoContext) -> None:
    seen: list[int] = []

    def arm_late() -> None:
        virtual.call_at(3, lambda: seen.append(virtual.now_ns()))

    virtual.call_at(10, arm_late)
    virtual.run_until_idle()
    assert seen == [10]


def test_a_timer_that_arms_itself_for_now_leaves_room_for_others(virtual: IoContext) -> None:
    rounds = 0
    stop = False

    def again() -> None:
        nonlocal rounds
        rounds += 1
        assert rounds < 100, "nobody else got a turn"
        if not stop:
            virtual.call_at(virtual.now_ns(), again)

    def finish() -> None:
        nonlocal stop
        stop = True

    virtual.call_at(0, again)
    virtual.call_soon(lambda: virtual.call_soon(finish))
    virtual.run_until_idle()
    assert stop


def test_cancelled_timers_far_ahead_are_forgotten(virtual: IoContext) -> None:
    for _ in range(10_000):
        virtual.call_at(10**18, lambda: None).cancel()
    assert len(virtual._timers.heap) < 200


def test_a_stepped_clock_moves_only_by_step(stepped: IoContext) -> None:
    seen: list[int] = []
    for when in (10, 20, 30):
        stepped.call_at(when, lambda: seen.append(stepped.now_ns()))
    stepped.run_until_idle()
    assert (seen, stepped.now_ns()) == ([], 0)
    stepped.step(20)
    assert (seen, stepped.now_ns()) == ([10, 20], 20)
    stepped.step(5)
    assert (seen, stepped.now_ns()) == ([10, 20], 25)


def test_a_step_runs_what_timers_start_each_at_its_own_instant(stepped: IoContext) -> None:
    seen: list[int] = []

    async def ticks() -> None:
        for _ in range(3):
            await stepped.sleep(10)
            seen.append(stepped.now_ns())

    stepped.start(ticks())
    stepped.step(25)
    assert seen == [10, 20]
    stepped.step(5)
    assert seen == [10, 20, 30]


def test_only_a_stepped_clock_can_be_stepped_and_only_forwards(
    virtual: IoContext, stepped: IoContext
) -> None:
    with pytest.raises(ValueError, match="stepped"):
        virtual.step(1)
    with pytest.raises(ValueError, match="forwards"):
        stepped.step(-1)


def test_the_wall_clock_wakes_up_soon_after_the_time_asked_for() -> None:
    context = IoContext.wall()
    start = context.now_ns()
    context.run(context.sleep(MS // 2))
    assert context.now_ns() - start >= MS // 2
    context.close()


# --- coroutines


def test_a_timer_however_far_ahead_is_waited_for() -> None:
    context = IoContext.wall()
    happened: list[str] = []
    context.call_at(1 << 100, lambda: happened.append("the end of time"))
    ready = os.eventfd(1)
    context.watch(ready, select.EPOLLIN, lambda _events: happened.append("ready"))
    context.run_once()
    assert happened == ["ready"]
    context.unwatch(ready)
    os.close(ready)
    context.close()


def test_a_coroutine_that_does_not_suspend_is_done_when_start_returns(virtual: IoContext) -> None:
    async def answer() -> int:
        return 42

    ended: list[object] = []
    task = virtual.start(answer(), lambda result, error: ended.append((result, error)))
    assert task is None
    assert ended == [(42, None)]


def test_a_coroutine_runs_up_to_its_first_wait_within_start(virtual: IoContext) -> None:
    seen: list[str] = []

    async def work() -> None:
        seen.append("begun")
        await virtual.sleep(1)
        seen.append("ended")

    task = virtual.start(work())
    assert seen == ["begun"]
    assert task is not None
    assert not task.finished
    virtual.run_until_idle()
    assert seen == ["begun", "ended"]
    assert task.finished


def test_an_error_goes_to_done_and_without_it_to_whoever_runs(virtual: IoContext) -> None:
    async def fail(delay: int) -> None:
        if delay:
            await virtual.sleep(delay)
        raise ValueError("broken")

    errors: list[object] = []
    virtual.start(fail(0), lambda _, error: errors.append(type(error)))
    virtual.start(fail(1), lambda _, error: errors.append(type(error)))
    virtual.run_until_idle()
    assert errors == [ValueError, ValueError]
    with pytest.raises(ValueError, match="broken"):
        virtual.start(fail(0))
    virtual.start(fail(1))
    with pytest.raises(ValueError, match="broken"):
        virtual.run_until_idle()


def test_an_error_raised_by_done_is_not_taken_for_the_coroutines(virtual: IoContext) -> None:
    calls: list[object] = []

    async def fine() -> None:
        pass

    def done(result: None, error: BaseException | None) -> None:
        calls.append(error)
        raise KeyError("in done")

    with pytest.raises(KeyError):
        virtual.start(fine(), done)
    assert calls == [None]


def test_an_interrupt_of_the_user_is_not_a_result(virtual: IoContext) -> None:
    async def work() -> None:
        await virtual.sleep(1)
        raise KeyboardInterrupt

    results: list[object] = []
    virtual.start(work(), lambda _, error: results.append(error))
    with pytest.raises(KeyboardInterrupt):
        virtual.run_until_idle()
    assert results == []


def test_run_says_when_nothing_can_happen_any_more(virtual: IoContext, stepped: IoContext) -> None:
    for context in (virtual, stepped):
        with pytest.raises(RuntimeError, match="nothing is left"):
            context.run(Event(context).wait())
    with pytest.raises(RuntimeError, match="nothing is left"):
        stepped.run(stepped.sleep(1))


def test_a_sleep_of_zero_gives_others_a_turn(virtual: IoContext) -> None:
    seen: list[str] = []

    async def work(name: str) -> None:
        for _ in range(2):
            seen.append(name)
            await virtual.sleep(0)

    virtual.start(work("a"))
    virtual.start(work("b"))
    virtual.run_until_idle()
    assert seen == ["a", "b", "a", "b"]
    assert virtual.now_ns() == 0


def test_everybody_who_awaits_a_future_gets_its_result_or_its_error(virtual: IoContext) -> None:
    good: Future[int] = Future(virtual)
    bad: Future[int] = Future(virtual)
    seen: list[object] = []

    async def wait(future: Future[int]) -> int:
        return await future

    for future in (good, good, bad):
        virtual.start(wait(future), lambda result, error: seen.append(result or type(error)))
    virtual.call_at(5, lambda: good.set_result(7))
    virtual.call_at(6, lambda: bad.set_error(OSError()))
    virtual.run_until_idle()
    assert seen == [7, 7, OSError]


def test_a_future_is_completed_once_and_keeps_its_first_result(virtual: IoContext) -> None:
    future: Future[int] = Future(virtual)
    future.set_result(1)
    with pytest.raises(RuntimeError, match="twice"):
        future.set_result(2)

    async def get() -> int:
        return await future

    assert virtual.run(get()) == 1


# --- cancelling


def test_cancelling_throws_into_the_wait_and_lets_cleanup_run(virtual: IoContext) -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await virtual.sleep(100)
        finally:
            seen.append("cleaned up")

    task = virtual.start(work(), lambda _, error: seen.append(type(error).__name__))
    assert task is not None
    task.cancel()
    task.cancel()
    assert seen == [], "it happens in the next turn"
    virtual.run_until_idle()
    assert seen == ["cleaned up", "Cancelled"]
    assert virtual.now_ns() == 0, "its timer is gone"


def test_cancelling_what_was_just_woken_does_not_step_it_twice(virtual: IoContext) -> None:
    """The wake-up and the cancellation are both due: the coroutine goes on once, and its next wait is a whole one."""
    future: Future[None] = Future(virtual)
    seen: list[object] = []

    async def work() -> None:
        try:
            await future
        except Cancelled:
            seen.append("cancelled")
        await virtual.sleep(50)
        seen.append(virtual.now_ns())

    task = virtual.start(work())
    assert task is not None
    future.set_result(None)
    task.cancel()
    virtual.run_until_idle()
    assert seen == ["cancelled", 50]


def test_cancelling_what_has_ended_does_nothing(virtual: IoContext) -> None:
    async def work() -> None:
        await virtual.sleep(1)

    ended: list[object] = []
    task = virtual.start(work(), lambda _, error: ended.append(error))
    virtual.run_until_idle()
    assert task is not None
    task.cancel()
    virtual.run_until_idle()
    assert ended == [None]


def test_wait_for_returns_what_comes_in_time(virtual: IoContext) -> None:
    async def answer(after: int) -> int:
        if after:
            await virtual.sleep(after)
        return after

    assert virtual.run(virtual.wait_for(answer(0), 10)) == 0
    assert virtual.run(virtual.wait_for(answer(9), 10)) == 9
    assert virtual.now_ns() == 9
    assert virtual.deadline() is None, "the time limit is gone"


def test_wait_for_cancels_what_is_late(virtual: IoContext) -> None:
    seen: list[str] = []

    async def slow() -> None:
        try:
            await virtual.sleep(100)
        except Cancelled:
            seen.append("cancelled")
            raise

    with pytest.raises(TimeoutError):
        virtual.run(virtual.wait_for(slow(), 10))
    assert seen == ["cancelled"]
    assert virtual.now_ns() == 10


def test_cancelling_wait_for_cancels_what_it_waits_for(virtual: IoContext) -> None:
    seen: list[str] = []

    async def slow() -> None:
        try:
            await virtual.sleep(100)
        finally:
            seen.append("cancelled")

    task = virtual.start(virtual.wait_for(slow(), 50))
    assert task is not None
    task.cancel()
    virtual.run_until_idle()
    assert seen == ["cancelled"]
    assert virtual.now_ns() == 0


def test_wait_for_passes_errors_on(virtual: IoContext) -> None:
    async def fail() -> None:
        await virtual.sleep(1)
        raise OSError(5, "broken")

    with pytest.raises(OSError, match="broken"):
        virtual.run(virtual.wait_for(fail(), 10))


# --- locks and events


def hold(context: IoContext, lock: Lock, name: str, seen: list[str]) -> Coro[None]:
    async def work() -> None:
        async with lock:
            seen.append(f"{name} in")
            await context.sleep(10)
            seen.append(f"{name} out")

    return work()


def test_a_lock_is_given_in_the_order_asked_for(virtual: IoContext) -> None:
    lock = Lock(virtual)
    seen: list[str] = []
    for name in "abc":
        virtual.start(hold(virtual, lock, name, seen))
    virtual.run_until_idle()
    assert seen == ["a in", "a out", "b in", "b out", "c in", "c out"]
    assert not lock.locked


def test_nobody_slips_in_between_release_and_the_one_who_waits(virtual: IoContext) -> None:
    lock = Lock(virtual)
    seen: list[str] = []

    async def greedy() -> None:
        async with lock:
            await virtual.sleep(1)
        async with lock:
            seen.append("greedy again")

    virtual.start(greedy())
    virtual.start(hold(virtual, lock, "b", seen))
    virtual.run_until_idle()
    assert seen == ["b in", "b out", "greedy again"]


@pytest.mark.parametrize("turn_given", [False, True])
def test_who_is_cancelled_while_waiting_for_a_lock_does_not_keep_it(
    virtual: IoContext, turn_given: bool
) -> None:
    lock = Lock(virtual)
    seen: list[str] = []
    virtual.start(hold(virtual, lock, "a", seen))
    task = virtual.start(hold(virtual, lock, "b", seen), lambda *_: None)
    virtual.start(hold(virtual, lock, "c", seen))
    assert task is not None
    # At 10 the lock passes to b, which is to go on in the next turn: cancelled just then, it must hand it on.
    virtual.call_at(10 if turn_given else 5, task.cancel)
    virtual.run_until_idle()
    assert seen == ["a in", "a out", "c in", "c out"]
    assert not lock.locked


def test_an_event_lets_everybody_go_and_can_be_lowered(virtual: IoContext) -> None:
    event = Event(virtual)
    seen: list[str] = []

    async def wait(name: str) -> None:
        await event.wait()
        seen.append(name)

    virtual.start(wait("a"))
    virtual.start(wait("b"))
    virtual.run_until_idle()
    assert seen == []
    event.set()
    event.set()
    virtual.run_until_idle()
    assert seen == ["a", "b"]
    virtual.start(wait("c"))
    assert seen == ["a", "b", "c"], "an event that is up does not suspend"
    event.clear()
    virtual.start(wait("d"))
    virtual.run_until_idle()
    assert seen == ["a", "b", "c"]


# --- ownership


def test_a_context_belongs_to_the_thread_that_ran_it_first(virtual: IoContext) -> None:
    virtual.run_until_idle()
    raised: list[type[BaseException]] = []

    def intrude() -> None:
        try:
            virtual.run_until_idle()
        except WrongContextError as error:
            raised.append(type(error))
        virtual.adopt()
        virtual.run_until_idle()

    thread = threading.Thread(target=intrude)
    thread.start()
    thread.join()
    assert raised == [WrongContextError]
    with pytest.raises(WrongContextError):
        virtual.assert_owner()
