"""A device's own view of its context: what it does later is done in the context's turns, and a trace hears of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from devmodels.iocontext.primitives import Coro, NextTurn, Scheduler, Task, start

if TYPE_CHECKING:
    from devmodels.trace import Tracer

T = TypeVar("T")


class Turns:
    """Coroutines and callbacks of one device on `context`; `trace` is told of every turn that it takes.

    A replay needs that: what goes on in a turn of its own may be seen in nothing but what comes later.
    """

    __slots__ = ("context", "trace")

    def __init__(self, context: Scheduler) -> None:
        self.context = context
        self.trace: Tracer | None = None

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run `callback` in the context's next turn."""
        self.context.call_soon(callback if self.trace is None else self.trace.put_off(callback))

    def start(
        self, coro: Coro[T], done: Callable[[T | None, BaseException | None], None] | None = None
    ) -> Task[T] | None:
        """Step `coro` now, as `IoContext.start` does."""
        return start(self, coro, done)

    async def pause(self) -> None:
        """Give others a turn."""
        await NextTurn()
