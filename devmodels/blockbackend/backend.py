"""BlockBackend: the one door between a device and its disk.

    submit → (held while stopped) → checks → node → error policy → statistics → request.done

A device makes `Request`s and turns their results into guest bytes.  What concerns all of them is done here: bounds
and permissions, merging of neighbours, the write-cache mode, holding requests while the machine is stopped, what
follows from an error, statistics, the table of what is in flight.
"""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from devmodels import logs
from devmodels.blockbackend import modes, permissions
from devmodels.blockbackend.accounting import BlockStats, is_counted
from devmodels.blockbackend.debug.announcing import NOTHING, Announced
from devmodels.blockbackend.drain import Section, below, drained
from devmodels.blockbackend.edge import Edge, Handler
from devmodels.blockbackend.errorpolicy import ErrorPolicy, IoStatus, error_event, status_of
from devmodels.blockbackend.listing import RequestData, Where, whereabouts
from devmodels.blockbackend.merge import bring_together, joins, take_run
from devmodels.blockbackend.node import BlockNode
from devmodels.blockbackend.options import MAX_SIZE
from devmodels.blockbackend.permissions import Perm, PermissionConflictError, Role, Use
from devmodels.blockbackend.removable import Tray
from devmodels.blockbackend.request import (
    WITH_FUA,
    BeginWrite,
    Flags,
    Op,
    Read,
    ReadNow,
    Request,
    WriteNow,
)
from devmodels.blockbackend.requesttrace import RequestTrace
from devmodels.blockbackend.runs import Runs
from devmodels.blockbackend.throttling import Throttled
from devmodels.blockbackend.vectors import clear
from devmodels.iocontext import Cancelled, ClockKind, Coro, Event, IoContext, Task
from devmodels.runstate import RunState
from devmodels.trace import EventKind, Tracer
from devmodels.tracefile.format import NO_DISC, PLAIN_DISC

if TYPE_CHECKING:
    from devmodels.blockbackend.throttling import Member, ThrottleGroup

logger = logs.logger(__name__)
_this_thread = threading.get_ident

_BATCH, _STOPPED, _QUIESCED, _BUSY = 1, 2, 4, 8
"""Why requests wait (bits of `BlockBackend._aside`)."""

_WRITE, _NO_FLAGS = Op.WRITE, Flags.NONE
"""Names of the module: half the price of an enumeration's members, which counts here."""

_REPORTED = (Op.BLOCK_STATUS, Op.PASSTHROUGH)
"""Errors of these are for whoever asks: no error policy holds or repeats them."""


def _shown(node: BlockNode) -> tuple[int, int, int, int, int]:
    """What is seen of a node above it: size, whether it can unmap, most bytes and pieces of a request."""
    limits = node.limits
    most = limits.max_transfer, limits.max_iov
    return int(node.size), int(node.can_unmap), *most, limits.pdiscard_alignment


def disc_of(node: BlockNode) -> str:
    """What a drive over a node has for a disc, as a trace says it."""
    if node.empty:
        return NO_DISC
    if node.disc is None:
        return PLAIN_DISC
    from devmodels.disc.text import to_text  # slow to import, and for discs with tracks only

    return to_text(node.disc)


class _Batch:
    """The context manager of `BlockBackend.batch`."""

    __slots__ = ("_backend",)

    def __init__(self, backend: BlockBackend) -> None:
        self._backend = backend

    def __enter__(self) -> None:
        self._backend._begin_batch()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._backend._end_batch()


class BlockBackend:
    """A device's disk: `node` with this device's policy and statistics.

    `in_flight` holds every request between `submit` and its completion, in order of submission, those that are held
    back included.  `read_only` forbids this device what `node` may allow; `shared` is what other users of the node may
    do.  `run_state` is its machine's; without one it has its own.  `qom_path` is the device's place in QEMU's object
    tree, empty where that has none.  PermissionConflictError where the node's users would exclude each other.
    """

    def __init__(
        self,
        node: BlockNode,
        *,
        name: str = "",
        run_state: RunState | None = None,
        write_cache: bool = True,
        read_only: bool = False,
        shared: Perm = Perm.ALL,
    ) -> None:
        self.node = node
        self.name = name or node.node_name
        self.qom_path = ""
        self.drive_name = ""
        """What a user calls the drive that a device with a path has (QEMU's `-drive id=`)."""
        self.tray: Tray | None = None
        """That of a device whose medium can be taken out."""
        self.context = node.context
        self.read_only = read_only or node.read_only
        used = Perm.CONSISTENT_READ if self.read_only else Perm.CONSISTENT_READ | Perm.WRITE
        self.stats = BlockStats()
        self._trace: Tracer | None = None
        self.told = RequestTrace(self)
        """What the trace has been told of requests."""
        self.in_flight: dict[Request, None] = {}
        self._now = time.monotonic_ns if node.context.kind is ClockKind.WALL else node.context.now_ns
        self.error_policy = ErrorPolicy()
        self._io_status: IoStatus = "ok"
        self._run_state = RunState() if run_state is None else run_state
        self.pinned = run_state is not None
        """Whether it stays on its context: its device, or its machine, works there."""
        self._write_cache = write_cache
        self._handlers: list[Handler] = []
        self._read_now: ReadNow | None = None
        """What reads without a request go to; None where the node does not take them as they are."""
        self._write_now: WriteNow | None = None
        """What writes without a request go to."""
        self._begin_write: BeginWrite | None = None
        """What writes with one go to, if they are plain."""
        self.throttled = Throttled()
        self.throttled_by: Member | None = None
        """Its place in a throttle group (`set_throttle_group`)."""
        self.runs = Runs(self)
        self._batch = _Batch(self)
        self._waiting: deque[Request] = deque()
        self._out_of_order = False
        """Whether `_waiting` has what had been started already, behind what came later."""
        self._aside = 0 if self._run_state.running else _STOPPED
        self._batch_depth = 0
        self._quiesced = 0
        self._idle: Event | None = None
        self._closed = False
        self._resize_listeners: list[Callable[[int], None]] = []
        self.on_attention: Callable[[int], None] | None = None
        """Told what the SCSI unit below tells its initiator, as a code of additional sense."""
        self._shown = _shown(node)
        self._disc = disc_of(node)
        self.edge = Edge(self, "root", Role.DATA | Role.PRIMARY, node, Use(used, shared))
        self._run_state.add_listener(self._run_state_changed)
        self._configure()

    # --- its place in the graph

    @property
    def description(self) -> str:
        """What messages call it."""
        return f"backend {self.name!r}"

    @property
    def announces(self) -> Announced:
        """Nothing: only nodes tell of events."""
        return NOTHING

    def child_changed(self, edge: Edge) -> None:
        """Another node is the disk now, or the node is another one than before."""
        self.node = edge.node
        self._configure()
        disc, self._disc = self._disc, disc_of(edge.node)
        if self._disc != disc and self._trace is not None:
            self._trace.emit(self.name, EventKind.DISC, self._disc)
        before, self._shown = self._shown, _shown(edge.node)
        if self._shown != before:
            self._note(EventKind.SIZE, *self._shown)
        if self._shown[:2] != before[:2]:
            for listener in list(self._resize_listeners):
                listener(self.node.size)

    def attention(self, code: int) -> None:
        """The SCSI unit that is the disk tells something."""
        if self.on_attention is not None:
            self.on_attention(code)

    def cover(self, section: Section) -> None:
        """The disk is in a drained section: requests wait."""
        section.quiet(self)

    def moved(self, context: IoContext) -> None:
        """Requests come on `context` from now on; nothing runs meanwhile."""
        self.context = context
        self._idle = None
        if self.throttled_by is not None:
            self.throttled_by.context = context

    def quiesce(self) -> None:
        """Begin no request until `unquiesce` has been called as often."""
        self._note(EventKind.QUIESCE, 1)
        self._quiesced += 1
        self._set_aside(_QUIESCED, True)
        if self.throttled_by is not None:
            self.throttled_by.pause_limits()

    def unquiesce(self) -> None:
        """Let requests go on."""
        self._note(EventKind.QUIESCE, 0)
        self._quiesced -= 1
        if self.throttled_by is not None:
            self.throttled_by.resume_limits()
        self._set_aside(_QUIESCED, self._quiesced > 0)

    # --- what the device asks

    @property
    def size(self) -> int:
        """The disk's size in bytes."""
        return self.node.size

    @property
    def write_cache(self) -> bool:
        """Whether writes may complete before they are stable.  Switching it concerns requests submitted later."""
        return self._write_cache

    @write_cache.setter
    def write_cache(self, on: bool) -> None:
        self.context.assert_owner()
        if on and not self._write_cache:
            # Those that are not over were submitted write-through, whenever they are begun, or begun again.
            for request in self.in_flight:
                if request.op is Op.WRITE or request.op is Op.WRITE_ZEROES:
                    request.flags = WITH_FUA[request.flags]
        self._write_cache = on
        self._configure()

    def set_throttle_group(self, group: ThrottleGroup | None) -> None:
        """Keep to the limits of `group`, or of none any more.  What waits for limits is let go at once."""
        self.context.assert_owner()
        member = self.throttled_by
        if member is None and group is not None:
            self.throttled_by = member = group.join(self.context, self.throttled)
            for _ in range(self._quiesced):
                member.pause_limits()
        elif member is not None and group is None:
            self.throttled_by = None
            member.leave()
        elif member is not None and group is not None and group is not member.group:
            member.move(group)
        self._configure()

    def busy_ns(self) -> int:
        """The time that requests have spent here, together, up to now: what it grows by in a while, over that while,
        is the mean depth of the queue."""
        now = self._now()
        running = sum(now - each.started_ns for each in tuple(self.in_flight) if is_counted(each.op))
        return self.stats.ended_ns + running

    @property
    def throttled_ns(self) -> int:
        """How long requests have waited for its own group's limits, together, in ns."""
        if self.throttled_by is None:
            return self.throttled.total_ns
        return self.throttled_by.throttled_ns(self._now())

    @property
    def io_status(self) -> IoStatus | None:
        """Which error has stopped the machine since it was continued last; None where none can (`query-block`)."""
        return self._io_status if self.error_policy.stops else None

    @property
    def inserted(self) -> bool:
        """Whether there is a medium: a node that is a disk."""
        return not self.node.empty

    @property
    def qdev(self) -> str:
        """The device by its id, or, where it has none of its own, by its path; empty without a path."""
        own = self.qom_path.removeprefix("/machine/peripheral/")
        return self.qom_path if "/" in own else own

    def tray_moved(self, *, opened: bool) -> None:
        """The device's tray has been opened or closed: whoever controls the machine is told."""
        device = self.drive_name if self.qom_path else self.name
        data = {"device": device, "id": self.qdev or self.name, "tray-open": opened}
        self._run_state.events.emit("DEVICE_TRAY_MOVED", data)

    def account_invalid(self, op: Op) -> None:
        """The device has refused a request by itself."""
        self.stats.account_invalid(op, self._now())

    def submit(self, request: Request) -> None:
        """Start `request`.  Never raises for what goes wrong with it: that is in `request.error` when it is done.

        `request.done` is called exactly once, possibly before this returns.  WrongContextError on a thread that does
        not own the node's context.
        """
        if self.context.owner != _this_thread():
            self.context.assert_owner()
        request.started_ns = self._now()
        self.in_flight[request] = None
        if self._trace is not None:
            self.told.submitted(self._trace, request)
        if self._aside:
            self._waiting.append(request)
            return
        if request.op is _WRITE and self._begin_write is not None and self._begun(request):
            return
        # What `done` submits waits until `done` has returned: a chain of requests is a loop, not a recursion.
        self._aside = _BUSY
        try:
            self._dispatch(request)
        finally:
            self._aside &= ~_BUSY
            if self._waiting:
                self._go_on()

    def read_now(self, reads: Sequence[Read], *, merge: bool = True) -> int:
        """Do the first of `reads`, each (offset, vectors, length), that need no waiting; returns how many.

        They have been done well and are accounted.  The others are for `submit`, which also says what is wrong
        with them; with `merge`, so are neighbours that `batch` would make one request of.
        """
        if self.context.owner != _this_thread():
            self.context.assert_owner()
        node_reads = self._read_now
        if self._aside or self._trace is not None or node_reads is None:
            return 0
        if merge and len(reads) > 1:
            ends = {offset + length for offset, _, length in reads}
            if not ends.isdisjoint([offset for offset, _, _ in reads]):
                return 0
        started = self._now()
        size = self.node.size
        within = nbytes = 0
        for offset, _, length in reads:
            if offset < 0 or offset + length > size:
                reads = reads[:within]
                break
            within += 1
            nbytes += length
        try:
            done = node_reads(reads) if within else 0
        except Exception as error:
            # As requests the right ones fail, each told with its errno.
            logger.debug("%s: reads at once: %s", self.name, error)
            return 0
        if done:
            if done != within:
                nbytes = sum([length for _, _, length in reads[:done]])
            now = self._now()
            self.stats.account_reads(done, nbytes, now - started, now)
        return done

    @property
    def writes_now(self) -> bool:
        """Whether `write_now` is worth trying: then a `batch` gains nothing."""
        return self._write_now is not None and self.node.writes_now

    def write_now(self, offset: int, vectors: Sequence[memoryview], length: int) -> bool:
        """Do a write that needs no waiting, as far as the cache of the disk; False: it is for `submit`.

        It has been done well and is accounted, as those of `read_now`.
        """
        node_write = self._write_now
        if node_write is None:
            return False
        if self.context.owner != _this_thread():
            self.context.assert_owner()
        if self._aside or offset < 0 or offset + length > self.node.size:
            return False
        started = self._now()
        try:
            done = node_write(offset, vectors, length)
        except Exception as error:
            logger.debug("%s: a write at once: %s", self.name, error)
            return False
        if done:
            now = self._now()
            self.stats.account_write(offset, length, now - started, now)
        return done

    def batch(self) -> _Batch:
        """`with backend.batch():` gathers requests and submits them at its end, neighbours merged.  Nests."""
        return self._batch

    def serialise(self) -> None:
        """Requests may be `SERIALISING` from now on: their node keeps a table of what is in flight.  Idempotent."""
        if not self.edge.serialises:
            self.edge.serialise()

    # --- the trace

    @property
    def trace(self) -> Tracer | None:
        """Who is given every request of a device, and what becomes of it below; such go one by one then."""
        return self._trace

    @trace.setter
    def trace(self, trace: Tracer | None) -> None:
        self._trace = trace
        self.told.begin(trace)
        self._configure()

    def _note(self, kind: EventKind, *detail: int) -> None:
        if self._trace is not None:
            self._trace.emit(self.name, kind, *detail)

    # --- one request

    def _dispatch(self, request: Request) -> None:
        """Check `request` and step its coroutine; most end here."""
        offset = request.offset
        if offset < 0 or request.length < 0 or offset + request.length > self.node.size:
            self._failed(request, errno.EIO)
            return
        if request.op is _WRITE and self._begin_write is not None and self._begun(request):
            return
        try:
            work = self._handlers[request.op](request)
        except Exception as error:
            self._failed(request, self.errno(request, error))
        else:
            self._step(request, work)

    def _begun(self, request: Request) -> bool:
        """Whether a write needs no coroutine and has begun; nobody is told of its end before this returns."""
        offset, length, begin = request.offset, request.length, self._begin_write
        if offset < 0 or length < 0 or offset + length > self.node.size or request.flags is not _NO_FLAGS:
            return False
        try:
            return begin is not None and begin(offset, request.vectors, length, request, self._written)
        except Exception as error:
            self.context.call_soon(partial(self._failed, request, self.errno(request, error)))
            return True

    def _step(self, request: Request, work: Coro[None]) -> None:
        """Step `work`; most requests end here, and no task is made for them."""
        failure = 0
        try:
            parked = work.send(None)
        except StopIteration:
            pass
        except Exception as error:
            failure = self.errno(request, error)
        else:
            if self._trace is not None:
                self.told.later.add(request)
            Task(self.context, work, parked, partial(self._ended, request))
            return
        if failure:
            self._failed(request, failure)
        else:
            self._complete(request, 0)

    def _written(self, request: Request, error: BaseException | None) -> None:
        """A write that needed no coroutine is over: as `_complete`, but quicker, since it is known what it was."""
        if error is not None or self._trace is not None:
            self._ended(request, None, error)
            return
        del self.in_flight[request]
        request.error = 0
        now = self._now()
        self.stats.account_write(request.offset, request.length, now - request.started_ns, now)
        if self._idle is not None and len(self.in_flight) == len(self._waiting):
            self._idle.set()
        if request.done is not None:
            request.done(request)

    def _ended(self, request: Request, _result: None, error: BaseException | None) -> None:
        if error is None:
            self._complete(request, 0)
        else:
            self._failed(request, self.errno(request, error))

    def errno(self, request: Request, error: BaseException) -> int:
        """The errno for what a node raised."""
        if isinstance(error, OSError):
            return error.errno or errno.EIO
        if isinstance(error, Cancelled):
            return errno.ECANCELED
        logger.error("%s: %r ended with %s: %s", self.name, request, type(error).__name__, error)
        return errno.EIO

    def _complete(self, request: Request, error: int) -> None:
        del self.in_flight[request]
        request.error = error
        number = None if self._trace is None else self.told.numbers.pop(request, None)
        # The trace has the times of what it has: what is told of them is the same in a replay.
        now = self._now() if number is None else self.told.at_ns
        self.stats.account(request, now - request.started_ns, now, error)
        if number is not None:
            self._note(EventKind.COMPLETION, number, error)
        if self._idle is not None and len(self.in_flight) == len(self._waiting):
            self._idle.set()
        if request.done is not None:
            request.done(request)

    @property
    def stopped(self) -> bool:
        """Whether requests wait for the machine to run on."""
        return bool(self._aside & _STOPPED)

    # --- errors

    def _failed(self, request: Request, error: int) -> None:
        """`request` came back with `error`: the policy says whether its device hears of that."""
        if error == errno.ECANCELED or self._closed or request.op in _REPORTED or not request.POLICY:
            self._complete(request, error)
            return
        policy = self.error_policy
        action = policy.action(request.op, error)
        if action == "stop":
            # What may follow from the event finds it waiting, and everything behind it as well.
            self._aside |= _STOPPED
            self._put_back(request)
            if self._io_status == "ok":
                self._io_status = status_of(error)
        members = error_event(
            request.op,
            error,
            action,
            device=self.drive_name if self.qom_path else self.name,
            qom_path=self.qom_path,
            node_name=self.node.node_name,
            stops=policy.stops,
        )
        self._run_state.events.emit("BLOCK_IO_ERROR", members)
        if action == "stop":
            logger.warning("%s: %r: %s: stopped until `cont`", self.name, request, members["reason"])
            self._run_state.stop("io-error")
        elif action == "ignore":
            clear(request.vectors if request.op is Op.READ else ())
            self._complete(request, 0)
        else:
            self._complete(request, error)

    def _put_back(self, request: Request) -> None:
        """`request` had been started; it waits again, in its old place."""
        self._waiting.append(request)
        self._out_of_order = True
        if self._idle is not None and len(self.in_flight) == len(self._waiting):
            self._idle.set()

    # --- where requests go, by the modes of the moment

    def _configure(self) -> None:
        """Set the table of handlers, so that a request pays only for what is switched on."""
        self._read_now = self.edge.read_now if self.edge.reads_now else None
        self._write_now = self._begin_write = None
        member = self.throttled_by
        if member is not None:
            if self._read_now is not None:
                self._read_now = partial(member.read_now, self._read_now)
        elif self._write_cache and self._trace is None and not self.read_only:
            self._write_now, self._begin_write = self.edge.write_now, self.edge.begin_write
        handlers = modes.handlers(self.edge.handlers, member, self.read_only, self._write_cache)
        if self._trace is not None:
            handlers = [partial(self.told.serve, handler) for handler in handlers]
        self._handlers = handlers

    # --- requests that wait: for the end of a batch, for the machine to run on, for `done` to return

    def _begin_batch(self) -> None:
        self._batch_depth += 1
        self._aside |= _BATCH

    def _end_batch(self) -> None:
        self._batch_depth -= 1
        self._set_aside(_BATCH, self._batch_depth > 0)

    def _run_state_changed(self, running: bool) -> None:
        self.context.assert_owner()
        self._note(EventKind.RUN_STATE, int(running))
        if running:
            self._io_status = "ok"
        self._set_aside(_STOPPED, not running)

    def _set_aside(self, reason: int, on: bool) -> None:
        if on:
            self._aside |= reason
        else:
            self._aside &= ~reason
            if self._waiting:
                self._go_on()

    def _go_on(self) -> None:
        """Start what waits, in order but neighbours together, until something holds it back again."""
        waiting = self._waiting
        while waiting and not self._aside:
            self._aside = _BUSY
            if self._out_of_order:
                self._out_of_order = False
                among = set(waiting)
                waiting.clear()
                waiting.extend(request for request in self.in_flight if request in among)
            together = len(waiting) > 1 and bring_together(waiting)
            try:
                # What waits now, in one go, as long as nobody's `done` holds the rest back or throws it away.
                if not together and self._begin_write is not None:
                    self._begin_writes()
                for _ in range(len(waiting)):
                    if self._aside != _BUSY or not waiting:
                        break
                    first = waiting.popleft()
                    if together and waiting and joins(first, waiting[0]):
                        self.runs.dispatch(take_run(first, waiting, self.node.size, self.node.limits))
                    else:
                        self._dispatch(first)
            except BaseException:
                self.context.call_soon(self._go_on)
                raise
            finally:
                self._aside &= ~_BUSY

    def _begin_writes(self) -> None:
        """Begin the first of what waits as far as that is plain writes; nobody is told of an end meanwhile."""
        waiting = self._waiting
        while waiting and waiting[0].op is _WRITE and self._begun(waiting[0]):
            waiting.popleft()

    def cancel_held(self, wanted: Callable[[Request], bool] | None = None) -> None:
        """Complete what waits, or what of it is `wanted`, with ECANCELED (a reset of the device or of a queue).

        What waits for limits of a throttle group is among it, though it ends a turn later.
        """
        mine = self.in_flight if wanted is None else set(filter(wanted, self.in_flight))
        for node in below([self.node]):
            node.cancel(mine.__contains__)
        if self.throttled_by is not None:
            self.throttled_by.cancel(mine.__contains__)
        held: list[Request] = []
        kept: list[Request] = []
        for request in self._waiting:
            (held if wanted is None or wanted(request) else kept).append(request)
        self._waiting.clear()
        self._waiting.extend(kept)
        for request in held:
            self._complete(request, errno.ECANCELED)

    async def drain(self) -> None:
        """Return when nothing runs any more.  What a stop holds back stays so and is not waited for."""
        self.context.assert_owner()
        member = self.throttled_by
        if member is not None:
            member.pause_limits()
        try:
            while len(self.in_flight) > len(self._waiting):
                self._idle = self._idle or Event(self.context)
                self._idle.clear()
                await self._idle.wait()
        finally:
            if member is not None:
                member.resume_limits()

    def list_in_flight(self) -> list[RequestData]:
        """What is in flight, in order of submission, and where each of it waits."""
        why: Where = "batched"
        if self._aside & (_STOPPED | _QUIESCED):
            why = "held" if self._aside & _STOPPED else "drained"
        where = whereabouts(self.node, self.throttled_by)
        where.update((request, why) for request in self._waiting)
        now = self._now()
        return [RequestData.of(request, now, where.get(request, "running")) for request in self.in_flight]

    # --- when the device works

    def activate(self) -> None:
        """The device begins to work; OSError where somebody else's use of the image rules that out."""
        self.edge.set_active(True, write=not self.read_only)

    async def inactivate(self) -> None:
        """The device rests, all its requests are done: flush, so that another user, elsewhere even, may go on."""
        if not self.read_only:
            try:
                await self.edge.flush(Request(Op.FLUSH, 0, 0))
            except OSError as error:
                logger.warning("%s: cannot flush before resting: %s", self.name, error.strerror or error)
        self.edge.set_active(False, write=False)

    # --- size

    def add_resize_listener(self, listener: Callable[[int], None]) -> None:
        """Call `listener(size)` after each change of the disk's size."""
        self._resize_listeners.append(listener)

    def remove_resize_listener(self, listener: Callable[[int], None]) -> None:
        """Call `listener` no longer.  Idempotent."""
        if listener in self._resize_listeners:
            self._resize_listeners.remove(listener)

    async def resize(self, size: int) -> None:
        """Make the disk `size` bytes long (a multiple of 512); OSError where the node cannot.

        Requests that come meanwhile wait; resizes of one node are done one after the other, in order.
        """
        if size < 0 or size % 512:
            raise OSError(errno.EINVAL, f"a disk of {size} bytes: expected a multiple of 512")
        if size > MAX_SIZE:
            raise OSError(errno.EFBIG, f"a disk of {size} bytes: expected at most {MAX_SIZE}")
        if self.read_only:
            raise OSError(errno.EPERM, "read-only")
        try:
            async with drained(self.node), self.node.resizing:
                with permissions.more(self.edge, Perm.RESIZE):
                    await self.node.truncate(size)
        except PermissionConflictError as error:
            raise OSError(errno.EPERM, str(error)) from None

    def close(self) -> None:
        """Leave node and run state, which stay open.  Idempotent.

        What waits ends with ECANCELED, what comes afterwards with ENOMEDIUM.
        """
        self._run_state.remove_listener(self._run_state_changed)
        self._resize_listeners.clear()
        if not self._closed:
            self._closed = True
            if self.throttled_by is not None:
                self.set_throttle_group(None)
            self.edge.close()
            self._configure()
            self.cancel_held()
            # Nobody would tell when the machine runs on.
            self._set_aside(_STOPPED, False)
