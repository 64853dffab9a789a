"""Where a device's code runs: timers, coroutines, workers and file descriptors of one thread.

Block drivers are `async def` and await only what an `IoContext` offers (`sleep`, `wait_for`, `Lock`, `Event`,
`worker`, `readable`, `writable`), so they run on any clock and in any event loop.  `start` steps a coroutine at once:
one that never suspends is finished there and then and costs no task.

Three clocks.  `wall()`: time is the host's.  `virtual()`: when nothing is ready, time jumps to the next timer, but
never while a worker is out.  `stepped()`: only `step` moves time.  On the two virtual clocks `worker` runs its
function inline, so that a run is the same every time.

Everything but `post` belongs to the context's own thread.
"""

from __future__ import annotations

import heapq
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from enum import Enum
from queue import SimpleQueue
from types import TracebackType
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


MAX_WORKERS = 16
FIRST_POLL_NS = 4_000


class ClockKind(Enum):
    """How a context's time goes on."""

    WALL = "wall"
    VIRTUAL = "virtual"
    STEPPED = "stepped"


class Cancelled(BaseException):
    """Thrown into a coroutine at its await when its task is cancelled."""


class WrongContextError(RuntimeError):
    """An object was used on a thread that does not own its context: a programming error."""


class _Parkable(Protocol):
    """What a coroutine of ours may await: it takes the task and steps it later."""

    def park(self, task: Task[object]) -> None: ...

    def unpark(self, task: Task[object]) -> None: ...


class Poller(Protocol):
    """A source of work that can be watched by looking (a ring's available index)."""

    def begin(self) -> None:
        """Looking starts: the other side need not notify any more."""
        ...

    def poll(self) -> bool:
        """Look once, do what is there; True where there was something."""
        ...

    def end(self) -> bool:
        """Looking ends: ask for notifications again, then look once more (True where there was something)."""
        ...


class Timer:
    """A callback due at `when` ns; `cancel` before then stops it."""

    __slots__ = ("callback", "when")

    def __init__(self, when: int, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Stop the timer. Idempotent."""
        self.callback = None


class Future(Generic[T]):
    """A result that comes later; any number of coroutines may await it."""

    __slots__ = ("_context", "_error", "_result", "_waiting", "done")

    def __init__(self, context: IoContext) -> None:
        self._context = context
        self._waiting: list[Task[object]] = []
        self._result: T | None = None
        self._error: BaseException | None = None
        self.done = False

    def set_result(self, value: T) -> None:
        """Complete it; those who wait go on at the context's next turn."""
        self._result = value
        self._finish()

    def set_error(self, error: BaseException) -> None:
        """Complete it with an exception that every waiter receives."""
        self._error = error
        self._finish()

    def _finish(self) -> None:
        if self.done:
            raise RuntimeError("future completed twice")
        self.done = True
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            self._context.call_soon(task.step)

    def park(self, task: Task[object]) -> None:
        """Let `task` go on when this is done."""
        self._waiting.append(task)

    def unpark(self, task: Task[object]) -> None:
        """`task` no longer waits."""
        if task in self._waiting:
            self._waiting.remove(task)

    def __await__(self) -> Generator[_Parkable, None, T]:
        if not self.done:
            yield self
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]


class Task(Generic[T]):
    """A coroutine that has suspended at least once.

    `done(result, error)` is called once, with exactly one of the two (both None for a None result).
    """

    __slots__ = ("_cancelled", "_coro", "_done", "_parked", "context")

    def __init__(
        self,
        context: IoContext,
        coro: Coroutine[_Parkable, None, T],
        parked: _Parkable,
        done: Callable[[T | None, BaseException | None], None] | None,
    ) -> None:
        self.context = context
        self._coro = coro
        self._done = done
        self._cancelled = False
        self._parked: _Parkable | None = parked
        parked.park(self)  # type: ignore[arg-type]

    @property
    def finished(self) -> bool:
        """Whether the coroutine has ended."""
        return self._parked is None

    def step(self) -> None:
        """Go on after what was awaited is done."""
        if self._parked is None:
            return
        try:
            parked = self._coro.throw(Cancelled()) if self._cancelled else self._coro.send(None)
        except StopIteration as stop:
            self._end(stop.value, None)
        except BaseException as error:
            self._end(None, error)
        else:
            self._cancelled = False
            self._parked = parked
            parked.park(self)  # type: ignore[arg-type]

    def _end(self, result: T | None, error: BaseException | None) -> None:
        self._parked = None
        if self._done is not None:
            self._done(result, error)
        elif error is not None and not isinstance(error, Cancelled):
            raise error

    def cancel(self) -> None:
        """Throw `Cancelled` into the coroutine at the context's next turn. Idempotent."""
        if self._parked is not None and not self._cancelled:
            self._cancelled = True
            self._parked.unpark(self)  # type: ignore[arg-type]
            self.context.call_soon(self.step)


class Event:
    """A flag that coroutines can wait for."""

    __slots__ = ("_context", "_future", "is_set")

    def __init__(self, context: IoContext) -> None:
        self._context = context
        self._future: Future[None] | None = None
        self.is_set = False

    def set(self) -> None:
        """Raise the flag and let everybody go."""
        self.is_set = True
        future, self._future = self._future, None
        if future is not None:
            future.set_result(None)

    def clear(self) -> None:
        """Lower the flag."""
        self.is_set = False

    async def wait(self) -> None:
        """Return when the flag is up (at once where it is)."""
        while not self.is_set:
            if self._future is None:
                self._future = Future(self._context)
            await self._future


class Lock:
    """Mutual exclusion between coroutines, first come first served. Use with `async with`."""

    __slots__ = ("_context", "_queue", "locked")

    def __init__(self, context: IoContext) -> None:
        self._context = context
        self._queue: deque[Future[None]] = deque()
        self.locked = False

    async def __aenter__(self) -> None:
        if not self.locked:
            self.locked = True
            return
        turn: Future[None] = Future(self._context)
        self._queue.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done:
                self._release()
            else:
                self._queue.remove(turn)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        if self._queue:
            self._queue.popleft().set_result(None)
        else:
            self.locked = False


class _Workers:
    """Threads that run what may block; started as they are needed."""

    __slots__ = ("_idle", "_jobs", "_lock", "_threads")

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._lock = threading.Lock()

    def submit(self, job: Callable[[], None]) -> None:
        with self._lock:
            if self._idle:
                self._idle -= 1
            elif len(self._threads) < MAX_WORKERS:
                name = f"devmodels-worker-{len(self._threads)}"
                thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()
        self._jobs.put(job)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            with self._lock:
                self._idle += 1

    def close(self) -> None:
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()


class IoContext:
    """One thread's timers, coroutines, workers and file descriptors."""

    def __init__(self, kind: ClockKind) -> None:
        self.kind = kind
        self._now = 0
        self._owner: int | None = None
        self._ready: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[int, int, Timer]] = []
        self._sequence = 0
        self._posted: deque[Callable[[], None]] = deque()
        self._workers: _Workers | None = None
        self._out = 0
        self._epoll: select.epoll | None = None
        self._watches: dict[int, Callable[[int], None]] = {}
        self._wake_fd = -1
        self._sleeping = False
        self._pollers: list[Poller] = []
        self._polling = False
        self.poll_max_ns = 0
        self._poll_ns = 0
        self._closed = False

    @classmethod
    def wall(cls) -> IoContext:
        """A context whose clock is the host's monotonic clock."""
        return cls(ClockKind.WALL)

    @classmethod
    def virtual(cls) -> IoContext:
        """A context whose clock starts at 0 and jumps to the next timer when nothing is ready."""
        return cls(ClockKind.VIRTUAL)

    @classmethod
    def stepped(cls) -> IoContext:
        """A context whose clock starts at 0 and is moved by `step` alone."""
        return cls(ClockKind.STEPPED)

    def now_ns(self) -> int:
        """The clock in nanoseconds."""
        return time.monotonic_ns() if self.kind is ClockKind.WALL else self._now

    def assert_owner(self) -> None:
        """WrongContextError where the calling thread does not own this context; the first caller becomes owner."""
        me = threading.get_ident()
        if self._owner is None:
            self._owner = me
        elif self._owner != me:
            raise WrongContextError("used outside the thread that owns this IoContext")

    def adopt(self) -> None:
        """Make the calling thread the owner (for a context built on one thread and run on another)."""
        self._owner = threading.get_ident()

    # --- callbacks and timers

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run `callback` in the context's next turn, in order."""
        self._ready.append(callback)

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        """Run `callback` when the clock has reached `when` ns; timers of one instant run in the order made."""
        timer = Timer(when, callback)
        self._sequence += 1
        heapq.heappush(self._timers, (when, self._sequence, timer))
        return timer

    def post(self, callback: Callable[[], None]) -> None:
        """Run `callback` on this context; the one call that any thread may make."""
        self._posted.append(callback)
        if self._sleeping:
            self._wake()

    def _wake(self) -> None:
        if self._wake_fd >= 0:
            os.eventfd_write(self._wake_fd, 1)

    # --- coroutines

    def start(
        self,
        coro: Coroutine[_Parkable, None, T],
        done: Callable[[T | None, BaseException | None], None] | None = None,
    ) -> Task[T] | None:
        """Step `coro` now; returns None where it has already ended, else its task.

        `done(result, error)` is called when it ends, possibly before `start` returns.  Without `done` an error is
        raised to whoever runs the context.
        """
        try:
            parked = coro.send(None)
        except StopIteration as stop:
            if done is not None:
                done(stop.value, None)
            return None
        except Exception as error:
            if done is None:
                raise
            done(None, error)
            return None
        return Task(self, coro, parked, done)

    async def sleep(self, duration: int) -> None:
        """Suspend for `duration` ns of this context's clock; 0 or less gives others a turn."""
        future: Future[None] = Future(self)
        if duration <= 0:
            self.call_soon(lambda: future.set_result(None))
            await future
            return
        timer = self.call_at(self.now_ns() + duration, lambda: future.set_result(None))
        try:
            await future
        finally:
            timer.cancel()

    async def wait_for(self, coro: Coroutine[_Parkable, None, T], duration: int) -> T:
        """Await `coro` for at most `duration` ns, then cancel it and raise TimeoutError."""
        outcome: Future[T] = Future(self)
        expired = False

        def done(result: T | None, error: BaseException | None) -> None:
            if error is None:
                outcome.set_result(result)  # type: ignore[arg-type]
            elif expired and isinstance(error, Cancelled):
                outcome.set_error(TimeoutError(f"not done within {duration} ns"))
            else:
                outcome.set_error(error)

        task = self.start(coro, done)
        if task is None:
            return await outcome

        def expire() -> None:
            nonlocal expired
            expired = True
            task.cancel()

        timer = self.call_at(self.now_ns() + duration, expire)
        try:
            return await outcome
        except Cancelled:
            task.cancel()
            raise
        finally:
            timer.cancel()

    async def worker(self, function: Callable[[], T]) -> T:
        """Run `function`, which may block, on a worker thread (inline on a virtual clock) and return its result."""
        if self.kind is not ClockKind.WALL:
            return function()
        if self._workers is None:
            self._workers = _Workers()
        future: Future[T] = Future(self)

        def job() -> None:
            try:
                result = function()
            except BaseException as error:
                self.post(lambda e=error: self._worker_failed(future, e))  # type: ignore[misc]
            else:
                self.post(lambda: self._worker_done(future, result))

        self._out += 1
        self._workers.submit(job)
        return await future

    def _worker_done(self, future: Future[T], result: T) -> None:
        self._out -= 1
        future.set_result(result)

    def _worker_failed(self, future: Future[T], error: BaseException) -> None:
        self._out -= 1
        future.set_error(error)

    # --- file descriptors

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` whenever epoll reports `fd`; `events` are `select.EPOLL*` bits (EPOLLET allowed)."""
        self._poller().register(fd, events)
        self._watches[fd] = callback

    def unwatch(self, fd: int) -> None:
        """Stop watching `fd`, which must still be open. Idempotent."""
        if self._watches.pop(fd, None) is not None and self._epoll is not None:
            self._epoll.unregister(fd)

    async def readable(self, fd: int) -> None:
        """Suspend until `fd` can be read."""
        await self._until(fd, select.EPOLLIN)

    async def writable(self, fd: int) -> None:
        """Suspend until `fd` can be written."""
        await self._until(fd, select.EPOLLOUT)

    async def _until(self, fd: int, events: int) -> None:
        future: Future[None] = Future(self)
        self.watch(fd, events | select.EPOLLONESHOT, lambda _: future.set_result(None))
        try:
            await future
        finally:
            self.unwatch(fd)

    def _poller(self) -> select.epoll:
        if self._epoll is None:
            self._epoll = select.epoll()
            self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._epoll.register(self._wake_fd, select.EPOLLIN)
        return self._epoll

    def fileno(self) -> int:
        """A descriptor that becomes readable when this context has something to do (for another event loop)."""
        return self._poller().fileno()

    def add_poller(self, poller: Poller) -> None:
        """Busy polling: before the context blocks it looks at `poller` for up to `poll_max_ns`."""
        self._pollers.append(poller)
        if self._polling:
            poller.begin()

    def remove_poller(self, poller: Poller) -> None:
        """Stop looking at `poller`. Idempotent."""
        if poller in self._pollers:
            self._pollers.remove(poller)
            if self._polling:
                poller.end()

    # --- running

    def turn(self) -> bool:
        """Run what was posted, what is due and what is ready, once; False where there was nothing."""
        busy = False
        posted = self._posted
        while posted:
            busy = True
            posted.popleft()()
        timers = self._timers
        if timers:
            now = self.now_ns()
            while timers and timers[0][0] <= now:
                callback = heapq.heappop(timers)[2].callback
                if callback is not None:
                    busy = True
                    callback()
        ready = self._ready
        for _ in range(len(ready)):
            busy = True
            ready.popleft()()
        return busy

    def deadline(self) -> int | None:
        """When the next timer is due, or None."""
        timers = self._timers
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
        return timers[0][0] if timers else None

    def _poll_fds(self, timeout: float) -> bool:
        if self._epoll is None:
            if timeout:
                self._poller()
            else:
                return False
        assert self._epoll is not None
        busy = False
        for fd, events in self._epoll.poll(timeout):
            busy = True
            if fd == self._wake_fd:
                os.eventfd_read(fd)
                continue
            watch = self._watches.get(fd)
            if watch is not None:
                watch(events)
        return busy

    def run_until_idle(self) -> None:
        """Run until nothing can happen without somebody outside.

        Workers are waited for.  A virtual clock jumps from timer to timer until none is left; on the wall clock and on
        a stepped one, timers that lie in the future stay.
        """
        self.assert_owner()
        while True:
            if self.turn() or self._poll_fds(0):
                continue
            if self._out:
                self._block(None)
            elif self.kind is ClockKind.VIRTUAL and (when := self.deadline()) is not None:
                self._now = when
            else:
                return

    def step(self, duration: int) -> None:
        """Move a stepped clock on by `duration` ns, running every timer at its own instant."""
        if self.kind is not ClockKind.STEPPED:
            raise RuntimeError("only a stepped clock can be stepped")
        end = self._now + duration
        self.run_until_idle()
        while (when := self.deadline()) is not None and when <= end:
            self._now = max(self._now, when)
            self.run_until_idle()
        self._now = end

    def run(self, coro: Coroutine[_Parkable, None, T]) -> T:
        """Run `coro` to its end, and everything else meanwhile; returns its result or raises its error.

        RuntimeError where it waits for something that cannot come any more.
        """
        self.assert_owner()
        outcome: list[tuple[T | None, BaseException | None]] = []
        self.start(coro, lambda result, error: outcome.append((result, error)))
        while not outcome:
            self.run_once()
        result, error = outcome[0]
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def run_once(self) -> None:
        """One round: a turn, or wait (in real or virtual time) for what comes next."""
        busy = self.turn()
        if self._poll_fds(0) or busy:
            return
        when = self.deadline()
        if self.kind is ClockKind.VIRTUAL and not self._out and when is not None:
            self._now = when
        elif self.kind is ClockKind.WALL or self._out or self._watches:
            self._wait(when)
        else:
            raise RuntimeError("nothing is left that could happen")

    def _wait(self, when: int | None) -> None:
        """Look at the pollers for a while, then block until `when`."""
        if not self._pollers or not self.poll_max_ns:
            self._block(when)
            return
        start = time.monotonic_ns()
        if self._poll_ns:
            if not self._polling:
                self._polling = True
                for poller in self._pollers:
                    poller.begin()
            if self._spin(start + self._poll_ns, when):
                return
        if self._polling:
            self._polling = False
            if any([poller.end() for poller in self._pollers]):
                return
        self._block(when)
        self._adapt(time.monotonic_ns() - start)

    def _spin(self, until: int, when: int | None) -> bool:
        if when is not None and self.kind is ClockKind.WALL:
            until = min(until, when)
        polls = [poller.poll for poller in self._pollers]
        posted = self._posted
        now = time.monotonic_ns
        while True:
            for poll in polls:
                if poll():
                    return True
            if posted:
                return True
            if now() >= until:
                return False

    def _adapt(self, waited: int) -> None:
        """Spin longer where a longer spin would have caught the event, not at all where it never would."""
        if waited > self.poll_max_ns:
            self._poll_ns = 0
        elif waited > self._poll_ns:
            self._poll_ns = min(self.poll_max_ns, max(FIRST_POLL_NS, self._poll_ns * 2))

    def _block(self, when: int | None) -> None:
        timeout = -1.0
        if when is not None and self.kind is ClockKind.WALL:
            timeout = max(0.0, (when - self.now_ns()) / 1e9)
        self._poller()
        self._sleeping = True
        try:
            if not self._posted:
                self._poll_fds(timeout)
        finally:
            self._sleeping = False

    def close(self) -> None:
        """Stop the workers and give up descriptors. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._workers is not None:
            self._workers.close()
        if self._epoll is not None:
            self._epoll.close()
            os.close(self._wake_fd)
            self._wake_fd = -1


Coro = Coroutine[_Parkable, None, T]
"""A coroutine that awaits only what an IoContext offers."""

__all__ = [
    "Cancelled",
    "ClockKind",
    "Coro",
    "Event",
    "Future",
    "IoContext",
    "Lock",
    "Task",
    "Timer",
    "WrongContextError",
]
