"""Statistics of one node: what comes to it from all its users, counted where an edge hands a request over.

A node is counted only where its option `accounting` is on: its edges then lead through `Counted`, and otherwise
straight to the node, so that nobody pays for figures that nobody wants.  What is counted is what the node gets: after
its edge has made the request fit, whether a device or another node has asked for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from devmodels.blockbackend.accounting.stats import BlockStats
from devmodels.blockbackend.request import Read, Request
from devmodels.iocontext import ClockKind, IoContext


class Served(Protocol):
    """What takes requests: a node, or what stands in its place."""

    def read_now(self, reads: Sequence[Read]) -> int:
        """As of a node."""
        ...

    def read(self, request: Request) -> Coroutine[Any, None, None]:
        """As of a node, and so are the others."""
        ...

    def write(self, request: Request) -> Coroutine[Any, None, None]:
        """Store."""
        ...

    def flush(self, request: Request) -> Coroutine[Any, None, None]:
        """Make stable."""
        ...

    def discard(self, request: Request) -> Coroutine[Any, None, None]:
        """No longer needed."""
        ...

    def write_zeroes(self, request: Request) -> Coroutine[Any, None, None]:
        """Zero."""
        ...

    def secure_erase(self, request: Request) -> Coroutine[Any, None, None]:
        """Destroy."""
        ...


class NodeStats(BlockStats):
    """What a node has done.

    `in_flight`: how many requests it has at the moment; `started_ns`: the sum of the times at which they began.
    """

    __slots__ = ("in_flight", "started_ns")

    def __init__(self) -> None:
        super().__init__()
        self.in_flight = 0
        self.started_ns = 0

    def busy_ns(self, now_ns: int) -> int:
        """The time that requests have spent here, together, up to now."""
        return self.ended_ns + self.in_flight * now_ns - self.started_ns


class Counted:
    """Stands in the place of a node, and counts into its statistics what comes."""

    def __init__(self, node: Served, stats: NodeStats, context: IoContext) -> None:
        now = time.monotonic_ns if context.kind is ClockKind.WALL else context.now_ns
        self.stats = stats
        self.read = _counted(node.read, stats, now)
        self.write = _counted(node.write, stats, now)
        self.flush = _counted(node.flush, stats, now)
        self.discard = _counted(node.discard, stats, now)
        self.write_zeroes = _counted(node.write_zeroes, stats, now)
        self.secure_erase = _counted(node.secure_erase, stats, now)
        self._read_now = node.read_now
        self._now = now

    def read_now(self, reads: Sequence[Read]) -> int:
        """Reads without requests; those that need waiting come again."""
        started = self._now()
        done = self._read_now(reads)
        if done:
            now = self._now()
            nbytes = reads[0][2] if done == 1 else sum([length for _, _, length in reads[:done]])
            self.stats.account_reads(done, nbytes, now - started, now)
        return done


Handler = Callable[[Request], Coroutine[Any, None, None]]


def _counted(handler: Handler, stats: NodeStats, now: Callable[[], int]) -> Handler:
    async def serve(request: Request) -> None:
        started = now()
        stats.in_flight += 1
        stats.started_ns += started
        failed = True
        try:
            await handler(request)
            failed = False
        finally:
            moment = now()
            stats.in_flight -= 1
            stats.started_ns -= started
            stats.account(request, moment - started, moment, failed)

    return serve
