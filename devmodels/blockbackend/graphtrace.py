"""The way of requests through the graph, for a trace: which nodes serve them, from when to when.

A backend says which requests it dispatches (`begin`, `end`); each node of a traced graph stands behind `Traced`, which
finds out on whose behalf a request comes and emits NODE_BEGIN and NODE_END around it.  Requests that no traced device
has asked for - a monitor's, a node's own - pass unseen.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from devmodels.blockbackend.accounting import Served
from devmodels.blockbackend.request import DerivedRequest, Read, Request
from devmodels.iocontext import Cancelled
from devmodels.trace import EventKind, Tracer

if TYPE_CHECKING:
    from devmodels.blockbackend.node import BlockNode

Handler = Callable[[Request], Coroutine[Any, None, None]]


class Station(msgspec.Struct, frozen=True):
    """A request is at `user`, a backend or a node: in `step` (-1 at the backend) of a device's `dispatch`."""

    user: object
    device: str
    dispatch: int
    step: int


class GraphTrace:
    """What the nodes of a graph do for traced devices, told to `tracer`."""

    __slots__ = ("_running", "_steps", "tracer")

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self._running: dict[Request, list[Station]] = {}
        self._steps = 0

    def before(self, node: BlockNode, served: Served) -> Traced:
        """What stands before `served`, which serves the requests of `node`."""
        return Traced(node, served, self)

    def begin(self, request: Request, station: Station) -> None:
        """`request` is at `station` from now on, too."""
        stations = self._running.get(request)
        if stations is None:
            self._running[request] = [station]
        else:
            stations.append(station)

    def end(self, request: Request, station: Station) -> None:
        """And no longer."""
        stations = self._running[request]
        if len(stations) == 1:
            del self._running[request]
        else:
            stations.remove(station)

    def enter(self, request: Request, node: BlockNode) -> Station | None:
        """`request` comes to `node`: where it is from now on; None where no traced device wants it."""
        above = self._above(request, node)
        if above is None:
            return None
        step = self._steps
        self._steps += 1
        station = Station(node, above.device, above.dispatch, step)
        self.begin(request, station)
        self.tracer.emit(
            above.device,
            EventKind.NODE_BEGIN,
            step,
            above.dispatch,
            above.step,
            node.node_name,
            node.options.driver,
            request.op.name,
            request.offset,
            request.length,
            int(request.flags),
        )
        return station

    def leave(self, request: Request, station: Station, error: int) -> None:
        """The node is done with it."""
        self.end(request, station)
        self.tracer.emit(station.device, EventKind.NODE_END, station.step, error)

    def _above(self, request: Request, node: BlockNode) -> Station | None:
        """Who has sent `request` to `node`: one of those above that have it, or have what it was derived from."""
        stations = self._running.get(request)
        if stations is not None:
            if len(stations) > 1:
                users = [edge.user_object for edge in node.parents]
                for station in reversed(stations):
                    if station.user in users:
                        return station
            return stations[-1]
        if isinstance(request, DerivedRequest):
            for each in request.behalf:
                found = self._above(each, node)
                if found is not None:
                    return found
        return None


class Traced:
    """Stands in the place of `node`, in front of what serves its requests."""

    def __init__(self, node: BlockNode, to: Served, trace: GraphTrace) -> None:
        self._node = node
        self._trace = trace
        self.read = self._traced(to.read)
        self.write = self._traced(to.write)
        self.flush = self._traced(to.flush)
        self.discard = self._traced(to.discard)
        self.write_zeroes = self._traced(to.write_zeroes)
        self.secure_erase = self._traced(to.secure_erase)

    def read_now(self, _reads: Sequence[Read]) -> int:
        """Each read is a request, to be seen."""
        return 0

    def _traced(self, handler: Handler) -> Handler:
        node, trace = self._node, self._trace

        async def serve(request: Request) -> None:
            station = trace.enter(request, node)
            if station is None:
                await handler(request)
                return
            try:
                await handler(request)
            except (Exception, Cancelled) as error:
                trace.leave(request, station, _errno(error))
                raise
            trace.leave(request, station, 0)

        return serve


def _errno(error: BaseException) -> int:
    if isinstance(error, Cancelled):
        return errno.ECANCELED
    return (error.errno if isinstance(error, OSError) else None) or errno.EIO
