"""What is under way at a node, by byte range: who must be alone waits for the others, and they for him."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from devmodels.iocontext import Future, IoContext


class _Held(msgspec.Struct, frozen=True):
    start: int
    end: int
    serialising: bool
    over: Future[None]


class InFlight:
    """The ranges under way, in order of arrival.

    A serialising holder of a range waits for everybody who came before to any part of it; others wait for the
    serialising ones among those only, and are there at the same time as each other.
    """

    __slots__ = ("_context", "_held")

    def __init__(self, context: IoContext) -> None:
        self._context = context
        self._held: list[_Held] = []

    @property
    def serialising(self) -> bool:
        """Whether somebody there must be alone, or waits to be."""
        return any(held.serialising for held in self._held)

    def move(self, context: IoContext) -> None:
        """They come on another context from now on; nothing is under way."""
        self._context = context

    @asynccontextmanager
    async def hold(self, start: int, end: int, *, serialising: bool) -> AsyncIterator[None]:
        """Be at [start, end) as soon as that may be."""
        before = [
            held
            for held in self._held
            if held.start < end and start < held.end and (serialising or held.serialising)
        ]
        mine = _Held(start, end, serialising, Future(self._context))
        self._held.append(mine)
        try:
            for held in before:
                await held.over
            yield
        finally:
            self._held.remove(mine)
            mine.over.set_result(None)
