"""An IoContext inside a running asyncio loop, for programs that have one.

    async with AsyncioContext(IoContext.wall()) as bridge:
        node = open_node({"driver": "file", "filename": "disk.img"}, bridge.context)
        await bridge.run(node.flush(request))

The loop watches the context's descriptor and its next timer; everything of the context runs in callbacks of the loop,
on the loop's thread.  Nothing else in this package needs asyncio.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TypeVar

from devmodels.iocontext import Coro, IoContext

T = TypeVar("T")


class AsyncioContext:
    """Runs `context` while the `async with` block lasts.  The context stays the caller's: close it afterwards."""

    def __init__(self, context: IoContext) -> None:
        self.context = context
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> AsyncioContext:
        self._loop = asyncio.get_running_loop()
        self.context.adopt()
        self._loop.add_reader(self.context.fileno(), self._go_on)
        self._go_on()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        self._loop.remove_reader(self.context.fileno())
        if self._timer is not None:
            self._timer.cancel()

    def _go_on(self) -> None:
        assert self._loop is not None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wait_ns = self.context.run_ready()
        if wait_ns is not None:
            self._timer = self._loop.call_later(wait_ns / 1e9, self._go_on)

    async def run(self, coro: Coro[T]) -> T:
        """Run a coroutine of the context's to its end; cancelling this cancels it."""
        assert self._loop is not None
        outcome: asyncio.Future[T] = self._loop.create_future()

        def done(result: T | None, error: BaseException | None) -> None:
            if outcome.cancelled():
                return
            if error is None:
                outcome.set_result(result)  # type: ignore[arg-type]
            elif isinstance(error, Exception):
                outcome.set_exception(error)
            else:
                outcome.cancel()

        task = self.context.start(coro, done)
        try:
            return await outcome
        except asyncio.CancelledError:
            if task is not None:
                task.cancel()
            raise
