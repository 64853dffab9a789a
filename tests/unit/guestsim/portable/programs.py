"""Random guest programs: what a driver may do with a disk, in any order, mostly at the same few places."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from guestsim.disk import Disk
from guestsim.drivers import virtio_blk
from guestsim.drivers.blk_operation import Operation
from guestsim.drivers.layouts import BLK_HEADER, BlkFeature, BlkType, Feature
from guestsim.drivers.transport import Interrupts
from guestsim.drivers.virtio_blk import BLK_FEATURES

SIZE = 1 << 20
_OPTIONAL = (
    Feature.EVENT_IDX,
    Feature.INDIRECT_DESC,
    Feature.RING_RESET,
    BlkFeature.DISCARD,
    BlkFeature.CONFIG_WCE,
)


class RandomGuest:
    """A driver that does `acts` things, the same ones for the same `seed`, on a disk of `SIZE` with two queues."""

    def __init__(self, seed: int, acts: int) -> None:
        self._random = Random(seed)
        self._acts = acts

    def __call__(self, disk: Disk) -> None:
        """Do all of it."""
        doing = (self._requests, self._overlapping, self._probe, self._write_cache, self._reset_queue)
        for _ in range(self._acts):
            (act,) = self._random.choices(doing, weights=(10, 5, 1, 1, 1))
            act(disk)

    # --- what it does

    def _requests(self, disk: Disk) -> None:
        disk.requests(*self._some(), queue=self._random.randrange(2))

    def _overlapping(self, disk: Disk) -> None:
        """Requests on two queues, the first ones not awaited before the others are made available."""

        async def both() -> None:
            first = await disk.driver.submit(self._some(), queue=0)
            second = await disk.driver.submit(self._some(), queue=1)
            for one in (*first, *second):
                await disk.driver.finish(one)

        disk.guest.run(both())

    def _probe(self, disk: Disk) -> None:
        without = {bit for bit in _OPTIONAL if self._random.random() < 0.3}
        interrupts = self._random.choice(list(Interrupts))
        indirect = self._random.random() < 0.7
        disk.guest.run(
            disk.driver.probe(features=BLK_FEATURES - without, interrupts=interrupts, indirect=indirect)
        )

    def _write_cache(self, disk: Disk) -> None:
        if BlkFeature.CONFIG_WCE in disk.features:
            disk.set_write_cache(on=self._random.random() < 0.5)

    def _reset_queue(self, disk: Disk) -> None:
        if Feature.RING_RESET in disk.features:
            disk.guest.run(disk.driver.reset_queue(0))

    # --- requests

    def _some(self) -> list[Operation]:
        return [self._operation() for _ in range(self._random.randint(1, 6))]

    def _operation(self) -> Operation:
        making = (self._read, self._write, self._zero, self._discard, self._odd, self._other)
        (make,) = self._random.choices(making, weights=(6, 5, 2, 1, 1, 1))
        return make()

    def _place(self) -> tuple[int, int]:
        return self._random.randrange(6) * 2048, self._random.choice((512, 2048, 4096))

    def _read(self) -> Operation:
        at, length = self._place()
        return virtio_blk.read(at, length, scatter=self._random.randint(1, 3))

    def _write(self) -> Operation:
        at, length = self._place()
        return virtio_blk.write(at, self._random.randbytes(length), scatter=self._random.randint(1, 3))

    def _zero(self) -> Operation:
        return virtio_blk.write_zeroes([self._place()], unmap=self._random.random() < 0.5)

    def _discard(self) -> Operation:
        return virtio_blk.discard([self._place() for _ in range(self._random.randint(1, 2))])

    def _odd(self) -> Operation:
        """A request whose header, data and status are cut at odd places."""
        out = self._random.random() < 0.5
        readable = BLK_HEADER.struct.pack(BlkType.OUT if out else BlkType.IN, 0, 4)
        readable += self._random.randbytes(1024) if out else b""
        writable = 1 if out else 1025
        return Operation(readable, writable, self._split(len(readable)), self._split(writable), checked=False)

    def _split(self, length: int) -> tuple[int, ...]:
        cuts = {self._random.randrange(length) for _ in range(self._random.randrange(4))}
        return tuple(end - start for start, end in pairwise(sorted({0, length, *cuts})))

    def _other(self) -> Operation:
        beyond = virtio_blk.read(SIZE - 512, 1024)
        unknown = Operation(BLK_HEADER.struct.pack(77, 0, 0), 1, checked=False)
        return self._random.choice((virtio_blk.flush(), virtio_blk.get_id(), beyond, unknown))
