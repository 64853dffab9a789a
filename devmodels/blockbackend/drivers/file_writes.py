"""Writes into one file's page cache, one after the other.

The kernel lets one write into a file at a time (the inode's lock): several threads would only wait for each other.  So
what comes while one is at work waits for it, and results are handed back together.

As long as writes are short they are done by the context's own thread between its turns (`IoContext.aside`), else by a
worker.  A write that takes long does not keep others waiting for more than `PATIENCE_NS`: a worker goes on with those.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence

from devmodels.blockbackend.drivers.linux import Descriptor
from devmodels.blockbackend.request import Request, WriteEnded
from devmodels.blockbackend.vectors import window
from devmodels.iocontext import Future, IoContext, Timer

PATIENCE_NS = 1_000_000
MOST_BYTES = 1 << 18
"""After so many bytes results are handed back, whatever else waits."""

MOST_WORKERS = 32

TURN_NS = 500_000
"""The context's own thread goes back to its loop after so long, between two writes."""

SHORT_NS = 100_000
"""A write that takes no longer, on the average, and without its bytes, may be done by the context's thread."""

BYTES_SHIFT = 2
"""A byte takes a quarter of a nanosecond."""

FIRST_PAUSE_NS = 10_000_000
LONGEST_PAUSE_NS = 2_000_000_000
"""Where writes have not been short, workers do them for so long; each time soon after is twice as long."""

IOV_MAX = 1024
"""The most vectors in one system call (IOV_MAX in <limits.h>)."""

Transfer = Callable[[Sequence[memoryview], int, int], None]
"""Writes vectors at an offset, with flags of pwritev2(2); OSError."""


_Write = tuple[Sequence[memoryview], int, int, Request, WriteEnded]
"""Vectors, offset, length in bytes, and who is told of what.  The length is counted before: who is told that it is over
may take its vectors away at once."""


class WriteQueue:
    """The writes of one node, on a context of the wall clock; as a job, what its own thread does of them.

    `waiting` is what nobody has begun; whoever adds to it sees that somebody will, by `look_after`, which is not needed
    while the context's own thread is at work (`here`).
    """

    __slots__ = (
        "_average_ns",
        "_begun",
        "_begun_ns",
        "_context",
        "_descriptor",
        "_done",
        "_not_before_ns",
        "_pause_ns",
        "_paused",
        "_threads",
        "_timer",
        "_transfer",
        "here",
        "waiting",
    )

    def __init__(self, context: IoContext, descriptor: Descriptor, transfer: Transfer) -> None:
        self._context = context
        self._descriptor = descriptor
        self._transfer = transfer
        self.waiting: deque[_Write] = deque()
        self._done: deque[tuple[WriteEnded, Request, BaseException | None]] = deque()
        self._begun = False
        """Whether the context's own thread has begun what it has to do."""
        self._threads = 0
        """How many are at work, or will be."""
        self.here = False
        """Whether it is the context's own, between its turns."""
        self._begun_ns = 0
        """When one of them last began a write."""
        self._timer: Timer | None = None
        self._average_ns = 0
        self._paused = False
        """Whether it was left to workers, and may be yet."""
        self._pause_ns = 0
        self._not_before_ns = 0

    def put(
        self, vectors: Sequence[memoryview], offset: int, length: int, request: Request, ended: WriteEnded
    ) -> None:
        """Write, after what came before, or beside it; `ended` is told in the context."""
        self.waiting.append((vectors, offset, length, request, ended))
        if not self.here:
            self.look_after()

    def look_after(self) -> None:
        """Have what waits written: by the context's own thread, if that is to do it, else by one more worker."""
        if self._threads:
            if self._timer is None:
                self._look_later()
            return
        if self.waiting[0][2] > MOST_BYTES or (self._paused and self._still_paused()):
            self._have_worker()
            return
        try:
            self._descriptor.__enter__()
        except OSError as error:
            self._fail(error)
            return
        self._threads = 1
        self._begun = False
        self.here = self._context.aside(self, here=True)

    async def write(self, request: Request, vectors: Sequence[memoryview], offset: int) -> None:
        """The same for a coroutine."""
        future: Future[None] = Future(self._context)

        def ended(_request: Request, error: BaseException | None) -> None:
            if error is None:
                future.set_result(None)
            else:
                future.set_error(error)

        self.put(vectors, offset, sum(map(len, vectors)), request, ended)
        await future

    def _have_worker(self) -> None:
        """One thread more for what waits."""
        try:
            self._descriptor.__enter__()
        except OSError as error:
            self._fail(error)
            return
        self._threads += 1
        self.here = False
        self._context.aside(_Job(self), here=False)

    def _fail(self, error: OSError) -> None:
        """The file has been closed: so those who wait are told, soon."""
        self._done.extend((ended, request, error) for *_, request, ended in self.waiting)
        self.waiting.clear()
        self._context.call_soon(self._hand_back)

    def work(self) -> None:
        """On whatever thread, as long as writes come; on the context's for as long as a turn may take."""
        waiting, done, clock, here = self.waiting, self._done, time.monotonic_ns, self.here
        pwritev, fd = os.pwritev, self._descriptor.fd
        self._begun = here
        nbytes = count = 0
        start = now = clock()
        try:
            while waiting:
                if here and nbytes and (now - start >= TURN_NS or nbytes + waiting[0][2] > MOST_BYTES):
                    break  # Back to the loop.
                self._begun_ns = now
                vectors, offset, length, request, ended = waiting.popleft()
                error: BaseException | None = None
                try:
                    written = pwritev(fd, vectors, offset) if len(vectors) <= IOV_MAX else 0
                    if written != length:
                        self._transfer(window(vectors, written, length - written), offset + written, 0)
                except BaseException as found:
                    error = found
                done.append((ended, request, error))
                now = clock()
                count += 1
                nbytes += length
                if nbytes >= MOST_BYTES and not here:
                    nbytes = 0
                    self._context.post(self._hand_back)
        except IndexError:
            pass  # Another thread was quicker.
        finally:
            self._descriptor.leave()
        if here and count:
            taken = (now - start - (nbytes >> BYTES_SHIFT)) // count
            if taken > SHORT_NS or self._average_ns:
                self._learn(taken)

    def over(self) -> None:
        """A thread has done what it had to."""
        self._threads -= 1
        self.here = False
        done = self._done
        while done:
            ended, request, error = done.popleft()
            ended(request, error)
        if self.waiting and not self._threads:
            self.look_after()

    def held_up(self) -> None:
        """The context goes on elsewhere: one of its writes takes long, or has not begun, and a worker will do them."""
        self.here = False
        if self._begun:
            self._pause()
        if self.waiting:
            if self._begun and self._threads < MOST_WORKERS:
                self._have_worker()
            elif self._timer is None:
                self._look_later()

    def _hand_back(self) -> None:
        done = self._done
        while done:
            ended, request, error = done.popleft()
            ended(request, error)

    # --- who writes

    def _learn(self, taken_ns: int) -> None:
        """A write on the context's own thread took so long."""
        # One that met a busy host says little.  As long as none has taken long, nothing is counted.
        self._average_ns += (min(taken_ns, 4 * SHORT_NS) - self._average_ns) >> 3
        if self._average_ns > SHORT_NS:
            self._pause()

    def _pause(self) -> None:
        """Writes have been long: workers do them for a while."""
        now = time.monotonic_ns()
        again = now - self._not_before_ns < 8 * self._pause_ns
        self._pause_ns = min(2 * self._pause_ns, LONGEST_PAUSE_NS) if again else FIRST_PAUSE_NS
        self._not_before_ns = now + self._pause_ns
        self._average_ns = 0
        self._paused = True

    def _still_paused(self) -> bool:
        """Whether that goes on."""
        self._paused = time.monotonic_ns() < self._not_before_ns
        return self._paused

    def _look_later(self) -> None:
        self._timer = self._context.call_at(self._context.now_ns() + PATIENCE_NS, self._look)

    def _look(self) -> None:
        """Whether those who wait have waited too long."""
        self._timer = None
        self._hand_back()
        if self.waiting and not self.here:
            if time.monotonic_ns() - self._begun_ns >= PATIENCE_NS and self._threads < MOST_WORKERS:
                self._have_worker()
            self._look_later()


class _Job:
    """A worker's part of a queue."""

    __slots__ = ("over", "work")

    def __init__(self, queue: WriteQueue) -> None:
        self.work = queue.work
        self.over = queue.over

    def held_up(self) -> None:
        """A worker holds up nobody."""
