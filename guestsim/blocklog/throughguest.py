"""Requests as a guest makes them: through a driver, its rings and a device.

What a driver does above its device is done here: what is longer than the device takes is cut, FUA is a write and a
flush after it, and what the device does not offer is not asked for.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from devmodels.blockbackend.request import Flags, Op
from guestsim.blocklog.events import SECTOR, Begin, payload
from guestsim.blocklog.replay import Replay, Running
from guestsim.drivers import virtio_blk
from guestsim.drivers.layouts import BlkFeature, BlkStatus
from guestsim.drivers.virtio_blk import Operation, Pending, VirtioBlk
from guestsim.guest import SECOND, Guest, SteppedClock

ANSWER_NS = 60 * SECOND
"""A device that answers nothing for so long has hung."""
TOGETHER = 64
"""The device is told once of so many requests at most."""
_PIECE = 4 << 20
"""A request that is longer is done in pieces of this, one after the other."""
_MEMORY = 24 << 20
"""While so many bytes of guest memory hold data, nothing begins."""

_STATUS = {int(BlkStatus.OK): 0, int(BlkStatus.UNSUPP): errno.ENOTSUP}

_NEEDS = {
    Op.DISCARD: BlkFeature.DISCARD,
    Op.WRITE_ZEROES: BlkFeature.WRITE_ZEROES,
    Op.SECURE_ERASE: BlkFeature.SECURE_ERASE,
}
_LIMITS = {
    Op.DISCARD: "max_discard_sectors",
    Op.WRITE_ZEROES: "max_write_zeroes_sectors",
    Op.SECURE_ERASE: "max_secure_erase_sectors",
}


class _Work:
    """A request under way in steps: the operations of one have ended before those of the next are made."""

    __slots__ = ("nbytes", "pending", "queue", "running", "steps")

    def __init__(self, running: Running, queue: int, steps: Iterator[list[Operation]]) -> None:
        self.running = running
        self.queue = queue
        self.steps = steps
        self.pending: list[Pending] = []
        begin = running.begin
        self.nbytes = min(begin.length, _PIECE) if begin.op in (Op.READ, Op.WRITE) else 0
        """Of guest memory, about, that its data takes."""

    @property
    def done(self) -> bool:
        """Whether the device has answered all of the step."""
        return all(pending.done for pending in self.pending)


class ThroughGuest:
    """Carries a replay out with `driver`, which has probed its device, on the machine's clock."""

    def __init__(self, guest: Guest, driver: VirtioBlk, replay: Replay) -> None:
        self._guest = guest
        self._driver = driver
        self._replay = replay
        self._now = guest.target.now_ns
        self._max_transfer = driver.max_transfer()
        self._features = driver.device.features
        self._works: list[_Work] = []
        self._nbytes = 0

    async def play(self) -> None:
        """Do all of it; GuestError where the device does not do what a device does."""
        self._guest.timeout_ns = ANSWER_NS
        replay = self._replay
        new: list[_Work] = []
        while not replay.over:
            room = len(new) < TOGETHER and self._nbytes < _MEMORY
            found = replay.step(self._now()) if room else None
            if isinstance(found, Begin):
                new.append(self._work(found))
                continue
            full = len(new) == TOGETHER
            ended = await self._submit(new)
            new.clear()
            if not (full or ended or replay.over):
                await self._wait(found)
                await self._look()

    def _work(self, begin: Begin) -> _Work:
        running = self._replay.begin(begin, self._now())
        work = _Work(running, begin.queue % len(self._driver.queues), self._steps(begin))
        self._works.append(work)
        self._nbytes += work.nbytes
        return work

    # --- what a request is for the device

    def _steps(self, begin: Begin) -> Iterator[list[Operation]]:
        op = begin.op
        if op is Op.FLUSH:
            if BlkFeature.FLUSH in self._features:
                yield [virtio_blk.flush()]
            return
        if (begin.offset | begin.length) % SECTOR:
            raise OSError(errno.EINVAL, "not of whole sectors")
        if op in (Op.READ, Op.WRITE):
            yield from self._transfers(begin)
        else:
            yield from self._ranges(begin)
        if begin.flags & Flags.FUA and BlkFeature.FLUSH in self._features:
            yield [virtio_blk.flush()]

    def _transfers(self, begin: Begin) -> Iterator[list[Operation]]:
        most = self._max_transfer
        for start in range(0, begin.length, _PIECE):
            operations = []
            for at in range(start, min(start + _PIECE, begin.length), most):
                length = min(most, begin.length - at, start + _PIECE - at)
                offset = begin.offset + at
                if begin.op is Op.READ:
                    operations.append(virtio_blk.read(offset, length))
                else:
                    operations.append(virtio_blk.write(offset, payload(begin, at, length)))
            yield operations

    def _ranges(self, begin: Begin) -> Iterator[list[Operation]]:
        op = begin.op
        if _NEEDS[op] not in self._features:
            raise OSError(errno.ENOTSUP, "not offered")
        most = (self._driver.config.get(_LIMITS[op]) or (1 << 32) - 1) * SECTOR
        for at in range(0, begin.length, most):
            ranges = [(begin.offset + at, min(most, begin.length - at))]
            if op is Op.DISCARD:
                yield [virtio_blk.discard(ranges)]
            elif op is Op.SECURE_ERASE:
                yield [virtio_blk.secure_erase(ranges)]
            else:
                unmap = bool(begin.flags & Flags.MAY_UNMAP)
                yield [virtio_blk.write_zeroes(ranges, unmap=unmap)]

    # --- on its way

    async def _submit(self, works: list[_Work]) -> bool:
        """Make the next step of each available, those of one queue with one notification; whether any is over."""
        queues: dict[int, list[tuple[_Work, list[Operation]]]] = {}
        ended = False
        for work in works:
            operations = self._next(work)
            if operations is None:
                self._over(work)
                ended = True
            else:
                queues.setdefault(work.queue, []).append((work, operations))
        for queue, made in queues.items():
            pending = iter(await self._driver.submit([one for _, many in made for one in many], queue=queue))
            for work, operations in made:
                work.pending = [next(pending) for _ in operations]
        return ended

    def _next(self, work: _Work) -> list[Operation] | None:
        """The operations of the next step; None where there is none any more."""
        if work.running.error:
            return None
        try:
            return next(work.steps, None)
        except OSError as error:
            work.running.error = error.errno or errno.EIO
            return None

    def _over(self, work: _Work) -> None:
        self._works.remove(work)
        self._nbytes -= work.nbytes
        self._replay.end(work.running, self._now())

    async def _wait(self, until_ns: int | None) -> None:
        """Suspend until the device has answered a request, or until a time."""
        works, target, now = self._works, self._guest.target, self._now
        if until_ns is not None and isinstance(target, SteppedClock):
            target.step_clock(max(0, until_ns - now()))

        def ready() -> bool:
            return any(work.done for work in works) or (until_ns is not None and now() >= until_ns)

        patience = ANSWER_NS if until_ns is None else until_ns - now() + ANSWER_NS
        await self._driver.device.wait_for(ready, "an answer to any request", patience)

    async def _look(self) -> None:
        """Take the answers that are there; go on with what has more to do."""
        going_on = []
        for work in [work for work in self._works if work.done]:
            for pending in work.pending:
                answer = await self._driver.finish(pending)
                error = 0 if answer.status is None else _STATUS.get(answer.status, errno.EIO)
                work.running.error = work.running.error or error
                if work.running.begin.op is Op.READ and not work.running.error:
                    work.running.read(answer.data)
            work.pending = []
            going_on.append(work)
        await self._submit(going_on)
