"""The disk in a replay: requests come to their ends where the trace says, with what it says."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TYPE_CHECKING

from devmodels.blockbackend.fitting import Fitting
from devmodels.blockbackend.node import BlockLimits, BlockNode
from devmodels.blockbackend.options import NodeOptions
from devmodels.blockbackend.passthrough import PassthroughRequest, take_outcome
from devmodels.blockbackend.request import Op, Request, UpdateRequest
from devmodels.blockbackend.status import STATUS_BYTES, BlockStatus, Status
from devmodels.blockbackend.vectors import scatter
from devmodels.disc.text import from_text
from devmodels.trace import NO_DISC, PLAIN_DISC
from devmodels.tracefile import DiskFacts
from guestsim.replay.follow import Follower

if TYPE_CHECKING:
    from devmodels.iocontext.primitives import Parkable, Task
    from guestsim.replay.context import ReplayContext

_NO_DATA = b""


class _Dispatched:
    """A request that the node has: it goes on when `end` is called, and at once."""

    __slots__ = ("_task", "data", "error", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        self._task: Task[object] | None = None
        self.error = 0
        self.data = _NO_DATA

    def park(self, task: Task[object]) -> None:
        self._task = task

    def unpark(self, task: Task[object]) -> None:  # noqa: ARG002
        self._task = None

    def __await__(self) -> Generator[Parkable, None, None]:
        yield self

    def end(self, context: ReplayContext, error: int, data: bytes) -> None:
        """It is over."""
        self.error = error
        self.data = data
        assert self._task is not None
        self._task.wake()
        context.run_newest()


def _limits(max_transfer: int, max_iov: int, discard_alignment: int) -> BlockLimits:
    return BlockLimits(max_transfer=max_transfer, max_iov=max_iov, pdiscard_alignment=discard_alignment)


class ReplayNode(BlockNode):
    """A node that waits for the DONE of each request it is given."""

    def __init__(self, facts: DiskFacts, name: str, context: ReplayContext, follower: Follower) -> None:
        """`name` is that of the backend."""
        super().__init__(
            NodeOptions(
                driver="replay", node_name=facts.node_name, read_only=facts.read_only, discard="unmap"
            ),
            context,
            facts.size,
        )
        self.limits = _limits(facts.max_transfer, facts.max_iov, facts.discard_alignment)
        self.has_disc(facts.disc)
        self._replay_context = context
        self._backend = name
        self._follower = follower
        self._can_unmap = facts.can_unmap
        self._open: dict[int, _Dispatched] = {}

    def has_disc(self, text: str) -> None:
        """What a drive over it has for a disc from now on; ValueError where the text says none."""
        self.disc_text = text
        self.empty = text == NO_DISC
        self.disc = None if text in (NO_DISC, PLAIN_DISC) else from_text(text)

    def fitting(self) -> Fitting | None:
        """None: what the limits make of a request happens below what the trace has of it."""
        return None

    @property
    def can_unmap(self) -> bool:
        """As the recorded disk could."""
        return self._can_unmap

    def resized(self, size: int, can_unmap: int, *limits: int) -> None:
        """The disk is another one from now on."""
        self.size = size
        self._can_unmap = bool(can_unmap)
        self.limits = _limits(*limits)

    async def _replay(self, request: Request) -> None:
        follower = self._follower
        number = follower.dispatch(self._backend)
        if number is None:
            follower.part(f"{self._backend}: {request} reaches the disk")
        while (asked := follower.update(self._backend, number)) is not None:
            self._answer(request, *asked)
        outcome = follower.done(self._backend, number)
        if outcome is None:
            waiting = self._open[number] = _Dispatched(request)
            await waiting
            outcome = waiting.error, waiting.data
        error, data = outcome
        if error:
            raise OSError(error, os.strerror(error))
        if request.op is Op.READ:
            if len(data) != request.length:
                follower.unfit(f"dispatch {number} has got {len(data)} bytes, expected {request.length}")
            scatter(request.vectors, data)
        elif request.op is Op.BLOCK_STATUS:
            if len(data) != STATUS_BYTES.size:
                follower.unfit(f"dispatch {number} has got {len(data)} bytes, expected {STATUS_BYTES.size}")
            flags, pnum = STATUS_BYTES.unpack(data)
            request.status = BlockStatus(Status(flags), pnum)

        elif isinstance(request, PassthroughRequest):
            try:
                take_outcome(request.command, data)
            except ValueError as error:
                follower.unfit(f"dispatch {number}: {error}")

    async def passthrough(self, request: Request) -> None:
        """As the trace has it."""
        await self._replay(request)

    async def block_status(self, request: Request) -> BlockStatus:
        """As the trace has it."""
        await self._replay(request)
        return request.status

    def _answer(self, request: Request, at: int, found: bytes) -> None:
        """Ask an update what to write in the place of what was found; it says so to the trace."""
        update = next(request.roots())
        if not isinstance(update, UpdateRequest):
            self._follower.unfit(f"{request} is no update")
        number = self._follower.number
        update.answer(at, bytearray(found))
        if self._follower.number == number:
            self._follower.part("nothing")

    read = write = flush = discard = write_zeroes = secure_erase = _replay

    def given(self) -> list[tuple[int, Request]]:
        """Number and request of each dispatch that is not over."""
        return [(number, waiting.request) for number, waiting in self._open.items()]

    def update(self, number: int, at: int, found: bytes) -> bool:
        """The trace says what the node has found for dispatch `number`; False where there is no such dispatch."""
        waiting = self._open.get(number)
        if waiting is None:
            return False
        self._answer(waiting.request, at, found)
        return True

    def done(self, number: int, error: int, data: bytes) -> bool:
        """The trace says that dispatch `number` is over; False where there is no such dispatch."""
        waiting = self._open.pop(number, None)
        if waiting is None:
            return False
        waiting.end(self._replay_context, error, data)
        return True
