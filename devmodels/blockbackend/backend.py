"""BlockBackend: the one door between a device and its disk.

    submit → (held while stopped) → checks → node → error policy → statistics → request.done

A device makes `Request`s and turns their results into guest bytes.  What concerns all of them is done here and behind
it: the modes (permissions, write cache, limits) and what needs no request are this module's, what waits and is merged
`waiting`'s, a request from its checks to its end `serving`'s.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING

from devmodels import logs
from devmodels.blockbackend import modes, permissions
from devmodels.blockbackend.debug.announcing import NOTHING, Announced
from devmodels.blockbackend.drain import Section, below, drained
from devmodels.blockbackend.edge import Edge
from devmodels.blockbackend.errorpolicy import ErrorPolicy, IoStatus
from devmodels.blockbackend.node import BlockNode
from devmodels.blockbackend.options import MAX_SIZE
from devmodels.blockbackend.permissions import Perm, PermissionConflictError, Role, Use
from devmodels.blockbackend.removable import Tray, disc_of
from devmodels.blockbackend.request import WITH_FUA, Op, Read, ReadNow, Request, WriteNow
from devmodels.blockbackend.serving import Serving
from devmodels.blockbackend.throttling import Throttled
from devmodels.blockbackend.waiting import BUSY, STOPPED
from devmodels.iocontext import IoContext
from devmodels.runstate import RunState
from devmodels.trace import EventKind, Tracer

if TYPE_CHECKING:
    from devmodels.blockbackend.listing import RequestData
    from devmodels.blockbackend.requesttrace import RequestTrace
    from devmodels.blockbackend.throttling import Member, ThrottleGroup

logger = logs.logger(__name__)
_this_thread = threading.get_ident

_WRITE = Op.WRITE
"""A name of the module: half the price of an enumeration's member, which counts here."""


def _shown(node: BlockNode) -> tuple[int, int, int, int, int]:
    """What is seen of a node above it: size, whether it can unmap, most bytes and pieces of a request."""
    limits = node.limits
    most = limits.max_transfer, limits.max_iov
    return int(node.size), int(node.can_unmap), *most, limits.pdiscard_alignment


class BlockBackend:
    """A device's disk: `node` with this device's policy and statistics.

    `in_flight` holds every request between `submit` and its completion, in order of submission, those that are held
    back included, `waiting` are those.  `read_only` forbids this device what `node` may allow; `shared` is what other
    users of the node may do.  `run_state` is its machine's; without one it has its own.  `qom_path` is the device's
    place in QEMU's object tree, empty where that has none.  PermissionConflictError where the node's users would
    exclude each other.
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
        self._serving = serving = Serving(self, node, RunState() if run_state is None else run_state)
        self.stats = serving.stats
        self.runs = serving.runs
        self.waiting = serving.waiting
        self.in_flight = serving.in_flight
        self._now = serving.now
        self._run_state = serving.run_state
        self.error_policy = ErrorPolicy()
        self.leaves_unread = False
        """Whether buffers keep what they held where a read fails and that is ignored: zeroes are the rule."""
        self.pinned = run_state is not None
        """Whether it stays on its context: its device, or its machine, works there."""
        self._write_cache = write_cache
        self._read_now: ReadNow | None = None
        self._write_now: WriteNow | None = None
        """What reads and writes without a request go to; None where the node does not take them as they are."""
        self.throttled = Throttled()
        self.throttled_by: Member | None = None
        """Its place in a throttle group (`set_throttle_group`)."""
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
        self.node = self._serving.node = edge.node
        self._configure()
        disc, self._disc = self._disc, disc_of(edge.node)
        if self._disc != disc and self.trace is not None:
            self.trace.emit(self.name, EventKind.DISC, self._disc)
        before, self._shown = self._shown, _shown(edge.node)
        if self._shown != before:
            self._serving.note(EventKind.SIZE, *self._shown)
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
        self._serving.moved(context)
        if self.throttled_by is not None:
            self.throttled_by.context = context

    def quiesce(self) -> None:
        """Begin no request until `unquiesce` has been called as often."""
        self._serving.note(EventKind.QUIESCE, 1)
        self.waiting.quiesce(1)
        if self.throttled_by is not None:
            self.throttled_by.pause_limits()

    def unquiesce(self) -> None:
        """Let requests go on."""
        self._serving.note(EventKind.QUIESCE, 0)
        if self.throttled_by is not None:
            self.throttled_by.resume_limits()
        self.waiting.quiesce(-1)

    # --- what the device asks

    @property
    def running(self) -> bool:
        """Whether its machine runs."""
        return self._run_state.running

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

    def flush_in_turn(self) -> None:
        """Begin a flush, of a write-through request too, when those before it are over, as QEMU does."""
        self._serving.flushes = modes.FlushTurns(self.context)
        self._configure()

    def set_throttle_group(self, group: ThrottleGroup | None) -> None:
        """Keep to the limits of `group`, or of none any more.  What waits for limits is let go at once."""
        self.context.assert_owner()
        member = self.throttled_by
        if member is None and group is not None:
            self.throttled_by = member = group.join(self.context, self.throttled)
            for _ in range(self.waiting.quiesced):
                member.pause_limits()
        elif member is not None and group is None:
            self.throttled_by = None
            member.leave()
        elif member is not None and group is not None and group is not member.group:
            member.move(group)
        self._configure()

    def busy_ns(self) -> int:
        """The time that requests have spent here, together: by what it grows in a while is the mean depth."""
        now = self._now()
        is_counted = self.stats.is_counted
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
        return self._serving.io_status if self.error_policy.stops else None

    @property
    def inserted(self) -> bool:
        """Whether there is a medium: a node that is a disk."""
        return not self.node.empty

    @property
    def qdev(self) -> str:
        """The device by its id, or, where it has none of its own, by its path; empty without a path."""
        own = self.qom_path.removeprefix("/machine/peripheral/")
        return self.qom_path if "/" in own else own

    @property
    def event_name(self) -> str:
        """What events call the drive."""
        return self.drive_name if self.qom_path else self.name

    def tray_moved(self, *, opened: bool) -> None:
        """The device's tray has been opened or closed: whoever controls the machine is told."""
        data = {"device": self.event_name, "id": self.qdev or self.name, "tray-open": opened}
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
        serving = self._serving
        request.started_ns = self._now()
        self.in_flight[request] = None
        if serving.trace is not None:
            serving.told.submitted(serving.trace, request)
        waiting = self.waiting
        if waiting.aside:
            waiting.requests.append(request)
            return
        if request.op is _WRITE and serving.begin_write is not None and serving.begun(request):
            return
        # What `done` submits waits until `done` has returned: a chain of requests is a loop, not a recursion.
        waiting.aside = BUSY
        try:
            serving.dispatch(request)
        finally:
            waiting.aside &= ~BUSY
            if waiting.requests:
                waiting.go_on()

    def read_now(self, reads: Sequence[Read], *, merge: bool = True) -> int:
        """Do the first of `reads`, each (offset, vectors, length), that need no waiting; returns how many.

        They have been done well and are accounted.  The others are for `submit`, which also says what is wrong
        with them; with `merge`, so are neighbours that `batch` would make one request of.
        """
        if self.context.owner != _this_thread():
            self.context.assert_owner()
        node_reads = self._read_now
        if self.waiting.aside or self._serving.trace is not None or node_reads is None:
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
        if self.waiting.aside or offset < 0 or offset + length > self.node.size:
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

    def batch(self) -> AbstractContextManager[None]:
        """`with backend.batch():` gathers requests and submits them at its end, neighbours merged.  Nests."""
        return self.waiting

    def serialise(self) -> None:
        """Requests may be `SERIALISING` from now on: their node keeps a table of what is in flight.  Idempotent."""
        if not self.edge.serialises:
            self.edge.serialise()

    # --- the trace

    @property
    def told(self) -> RequestTrace:
        """What the trace has been told of requests."""
        return self._serving.told

    @property
    def trace(self) -> Tracer | None:
        """Who is given every request of a device, and what becomes of it below; such go one by one then."""
        return self._serving.trace

    @trace.setter
    def trace(self, trace: Tracer | None) -> None:
        self._serving.trace = trace
        self._serving.told.begin(trace)
        self._configure()

    # --- where requests go, by the modes of the moment

    def _configure(self) -> None:
        """Set the table of handlers, so that a request pays only for what is switched on."""
        self._read_now = self.edge.read_now if self.edge.reads_now else None
        serving = self._serving
        self._write_now = serving.begin_write = None
        member = self.throttled_by
        if member is not None and self._read_now is not None:
            self._read_now = partial(member.read_now, self._read_now)
        elif member is None and self._write_cache and serving.trace is None and not self.read_only:
            self._write_now, serving.begin_write = self.edge.write_now, self.edge.begin_write
        cached, turn = self._write_cache, serving.flushes
        handlers = modes.handlers(self.edge.handlers, member, self.read_only, cached, turn)
        if serving.trace is not None:
            handlers = [partial(serving.told.serve, handler) for handler in handlers]
        serving.handlers = handlers

    # --- requests that wait, or are under way

    def _run_state_changed(self, running: bool) -> None:
        self.context.assert_owner()
        self._serving.note(EventKind.RUN_STATE, int(running))
        if running:
            self._serving.io_status = "ok"
        self.waiting.set_aside(STOPPED, not running)

    def cancel_held(self, wanted: Callable[[Request], bool] | None = None, *, begun: bool = True) -> None:
        """Complete what waits, for limits or (`begun`) in a node, or what of it is `wanted`, with ECANCELED."""
        mine = self.in_flight if wanted is None else set(filter(wanted, self.in_flight))
        for node in below([self.node]) if begun else ():
            node.cancel(mine.__contains__)
        if self.throttled_by is not None:
            self.throttled_by.cancel(mine.__contains__)
        for request in self.waiting.take(wanted):
            self._serving.complete(request, errno.ECANCELED)

    async def drain(self) -> None:
        """Return when nothing runs any more.  What a stop holds back stays so and is not waited for."""
        self.context.assert_owner()
        member = self.throttled_by
        if member is not None:
            member.pause_limits()
        try:
            await self._serving.idle()
        finally:
            if member is not None:
                member.resume_limits()

    def list_in_flight(self) -> list[RequestData]:
        """What is in flight, in order of submission, and where each of it waits."""
        from devmodels.blockbackend.listing import RequestData, whereabouts  # for those who look on only

        why = self.waiting.where
        where = whereabouts(self.node, self.throttled_by)
        where.update((request, why) for request in self.waiting.requests)
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
        if not self._serving.closed:
            self._serving.closed = True
            if self.throttled_by is not None:
                self.set_throttle_group(None)
            self.edge.close()
            self._configure()
            self.cancel_held()
            # Nobody would tell when the machine runs on.
            self.waiting.set_aside(STOPPED, False)
