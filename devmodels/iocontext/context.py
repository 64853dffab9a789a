"""IoContext: one thread's ready queue, timers, workers and file descriptors, on one of three clocks."""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Protocol, TypeVar

from devmodels.iocontext.descriptors import MAX_EVENTS, Descriptors
from devmodels.iocontext.helpers import Helpers
from devmodels.iocontext.polling import BusyPolling, Poller
from devmodels.iocontext.primitives import Coro, Future, Task, start
from devmodels.iocontext.timers import Timer, Timers, sleep, wait_for
from devmodels.iocontext.workers import PATIENCE_NS, WorkerShare

if TYPE_CHECKING:
    from devmodels.iocontext.standin import Job, StandIn
    from devmodels.iocontext.uring import Uring

T = TypeVar("T")

LOOK_EVERY = 16
"""After so many turns that found something to do, descriptors are looked at too."""

LONGEST_NS = 86400 * 10**9
"""The kernel's calls take no times of any length: a timer further ahead is looked at again after so long."""


class ClockKind(Enum):
    """How a context's time goes on."""

    WALL = "wall"
    VIRTUAL = "virtual"
    STEPPED = "stepped"


class WrongContextError(RuntimeError):
    """An object was used on a thread that does not own its context: a programming error."""


class Beside(Protocol):
    """A thread beside this one that works for it (`IoThread`)."""

    def settle(self) -> None:
        """Return when it has done all that it can for now."""
        ...


class IoContext:
    """One thread's timers, coroutines, workers and file descriptors."""

    def __init__(self, kind: ClockKind) -> None:
        self.kind = kind
        self._wall = kind is ClockKind.WALL
        self._now = 0
        self.owner: int | None = None
        """The thread that owns this context (`threading.get_ident()`), once there is one."""
        self._ready: deque[Callable[[], None]] = deque()
        self._timers = Timers()
        self.posted: deque[Callable[[], None]] = deque()
        """What any thread has posted."""
        self.descriptors = Descriptors()
        self._helpers = Helpers(self)
        self._stand_in: StandIn | None = None
        self._at_base = False
        """Whether `run_once` is all of the loop that the owner's stack has below the callback that runs."""
        self.running = False
        """Whether its thread is in one of the loops below."""
        self._looked = False
        """Whether a spin has looked at the descriptors, too."""
        self._polling = BusyPolling()
        self._closed = False
        self.threads: list[Beside] = []
        """Threads of those who belong here: `run_until_idle` waits for what they do."""
        self.awaited = 0
        """How many watched descriptors will tell of something that was asked of somebody elsewhere (a target over the
        network): `run_until_idle` waits for that as for workers, and a virtual clock does not jump meanwhile."""

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
        return time.monotonic_ns() if self._wall else self._now

    def assert_owner(self) -> None:
        """WrongContextError where the calling thread does not own this context; the first caller becomes owner."""
        me = threading.get_ident()
        if self.owner is None:
            self.owner = me
        elif self.owner != me:
            raise WrongContextError("used outside the thread that owns this IoContext")

    @property
    def owned(self) -> bool:
        """Whether the calling thread owns this context (or nobody does yet)."""
        return self.owner is None or self.owner == threading.get_ident()

    def adopt(self) -> None:
        """Make the calling thread the owner (for a context built on one thread and run on another)."""
        self.owner = threading.get_ident()

    # --- callbacks and timers

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run `callback` in the context's next turn, in order."""
        self._ready.append(callback)
        if self.descriptors.sleeping:
            self.descriptors.wake()

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        """Run `callback` when the clock has reached `when` ns; timers of one instant run in the order made."""
        timer = self._timers.add(when, callback)
        if self.descriptors.sleeping:
            self.descriptors.wake()
        return timer

    def post(self, callback: Callable[[], None]) -> None:
        """Run `callback` on this context; the one call that any thread may make."""
        self.posted.append(callback)
        if self.descriptors.sleeping:
            self.descriptors.wake()

    # --- coroutines

    def start(
        self, coro: Coro[T], done: Callable[[T | None, BaseException | None], None] | None = None
    ) -> Task[T] | None:
        """Step `coro` now; returns None where it has already ended, else its task.

        `done(result, error)` is called when it ends, possibly before `start` returns.  Without `done` an error is
        raised to whoever runs the context.
        """
        return start(self, coro, done)

    def sleep(self, duration: int) -> Coro[None]:
        """Suspend for `duration` ns of this context's clock; 0 or less gives others a turn."""
        return sleep(self, duration)

    def wait_for(self, coro: Coro[T], duration: int) -> Coro[T]:
        """Await `coro` for at most `duration` ns, then cancel it and raise TimeoutError."""
        return wait_for(self, coro, duration)

    async def worker(self, function: Callable[[], T], share: WorkerShare | None = None) -> T:
        """Run `function`, which may block, on a worker thread (inline on a virtual clock) and return its result.

        Jobs of one `share` hold only a part of the threads.
        """
        if self.kind is not ClockKind.WALL:
            return function()
        return await self._helpers.work(function, share)

    def have_stand_in(self) -> None:
        """Another thread may go on with what `run_once` does while `aside` holds up the owner's.  For the wall clock;
        callbacks then run on either thread, never on both."""
        if self._stand_in is None:
            from devmodels.iocontext.standin import StandIn  # ctypes is slow to import

            self._stand_in = StandIn(self, self._helpers)

    def aside(self, job: Job, *, here: bool) -> bool:
        """Do `job`, which may block: on a worker, or, with `here`, on this thread after this turn.

        `here` is for what hardly ever takes long, and counts only where somebody would go on with the loop if it did.
        For the wall clock.  Returns whether this thread will do it.
        """
        helpers, stand_in = self._helpers, self._stand_in
        helpers.out += 1
        if here and stand_in is not None and self._at_base and not stand_in.standing_in:
            stand_in.jobs.append(job)
            return True
        helpers.to_worker(job)
        return False

    def uring(self) -> Uring:
        """This context's io_uring, made when it is first asked for; OSError where the host has none.

        For the wall clock: on a virtual one nothing may be done beside the context.
        """
        return self._helpers.uring()

    # --- file descriptors

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` whenever epoll reports `fd`; `events` are `select.EPOLL*` bits (EPOLLET allowed).

        One watcher for each descriptor; FileExistsError for a second one.
        """
        self.descriptors.watch(fd, events, callback)

    def unwatch(self, fd: int) -> None:
        """Stop watching `fd`, which must still be open. Idempotent."""
        self.descriptors.unwatch(fd)

    async def readable(self, fd: int) -> None:
        """Suspend until `fd` can be read (it must not be watched otherwise meanwhile)."""
        await self._until(fd, select.EPOLLIN)

    async def writable(self, fd: int) -> None:
        """Suspend until `fd` can be written (it must not be watched otherwise meanwhile)."""
        await self._until(fd, select.EPOLLOUT)

    async def _until(self, fd: int, events: int) -> None:
        future: Future[None] = Future(self)
        self.watch(fd, events | select.EPOLLONESHOT, lambda _: future.set_result(None))
        try:
            await future
        finally:
            self.unwatch(fd)

    def fileno(self) -> int:
        """A descriptor that becomes readable when this context has something to do (for another event loop)."""
        return self.descriptors.fileno()

    @property
    def poll_max_ns(self) -> int:
        """Busy polling: for how long at most the context looks at its pollers before it blocks (0: not at all)."""
        return self._polling.max_ns

    @poll_max_ns.setter
    def poll_max_ns(self, value: int) -> None:
        self._polling.max_ns = value

    def add_poller(self, poller: Poller) -> None:
        """Look at `poller` for up to `poll_max_ns` before blocking."""
        self._polling.add(poller)

    def remove_poller(self, poller: Poller) -> None:
        """Stop looking at `poller`. Idempotent."""
        self._polling.remove(poller)

    # --- running

    @property
    def ready(self) -> bool:
        """Whether something has been posted or is ready."""
        return bool(self.posted or self._ready)

    def _settle_threads(self) -> bool:
        """Let the threads beside this one do what they can; True where that gave us something to do."""
        for thread in list(self.threads):
            thread.settle()
        return self.ready

    def turn(self) -> bool:
        """Run what was posted, what is due and what is ready, once; False where there was nothing."""
        busy = False
        posted = self.posted
        for _ in range(len(posted)):
            busy = True
            posted.popleft()()
        if self._timers.heap:
            busy = self._timers.run(time.monotonic_ns() if self._wall else self._now) or busy
        ready = self._ready
        for _ in range(len(ready)):
            busy = True
            ready.popleft()()
        workers = self._helpers.workers
        if workers is not None and workers.jobs:
            workers.look()
        return busy

    def deadline(self) -> int | None:
        """When the next timer is due, or None."""
        return self._timers.deadline()

    def look_at_descriptors(self) -> bool:
        """Call those whose descriptors are ready, without waiting; whether there were any."""
        self._looked = True
        return self.descriptors.look()

    def run_until_idle(self) -> None:
        """Run until nothing can happen without somebody outside.

        Workers are waited for, and the threads beside this one.  A virtual clock jumps from timer to timer until none
        is left; on the wall clock and on a stepped one, timers that lie in the future stay.
        """
        self.assert_owner()
        outer, self.running = self.running, True
        base = self._leave_base()
        try:
            turns = 0
            while True:
                if self.turn():
                    turns += 1
                    if turns % LOOK_EVERY == 0:
                        self.descriptors.look()
                    continue
                if self.descriptors.look():
                    continue
                if self._helpers.busy:
                    self._block(None)
                elif self.awaited:
                    self._block(self.deadline() if self.kind is ClockKind.WALL else None)
                elif not self._jump() and not (self.threads and self._settle_threads()):
                    return
        finally:
            self.running, self._at_base = outer, base

    def run_while(self, condition: Callable[[], bool]) -> None:
        """Run what is ready and wait for workers and threads while `condition()` holds, for no timer or descriptor."""
        self.assert_owner()
        outer, self.running = self.running, True
        base = self._leave_base()
        try:
            while condition():
                if self.turn() or self.descriptors.look():
                    continue
                if self._helpers.out or self.awaited:
                    self._block(None)
                elif not (self.threads and self._settle_threads()):
                    return
        finally:
            self.running, self._at_base = outer, base

    def _leave_base(self) -> bool:
        """A callback runs the loop itself: jobs that are to be done after it are for workers.  Returns `_at_base`."""
        base, self._at_base = self._at_base, False
        if self._stand_in is not None:
            self._stand_in.give_away()
        return base

    def wait_for_workers(self) -> bool:
        """Wait until something is to be done, from a callback on this context's own thread (the wall clock's).

        False, at once, where no worker is out, and nobody elsewhere has been asked for anything.
        """
        if self._helpers.busy or self.awaited:
            base = self._leave_base()
            self._block(self.deadline())
            self._at_base = base
            return True
        return False

    def _jump(self) -> bool:
        """Move a virtual clock, on which all that was due has run, to the next timer; False where there is none."""
        if self.kind is not ClockKind.VIRTUAL or self.awaited:
            return False
        when = self._timers.deadline()
        if when is None:
            return False
        self._now = when
        return True

    def step(self, duration: int) -> None:
        """Move a stepped clock on by `duration` ns, running every timer at its own instant."""
        if self.kind is not ClockKind.STEPPED or duration < 0:
            raise ValueError("only a stepped clock can be stepped, and only forwards")
        end = self._now + duration
        self.run_until_idle()
        while (when := self.deadline()) is not None and when <= end:
            self._now = when
            self.run_until_idle()
        self._now = end

    def run(self, coro: Coro[T]) -> T:
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
        if self.running:
            base = self._leave_base()
            self._round()
            self._at_base = base
            return
        stand_in = self._stand_in
        self.running = True
        try:
            if stand_in is None:
                self._round()
                return
            self._at_base = True
            jobs = stand_in.jobs
            if not jobs and not stand_in.done:
                self._round()
            elif self._ready or self.posted:
                self.turn()
            if jobs or stand_in.done:
                stand_in.do_jobs()
                # What follows from them most often ends something: an answer goes out.
                self.turn()
        finally:
            self.running = self._at_base = False

    def _round(self) -> None:
        if self.turn():
            self.descriptors.look()
        elif self.kind is ClockKind.WALL:
            self._wait()
        elif not self.descriptors.look() and not self._jump():
            if not self.descriptors.watches:
                raise RuntimeError("nothing is left that could happen")
            self._wait()

    def stand_in_round(self) -> None:
        """What `run_once` does, on the thread that stands in."""
        self._round()

    def run_ready(self) -> int | None:
        """Run what is ready, without waiting; for another event loop, which calls this again when `fileno()` is
        readable or the returned number of ns is over (None: only the descriptor counts).

        Whatever is begun from outside meanwhile makes the descriptor readable.
        """
        self.descriptors.fileno()
        self.descriptors.sleeping = False
        outer, self.running = self.running, True
        try:
            for _ in range(MAX_EVENTS):
                if not (self.turn() or self.descriptors.look() or self._jump()):
                    break
            else:
                self.descriptors.look()
        finally:
            self.running = outer
            self.descriptors.sleeping = True
        if self.posted or self._ready:
            return 0
        if self._helpers.stuck:
            return PATIENCE_NS
        when = self.deadline()
        if when is None or self.kind is ClockKind.STEPPED:
            return None
        return max(0, when - self.now_ns())

    def _wait(self) -> None:
        """Look at the pollers for a while, then block."""
        when = self.deadline() if self.kind is ClockKind.WALL else None
        stuck = self._helpers.stuck
        if stuck or not self._polling.enabled:
            self._block(when)
            return
        if self._helpers.out:
            # Looking would keep the interpreter's lock from the workers.
            if not self._polling.stop():
                self._block(when)
            return
        start = time.monotonic_ns()
        self._looked = False
        if self._polling.spin(when, self.posted):
            if not self._looked:
                self.descriptors.look()
            return
        self._polling.learn(self._block(when) - start)

    def _block(self, when: int | None) -> int:
        """Sleep until something is posted, a descriptor is ready, or the wall clock says `when`.

        Returns the monotonic clock at the wake-up, before anybody was called.
        """
        timeout = None if when is None else min(max(0, when - time.monotonic_ns()), LONGEST_NS)
        if self._helpers.stuck:
            timeout = PATIENCE_NS if timeout is None else min(timeout, PATIENCE_NS)
        descriptors = self.descriptors
        descriptors.fileno()  # Whoever finds it sleeping must be able to wake it.
        self._helpers.look()
        descriptors.sleeping = True
        if self.posted or self._ready or (self._stand_in is not None and self._stand_in.jobs):
            descriptors.sleeping = False
            return time.monotonic_ns()
        return descriptors.wait(timeout)

    def close(self) -> None:
        """Stop the workers (what they were given is finished) and give up descriptors. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._stand_in is not None:
            self._stand_in.close()
        self._helpers.close()
        self.descriptors.close()
