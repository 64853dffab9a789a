"""What the guest does until the power goes: seeded requests on every queue, several in flight, told to a ledger.

Each vCPU has a queue of its own and makes batches of requests available with one notification.  Requests overlap in
place and in time as they like.  Whatever the device has answered is entered in the ledger as soon as anybody looks.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guestsim.drivers import virtio_blk
from guestsim.drivers.layouts import BlkFeature
from guestsim.drivers.transport import Interrupts
from guestsim.errors import GuestError
from guestsim.powercut.ledger import SECTOR, Act, Kind, Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from guestsim.drivers.blk_operation import Answer, Operation
    from guestsim.drivers.virtio_blk import Pending, VirtioBlk
    from guestsim.guest import Guest

_WEIGHTS = {Kind.WRITE: 10, Kind.FLUSH: 4, Kind.READ: 3, Kind.ZERO: 2, Kind.DISCARD: 2, Kind.ERASE: 1}
_NEEDS = {
    Kind.FLUSH: BlkFeature.FLUSH,
    Kind.ZERO: BlkFeature.WRITE_ZEROES,
    Kind.DISCARD: BlkFeature.DISCARD,
    Kind.ERASE: BlkFeature.SECURE_ERASE,
}
_BATCHES = (1, 1, 1, 2, 3, 5)
_DEPTHS = (1, 2, 6)
"""How many requests a vCPU leaves in flight before it waits for its oldest."""

QUEUES = 2

_NEIGHBOURS = 0.5
"""How often a request of a batch continues the one before."""

_TOGGLE = 0.06
"""How often a guest that switches the write cache does so before a batch."""

_RESET = 0.02
"""How often a guest resets the device before a batch, and brings it up again."""

NO_FLUSH = virtio_blk.BLK_FEATURES - {BlkFeature.FLUSH, BlkFeature.CONFIG_WCE}


@dataclass(frozen=True, slots=True)
class Load:
    """`requests` requests on each of `queues` queues, at most `longest` sectors each.

    `features` is what the driver is willing to accept; with `toggles` it switches the write cache now and then, and
    may know nothing of it after a reset.  `may_fail`: requests may.
    """

    seed: int
    requests: int = 40
    queues: int = QUEUES
    longest: int = 12
    features: Collection[int] = virtio_blk.BLK_FEATURES
    toggles: bool = False
    may_fail: bool = False


class WrongAnswerError(GuestError):
    """The device failed a request that was well formed, or a read found what cannot be there."""


class Flight:
    """A request on its way, or over."""

    __slots__ = ("act", "over", "pending")

    def __init__(self, act: Act, pending: Pending) -> None:
        self.act = act
        self.pending = pending
        self.over = False


class Player:
    """One guest at work; `look` takes down what the device has answered.

    `on_pause` is called when a batch has been submitted: where the device answers at once nobody ever waits.
    """

    def __init__(
        self,
        guest: Guest,
        driver: VirtioBlk,
        ledger: Ledger,
        load: Load,
        on_pause: Callable[[], None],
    ) -> None:
        self.on_pause = on_pause
        self.guest = guest
        self.driver = driver
        self.ledger = ledger
        self.load = load
        self.flights: list[Flight] = []
        self.busy = False
        """The device is being reset and brought up."""

    async def run(self) -> None:
        """Bring the disk up and work until everything is done; WrongAnswerError where something went wrong."""
        await self._bring_up(self.load.features)
        cpus = [self.guest.start(self._work(cpu)) for cpu in range(len(self.driver.queues))]
        await self.guest.wait_until(lambda: all(cpu.finished for cpu in cpus), "the vCPUs to finish")
        for cpu in cpus:
            cpu.result()

    async def _bring_up(self, features: Collection[int]) -> None:
        """Reset the device, which drops what is under way, and bring it up."""
        self.busy = True
        driver = self.driver
        await driver.probe(features=features, queues=self.load.queues, interrupts=Interrupts.POLLING)
        self.busy = False
        features = driver.device.features
        if BlkFeature.CONFIG_WCE in features:
            self.ledger.set_writeback(bool(driver.config["writeback"]))
        else:
            self.ledger.set_writeback(BlkFeature.FLUSH in features)

    async def _work(self, queue: int) -> None:
        load = self.load
        chance = random.Random(f"{load.seed}/{queue}")
        mine: list[Flight] = []
        left = load.requests
        while left > 0:
            if chance.random() < _RESET and not self.busy:
                await self._bring_up(NO_FLUSH if load.toggles and chance.random() < 0.5 else load.features)
            await self.guest.wait_until(lambda: not self.busy, "the device to be brought up")
            features = self.driver.device.features
            if load.toggles and BlkFeature.CONFIG_WCE in features and chance.random() < _TOGGLE:
                self._set_write_cache(not self.ledger.writeback)
            kinds = [kind for kind in _WEIGHTS if kind not in _NEEDS or _NEEDS[kind] in features]
            weights = [_WEIGHTS[kind] for kind in kinds]
            batch = self._batch(chance.choices(kinds, weights, k=min(left, chance.choice(_BATCHES))), chance)
            left -= len(batch)
            mine += await self._submit(batch, queue)
            depth = chance.choice(_DEPTHS)
            while len(mine) >= depth:
                await self._over(mine.pop(0))
        for flight in mine:
            await self._over(flight)

    def _batch(self, kinds: Sequence[Kind], chance: random.Random) -> list[tuple[Kind, int, int]]:
        """Requests as (kind, first, count), some of them neighbours of one kind, which a device may merge."""
        sectors = self.ledger.sectors
        batch: list[tuple[Kind, int, int]] = []
        for kind in kinds:
            if kind is Kind.FLUSH:
                batch.append((kind, 0, 0))
                continue
            first = chance.randrange(sectors)
            if batch and batch[-1][0] is not Kind.FLUSH and chance.random() < _NEIGHBOURS:
                before, at, count = batch[-1]
                if at + count < sectors:
                    kind, first = before, at + count
            batch.append((kind, first, min(sectors - first, chance.randint(1, self.load.longest))))
        return batch

    def _set_write_cache(self, on: bool) -> None:
        # Until it is switched off for certain, and from the moment that it may be on again, writes may be volatile.
        if on:
            self.ledger.set_writeback(True)
        self.driver.set_write_cache(on=on)
        if not on:
            self.ledger.set_writeback(False)

    async def _submit(self, batch: list[tuple[Kind, int, int]], queue: int) -> list[Flight]:
        acts = [self.ledger.begin(kind, first, count, queue) for kind, first, count in batch]
        pending = await self.driver.submit([_operation(act) for act in acts], queue=queue)
        flights = [Flight(act, one) for act, one in zip(acts, pending, strict=True)]
        self.flights += flights
        self.on_pause()
        return flights

    async def _over(self, flight: Flight) -> None:
        def over() -> bool:
            self.look()
            return flight.over

        await self.guest.wait_until(over, str(flight.act))

    def look(self) -> None:
        """Take down what the device has answered; WrongAnswerError where that cannot be."""
        if not self.flights:
            return
        self.driver.device.service()
        done = [flight for flight in self.flights if flight.pending.done]
        if not done:
            return
        self.flights = [flight for flight in self.flights if not flight.pending.done]
        for flight in done:
            flight.over = True
            if flight.pending.dropped:
                self.ledger.end(flight.act, ok=False)
            else:
                self._take_down(flight.act, _at_once(self.driver, flight.pending))

    def _take_down(self, act: Act, answer: Answer) -> None:
        found = self.ledger.end(act, ok=answer.ok, data=answer.data)
        if not answer.ok and not self.load.may_fail:
            raise WrongAnswerError(f"{act} failed with {answer.status_name}")
        if found:
            raise WrongAnswerError(str(found[0]))


def _at_once(driver: VirtioBlk, pending: Pending) -> Answer:
    """The answer of a request that is over."""
    finishing = driver.finish(pending)
    try:
        finishing.send(None)
    except StopIteration as stop:
        answer: Answer = stop.value
        return answer
    raise AssertionError("a request that is over has an answer")


def _operation(act: Act) -> Operation:
    at, length = act.first * SECTOR, act.count * SECTOR
    if act.kind is Kind.READ:
        return virtio_blk.read(at, length)
    if act.kind is Kind.WRITE:
        return virtio_blk.write(at, act.data)
    if act.kind is Kind.FLUSH:
        return virtio_blk.flush()
    if act.kind is Kind.ZERO and act.number % 4 == 2:
        # Zeroes may come as data, too.
        return virtio_blk.write(at, bytes(length))
    segments = [(at, length)]
    if act.count > 1 and act.number % 3 == 0:
        half = act.count // 2 * SECTOR
        segments = [(at + half, length - half), (at, half)]
    if act.kind is Kind.DISCARD:
        return virtio_blk.discard(segments)
    if act.kind is Kind.ERASE:
        return virtio_blk.secure_erase(segments)
    return virtio_blk.write_zeroes(segments, unmap=bool(act.number & 1))
