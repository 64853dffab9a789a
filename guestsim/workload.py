"""Requests at random, the same for the same seed, held against a model of what the disk must contain.

Several may be in flight at once; those never overlap, so that what each reads is known.  Contents of a discarded
range are not known any more (VIRTIO 1.4 §5.2.6.1) until it is written again.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guestsim.drivers import virtio_blk
from guestsim.drivers.layouts import SECTOR, BlkFeature
from guestsim.drivers.virtio_blk import RequestError
from guestsim.errors import GuestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from guestsim.drivers.virtio_blk import Answer, Operation, Pending, VirtioBlk

KINDS = ("read", "write", "zero", "discard", "flush")


@dataclass(frozen=True, slots=True)
class Workload:
    """What to do: `requests` requests inside `length` bytes from `start` on, up to `depth` of them in flight.

    `mix` gives each kind its weight; `max_length` and `scatter` bound a request's bytes and its buffers.
    """

    start: int
    length: int
    requests: int = 100
    seed: int = 0
    depth: int = 1
    max_length: int = 64 << 10
    scatter: int = 1
    mix: tuple[tuple[str, int], ...] = (("read", 1), ("write", 1))


class WorkloadError(GuestError):
    """The disk did not hold what the model says."""


@dataclass(slots=True)
class _Flight:
    kind: str
    start: int
    end: int
    data: bytes
    operation: Operation
    pending: Pending


class _Run:
    """One workload on its way."""

    def __init__(self, driver: VirtioBlk, work: Workload) -> None:
        self.driver = driver
        self.work = work
        self.random = random.Random(work.seed)
        self.model = bytearray()
        self.known = bytearray()
        self.flights: list[_Flight] = []
        self.counts: Counter[str] = Counter()

    async def run(self) -> Counter[str]:
        work = self.work
        self.model += await self.driver.read(work.start, work.length)
        self.known += b"\1" * (work.length // SECTOR)
        kinds = [kind for kind, weight in self._usable() for _ in range(weight)]
        if not kinds:
            raise WorkloadError("the device offers no request of the mix")
        for _ in range(work.requests):
            while len(self.flights) >= work.depth:
                await self._finish_oldest()
            await self._start(self.random.choice(kinds))
        while self.flights:
            await self._finish_oldest()
        await self._verify()
        return self.counts

    def _usable(self) -> list[tuple[str, int]]:
        """The mix without what the device doesn't offer."""
        needs = {"zero": BlkFeature.WRITE_ZEROES, "discard": BlkFeature.DISCARD, "flush": BlkFeature.FLUSH}
        features = self.driver.device.features
        return [
            (kind, weight) for kind, weight in self.work.mix if kind not in needs or needs[kind] in features
        ]

    async def _start(self, kind: str) -> None:
        start, end = self._range()
        while any(flight.start < end and start < flight.end for flight in self.flights):
            await self._finish_oldest()
        data = b""
        scatter = self.random.randint(1, self.work.scatter)
        at = self.work.start + start
        if kind == "read":
            operation = virtio_blk.read(at, end - start, scatter=scatter)
        elif kind == "write":
            data = self.random.randbytes(end - start)
            operation = virtio_blk.write(at, data, scatter=scatter)
        elif kind == "zero":
            unmap = bool(self.random.getrandbits(1))
            operation = virtio_blk.write_zeroes([(at, end - start)], unmap=unmap)
        elif kind == "discard":
            operation = virtio_blk.discard([(at, end - start)])
        else:
            operation = virtio_blk.flush()
            start = end = 0
        (pending,) = await self.driver.submit([operation])
        self.flights.append(_Flight(kind, start, end, data, operation, pending))
        self.counts[kind] += 1

    def _range(self) -> tuple[int, int]:
        sectors = self.work.length // SECTOR
        most = max(1, min(self.work.max_length, self.driver.max_transfer()) // SECTOR)
        start = self.random.randrange(sectors)
        count = min(sectors - start, self.random.randint(1, most))
        return start * SECTOR, (start + count) * SECTOR

    async def _finish_oldest(self) -> None:
        flight = self.flights.pop(0)
        answer = await self.driver.finish(flight.pending)
        if not answer.ok:
            raise RequestError(flight.operation, answer)
        self._account(flight, answer)

    def _account(self, flight: _Flight, answer: Answer) -> None:
        start, end = flight.start, flight.end
        if flight.kind == "read":
            self._compare(start, answer.data)
        elif flight.kind in ("write", "zero"):
            self.model[start:end] = flight.data or bytes(end - start)
            self.known[start // SECTOR : end // SECTOR] = b"\1" * ((end - start) // SECTOR)
        elif flight.kind == "discard":
            self.known[start // SECTOR : end // SECTOR] = bytes((end - start) // SECTOR)

    def _compare(self, start: int, data: bytes) -> None:
        for at in range(0, len(data), SECTOR):
            place = start + at
            if self.known[place // SECTOR] and data[at : at + SECTOR] != self.model[place : place + SECTOR]:
                raise WorkloadError(
                    f"sector {(self.work.start + place) // SECTOR} does not hold what was written last"
                    f" (after {sum(self.counts.values())} requests of seed {self.work.seed})"
                )

    async def _verify(self) -> None:
        self._compare(0, await self.driver.read(self.work.start, self.work.length))


async def run(driver: VirtioBlk, work: Workload) -> Mapping[str, int]:
    """Carry a workload out; how many requests of each kind there were.

    Raises `WorkloadError` where contents are wrong and `RequestError` where the device fails a request.
    """
    return await _Run(driver, work).run()
