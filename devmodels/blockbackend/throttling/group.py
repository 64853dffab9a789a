"""A throttle group: members take turns, and together they keep to its limits.

Reads and writes wait apart.  In each direction members with something waiting are served in turn, one request each;
what has to wait is let go by one timer.  Members may live on several contexts (threads).
"""

from __future__ import annotations

import errno
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import msgspec

from devmodels.blockbackend.request import Read, ReadNow, Request
from devmodels.blockbackend.throttling.bucket import Bucket, Buckets, let_in
from devmodels.blockbackend.throttling.limits import BYTES, READ, TOTAL, WRITE, ThrottleLimits, check
from devmodels.blockbackend.throttling.throttled import Throttled
from devmodels.iocontext import Coro, Future, IoContext

Handler = Callable[[Request], Coro[None]]

_DIRECTIONS = (READ, WRITE)
"""By `write`, a bool."""


def _call_at(context: IoContext, when: int, due: Callable[[], None]) -> None:
    context.call_at(when, due)


class Waiting:
    """A request that waits, of `length` bytes, since `since`: `admitted` is told when it may go."""

    __slots__ = ("admitted", "length", "request", "since")

    def __init__(self, context: IoContext, length: int, since: int, request: Request | None) -> None:
        self.admitted: Future[None] = Future(context)
        self.length = length
        self.since = since
        self.request = request


class Member:
    """One disk in a group; what its requests have waited goes to `throttled`."""

    __slots__ = ("_queues", "_unlimited", "context", "group", "throttled")

    def __init__(self, group: ThrottleGroup, context: IoContext, throttled: Throttled | None = None) -> None:
        self.group = group
        self.context = context
        self.throttled = Throttled() if throttled is None else throttled
        self._queues: tuple[deque[Waiting], deque[Waiting]] = (deque(), deque())
        self._unlimited = 0

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return sum(map(len, self._queues))

    def throttled_ns(self, now_ns: int) -> int:
        """How long requests have waited, together, those that still do included."""
        waiting = [each for queue in self._queues for each in tuple(queue)]
        return self.throttled.total_ns + sum(now_ns - each.since for each in waiting)

    def try_admit(self, length: int, *, write: bool) -> bool:
        """Whether a request of `length` bytes may go now; if so, it is counted."""
        if not self._unlimited:
            return self.group._admit_one(self, length, write)
        self.group._count(self, [length], write)
        return True

    def requests(self) -> Iterator[Request]:
        """Those that wait, as far as they are known."""
        for queue in self._queues:
            yield from (waiting.request for waiting in tuple(queue) if waiting.request is not None)

    async def admit(self, length: int, *, write: bool, request: Request | None = None) -> None:
        """Return when a request of `length` bytes may go; `request` is for those who look at what waits."""
        if not self.try_admit(length, write=write):
            await self.wait(length, write=write, request=request)

    async def wait(self, length: int, *, write: bool, request: Request | None) -> None:
        """The same where `try_admit` has said no."""
        waiting = Waiting(self.context, length, self.context.now_ns(), request)
        self.group._enqueue(self, waiting, write)
        try:
            await waiting.admitted
        except BaseException:
            self.group._dequeue(self, waiting, write)
            raise

    def limited(self, handler: Handler, *, write: bool) -> Handler:
        """`handler` for requests that wait here first."""

        async def limited(request: Request) -> None:
            if not self.try_admit(request.length, write=write):
                await self.wait(request.length, write=write, request=request)
            await handler(request)

        return limited

    def read_now(self, read_now: ReadNow, reads: Sequence[Read]) -> int:
        """`read_now` of those of `reads` that the limits let go at once."""
        if len(reads) == 1 and not self._unlimited:
            # At depth 1 there is no batch that would share what is spent here.
            length = reads[0][2]
            if not self.group._admit_one(self, length, False):
                return 0
            done = 0
            try:
                done = read_now(reads)
            finally:
                if not done:
                    self.group._give_back(self, [length], False)
            return done
        lengths = [length for _, _, length in reads]
        if self._unlimited:
            done = read_now(reads)
            self.group._count(self, lengths[:done], False)
            return done
        admitted = self.group._admit_now(self, lengths, False)
        done = 0
        try:
            if admitted:
                done = read_now(reads if admitted == len(reads) else reads[:admitted])
        finally:
            if done < admitted:
                self.group._give_back(self, lengths[done:admitted], False)
        return done

    def cancel(self, wanted: Callable[[Request], bool]) -> None:
        """What waits and is on behalf of none but `wanted` requests ends with ECANCELED and is not counted."""
        self.group._cancel(self, wanted)

    def pause_limits(self) -> None:
        """Let everything go at once, what waits as well, until `resume_limits`: the disk is being drained.  Nests.

        It counts: what comes afterwards waits for longer, as in QEMU.
        """
        self._unlimited += 1
        self.group._let_go(self)

    def resume_limits(self) -> None:
        """The limits hold again."""
        self._unlimited -= 1

    def move(self, group: ThrottleGroup) -> None:
        """Go to another group; what waits is let go at once, at nobody's expense."""
        self.group._remove(self)
        self.group = group
        group._add(self)

    def leave(self) -> None:
        """Leave the group; what waits is let go at once, at nobody's expense."""
        self.group._remove(self)
        self._unlimited += 1


class ThrottleGroup:
    """Members that together keep to `limits`."""

    def __init__(self, name: str, limits: ThrottleLimits | None = None) -> None:
        self.name = name
        self.members: list[Member] = []
        self._lock = threading.RLock()
        self._last: list[Member | None] = [None, None]
        """Who was served last, by direction."""
        self._armed = [0, 0]
        """Number of the timer that is set, by direction; 0 for none."""
        self._timers = 0
        self._limits = ThrottleLimits()
        self._buckets: tuple[Buckets, ...] = ((), ())
        self.configure(ThrottleLimits() if limits is None else limits)

    @property
    def limits(self) -> ThrottleLimits:
        """The limits in force."""
        return self._limits

    def configure(self, limits: ThrottleLimits) -> None:
        """New limits, from empty buckets on; what waits is judged by them."""
        with self._lock:
            self._limits = limits
            self._operation = limits.iops_size
            made: dict[str, list[tuple[Bucket, bool]]] = {READ: [], WRITE: []}
            for rate in limits.rates():
                if not rate.average:
                    continue
                in_bytes = rate.unit == BYTES
                scale = 1 if in_bytes else self._operation or 1
                # Without a burst, a tenth of a second's worth may come at once.
                tenths = 10 * rate.burst * rate.length if rate.burst else rate.average
                buckets = [Bucket(rate.average, tenths, scale=scale)]
                if rate.length > 1:
                    buckets.append(Bucket(rate.burst, rate.burst, scale=scale))
                for direction in _DIRECTIONS if rate.of == TOTAL else (rate.of,):
                    made[direction] += [(bucket, in_bytes) for bucket in buckets]
            self._buckets = tuple(tuple(made[direction]) for direction in _DIRECTIONS)
            for write in (False, True):
                self._armed[write] = 0
                self._serve(write)

    def set_limits(self, given: Mapping[str, object], *, where: str = "$") -> None:
        """Change those limits that are `given` by their names (`qom-set`); the others stay.

        BlockOptionError, one line that begins with `where`, and nothing changed, where they are wrong.
        """
        self.configure(check({**msgspec.to_builtins(self._limits), **given}, where=where))

    def join(self, context: IoContext, throttled: Throttled | None = None) -> Member:
        """A new member whose requests come on `context`; what they wait is added to `throttled`."""
        member = Member(self, context, throttled)
        self._add(member)
        return member

    def _add(self, member: Member) -> None:
        with self._lock:
            self.members.append(member)

    # --- admission

    def _admit_now(self, member: Member, lengths: Sequence[int], write: bool) -> int:
        """Let the first of requests of these `lengths` go, one after the other; how many."""
        if not self._buckets[write]:
            return len(lengths)
        now = member.context.now_ns()
        with self._lock:
            buckets = self._buckets[write]
            # Who comes now does not pass those who wait.
            if self._armed[write]:
                return 0
            count = len(lengths)
            if not self._operation and let_in(buckets, now, (count, sum(lengths)), (1, lengths[-1])):
                self._last[write] = member
                return count
            amounts = self._amounts(lengths)
            for bucket, in_bytes in buckets:
                count = bucket.fits(now, amounts[in_bytes][:count])
            if count:
                self._last[write] = member
                self._account(buckets, now, amounts, count)
        return count

    def _admit_one(self, member: Member, length: int, write: bool) -> bool:
        """The same for one request: whether it goes."""
        if not self._buckets[write]:
            return True
        now = member.context.now_ns()
        with self._lock:
            size = self._operation
            operation = 1 if not size else length if length > size else size
            amount = operation, length
            if self._armed[write] or not let_in(self._buckets[write], now, amount, amount):
                return False
            self._last[write] = member
        return True

    def _count(self, member: Member, lengths: Sequence[int], write: bool) -> None:
        """Requests of these `lengths` go whatever the limits say, and count as long as `member` is one."""
        now = member.context.now_ns()
        with self._lock:
            if member in self.members:
                self._account(self._buckets[write], now, self._amounts(lengths), len(lengths))

    def _give_back(self, member: Member, lengths: Sequence[int], write: bool) -> None:
        """Requests of these `lengths`, just admitted, do not go after all."""
        now = member.context.now_ns()
        with self._lock:
            self._account(self._buckets[write], now, self._amounts(lengths), len(lengths), sign=-1)

    def _amounts(self, lengths: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """What each request of these `lengths` counts: where operations are counted, and where bytes are."""
        size = self._operation
        return [max(length, size) for length in lengths] if size else [1] * len(lengths), lengths

    @staticmethod
    def _account(
        buckets: Buckets,
        now: int,
        amounts: tuple[Sequence[int], Sequence[int]],
        count: int,
        *,
        sign: int = 1,
    ) -> None:
        """The first `count` of `amounts` go into all of `buckets`."""
        for bucket, in_bytes in buckets:
            bucket.add(now, sign * sum(amounts[in_bytes][:count]))

    def _enqueue(self, member: Member, waiting: Waiting, write: bool) -> None:
        with self._lock:
            member._queues[write].append(waiting)
            if not self._armed[write]:
                self._serve(write)

    def _dequeue(self, member: Member, waiting: Waiting, write: bool) -> None:
        with self._lock:
            if waiting in member._queues[write]:
                member._queues[write].remove(waiting)

    def _cancel(self, member: Member, wanted: Callable[[Request], bool]) -> None:
        with self._lock:
            for queue in member._queues:
                for waiting in tuple(queue):
                    request = waiting.request
                    if request is not None and all(map(wanted, request.roots())):
                        queue.remove(waiting)
                        self._waited(member, waiting)
                        waiting.admitted.set_error(OSError(errno.ECANCELED, "thrown away before it began"))

    def _waited(self, member: Member, waiting: Waiting) -> None:
        throttled = member.throttled
        throttled.operations += 1
        throttled.total_ns += member.context.now_ns() - waiting.since

    def _serve(self, write: bool) -> None:
        """Let go, in turn, what may go; set the timer for the rest."""
        buckets = self._buckets[write]
        while (member := self._next(write)) is not None:
            now = member.context.now_ns()
            wait = max((bucket.wait(now) for bucket, _ in buckets), default=0)
            if wait:
                self._arm(member, write, now + wait)
                return
            waiting = member._queues[write].popleft()
            self._last[write] = member
            self._account(buckets, now, self._amounts([waiting.length]), 1)
            self._admit(member, waiting)

    def _next(self, write: bool) -> Member | None:
        """The member after the one served last that has something waiting."""
        members = self.members
        last = self._last[write]
        start = members.index(last) + 1 if last in members else 0
        for at in range(len(members)):
            member = members[(start + at) % len(members)]
            if member._queues[write]:
                return member
        return None

    def _admit(self, member: Member, waiting: Waiting) -> None:
        context = member.context
        self._waited(member, waiting)
        if context.owned:
            waiting.admitted.set_result(None)
        else:
            context.post(lambda: waiting.admitted.set_result(None))

    def _arm(self, member: Member, write: bool, when: int) -> None:
        self._timers += 1
        self._armed[write] = number = self._timers
        context = member.context

        def due() -> None:
            with self._lock:
                if self._armed[write] == number:
                    self._armed[write] = 0
                    self._serve(write)

        if context.owned:
            context.call_at(when, due)
        else:
            context.post(partial(_call_at, context, when, due))

    # --- the end

    def _let_go(self, member: Member) -> None:
        with self._lock:
            for write, queue in enumerate(member._queues):
                while queue:
                    waiting = queue.popleft()
                    self._count(member, [waiting.length], bool(write))
                    self._admit(member, waiting)
                # The timer may have been on its context, which may end, or which it may leave.
                self._armed[write] = 0
                self._serve(bool(write))

    def _remove(self, member: Member) -> None:
        with self._lock:
            self.members.remove(member)
            self._let_go(member)
