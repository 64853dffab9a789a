"""Threads for what may block.

Waking a thread costs more than a short job.  So jobs that come while a worker is at work wait for it, as long as jobs
have been short and the context's thread is near to look after them: where no job has begun for `PATIENCE_NS` it wakes
one more worker.  A slow job thus delays another by no more than that.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

MAX_WORKERS = 128
MAX_SHARE = 32
"""How many jobs of one owner (a disk) at most are with the workers, so that its slow jobs leave threads to others."""

SHORT_NS = 50_000
PATIENCE_NS = 100_000


class WorkerShare:
    """One owner's part of the workers: what is more than `MAX_SHARE` jobs waits for one of them to end."""

    __slots__ = ("_lock", "_out", "_waiting")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._out = 0
        self._waiting: deque[Callable[[], None]] = deque()

    def enter(self, job: Callable[[], None]) -> bool:
        """Whether `job` may go to the workers now; else it is kept for `leave`."""
        with self._lock:
            if self._out < MAX_SHARE:
                self._out += 1
                return True
            self._waiting.append(job)
            return False

    def leave(self, jobs: deque[Callable[[], None]]) -> None:
        """A job has ended: the next goes to `jobs`.  To be called by the worker, who will then look there."""
        with self._lock:
            if self._waiting:
                jobs.append(self._waiting.popleft())
            else:
                self._out -= 1


class Workers:
    """The threads of one context; started as they are needed.  Only a job's own run is on another thread."""

    __slots__ = ("_average_ns", "_begun_ns", "_closing", "_coming", "_idle", "_threads", "jobs", "wake_owner")

    def __init__(self, wake_owner: Callable[[], None]) -> None:
        self.wake_owner = wake_owner
        """Called on a worker's thread when results are there that the context has not been told of."""
        self.jobs: deque[Callable[[], None]] = deque()
        self._threads: list[threading.Thread] = []
        self._idle: deque[threading.Lock] = deque()
        self._coming: deque[None] = deque()
        """An entry for each worker that has been woken and has not looked at the jobs yet."""
        self._average_ns = SHORT_NS
        self._begun_ns = 0
        self._closing = False

    @property
    def stuck(self) -> bool:
        """Whether jobs wait that one more worker could begin."""
        return len(self.jobs) > len(self._coming) and (bool(self._idle) or len(self._threads) < MAX_WORKERS)

    def look(self) -> None:
        """Wake those who are needed for the jobs that wait.  To be called often while there are jobs.

        One worker does short jobs, as long as it begins one now and then; else each job has one of its own.
        """
        coming = len(self._coming)
        missing = len(self.jobs) - coming
        if missing <= 0:
            return
        if self._average_ns >= SHORT_NS:
            for _ in range(missing):
                self.wake_one()
        elif not coming and len(self._threads) == len(self._idle):
            self.wake_one()
        else:
            now = time.monotonic_ns()
            if now - self._begun_ns >= PATIENCE_NS:
                self._begun_ns = now
                self.wake_one()

    def submit(self, job: Callable[[], None], *, watched: bool) -> None:
        """Have `job`, which must not raise, run.

        `watched`: the context's thread will `look` as soon as it has done what else there is to do.  A worker that is
        woken before could only wait for the interpreter's lock.
        """
        if not self.jobs:
            self._begun_ns = time.monotonic_ns()
        self.jobs.append(job)
        if not watched:
            self.wake_one()

    def wake_one(self) -> None:
        """One more worker, if there can be one."""
        try:
            bell = self._idle.pop()
        except IndexError:
            if len(self._threads) < MAX_WORKERS:
                name = f"devmodels-worker-{len(self._threads)}"
                thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._threads.append(thread)
                self._coming.append(None)
                thread.start()
        else:
            self._coming.append(None)
            bell.release()

    def _run(self) -> None:
        bell = threading.Lock()
        bell.acquire()
        jobs, coming = self.jobs, self._coming
        clock = time.monotonic_ns
        coming.pop()
        while True:
            try:
                job = jobs.popleft()
            except IndexError:
                if self._closing:
                    return
                # Idle first, then a last look: whoever adds a job does the opposite, so one of both sees the other.
                self._idle.append(bell)
                if jobs or self._closing:
                    try:
                        self._idle.remove(bell)
                        continue
                    except ValueError:
                        pass
                bell.acquire()
                coming.pop()
                continue
            self._begun_ns = start = clock()
            job()
            taken = clock() - start
            # One job that met a busy host says little: it counts as four times what is short.
            self._average_ns += (min(taken, 4 * SHORT_NS) - self._average_ns) >> 3
            if not jobs or taken >= SHORT_NS or len(self._threads) - len(self._idle) > 1:
                self.wake_owner()

    def close(self) -> None:
        """Finish what was submitted and end the threads."""
        self._closing = True
        try:
            while True:
                bell = self._idle.pop()
                self._coming.append(None)
                bell.release()
        except IndexError:
            pass
        for thread in self._threads:
            thread.join()
        self._threads.clear()
