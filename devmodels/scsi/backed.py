"""A logical unit over a BlockBackend: how tasks make block requests, and what becomes of these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from devmodels.blockbackend import BlockBackend, Flags, Op, Request
from devmodels.blockbackend.vectors import clear, window
from devmodels.iocontext import Future
from devmodels.scsi.constants import SenseKey
from devmodels.scsi.failures import sense_of_errno
from devmodels.scsi.request import OwnRequest, TaskPassthrough, TaskRequest, TaskUpdate, is_write, wake
from devmodels.scsi.sense import CheckCondition, Sense
from devmodels.scsi.table import PENDING, Pending
from devmodels.scsi.task import Task
from devmodels.scsi.unit import LogicalUnit
from devmodels.trace import Tracer


class BackedUnit(LogicalUnit):
    """A unit whose medium is `backend`."""

    backend: BlockBackend

    def observe(self, trace: Tracer | None) -> None:
        """Give `trace` everything that comes to the unit, and goes on in it; None: no more."""
        super().observe(trace)
        self.turns.source = self.backend.name
        self.backend.trace = trace

    def read_blocks(self, task: Task, offset: int, wanted: int) -> Pending | None:
        """Fill `task`'s room with `wanted` bytes from `offset`, both in bytes of the backend, as far as it goes.

        What a handler returns.
        """
        task.wanted = wanted
        vectors, length = payload(task.data_in, wanted)
        if not length:
            return None
        if self.backend.read_now(((offset, vectors, length),)):
            task.sent = length
            return None
        self.submit_read(task, offset, length, vectors)
        return PENDING

    def submit_read(self, task: Task, offset: int, length: int, vectors: Sequence[memoryview]) -> None:
        """Begin the request that ends `task`."""
        request = TaskRequest(Op.READ, offset, length, vectors, Flags.NONE, _read_done)
        request.task = task
        self.backend.submit(request)

    async def perform(
        self,
        task: Task | None,
        op: Op,
        offset: int = 0,
        length: int = 0,
        vectors: Sequence[memoryview] = (),
        flags: Flags = Flags.NONE,
    ) -> Request:
        """Do one block request for `task`, `offset` and `length` in bytes; CheckCondition where it fails.

        Without a task it is the unit's own, and no error policy holds it.
        """
        if task is None:
            request: TaskRequest | OwnRequest = OwnRequest(op, offset, length, vectors, flags, wake)
        else:
            request = TaskRequest(op, offset, length, vectors, flags, wake)
            request.task = task
        await self.do(request)
        return request

    async def do(self, request: TaskRequest | OwnRequest | TaskUpdate) -> None:
        """Submit and wait; CheckCondition where it fails, or its task has been aborted: that begins nothing more."""
        if not isinstance(request, OwnRequest) and request.task.aborted:
            raise CheckCondition(Sense(SenseKey.ABORTED_COMMAND))
        request.over = False
        request.future = None
        self.backend.submit(request)
        if not request.over:
            request.future = Future(self.context)
            await request.future
        if request.error:
            raise CheckCondition(self.sense_of(request))

    def sense_of(self, request: Request) -> Sense:
        """What to say of a request that has failed."""
        return sense_of_errno(request.error, write=is_write(request.op))

    def cancel_requests(self, wanted: Callable[[Task], bool]) -> None:
        """Requests that have not started are dropped; of QEMU's units those that a node holds go on."""
        self.backend.cancel_held(
            lambda request: (
                isinstance(request, TaskRequest | TaskUpdate | TaskPassthrough) and wanted(request.task)
            ),
            begun=self.front is None,
        )

    def batch(self) -> AbstractContextManager[None]:
        """`with unit.batch():` gathers requests."""
        return self.backend.batch()

    def activate(self) -> None:
        """Use the image, against others."""
        self.backend.activate()

    async def inactivate(self) -> None:
        """Leave the image to others."""
        await self.backend.inactivate()

    def close(self) -> None:
        """Leave the backend, which stays open."""


def payload(vectors: Sequence[memoryview], length: int) -> tuple[Sequence[memoryview], int]:
    """The first `length` bytes of `vectors`, or all where there are fewer, and how many."""
    room = len(vectors[0]) if len(vectors) == 1 else sum(map(len, vectors))
    if room > length:
        return window(vectors, 0, length), length
    return vectors, room


def _read_done(request: Request) -> None:
    """The request of a reading command has ended."""
    assert isinstance(request, TaskRequest)
    task = request.task
    unit = task.unit
    assert isinstance(unit, BackedUnit)
    if request.error:
        clear(request.vectors)
        unit.fail(task, unit.sense_of(request))
    else:
        task.sent = request.length
        unit.finish(task)
