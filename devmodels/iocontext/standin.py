"""Somebody who goes on with a context's loop while its own thread is held up.

Handing a short job to a worker costs more than the job: two threads are woken for it, and each has to get the
interpreter's lock.  So jobs that may block, but hardly ever do, are done by the loop's own thread, between two turns
and with nothing of the loop on its stack.  A second thread sleeps meanwhile: an alarm wakes it where a job has not come
back after `PATIENCE_NS`, or up to twice that, since it is put off no more often than needed.  It looks once more after
another `PATIENCE_NS`, then takes the loop over, and everything else goes on there until the job is over and its thread
wants the loop back.  A job that blocks thus delays others by two or three times that.
A thread that only waits for a processor is left alone, for a while: others would wait for one as well.

Whoever runs the loop has the `baton`; with it goes the ownership of the context.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from devmodels.iocontext.alarm import Alarm
from devmodels.iocontext.threadstate import waits

PATIENCE_NS = 1_000_000
LONGEST_NS = 20_000_000
"""After so long nobody asks any more whether the thread only waits for a processor."""

TURN_NS = 500_000
"""Jobs that have not begun after so long wait for the loop's next turn."""


class Job(Protocol):
    """What is done beside the loop."""

    def work(self) -> None:
        """Do it, on whatever thread; must not raise."""
        ...

    def over(self) -> None:
        """It has been done; in the loop."""
        ...

    def held_up(self) -> None:
        """In the loop: it takes long, and the loop goes on without it, or it has not begun, and is for a worker now."""
        ...


class Loop(Protocol):
    """What this needs of a context."""

    owner: int | None

    def adopt(self) -> None:
        """The calling thread is the owner."""
        ...

    def post(self, callback: Callable[[], None]) -> None:
        """Run `callback`, from any thread."""
        ...

    def stand_in_round(self) -> None:
        """A turn, or wait for what comes; no jobs."""
        ...


class Others(Protocol):
    """Those who work for it otherwise."""

    def job_over(self, job: Job) -> None:
        """`job` has been done."""
        ...

    def to_worker(self, job: Job) -> None:
        """`job` is for a worker."""
        ...


class StandIn:
    """The second thread of one context, and the jobs that its own does, which has the baton from the beginning."""

    __slots__ = (
        "_alarm",
        "_baton",
        "_closing",
        "_context",
        "_current",
        "_error",
        "_held_id",
        "_others",
        "_since",
        "_thread",
        "_wanted",
        "done",
        "jobs",
        "standing_in",
    )

    def __init__(self, context: Loop, others: Others) -> None:
        self._context = context
        self._others = others
        self.jobs: deque[Job] = deque()
        """What the loop's thread has to do yet."""
        self.standing_in = False
        """Whether the second thread has the loop."""
        self.done: deque[Job] = deque()
        """What is done, and the loop has not heard of."""
        self._current: Job | None = None
        self._baton = threading.Lock()
        self._baton.acquire()
        self._alarm = Alarm()
        """Goes off when whatever is done by then takes long."""
        self._thread: threading.Thread | None = None
        self._held_id = 0
        """The loop's thread, as the host has it."""
        self._since = 0
        """Since when it is away, by the monotonic clock; 0: it has the loop."""
        self._wanted = False
        """Whether it wants the loop back."""
        self._error: BaseException | None = None
        self._closing = False

    # --- on the loop's own thread

    def do_jobs(self) -> None:
        """Do what is there.  To be called with nothing of the loop on the stack; raises what the loop has raised."""
        jobs, done, clock = self.jobs, self.done, time.monotonic_ns
        start = clock()
        if self._alarm.at_ns < start + PATIENCE_NS:
            self._put_off(start)
        self._since = start
        self._baton.release()
        while jobs:
            try:
                self._current = job = jobs.popleft()
            except IndexError:
                break  # They have been taken away.
            job.work()
            self._current = None
            done.append(job)
            if jobs and clock() - start >= TURN_NS:
                break
        if self._baton.acquire(False):
            self._since = 0
            self._tell()
        else:
            self._come_back()

    def _put_off(self, now: int) -> None:
        """Have the second thread look after a while."""
        if self._thread is None:
            self._held_id = threading.get_native_id()
            self._thread = threading.Thread(target=self._watch, name="devmodels-stand-in", daemon=True)
            self._thread.start()
        self._alarm.set(now + 2 * PATIENCE_NS)

    def _tell(self) -> None:
        """The loop hears of what is done."""
        done, over = self.done, self._others.job_over
        while done:
            over(done.popleft())

    def _come_back(self) -> None:
        """Somebody stands in: take the loop back as soon as it is between two turns."""
        # Whoever has it may wait for just that.
        self._context.post(self._tell)
        self._wanted = True
        self._context.post(_nothing)
        self._baton.acquire()
        self._wanted = False
        self._since = 0
        error, self._error = self._error, None
        if error is not None:
            raise error

    def give_away(self) -> None:
        """What has not begun goes to workers; with the baton."""
        while self.jobs:
            job = self.jobs.popleft()
            self._others.to_worker(job)
            job.held_up()

    def close(self) -> None:
        """End the second thread.  Idempotent."""
        if self._closing:
            return
        self._closing = True
        if self._thread is not None:
            self._alarm.set(0)
            self._thread.join()
        self._alarm.close()

    # --- on the second thread

    def _watch(self) -> None:
        while True:
            self._alarm.wait()
            if self._closing:
                return
            since = self._since
            if since:
                self._look_at(since)

    def _look_at(self, since: int) -> None:
        """Look after whoever is away since then, until that is over."""
        suspect = False
        while self._since == since and not self._closing:
            away = time.monotonic_ns() - since
            if away >= PATIENCE_NS and (away >= LONGEST_NS or waits(self._held_id)):
                if suspect:
                    self._take_over(since)
                    return
                # It may only have waited for the interpreter's lock, which this thread had: look once more.
                suspect = True
            time.sleep(PATIENCE_NS / 1e9)

    def _take_over(self, since: int) -> None:
        """Run the loop until its own thread wants it back, unless that has it already."""
        if not self._baton.acquire(blocking=False):
            return
        context = self._context
        if self._since == since:
            owner = context.owner
            context.adopt()
            self.standing_in = True
            try:
                self._run()
            finally:
                self.standing_in = False
                context.owner = owner
                self._baton.release()
        else:
            self._baton.release()

    def _run(self) -> None:
        context = self._context
        self.give_away()
        current = self._current
        self._guarded(self._tell)
        if current is not None:
            self._guarded(current.held_up)
        while not self._wanted:
            self._guarded(context.stand_in_round)

    def _guarded(self, function: Callable[[], None]) -> None:
        """What is raised here is for whoever runs the loop otherwise."""
        try:
            function()
        except BaseException as error:
            self._error = self._error or error


def _nothing() -> None:
    """It only wakes the loop."""
