"""One request's way from a backend to its node and back: checks → handler → error policy → statistics → `done`."""

from __future__ import annotations

import errno
import time
from functools import partial
from typing import TYPE_CHECKING

from devmodels import logs
from devmodels.blockbackend.accounting import BlockStats
from devmodels.blockbackend.edge import Handler
from devmodels.blockbackend.errorpolicy import IoStatus, errno_of, error_event, status_of
from devmodels.blockbackend.node import BlockNode
from devmodels.blockbackend.request import BeginWrite, Flags, Op, Request
from devmodels.blockbackend.runs import Runs
from devmodels.blockbackend.vectors import clear
from devmodels.blockbackend.waiting import STOPPED, Waiting
from devmodels.iocontext import ClockKind, Coro, Event, IoContext, Task
from devmodels.runstate import RunState
from devmodels.trace import EventKind, Tracer

if TYPE_CHECKING:
    from devmodels.blockbackend.backend import BlockBackend
    from devmodels.blockbackend.modes import FlushTurns
    from devmodels.blockbackend.requesttrace import RequestTrace

logger = logs.logger(__name__)

_WRITE, _NO_FLAGS = Op.WRITE, Flags.NONE
"""Names of the module: half the price of an enumeration's members, which counts here."""

_REPORTED = (Op.BLOCK_STATUS, Op.PASSTHROUGH)
"""Errors of these are for whoever asks: no error policy holds or repeats them."""


class Serving:
    """What `backend` has begun, and how it is done.

    `handlers` are where requests go, by `Op`; `begin_write` is where plain writes go, without a coroutine, or None.
    `in_flight` has all that is not over, in order of submission, with what is `waiting`.  `now` is the clock of the
    statistics, in ns.
    """

    __slots__ = (
        "_backend",
        "_idle",
        "_told",
        "begin_write",
        "closed",
        "context",
        "flushes",
        "handlers",
        "in_flight",
        "io_status",
        "node",
        "now",
        "run_state",
        "runs",
        "stats",
        "trace",
        "waiting",
    )

    def __init__(self, backend: BlockBackend, node: BlockNode, run_state: RunState) -> None:
        self._backend = backend
        self.node = node
        self.context = node.context
        self.run_state = run_state
        self.stats = BlockStats()
        self.io_status: IoStatus = "ok"
        self.trace: Tracer | None = None
        self._told: RequestTrace | None = None
        self.in_flight: dict[Request, None] = {}
        self.now = time.monotonic_ns if node.context.kind is ClockKind.WALL else node.context.now_ns
        self.handlers: list[Handler] = []
        self.begin_write: BeginWrite | None = None
        self.flushes: FlushTurns | None = None
        """Where flushes wait for each other, if they do."""
        self.waiting = Waiting(self, stopped=not run_state.running)
        self.runs = Runs(self)
        self._idle: Event | None = None
        self.closed = False
        """No error holds a request any more."""

    @property
    def told(self) -> RequestTrace:
        """What the trace has been told of requests."""
        if self._told is None:
            from devmodels.blockbackend.requesttrace import RequestTrace  # slow, for traces only

            self._told = RequestTrace(self._backend)
        return self._told

    def moved(self, context: IoContext) -> None:
        """Requests come on `context` from now on; nothing runs meanwhile."""
        self.context = context
        self._idle = None
        if self.flushes is not None:
            self.flushes.move(context)

    def note(self, kind: EventKind, *detail: int) -> None:
        """Tell the trace, if there is one."""
        if self.trace is not None:
            self.trace.emit(self._backend.name, kind, *detail)

    def dispatch(self, request: Request) -> None:
        """Check `request` and step its coroutine; most end here."""
        offset = request.offset
        if offset < 0 or request.length < 0 or offset + request.length > self.node.size:
            self._failed(request, errno.EIO)
            return
        if request.op is _WRITE and self.begin_write is not None and self.begun(request):
            return
        try:
            work = self.handlers[request.op](request)
        except Exception as error:
            self._failed(request, errno_of(error, request, self._backend.name))
        else:
            self._step(request, work)

    def begun(self, request: Request) -> bool:
        """Whether a write needs no coroutine and has begun; nobody is told of its end before this returns."""
        offset, length, begin = request.offset, request.length, self.begin_write
        if offset < 0 or length < 0 or offset + length > self.node.size or request.flags is not _NO_FLAGS:
            return False
        try:
            return begin is not None and begin(offset, request.vectors, length, request, self.written)
        except Exception as error:
            self.context.call_soon(
                partial(self._failed, request, errno_of(error, request, self._backend.name))
            )
            return True

    def _step(self, request: Request, work: Coro[None]) -> None:
        """Step `work`; most requests end here, and no task is made for them."""
        failure = 0
        try:
            parked = work.send(None)
        except StopIteration:
            pass
        except Exception as error:
            failure = errno_of(error, request, self._backend.name)
        else:
            if self.trace is not None:
                self.told.later.add(request)
            Task(self.context, work, parked, partial(self._ended, request))
            return
        if failure:
            self._failed(request, failure)
        else:
            self.complete(request, 0)

    def written(self, request: Request, error: BaseException | None) -> None:
        """A write that needed no coroutine is over: as `complete`, but quicker, since it is known what it was."""
        if error is not None or self.trace is not None:
            self._ended(request, None, error)
            return
        del self.in_flight[request]
        request.error = 0
        now = self.now()
        self.stats.account_write(request.offset, request.length, now - request.started_ns, now)
        if self._idle is not None:
            self._look_whether_idle()
        if request.done is not None:
            request.done(request)

    def _ended(self, request: Request, _result: None, error: BaseException | None) -> None:
        if error is None:
            self.complete(request, 0)
        else:
            self._failed(request, errno_of(error, request, self._backend.name))

    def complete(self, request: Request, error: int) -> None:
        """`request` is over: its device hears of that."""
        del self.in_flight[request]
        request.error = error
        number = None if self.trace is None else self.told.numbers.pop(request, None)
        # The trace has the times of what it has: what is told of them is the same in a replay.
        now = self.now() if number is None else self.told.at_ns
        self.stats.account(request, now - request.started_ns, now, error)
        if number is not None:
            self.note(EventKind.COMPLETION, number, error)
        if self._idle is not None:
            self._look_whether_idle()
        if request.done is not None:
            request.done(request)

    def _failed(self, request: Request, error: int) -> None:
        """`request` came back with `error`: the policy says whether its device hears of that."""
        if error == errno.ECANCELED or self.closed or request.op in _REPORTED or not request.POLICY:
            self.complete(request, error)
            return
        backend = self._backend
        policy = backend.error_policy
        action = policy.action(request.op, error)
        if action == "stop":
            # What may follow from the event finds it waiting, and everything behind it as well.
            self.waiting.aside |= STOPPED
            self.put_back(request)
            if self.io_status == "ok":
                self.io_status = status_of(error)
        members = error_event(
            request.op,
            error,
            action,
            device=backend.event_name,
            qom_path=backend.qom_path,
            node_name=self.node.node_name,
            stops=policy.stops,
        )
        self.run_state.events.emit("BLOCK_IO_ERROR", members)
        if action == "stop":
            logger.warning("%s: %r: %s: stopped until `cont`", backend.name, request, members["reason"])
            self.run_state.stop("io-error")
        elif action == "ignore":
            if request.op is Op.READ and not backend.leaves_unread:
                clear(request.vectors)
            self.complete(request, 0)
        else:
            self.complete(request, error)

    def put_back(self, request: Request) -> None:
        """`request` had been begun; it waits again, in its old place."""
        self.waiting.put_back(request)
        if self._idle is not None:
            self._look_whether_idle()

    def _look_whether_idle(self) -> None:
        if self._idle is not None and len(self.in_flight) == len(self.waiting.requests):
            self._idle.set()

    async def idle(self) -> None:
        """Return when all that is in flight waits."""
        while len(self.in_flight) > len(self.waiting.requests):
            self._idle = self._idle or Event(self.context)
            self._idle.clear()
            await self._idle.wait()
