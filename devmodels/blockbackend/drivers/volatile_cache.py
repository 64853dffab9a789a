"""`volatile-cache`: a disk's volatile write cache, and what is left of it when the power is cut.

The contract is the one that guests see: a completed write is stable once a flush that was sent after its completion
has completed, or by itself with FUA (VIRTIO 1.4 §5.2.6.2; SBC-3, FUA and SYNCHRONIZE CACHE; ACS-3, WRITE DMA FUA
EXT and FLUSH CACHE EXT).  The cache keeps to it as weakly as is allowed, so that whoever relies on more is found out.
"""

from __future__ import annotations

import errno
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, NamedTuple

import msgspec

from devmodels.blockbackend.edge import Edge
from devmodels.blockbackend.filters import FilterNode, FilterOptions
from devmodels.blockbackend.node import SECTOR, BlockNode
from devmodels.blockbackend.options import BlockOptionError, NodeOptions, Size, shown
from devmodels.blockbackend.request import HAS_FUA, Flags, Op, Read, Request
from devmodels.blockbackend.status import BlockStatus, Status
from devmodels.blockbackend.vectors import clear, gather, scatter, window
from devmodels.iocontext import IoContext, Lock

MIB = 1 << 20
_LIKELY = (0.1, 0.5, 0.9)
"""How likely a piece survives a cut by chance: nearly nothing is left, half, nearly all."""


class VolatileCacheOptions(FilterOptions, frozen=True, kw_only=True):
    """`capacity`: how many bytes are kept at most.  `atomic-unit`: an aligned unit of so many bytes survives whole, as
    far as one write covers it, or not at all.  `seed`: for cuts that leave the choice to chance."""

    capacity: Size = 64 * MIB
    atomic_unit: Annotated[
        int, msgspec.Meta(ge=SECTOR, le=MIB, description=f"a power of two from {SECTOR} to {MIB}")
    ] = SECTOR
    seed: Annotated[int, msgspec.Meta(ge=0, description="a number from 0 on")] = 0


class Change(NamedTuple):
    """A change of [start, end) that is not stable: a write's `data`, zeroes, or a discard.

    `part_of` is the number of the request that it came with; numbers count up in order of arrival.
    """

    part_of: int
    op: Op
    start: int
    end: int
    data: memoryview
    flags: Flags

    def within(self, start: int, end: int) -> Change:
        """The part in [start, end), which overlaps this."""
        start, end = max(start, self.start), min(end, self.end)
        data = self.data[start - self.start : end - self.start] if self.data else self.data
        return self._replace(start=start, end=end, data=data)

    def without(self, start: int, end: int) -> Iterator[Change]:
        """What is left of it beside [start, end)."""
        if self.end <= start or end <= self.start:
            yield self
            return
        if self.start < start:
            yield self.within(self.start, start)
        if end < self.end:
            yield self.within(end, self.end)

    @property
    def charge(self) -> int:
        """What keeping it costs, in bytes."""
        return max(len(self.data), SECTOR)

    def request(self, flags: Flags = Flags.NONE) -> Request:
        """The change as a request."""
        flags |= self.flags & Flags.MAY_UNMAP
        return Request(self.op, self.start, self.end - self.start, (self.data,) if self.data else (), flags)


_NOTHING = memoryview(b"")
_MAX_END = 1 << 63


class VolatileCacheNode(FilterNode):
    """Keeps changes until a flush; reads see them.

    `volatile` has all that a power cut may take, in order of arrival: what a flush is just bringing to the child, too.
    """

    Options: ClassVar[type[NodeOptions]] = VolatileCacheOptions
    CHANGEABLE = FilterNode.CHANGEABLE | {"capacity", "atomic_unit", "seed"}

    def __init__(self, options: VolatileCacheOptions, context: IoContext, file: BlockNode) -> None:
        self.volatile: deque[Change] = deque()
        self._kept = 0
        self._number = 0
        self._destaging = Lock(context)
        """Who brings changes to the child: one at a time, so that the order is kept."""
        self._off = False
        self._random = random.Random(options.seed)
        super().__init__(options, context, file)

    @classmethod
    def open(cls, options: NodeOptions, context: IoContext, children: Mapping[str, BlockNode]) -> BlockNode:
        """BlockOptionError where the unit is no power of two."""
        assert isinstance(options, VolatileCacheOptions)
        _check(options)
        return cls(options, context, children["file"])

    def moved(self, context: IoContext) -> None:
        """Whoever brings changes to the child does so there."""
        super().moved(context)
        self._destaging.move(context)

    def _reopen(self, before: NodeOptions) -> None:
        """The power is back, if it was cut."""
        assert isinstance(self.options, VolatileCacheOptions)
        assert isinstance(before, VolatileCacheOptions)
        _check(self.options)
        super()._reopen(before)
        if self.options.seed != before.seed:
            self._random = random.Random(self.options.seed)
        self._off = False

    def child_changed(self, edge: Edge) -> None:
        """What lies beyond the child's end, where somebody made it shorter, is nowhere any more."""
        super().child_changed(edge)
        self._forget(lambda change: change.without(self.size, _MAX_END))

    # --- reading

    def read_now(self, reads: Sequence[Read]) -> int:
        """What the child has at hand, and what is kept here."""
        done = 0 if self._off else self.file.read_now(reads)
        if self.volatile:
            for offset, vectors, length in reads[:done]:
                _lay_over(offset, vectors, self._kept_in(offset, offset + length))
        return done

    async def read(self, request: Request) -> None:
        """Read the child, then lay over what was kept here when the read came.

        What is brought to the child, or written, meanwhile may be seen or not: it is done at the same time.
        """
        self._check_power()
        kept = self._kept_in(request.offset, request.offset + request.length)
        await self.file.read(request)
        self._check_power()
        _lay_over(request.offset, request.vectors, kept)

    def _kept_in(self, start: int, end: int) -> list[Change]:
        """The changes that a read of [start, end) sees.  A discard is none before it is carried out."""
        return [
            change.within(start, end)
            for change in self.volatile
            if change.start < end and start < change.end and change.op is not Op.DISCARD
        ]

    async def block_status(self, request: Request) -> BlockStatus:
        """What is kept has no place yet; elsewhere it is what the child has."""
        start, end = request.offset, request.offset + request.length
        kept = self._kept_in(start, end)
        end = min(
            (edge for change in kept for edge in (change.start, change.end) if edge > start), default=end
        )
        last = next((change for change in reversed(kept) if change.start == start), None)
        if last is None:
            return await self.file.block_status(request.derive(start, end - start))
        return BlockStatus(Status.DATA if last.data else Status.ZERO, end - start)

    # --- changing

    async def write(self, request: Request) -> None:
        """Keep a copy; with FUA it is brought to stable storage before this returns, others stay."""
        await self._keep(request, memoryview(gather(request.vectors)))

    async def write_zeroes(self, request: Request) -> None:
        """As a write, without the bytes."""
        await self._keep(request, _NOTHING)

    async def discard(self, request: Request) -> None:
        """Kept in its place among the others; reads see the old content until it is carried out."""
        await self._keep(request, _NOTHING)

    async def _keep(self, request: Request, data: memoryview) -> None:
        self._check_power()
        if request.offset + request.length > self.size:
            raise OSError(errno.ENOSPC, "a disk with a cache does not grow by writes")
        if not request.length:
            return
        change = Change(0, request.op, request.offset, request.offset + request.length, data, request.flags)
        await self._make_room(change.charge)
        self._number += 1
        change = change._replace(part_of=self._number)
        self.volatile.append(change)
        self._kept += change.charge
        if HAS_FUA[request.flags]:
            await self._pass(change)

    async def _make_room(self, charge: int) -> None:
        """Bring the oldest to the child until `charge` more bytes fit, or nothing is left."""
        assert isinstance(self.options, VolatileCacheOptions)
        while self.volatile and self._kept + charge > self.options.capacity:
            oldest = self.volatile[0].part_of
            await self._destage(oldest)

    async def _pass(self, change: Change) -> None:
        """Make `change` stable, and none of those before it."""
        async with self._destaging:
            self._check_power()
            # Turns are in order of arrival, so whoever came later has not brought it down already.
            try:
                await self._hand_down(change.request(Flags.FUA))
            except BaseException:
                self._forget(lambda other: [] if other.part_of == change.part_of else [other])
                raise
            self._check_power()
            self._supersede(change.part_of, change.start, change.end)

    async def secure_erase(self, request: Request) -> None:
        """At once and in the child, and of what is kept here nothing stays that is older."""
        async with self._destaging:
            self._check_power()
            until = self._number
            await self.file.secure_erase(request)
            self._check_power()
            self._supersede(until, request.offset, request.offset + request.length)

    def _supersede(self, until: int, start: int, end: int) -> None:
        """Of the changes up to number `until` none is left in [start, end)."""

        def rest(change: Change) -> Iterator[Change]:
            return change.without(start, end) if change.part_of <= until else iter((change,))

        self._forget(rest)

    def _forget(self, rest: Callable[[Change], Iterator[Change] | list[Change]]) -> None:
        """Keep of each change what `rest` says.  A read under way goes on with what it has found."""
        self.volatile = deque(part for change in self.volatile for part in rest(change))
        self._kept = sum(change.charge for change in self.volatile)

    # --- flushing

    async def flush(self, request: Request) -> None:
        """Make everything stable that has completed before; what comes meanwhile is for the next flush."""
        self._check_power()
        await self._destage(self._number)
        await self.file.flush(request)
        self._check_power()

    async def settle(self) -> None:
        """The node is about to leave its child, which gets everything."""
        if not self._off:
            await self._destage(self._number)

    async def _destage(self, until: int) -> None:
        """Bring the changes up to number `until` to the child, in order."""
        async with self._destaging:
            self._check_power()
            while self.volatile and self.volatile[0].part_of <= until:
                change = self.volatile[0]
                await self._hand_down(change.request())
                self._check_power()
                # Only this holder of the lock takes from the front, but where the child has become shorter meanwhile
                # what lies beyond its end is gone already (`child_changed`).
                if self.volatile and self.volatile[0] is change:
                    self._kept -= change.charge
                    self.volatile.popleft()

    async def _hand_down(self, request: Request) -> None:
        await self.file.handlers[request.op](request)

    async def truncate(self, size: int) -> None:
        """Everything is stable before the child gets its new size."""
        await self.flush(Request(Op.FLUSH, 0, 0))
        await super().truncate(size)

    # --- the power cut

    def survivors(self, choice: str) -> list[Change]:
        """The volatile changes, or parts of them, that are there after a cut, in the order in which they arrive.

        `choice`: `none`; `all`; `but-N`, all of them without request N of those that are volatile (from 0 on, modulo
        their number); `random`, any subset and any order, piece by piece, by the option `seed`; `random-N`, the same by
        the seed N.  ValueError for another.
        """
        kind, _, number = choice.partition("-")
        if choice == "none":
            return []
        if choice == "all":
            return list(self.volatile)
        if choice == "random":
            return self._by_chance(self._random)
        if kind in ("but", "random") and number.isdecimal():
            if kind == "random":
                return self._by_chance(random.Random(int(number)))
            numbers = list(dict.fromkeys(change.part_of for change in self.volatile))
            lost = numbers[int(number) % len(numbers)] if numbers else 0
            return [change for change in self.volatile if change.part_of != lost]
        raise ValueError(f"choice {shown(choice)}: expected none, all, but-N, random or random-N")

    def _by_chance(self, chance: random.Random) -> list[Change]:
        likely = chance.choice(_LIKELY)
        pieces = [piece for piece in self._pieces() if chance.random() < likely]
        chance.shuffle(pieces)
        return pieces

    def _pieces(self) -> Iterator[Change]:
        """The volatile changes cut where a cut of the power may tear them."""
        assert isinstance(self.options, VolatileCacheOptions)
        unit = self.options.atomic_unit
        for change in self.volatile:
            for start in range(change.start // unit * unit, change.end, unit):
                yield change.within(start, start + unit)

    async def cut(self, choice: str = "random") -> None:
        """The power goes: of what is volatile the survivors of `choice` arrive, all other requests fail from now on.

        Until the node is reopened.  What is on its way to the child arrives; a reopened node finds the child as it is.
        OSError where the child fails meanwhile: what has not arrived by then is lost.
        """
        survivors = self.survivors(choice)
        self._off = True
        async with self._destaging:
            try:
                for change in survivors:
                    await self._hand_down(change.request())
                await self.file.flush(Request(Op.FLUSH, 0, 0))
            finally:
                self._forget(lambda _: [])

    def _check_power(self) -> None:
        if self._off:
            raise OSError(errno.EIO, f"the power of {self.description} was cut")


def _lay_over(offset: int, vectors: Sequence[memoryview], kept: list[Change]) -> None:
    """Copy `kept`, in order, over a payload that was read from `offset`."""
    for change in kept:
        part = window(vectors, change.start - offset, change.end - change.start)
        if change.data:
            scatter(part, change.data)
        else:
            clear(part)


def _check(options: VolatileCacheOptions) -> None:
    unit = options.atomic_unit
    if unit & (unit - 1):
        raise BlockOptionError(
            f"$.atomic-unit: {unit} is given; expected a power of two from {SECTOR} to {MIB}"
        )
