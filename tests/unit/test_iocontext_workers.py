"""What may block goes to threads; what comes back comes to the context's own thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from devmodels.iocontext import IoContext, WorkerShare
from devmodels.iocontext.workers import MAX_SHARE, MAX_WORKERS, Workers

TIMEOUT = 20.0
"""Seconds after which a test that hangs fails instead."""


@pytest.fixture
def wall() -> Iterator[IoContext]:
    context = IoContext.wall()
    yield context
    context.close()


def wait(event: threading.Event) -> None:
    assert event.wait(TIMEOUT), "this should have been set by now"


async def short_jobs(context: IoContext) -> None:
    """Afterwards jobs are known to be short, so that they share a thread, and nobody has any."""
    for _ in range(200):
        await context.worker(lambda: None)
    workers = context._helpers.workers
    assert workers is not None
    workers._average_ns = 0
    while len(workers._idle) < len(workers._threads):
        await context.sleep(1000)


def test_a_worker_runs_elsewhere_and_its_result_comes_back(wall: IoContext) -> None:
    seen: list[int] = []

    async def work() -> None:
        seen.append(await wall.worker(threading.get_ident))
        seen.append(threading.get_ident())

    wall.run(work())
    assert seen[0] != threading.get_ident()
    assert seen[1] == threading.get_ident()


def test_an_error_in_a_worker_is_raised_where_it_was_awaited(wall: IoContext) -> None:
    def fail() -> None:
        raise OSError(28, "full")

    with pytest.raises(OSError, match="full"):
        wall.run(wall.worker(fail))


@pytest.mark.parametrize("make", [IoContext.virtual, IoContext.stepped])
def test_on_a_virtual_clock_workers_run_inline_in_order_and_take_no_time(make: type[IoContext]) -> None:
    context = make()  # type: ignore[call-arg]
    seen: list[tuple[str, int, bool]] = []
    here = threading.get_ident()

    async def work(name: str) -> None:
        await context.worker(lambda: seen.append((name, context.now_ns(), threading.get_ident() == here)))

    context.call_at(1, lambda: seen.append(("timer", context.now_ns(), True)))
    for name in "abc":
        context.start(work(name))
    assert seen == [("a", 0, True), ("b", 0, True), ("c", 0, True)]
    context.close()


def test_workers_run_side_by_side(wall: IoContext) -> None:
    """Each of these jobs waits for all others to have begun."""
    barrier = threading.Barrier(4)

    async def work() -> None:
        await wall.worker(lambda: barrier.wait(TIMEOUT))

    ended: list[object] = []
    for _ in range(4):
        wall.start(work(), lambda _, error: ended.append(error))
    wall.run_until_idle()
    assert ended == [None] * 4


def test_a_job_that_waits_for_a_slow_one_gets_a_thread_of_its_own(wall: IoContext) -> None:
    """Short jobs share a thread; when one of them turns out to be slow, those behind it still go on."""
    release = threading.Event()
    seen: list[str] = []

    async def work(name: str, slow: bool) -> None:
        await wall.worker(lambda: wait(release) if slow else None)
        seen.append(name)

    async def main() -> None:
        await short_jobs(wall)
        wall.start(work("slow", True))
        wall.start(work("also slow", True))
        for number in range(5):
            wall.start(work(f"quick {number}", False))
        while len(seen) < 5:
            await wall.sleep(1000)
        assert sorted(seen) == [f"quick {number}" for number in range(5)]
        release.set()

    wall.run(wall.wait_for(main(), int(TIMEOUT * 1e9)))
    wall.run_until_idle()
    assert sorted(seen[5:]) == ["also slow", "slow"]


def test_a_worker_is_called_when_the_turn_is_over(wall: IoContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then it could only wait for the interpreter's lock; and one is enough for jobs that are short."""
    # However busy this machine is, these are short.
    monkeypatch.setattr("devmodels.iocontext.workers.SHORT_NS", 10**9)
    monkeypatch.setattr("devmodels.iocontext.workers.PATIENCE_NS", 10**12)
    wall.run(short_jobs(wall))
    seen: list[str] = []
    wake_one = Workers.wake_one

    def spy(workers: Workers) -> None:
        seen.append("woken")
        wake_one(workers)

    monkeypatch.setattr(Workers, "wake_one", spy)

    def begin(name: str) -> None:
        seen.append(name)
        wall.start(wall.worker(lambda: None))

    for name in "abc":
        wall.call_soon(partial(begin, name))
    wall.run_until_idle()
    assert seen == ["a", "b", "c", "woken"]


def test_a_result_is_not_kept_back_by_the_slow_job_behind_it(wall: IoContext) -> None:
    release = threading.Event()
    seen: list[str] = []

    async def work(name: str, slow: bool) -> None:
        await wall.worker(lambda: wait(release) if slow else None)
        seen.append(name)
        if not slow:
            release.set()

    async def main() -> None:
        await short_jobs(wall)
        wall.start(work("quick", False))
        wall.start(work("slow", True))  # ends only after the result of the quick one has been seen
        while len(seen) < 2:
            await wall.sleep(1000)

    wall.run(wall.wait_for(main(), int(TIMEOUT * 1e9)))
    assert seen == ["quick", "slow"]


def test_jobs_begun_outside_of_a_run_do_not_wait_for_one(wall: IoContext) -> None:
    """An embedder starts requests and goes on with its guest: both jobs begin although nobody runs the context."""
    begun = [threading.Event(), threading.Event()]

    async def work(mine: threading.Event, other: threading.Event) -> None:
        def job() -> None:
            mine.set()
            wait(other)

        await wall.worker(job)

    wall.run(short_jobs(wall))
    wall.start(work(begun[0], begun[1]))
    wall.start(work(begun[1], begun[0]))
    for event in begun:
        wait(event)
    wall.run_until_idle()


def test_there_are_never_more_threads_than_allowed_and_every_job_ends(wall: IoContext) -> None:
    ended: list[int] = []
    lock = threading.Lock()
    now = peak = 0

    def job() -> None:
        nonlocal now, peak
        with lock:
            now += 1
            peak = max(peak, now)
        os.sched_yield()
        with lock:
            now -= 1

    async def work(number: int) -> None:
        await wall.worker(job)
        ended.append(number)

    for number in range(500):
        wall.start(work(number))
    wall.run_until_idle()
    assert sorted(ended) == list(range(500))
    assert peak <= MAX_WORKERS


def test_one_owners_slow_jobs_leave_workers_to_others(wall: IoContext) -> None:
    """However many of its jobs hang, another owner's job is begun."""
    release = threading.Event()
    slow, other = WorkerShare(), WorkerShare()
    ended: list[str] = []

    async def work(name: str, share: WorkerShare) -> None:
        await wall.worker(lambda: wait(release) if name == "slow" else None, share)
        ended.append(name)

    async def main() -> None:
        for _ in range(2 * MAX_WORKERS):
            wall.start(work("slow", slow))
        wall.start(work("quick", other))
        while not ended:
            await wall.sleep(1000)
        assert ended == ["quick"]
        assert len(wall._helpers.workers._threads) <= MAX_SHARE + 1  # type: ignore[union-attr]
        release.set()

    wall.run(wall.wait_for(main(), int(TIMEOUT * 1e9)))
    wall.run_until_idle()
    assert len(ended) == 2 * MAX_WORKERS + 1


def test_closing_runs_what_waited_for_its_share() -> None:
    context = IoContext.wall()
    share = WorkerShare()
    ran: list[int] = []
    for number in range(5 * MAX_SHARE):
        context.start(context.worker(partial(ran.append, number), share))
    context.close()
    assert sorted(ran) == list(range(5 * MAX_SHARE))


def test_run_until_idle_waits_for_workers(wall: IoContext) -> None:
    gate = threading.Event()
    seen: list[str] = []

    async def work() -> None:
        await wall.worker(lambda: wait(gate))
        seen.append("done")

    wall.start(work())
    threading.Timer(0.01, gate.set).start()
    wall.run_until_idle()
    assert seen == ["done"]


def test_run_while_waits_for_workers_but_for_no_timer(wall: IoContext) -> None:
    release = threading.Event()
    done: list[str] = []

    async def work() -> None:
        await wall.worker(lambda: wait(release))
        done.append("worker")

    wall.start(work(), lambda _result, _error: None)
    wall.call_at(wall.now_ns() + 3600 * 10**9, lambda: done.append("timer"))
    threading.Timer(0.01, release.set).start()
    wall.run_while(lambda: not done)
    assert done == ["worker"]
    wall.run_while(lambda: len(done) < 2)
    assert done == ["worker"], "nothing is left that could happen now"
    wall.run_while(lambda: False)


def test_what_other_threads_post_runs_here_in_their_order(wall: IoContext) -> None:
    here = threading.get_ident()
    seen: list[tuple[int, int]] = []

    def poster(thread: int) -> None:
        for number in range(100):

            def posted(thread: int = thread, number: int = number) -> None:
                assert threading.get_ident() == here
                seen.append((thread, number))

            wall.post(posted)

    threads = [threading.Thread(target=poster, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    while len(seen) < 400:
        wall.run_once()
    for thread in threads:
        thread.join()
    for n in range(4):
        assert [number for thread, number in seen if thread == n] == list(range(100))


def test_a_post_wakes_a_context_that_sleeps_for_long(wall: IoContext) -> None:
    seen: list[str] = []
    wall.call_at(wall.now_ns() + 3600 * 10**9, lambda: seen.append("an hour later"))
    threading.Timer(0.02, lambda: wall.post(lambda: seen.append("posted"))).start()
    while not seen:
        wall.run_once()
    assert seen == ["posted"]


def test_cancelling_who_waits_for_a_worker_leaves_the_worker_to_end(wall: IoContext) -> None:
    release = threading.Event()
    ran = threading.Event()

    def job() -> None:
        wait(release)
        ran.set()

    ended: list[object] = []
    task = wall.start(wall.worker(job), lambda _, error: ended.append(type(error).__name__))
    assert task is not None
    task.cancel()
    wall.turn()
    assert ended == ["Cancelled"]
    release.set()
    wall.run_until_idle()
    assert ran.is_set()
    assert len(ended) == 1


def test_close_finishes_what_workers_were_given_and_leaves_nothing_behind() -> None:
    def leftovers() -> tuple[int, list[str]]:
        threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("devmodels")]
        return len(os.listdir("/proc/self/fd")), threads

    before = leftovers()
    for _ in range(5):
        context = IoContext.wall()
        ran: list[int] = []
        for number in range(20):
            context.start(context.worker(partial(ran.append, number)))
        context.fileno()
        context.close()
        context.close()
        assert sorted(ran) == list(range(20))
    assert leftovers() == before
