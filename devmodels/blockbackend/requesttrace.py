"""What a trace is told of a backend: its disc, each request submitted, each dispatched, what came of it."""

from __future__ import annotations

import binascii
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from devmodels.blockbackend.edge import Handler
from devmodels.blockbackend.errorpolicy import errno_of
from devmodels.blockbackend.graphtrace import Station
from devmodels.blockbackend.passthrough import Direction, PassthroughRequest, outcome_bytes
from devmodels.blockbackend.request import HAS_UPDATE, OP_NAMES, Op, Request, UpdateRequest
from devmodels.blockbackend.status import STATUS_BYTES
from devmodels.iocontext import Cancelled
from devmodels.trace import MAX_PAYLOAD, EventKind, Tracer

if TYPE_CHECKING:
    from devmodels.blockbackend.backend import BlockBackend


def _digest(vectors: Iterable[bytes | bytearray | memoryview]) -> int:
    """The CRC-32 of the payload."""
    value = 0
    for vector in vectors:
        value = binascii.crc32(vector, value)
    return value


class RequestTrace:
    """`requests` and `dispatches` are how many numbers have been given to each.

    `numbers` are those of requests in flight; `later` are the ones that were not done before `submit` returned; `at_ns`
    is when a request came, or was done, last, as the trace has it.
    """

    __slots__ = ("_backend", "_tracer", "at_ns", "dispatches", "later", "numbers", "requests")

    def __init__(self, backend: BlockBackend) -> None:
        self._backend = backend
        self._tracer: Tracer | None = None
        self.at_ns = 0
        self.later: set[Request] = set()
        self.numbers: dict[Request, int] = {}
        self.requests = self.dispatches = 0

    def begin(self, tracer: Tracer | None) -> None:
        """Tell `tracer` from now on, or nobody."""
        self._tracer = tracer
        self.numbers.clear()
        self.later.clear()

    def submitted(self, trace: Tracer, request: Request) -> None:
        """A device has submitted `request`."""
        buffer = request.buffer
        if buffer is not None:
            number = self.numbers[request] = self.requests
            self.requests += 1
            what = OP_NAMES[request.op], request.offset, request.length
            self.at_ns = trace.emit(self._backend.name, EventKind.REQUEST, number, *what, *buffer)
            request.started_ns = self.at_ns

    async def serve(self, handler: Handler, request: Request) -> None:
        """Hand a request, or several as one, to `handler`: the trace has what was asked and what came of it."""
        trace = self._tracer
        known = self.numbers
        numbers = [known[root] for root in request.roots() if root in known]
        if trace is None or not numbers:
            await handler(request)
            return
        number = self.dispatches
        self.dispatches += 1
        written = 0
        if request.op is Op.WRITE:
            if HAS_UPDATE[request.flags]:
                update = next(request.roots())
                assert isinstance(update, UpdateRequest)
                update.observer = partial(self._updated, trace, number)
            else:
                written = _digest(request.vectors)
        elif isinstance(request, PassthroughRequest):
            command = request.command
            given = command.vectors if command.direction is Direction.TO_DEVICE else ()
            written = _digest((command.cdb, *given))
        what = OP_NAMES[request.op], request.offset, request.length, int(request.flags), written
        trace.emit(self._backend.name, EventKind.DISPATCH, number, *what, *numbers)
        nodes = self._backend.node.trace
        if nodes is not None:
            station = Station(self._backend, self._backend.name, number, -1)
            nodes.begin(request, station)
        try:
            await handler(request)
        except (Exception, Cancelled) as error:
            self._done(trace, number, request, errno_of(error, request, self._backend.name), b"")
            raise
        finally:
            if nodes is not None:
                nodes.end(request, station)
        data = b""
        if request.op is Op.READ:
            if request.length > MAX_PAYLOAD:
                trace.give_up(f"a read of {request.length} bytes, more than {MAX_PAYLOAD}")
            else:
                data = b"".join(request.vectors)
        elif request.op is Op.BLOCK_STATUS:
            data = STATUS_BYTES.pack(request.status.flags, request.status.pnum)
        elif isinstance(request, PassthroughRequest):
            data = outcome_bytes(request.command)
        self._done(trace, number, request, 0, data)

    def _done(self, trace: Tracer, number: int, request: Request, error: int, data: bytes) -> None:
        later = not self.later.isdisjoint(request.roots())
        self.later.difference_update(request.roots())
        self.at_ns = trace.emit(self._backend.name, EventKind.DONE, number, error, int(later), data)

    def _updated(
        self, trace: Tracer, number: int, at: int, found: bytes, new: bytes | bytearray | None
    ) -> None:
        """An update has been told what is there, and has said what is to be."""
        trace.emit(
            self._backend.name, EventKind.UPDATE, number, at, -1 if new is None else _digest((new,)), found
        )
