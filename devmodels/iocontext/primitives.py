"""What coroutines are made of and what they may await: Task, Future, Event, Lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Cancelled(BaseException):
    """Thrown into a coroutine at its await when its task is cancelled."""


class Scheduler(Protocol):
    """What these need of a context."""

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run `callback` in the next turn."""
        ...


class Parkable(Protocol):
    """What a coroutine may await: it takes the task and wakes it later."""

    def park(self, task: Task[object]) -> None:
        """`task` waits for this."""
        ...

    def unpark(self, task: Task[object]) -> None:
        """`task` no longer waits for this."""
        ...


Coro = Coroutine[Parkable, None, T]
"""A coroutine that awaits only what an IoContext offers."""


class Future(Generic[T]):
    """A result that comes later; any number of coroutines may await it."""

    __slots__ = ("_context", "_error", "_result", "_waiting", "done")

    def __init__(self, context: Scheduler) -> None:
        self._context = context
        self._waiting: list[Task[object]] = []
        self._result: T | None = None
        self._error: BaseException | None = None
        self.done = False

    def set_result(self, value: T) -> None:
        """Complete it; those who wait go on at the context's next turn.  RuntimeError the second time."""
        self._finish()
        self._result = value

    def set_error(self, error: BaseException) -> None:
        """Complete it with an exception that every waiter receives.  RuntimeError the second time."""
        self._finish()
        self._error = error

    def _finish(self) -> None:
        if self.done:
            raise RuntimeError("future completed twice")
        self.done = True
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            task.wake()

    def park(self, task: Task[object]) -> None:
        """Let `task` go on when this is done."""
        self._waiting.append(task)

    def unpark(self, task: Task[object]) -> None:
        """`task` no longer waits."""
        if task in self._waiting:
            self._waiting.remove(task)

    def __await__(self) -> Generator[Parkable, None, T]:
        if not self.done:
            yield self
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]


class Task(Generic[T]):
    """A coroutine that has suspended at least once.

    `done(result, error)` is called once, with exactly one of the two (both None for a None result).
    """

    __slots__ = ("_cancelled", "_coro", "_done", "_parked", "_scheduled", "context")

    def __init__(
        self,
        context: Scheduler,
        coro: Coro[T],
        parked: Parkable,
        done: Callable[[T | None, BaseException | None], None] | None,
    ) -> None:
        self.context = context
        self._coro = coro
        self._done = done
        self._cancelled = False
        self._scheduled = False
        self._parked: Parkable | None = parked
        parked.park(self)  # type: ignore[arg-type]

    @property
    def finished(self) -> bool:
        """Whether the coroutine has ended."""
        return self._parked is None

    def wake(self) -> None:
        """What was awaited is there: go on at the context's next turn (once, however often this is called)."""
        if not self._scheduled:
            self._scheduled = True
            self.context.call_soon(self._step)

    def cancel(self) -> None:
        """Throw `Cancelled` into the coroutine at the context's next turn, whatever it waits for.  Idempotent."""
        if self._parked is not None and not self._cancelled:
            self._cancelled = True
            self._parked.unpark(self)  # type: ignore[arg-type]
            self.wake()

    def _step(self) -> None:
        self._scheduled = False
        try:
            if self._cancelled:
                self._cancelled = False
                parked = self._coro.throw(Cancelled())
            else:
                parked = self._coro.send(None)
        except StopIteration as stop:
            self._end(stop.value, None)
        except (Exception, Cancelled) as error:
            self._end(None, error)
        except BaseException:
            # KeyboardInterrupt and its like are for whoever runs the context.
            self._parked = None
            raise
        else:
            self._parked = parked
            parked.park(self)  # type: ignore[arg-type]

    def _end(self, result: T | None, error: BaseException | None) -> None:
        self._parked = None
        if self._done is not None:
            self._done(result, error)
        elif error is not None and not isinstance(error, Cancelled):
            raise error


def start(
    context: Scheduler,
    coro: Coro[T],
    done: Callable[[T | None, BaseException | None], None] | None = None,
) -> Task[T] | None:
    """Step `coro` now; returns None where it has already ended, else its task.

    `done(result, error)` is called when it ends, possibly before `start` returns.  Without `done` an error is
    raised to whoever runs the context.
    """
    try:
        parked = coro.send(None)
    except StopIteration as stop:
        result, failure = stop.value, None
    except (Exception, Cancelled) as error:
        if done is None:
            raise
        result, failure = None, error
    else:
        return Task(context, coro, parked, done)
    if done is not None:
        done(result, failure)
    return None


class NextTurn:
    """Awaited, it lets others have a turn."""

    __slots__ = ()

    def park(self, task: Task[object]) -> None:
        """`task` goes on in the next turn."""
        task.wake()

    def unpark(self, task: Task[object]) -> None:
        """It is woken as it is."""

    def __await__(self) -> Generator[Parkable, None, None]:
        yield self


class Event:
    """A flag that coroutines can wait for."""

    __slots__ = ("_context", "_future", "is_set")

    def __init__(self, context: Scheduler) -> None:
        self._context = context
        self._future: Future[None] | None = None
        self.is_set = False

    def move(self, context: Scheduler) -> None:
        """It belongs to another context now; nobody waits for it."""
        self._context = context

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
    """Mutual exclusion between coroutines, first come first served.  Use with `async with`."""

    __slots__ = ("_context", "_queue", "locked")

    def __init__(self, context: Scheduler) -> None:
        self._context = context
        self._queue: deque[Future[None]] = deque()
        self.locked = False

    def move(self, context: Scheduler) -> None:
        """It belongs to another context now; nobody has it or waits for it."""
        self._context = context

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
