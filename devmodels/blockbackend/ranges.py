"""Byte ranges that one coroutine at a time may change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from devmodels.iocontext import Future, IoContext


class _Held(NamedTuple):
    start: int
    end: int
    over: Future[None]


class RangeLock:
    """Overlapping ranges are held one after the other, in order of arrival; others at the same time."""

    __slots__ = ("_context", "_held")

    def __init__(self, context: IoContext) -> None:
        self._context = context
        self._held: list[_Held] = []

    @asynccontextmanager
    async def hold(self, start: int, end: int) -> AsyncIterator[None]:
        """Hold [start, end) as soon as everybody who asked earlier for a part of it is done."""
        before = [held for held in self._held if held.start < end and start < held.end]
        mine = _Held(start, end, Future(self._context))
        self._held.append(mine)
        try:
            for held in before:
                await held.over
            yield
        finally:
            self._held.remove(mine)
            mine.over.set_result(None)
