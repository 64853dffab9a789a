"""A context's timers, and coroutines that wait for its clock."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from devmodels.iocontext.primitives import Cancelled, Coro, Future

if TYPE_CHECKING:
    from devmodels.iocontext.context import IoContext

T = TypeVar("T")

FEW = 64
"""So many timers are kept, be they cancelled or not."""


class Timer:
    """A callback due at `when` ns; `cancel` before then stops it."""

    __slots__ = ("callback", "when")

    def __init__(self, when: int, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Stop the timer. Idempotent."""
        self.callback = None


class Timers:
    """`heap` has the timers of one context: when each is due, in which order they were made, and itself."""

    __slots__ = ("_kept", "_sequence", "heap")

    def __init__(self) -> None:
        self.heap: list[tuple[int, int, Timer]] = []
        self._sequence = 0
        self._kept = FEW

    def add(self, when: int, callback: Callable[[], None]) -> Timer:
        """One more."""
        timer = Timer(when, callback)
        self._sequence += 1
        heapq.heappush(self.heap, (when, self._sequence, timer))
        if len(self.heap) > self._kept:
            self._drop_cancelled()
        return timer

    def _drop_cancelled(self) -> None:
        """Forget timers that were cancelled long before they are due."""
        self.heap[:] = [entry for entry in self.heap if entry[2].callback is not None]
        heapq.heapify(self.heap)
        self._kept = max(FEW, 2 * len(self.heap))

    def run(self, now: int) -> bool:
        """Run what is due; what a timer's callback adds has to wait for the next turn.  False where there was none."""
        busy = False
        heap, newest = self.heap, self._sequence
        while heap and heap[0][0] <= now and heap[0][1] <= newest:
            timer = heapq.heappop(heap)[2]
            callback, timer.callback = timer.callback, None
            if callback is not None:
                busy = True
                callback()
        return busy

    def deadline(self) -> int | None:
        """When the next one is due, or None."""
        heap = self.heap
        while heap and heap[0][2].callback is None:
            heapq.heappop(heap)
        return heap[0][0] if heap else None


async def sleep(context: IoContext, duration: int) -> None:
    """Suspend for `duration` ns of the context's clock; 0 or less gives others a turn."""
    future: Future[None] = Future(context)
    if duration <= 0:
        context.call_soon(lambda: future.set_result(None))
        await future
        return
    timer = context.call_at(context.now_ns() + duration, lambda: future.set_result(None))
    try:
        await future
    finally:
        timer.cancel()


async def wait_for(context: IoContext, coro: Coro[T], duration: int) -> T:
    """Await `coro` for at most `duration` ns, then cancel it and raise TimeoutError."""
    outcome: Future[T] = Future(context)
    expired = False

    def done(result: T | None, error: BaseException | None) -> None:
        if error is None:
            outcome.set_result(result)  # type: ignore[arg-type]
        elif expired and isinstance(error, Cancelled):
            outcome.set_error(TimeoutError(f"not done within {duration} ns"))
        else:
            outcome.set_error(error)

    task = context.start(coro, done)
    if task is None:
        return await outcome

    def expire() -> None:
        nonlocal expired
        expired = True
        task.cancel()

    timer = context.call_at(context.now_ns() + duration, expire)
    try:
        return await outcome
    except Cancelled:
        task.cancel()
        raise
    finally:
        timer.cancel()
