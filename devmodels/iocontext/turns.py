"""A device's own view of its context: what it does later is done in the context's turns, and a trace hears of each; so
it does of each look at the clock, and of timers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from devmodels.iocontext.primitives import Coro, NextTurn, Task, start
from devmodels.trace import EventKind

if TYPE_CHECKING:
    from devmodels.iocontext.context import IoContext
    from devmodels.iocontext.timers import Timer
    from devmodels.trace import Tracer

T = TypeVar("T")


class Turns:
    """Coroutines and callbacks of one device on `context`; `trace` is told of every turn that it takes, as of `source`.

    A replay needs that: what goes on in a turn of its own may be seen in nothing but what comes later.
    """

    __slots__ = ("_timers", "context", "source", "trace")

    def __init__(self, context: IoContext) -> None:
        self.context = context
        self.trace: Tracer | None = None
        self.source = ""
        self._timers: list[Timer] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run `callback` in the context's next turn."""
        self.context.call_soon(callback if self.trace is None else self.trace.put_off(callback))

    def start(
        self, coro: Coro[T], done: Callable[[T | None, BaseException | None], None] | None = None
    ) -> Task[T] | None:
        """Step `coro` now, as `IoContext.start` does."""
        return start(self, coro, done)

    def now_ns(self) -> int:
        """The clock in nanoseconds: of the trace, where there is one."""
        if self.trace is None:
            return self.context.now_ns()
        return self.trace.emit(self.source, EventKind.CLOCK)

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        """Run `callback` when the clock has reached `when` ns."""

        def go_off() -> None:
            self._timers.remove(timer)
            if self.trace is not None:
                self.trace.emit(self.source, EventKind.TIMER)
            callback()

        timer = self.context.call_at(when, go_off)
        self._timers = [each for each in self._timers if each.callback is not None]
        self._timers.append(timer)
        return timer

    def go_off(self) -> bool:
        """Let the next timer go off, for a context without a clock of its own; False where none waits."""
        timer = min(
            (each for each in self._timers if each.callback is not None),
            key=lambda each: each.when,
            default=None,
        )
        if timer is None or timer.callback is None:
            return False
        callback, timer.callback = timer.callback, None
        callback()
        return True

    @property
    def timed(self) -> bool:
        """Whether a timer waits."""
        return any(each.callback is not None for each in self._timers)

    async def pause(self) -> None:
        """Give others a turn."""
        await NextTurn()
