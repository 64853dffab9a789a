"""Defects for the device, put in on purpose. None of them shows in one request alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import pytest

from devmodels.blockbackend import merge
from devmodels.blockbackend import waiting as waitings
from devmodels.blockbackend.backend import BlockBackend
from devmodels.blockbackend.node import BlockLimits
from devmodels.blockbackend.request import Op, Request
from devmodels.blockbackend.vectors import clear
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain
from devmodels.virtio.split import SplitRing
from devmodels.virtio_blk import device as blk_devices
from devmodels.virtio_blk import others
from devmodels.virtio_blk.device import VirtioBlk
from devmodels.virtio_blk.layout import BlkType
from devmodels.virtio_blk.request import S_OK, BlkRequest, RangePart


def _all_by_the_backend(patch: pytest.MonkeyPatch) -> None:
    def read_now(device: VirtioBlk, queue: VirtQueue, chains: Sequence[Chain]) -> int:
        return 0

    patch.setattr(blk_devices, "read_now", read_now)


@contextmanager
def lost_interrupt() -> Iterator[None]:
    """With EVENT_IDX nobody is notified of the buffer by which the used index comes to a multiple of 256."""
    original = SplitRing.publish

    def publish(self: SplitRing) -> bool:
        before = self._published
        wanted = original(self)
        return wanted and not (self._event_idx and before >> 8 != self._used_idx >> 8)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SplitRing, "publish", publish)
        yield


@contextmanager
def swapped_reads() -> Iterator[None]:
    """Of neighbouring reads that are served by one, the last two get each other's data."""
    original = merge.take_run

    def take_run(first: Request, waiting: deque[Request], size: int, limits: BlockLimits) -> list[Request]:
        run = original(first, waiting, size, limits)
        if len(run) > 1 and first.op is Op.READ and run[-1].length == run[-2].length:
            run[-1].vectors, run[-2].vectors = run[-2].vectors, run[-1].vectors
        return run

    with pytest.MonkeyPatch.context() as patch:
        _all_by_the_backend(patch)
        patch.setattr(waitings, "take_run", take_run)
        yield


@contextmanager
def stale_zeroes() -> Iterator[None]:
    """What was zeroed or discarded last reads as zero, whatever was written there since."""
    original = BlockBackend.submit
    zeroed: WeakKeyDictionary[BlockBackend, tuple[int, int]] = WeakKeyDictionary()

    def submit(self: BlockBackend, request: Request) -> None:
        start, end = zeroed.get(self, (0, 0))
        if request.op in (Op.WRITE_ZEROES, Op.DISCARD):
            zeroed[self] = (request.offset, request.offset + request.length)
        elif request.op is Op.READ and start <= request.offset < end:
            done = request.done
            assert done is not None

            def cleared(request: Request) -> None:
                clear(request.vectors)
                done(request)

            request.done = cleared
        original(self, request)

    with pytest.MonkeyPatch.context() as patch:
        _all_by_the_backend(patch)
        patch.setattr(BlockBackend, "submit", submit)
        yield


@contextmanager
def write_at_the_beginning() -> Iterator[None]:
    """Writes of several sectors go to the beginning of the disk as well."""
    original = BlockBackend.submit

    def submit(self: BlockBackend, request: Request) -> None:
        original(self, request)
        if request.op is Op.WRITE and request.length > 512:
            vectors = [memoryview(bytes(512))]
            original(self, Request(Op.WRITE, 0, 512, vectors, done=lambda _: None))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BlockBackend, "submit", submit)
        yield


@contextmanager
def forgotten_request() -> Iterator[None]:
    """A read that follows two writes is never answered."""
    original = VirtioBlk.finish
    writes: WeakKeyDictionary[VirtioBlk, int] = WeakKeyDictionary()

    def finish(
        self: VirtioBlk, request: BlkRequest, status: int, *, filled: bool = False, reachable: bool = True
    ) -> None:
        before = writes.get(self, 0)
        writes[self] = before + 1 if request.op is Op.WRITE else 0
        if request.op is not Op.READ or before < 2:
            original(self, request, status, filled=filled, reachable=reachable)

    with pytest.MonkeyPatch.context() as patch:
        _all_by_the_backend(patch)
        patch.setattr(VirtioBlk, "finish", finish)
        yield


@contextmanager
def empty_flush() -> Iterator[None]:
    """A flush is acknowledged, and never reaches the disk: no driver can tell."""
    original = others.start_other

    def start_other(
        device: VirtioBlk,
        request: BlkRequest,
        kind: int,
        sector: int,
        data_in: list[tuple[int, int]],
        starting: list[Request],
    ) -> None:
        if kind == BlkType.VIRTIO_BLK_T_FLUSH:
            device.finish(request, S_OK)
        else:
            original(device, request, kind, sector, data_in, starting)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("devmodels.virtio_blk.device.start_other", start_other)
        yield


@contextmanager
def raises_on_zeroes() -> Iterator[None]:
    """What zeroes or discards makes the device raise."""

    def ranges(device: VirtioBlk, request: BlkRequest, kind: BlkType) -> list[RangePart]:
        raise KeyError(kind.name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(others, "range_parts", ranges)
        yield


@contextmanager
def forgotten_last() -> Iterator[None]:
    """Of four requests and more that are found together, the last is never answered."""
    original = VirtioBlk.handle

    def handle(self: VirtioBlk, queue: VirtQueue, chains: Sequence[Chain]) -> None:
        original(self, queue, chains[:-1] if len(chains) > 3 else chains)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VirtioBlk, "handle", handle)
        yield


@contextmanager
def cut_write() -> Iterator[None]:
    """A write of more than 8 KiB that is in several pieces leaves zeroes in its last sector."""
    original = BlockBackend.submit

    def submit(self: BlockBackend, request: Request) -> None:
        if request.op is Op.WRITE and len(request.vectors) > 1 and request.length > 8192:
            *first, last = request.vectors
            request.vectors = (*first, memoryview(bytes(last[:-512]) + bytes(512)))
        original(self, request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BlockBackend, "submit", submit)
        yield
