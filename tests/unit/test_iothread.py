"""IoThread: a thread with a context of its own, held by others, waited for by its home."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from queue import Queue

import pytest

from devmodels.iocontext import Cancelled, Hold, IoContext, IoThread, WrongContextError


@pytest.fixture
def home() -> Iterator[IoContext]:
    context = IoContext.wall()
    context.assert_owner()
    yield context
    for thread in list(context.threads):
        assert isinstance(thread, IoThread)
        thread.close()
    context.close()


def test_what_is_posted_runs_on_the_thread(home: IoContext) -> None:
    thread = IoThread("t0", home)
    seen: list[int] = []
    thread.context.post(lambda: seen.append(threading.get_ident()))
    thread.settle()
    assert seen == [thread.ident]
    assert seen != [threading.get_ident()]


def test_a_context_belongs_to_its_thread(home: IoContext) -> None:
    thread = IoThread("t0", home)
    with pytest.raises(WrongContextError):
        thread.context.assert_owner()
    wrong: list[bool] = []
    thread.context.post(lambda: wrong.append(home.owned))
    thread.settle()
    assert wrong == [False]


def test_a_thread_does_not_take_its_home_for_its_own_before_that_has_run() -> None:
    """It would give it timers that nobody wakes it for."""
    home = IoContext.wall()
    thread = IoThread("t0", home)
    seen: Queue[bool] = Queue()
    thread.context.post(lambda: seen.put(home.owned))
    assert seen.get() is False
    thread.close()
    home.close()


def test_who_holds_a_thread_owns_its_context(home: IoContext) -> None:
    thread = IoThread("t0", home)
    done: list[int] = []
    with thread:
        thread.context.assert_owner()
        with thread:
            thread.context.call_soon(lambda: done.append(1))
        thread.context.assert_owner()
        assert thread.held
        assert done == [], "it stands still"
    with pytest.raises(WrongContextError):
        thread.context.assert_owner()
    thread.settle()
    assert done == [1]


def test_home_is_idle_when_its_threads_are(home: IoContext) -> None:
    """A ball that goes to and fro a hundred times is at rest when `run_until_idle` returns."""
    threads = [IoThread(name, home) for name in ("t0", "t1")]
    count = 0

    def here() -> None:
        nonlocal count
        count += 1
        if count < 100:
            threads[count % 2].context.post(lambda: home.post(here))

    here()
    home.run_until_idle()
    assert count == 100


def test_run_while_waits_for_threads(home: IoContext) -> None:
    thread = IoThread("t0", home)
    seen: list[int] = []
    thread.context.post(lambda: thread.context.call_soon(lambda: home.post(lambda: seen.append(1))))
    home.run_while(lambda: not seen)
    assert seen == [1]
    home.run_while(lambda: True)


def test_an_error_is_logged_and_the_thread_goes_on(home: IoContext, caplog: pytest.LogCaptureFixture) -> None:
    thread = IoThread("t0", home)

    def fail() -> None:
        raise ValueError("nothing of that kind")

    seen: list[int] = []
    with caplog.at_level(logging.ERROR):
        thread.context.post(fail)
        thread.context.post(lambda: seen.append(1))
        thread.settle()
    assert (seen, thread.errors) == ([1], 1)
    assert "nothing of that kind" in caplog.text


def test_nothing_that_ends_there_ends_the_thread(home: IoContext, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever holds a thread that is gone would wait for ever."""
    thread = IoThread("t0", home)

    def fail() -> None:
        raise Cancelled

    thread.context.post(fail)
    thread.settle()
    with thread:
        assert thread.errors == 1
    assert "iothread 't0'" in caplog.text


@pytest.mark.parametrize("wait", [IoContext.run_until_idle, lambda home: home.threads[0].close()])
def test_workers_of_a_thread_are_waited_for(home: IoContext, wait: Callable[[IoContext], None]) -> None:
    thread = IoThread("t0", home)
    begun, go_on = threading.Event(), threading.Event()
    seen: list[str] = []

    async def work() -> None:
        begun.set()
        for step in ("read", "written"):
            await thread.context.worker(go_on.wait)
            seen.append(step)

    def begin() -> None:
        thread.context.start(work())

    thread.context.post(begin)
    assert begun.wait(10)
    # Somebody who does not wait lets it go on.
    other = threading.Timer(0.02, go_on.set)
    other.start()
    wait(home)
    other.join()
    assert seen == ["read", "written"]


def test_timers_run_while_a_worker_is_waited_for(home: IoContext) -> None:
    thread = IoThread("t0", home)
    context = thread.context
    go_on = threading.Event()

    async def work() -> None:
        await context.worker(lambda: go_on.wait(10))

    def begin() -> None:
        context.start(work())
        context.call_at(context.now_ns() + 1_000_000, go_on.set)

    context.post(begin)
    home.run_until_idle()
    assert go_on.is_set()


def test_close_does_what_is_ready_and_gives_the_context_back(home: IoContext) -> None:
    thread = IoThread("t0", home)
    seen: list[int] = []
    thread.context.post(lambda: thread.context.call_soon(lambda: seen.append(1)))
    thread.close()
    assert seen == [1]
    assert home.threads == []
    thread.context.assert_owner()
    thread.settle()
    with thread:
        pass
    thread.close()


def test_a_held_thread_cannot_be_closed(home: IoContext) -> None:
    thread = IoThread("t0", home)
    with thread, pytest.raises(RuntimeError, match="is held"):
        thread.close()


class InterruptError(Exception):
    """A signal has come."""


def test_a_hold_that_is_interrupted_holds_nothing(home: IoContext) -> None:
    """Ctrl-C while a thread is busy: all threads go on, and the next hold waits for them as ever."""
    threads = [IoThread("t0", home), IoThread("t1", home)]
    busy, go_on = threading.Event(), threading.Event()

    def work() -> None:
        busy.set()
        go_on.wait(10)

    def interrupt(_signal: int, _frame: object) -> None:
        raise InterruptError

    threads[1].context.post(work)
    assert busy.wait(10)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(InterruptError), Hold(threads):
            pass
    finally:
        signal.signal(signal.SIGALRM, before)
        go_on.set()
    assert not any(thread.held for thread in threads)
    for thread in threads:
        ran = threading.Event()
        thread.context.post(ran.set)
        assert ran.wait(5), thread.name
    busy.clear()
    with Hold(threads):
        for thread in threads:
            thread.context.assert_owner()
            thread.context.post(busy.set)
        assert not busy.wait(0.01)
    assert busy.wait(5)


def test_a_virtual_clock_is_one_threads() -> None:
    with pytest.raises(ValueError, match="expected the wall clock"):
        IoThread("t0", IoContext.virtual())
