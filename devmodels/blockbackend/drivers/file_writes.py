"""Writes into one file's page cache, by one worker after the other.

The kernel lets one write into a file at a time (the inode's lock): several threads would only wait for each other.  So
what comes while a worker is at work waits for it, and results are handed back together.  A write that takes long does
not keep others waiting for more than `PATIENCE_NS`: another worker goes on with those.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from devmodels.iocontext import Future, IoContext, Timer

PATIENCE_NS = 1_000_000
MOST_BYTES = 1 << 18
"""After so many bytes results are handed back, whatever else waits."""

MOST_WORKERS = 32

Guard = Callable[[Callable[[], None]], Callable[[], None]]
"""Makes of a job one that keeps the file open; it raises OSError where that is closed."""

Transfer = Callable[[Sequence[memoryview], int, int], None]
"""Writes vectors at an offset, with flags of pwritev2(2); OSError."""


class _Write(NamedTuple):
    vectors: Sequence[memoryview]
    offset: int
    future: Future[None]


_Result = tuple[Future[None], "BaseException | None"]


class WriteQueue:
    """The writes of one node, on a context of the wall clock."""

    __slots__ = ("_begun_ns", "_context", "_done", "_guard", "_timer", "_transfer", "_waiting", "_workers")

    def __init__(self, context: IoContext, guard: Guard, transfer: Transfer) -> None:
        self._context = context
        self._guard = guard
        self._transfer = transfer
        self._waiting: deque[_Write] = deque()
        self._done: deque[_Result] = deque()
        self._workers = 0
        self._begun_ns = 0
        """When a worker last began a write."""
        self._timer: Timer | None = None

    def put(self, vectors: Sequence[memoryview], offset: int) -> Future[None]:
        """Write, after what came before, or beside it."""
        future: Future[None] = Future(self._context)
        self._waiting.append(_Write(vectors, offset, future))
        if not self._workers:
            self._add_worker()
        elif self._timer is None:
            self._look_later()
        return future

    def _add_worker(self) -> None:
        self._workers += 1
        self._context.start(self._run())

    async def _run(self) -> None:
        try:
            await self._context.worker(self._guard(self._work))
        except OSError as error:
            # The file has been closed.
            while self._waiting:
                self._done.append((self._waiting.popleft().future, error))
        self._workers -= 1
        self._hand_back()
        if self._waiting and not self._workers:
            self._add_worker()

    def _work(self) -> None:
        """On a worker's thread, as long as writes come."""
        waiting, done, transfer, clock = self._waiting, self._done, self._transfer, time.monotonic_ns
        nbytes = 0
        while waiting:
            try:
                vectors, offset, future = waiting.popleft()
            except IndexError:
                return  # Another worker was quicker.
            self._begun_ns = clock()
            # Whoever is told that a write is over may take its vectors away at once.
            nbytes += sum(map(len, vectors))
            error: BaseException | None = None
            try:
                transfer(vectors, offset, 0)
            except BaseException as found:
                error = found
            done.append((future, error))
            if nbytes >= MOST_BYTES:
                nbytes = 0
                self._context.post(self._hand_back)

    def _hand_back(self) -> None:
        done = self._done
        while done:
            future, error = done.popleft()
            if error is None:
                future.set_result(None)
            else:
                future.set_error(error)

    def _look_later(self) -> None:
        self._timer = self._context.call_at(self._context.now_ns() + PATIENCE_NS, self._look)

    def _look(self) -> None:
        """Whether those who wait have waited too long."""
        self._timer = None
        self._hand_back()
        if self._waiting:
            if time.monotonic_ns() - self._begun_ns >= PATIENCE_NS and self._workers < MOST_WORKERS:
                self._add_worker()
            self._look_later()
