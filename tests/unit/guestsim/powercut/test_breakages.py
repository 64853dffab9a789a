"""The check can fail: what a device, the block layer or a disk may get wrong about stable writes, one at a time.

Each is broken on purpose; the simulator must find a sector that the guest was told is stable, and that is not there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from devmodels.blockbackend import BlockBackend, Flags, Op, Request, edge, modes
from devmodels.blockbackend.drivers.raw import RawNode
from devmodels.blockbackend.drivers.volatile_cache import Change, VolatileCacheNode
from devmodels.blockbackend.edge import Handler
from devmodels.blockbackend.filters import FilterNode
from devmodels.blockbackend.request import HAS_FUA
from devmodels.blockbackend.runs import Runs
from devmodels.blockbackend.vectors import is_zero
from devmodels.virtio_blk import others
from devmodels.virtio_blk.device import VirtioBlk
from devmodels.virtio_blk.request import S_OK, BlkRequest, RangePart
from guestsim.powercut.simulate import Run, cut_again, sample, simulate
from guestsim.powercut.stacks import WriteCache

Break = Callable[[pytest.MonkeyPatch], None]

MOST = 400
"""Within so many cuts each must be found."""


async def nothing(_node: object, _request: Request) -> None:
    pass


def without_fua(flags: Flags) -> Flags:
    return flags & ~Flags.FUA


# --- the block layer


def flush_returns_early(patch: pytest.MonkeyPatch) -> None:
    configure = BlockBackend._configure

    def broken(backend: BlockBackend) -> None:
        configure(backend)
        backend._serving.handlers[Op.FLUSH] = partial(nothing, backend)

    patch.setattr(BlockBackend, "_configure", broken)


def filter_swallows_flushes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RawNode, "flush", nothing)


def filter_drops_fua(patch: pytest.MonkeyPatch) -> None:
    async def write(node: FilterNode, request: Request) -> None:
        flags = without_fua(request.flags)
        await node.file.write(request.derive(request.offset, request.length, request.vectors, flags=flags))

    patch.setattr(RawNode, "write", write)


def write_through_does_not_flush(patch: pytest.MonkeyPatch) -> None:
    async def through(handler: Callable[[Request], object], request: Request) -> None:
        await handler(request)  # type: ignore[misc]

    patch.setattr(modes, "_through", through)


def zeroes_are_not_written_through(patch: pytest.MonkeyPatch) -> None:
    configure = BlockBackend._configure

    def broken(backend: BlockBackend) -> None:
        configure(backend)
        backend._serving.handlers[Op.WRITE_ZEROES] = backend.edge.write_zeroes

    patch.setattr(BlockBackend, "_configure", broken)


def detected_zeroes_lose_fua(patch: pytest.MonkeyPatch) -> None:
    async def detect(write: Handler, write_zeroes: Handler, more: Flags, request: Request) -> None:
        if request.length and is_zero(request.vectors):
            await write_zeroes(request.derive(request.offset, request.length, op=Op.WRITE_ZEROES, flags=more))
        else:
            await write(request)

    patch.setattr(edge, "_detect_zeroes", detect)


def kept_space_loses_fua(patch: pytest.MonkeyPatch) -> None:
    async def keep(write_zeroes: Handler, request: Request) -> None:
        await write_zeroes(request.derive(request.offset, request.length, flags=Flags.NONE))

    patch.setattr(edge, "_keep_space", keep)


def merged_write_loses_fua(patch: pytest.MonkeyPatch) -> None:
    async def merged(runs: Runs, run: list[Request]) -> None:
        first = run[0]
        vectors = [vector for request in run for vector in request.vectors]
        whole = first.derive(first.offset, sum(request.length for request in run), vectors)
        await runs._serving._backend.edge.handlers[first.op](whole)
        for request in run:
            runs._serving.complete(request, 0)

    patch.setattr(Runs, "merged", merged)


# --- the device


def flush_is_answered_before_it_is_done(patch: pytest.MonkeyPatch) -> None:
    flush = others.flush

    def broken(device: VirtioBlk, request: BlkRequest, sector: int) -> None:
        flush(device, request, sector)
        device.finish(request, S_OK)
        request.done = None

    patch.setattr(others, "flush", broken)


def flush_covers_its_own_queue_only(patch: pytest.MonkeyPatch) -> None:
    """A flush of a queue that has written nothing since its last one is answered at once."""
    flush, prepare = others.flush, VirtioBlk._prepare_io
    dirty: set[object] = set()

    def watched(device: VirtioBlk, request: BlkRequest, op: Op, *rest: object) -> bool:
        if op is Op.WRITE:
            dirty.add(request.queue)
        return prepare(device, request, op, *rest)  # type: ignore[arg-type]

    def broken(device: VirtioBlk, request: BlkRequest, sector: int) -> None:
        flush(device, request, sector)
        if request.queue in dirty:
            dirty.discard(request.queue)
        else:
            request.op, request.offset, request.length = Op.READ, 0, 0

    patch.setattr(VirtioBlk, "_prepare_io", watched)
    patch.setattr(others, "flush", broken)


def answer_does_not_wait_for_every_segment(patch: pytest.MonkeyPatch) -> None:
    def done(device: VirtioBlk, part: Request) -> None:
        assert isinstance(part, RangePart)
        whole = part.whole
        if whole.parts:
            whole.parts = 0
            device.io_done(whole)

    patch.setattr(VirtioBlk, "part_done", done)


def writeback_cannot_be_switched_off(patch: pytest.MonkeyPatch) -> None:
    write_config = VirtioBlk.write_config

    def broken(device: VirtioBlk, offset: int, size: int, value: int) -> None:
        write_config(device, offset, size, value)
        device.backend.write_cache = True

    patch.setattr(VirtioBlk, "write_config", broken)


def driver_without_flush_gets_a_write_back_cache(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(VirtioBlk, "_settle_write_cache", VirtioBlk._rebuild_config)


# --- the disk


def fua_is_ignored(patch: pytest.MonkeyPatch) -> None:
    keep = VolatileCacheNode._keep

    async def broken(node: VolatileCacheNode, request: Request, data: memoryview) -> None:
        if HAS_FUA[request.flags]:
            flags = without_fua(request.flags)
            request = request.derive(request.offset, request.length, request.vectors, flags=flags)
        await keep(node, request, data)

    patch.setattr(VolatileCacheNode, "_keep", broken)


def older_write_comes_back_over_one_with_fua(patch: pytest.MonkeyPatch) -> None:
    def supersede(node: VolatileCacheNode, until: int, _start: int, _end: int) -> None:
        node._forget(lambda change: [] if change.part_of == until else [change])

    patch.setattr(VolatileCacheNode, "_supersede", supersede)


def flush_does_not_wait_for_another_one(patch: pytest.MonkeyPatch) -> None:
    """What an earlier flush is just bringing down counts as stable."""
    flush = VolatileCacheNode.flush

    async def broken(node: VolatileCacheNode, request: Request) -> None:
        if not node._destaging.locked:
            await flush(node, request)

    patch.setattr(VolatileCacheNode, "flush", broken)


def newest_is_brought_down_first(patch: pytest.MonkeyPatch) -> None:
    destage = VolatileCacheNode._destage

    async def broken(node: VolatileCacheNode, until: int) -> None:
        newest_first = reversed(node.volatile)
        node.volatile = deque(sorted(newest_first, key=lambda change: change.part_of > until))
        await destage(node, until)

    patch.setattr(VolatileCacheNode, "_destage", broken)


def filter_leaves_with_what_it_keeps(patch: pytest.MonkeyPatch) -> None:
    async def settle(_node: VolatileCacheNode) -> None:
        pass

    patch.setattr(VolatileCacheNode, "settle", settle)


def sector_is_torn(patch: pytest.MonkeyPatch) -> None:
    def pieces(node: VolatileCacheNode) -> Iterator[Change]:
        for change in node.volatile:
            for start in range(change.start, change.end, 128):
                yield change.within(start, start + 128)

    patch.setattr(VolatileCacheNode, "_pieces", pieces)


def unit_is_torn(patch: pytest.MonkeyPatch) -> None:
    def pieces(node: VolatileCacheNode) -> Iterator[Change]:
        for change in node.volatile:
            for start in range(change.start, change.end, 512):
                yield change.within(start, start + 512)

    patch.setattr(VolatileCacheNode, "_pieces", pieces)


def discard_hits_another_place(patch: pytest.MonkeyPatch) -> None:
    async def discard(node: FilterNode, request: Request) -> None:
        await node.file.discard(request)

    patch.setattr(RawNode, "discard", discard)


ON, OFF, TOGGLED, UNKNOWN = WriteCache.ON, WriteCache.OFF, WriteCache.TOGGLED, WriteCache.UNKNOWN

BREAKAGES: list[tuple[Break, str, WriteCache]] = [
    (flush_returns_early, "memory", ON),
    (filter_swallows_flushes, "raw", ON),
    (filter_drops_fua, "raw", OFF),
    (write_through_does_not_flush, "memory", OFF),
    (zeroes_are_not_written_through, "memory", OFF),
    (detected_zeroes_lose_fua, "detect-zeroes", OFF),
    (kept_space_loses_fua, "keeps-space", OFF),
    (merged_write_loses_fua, "memory", OFF),
    (flush_is_answered_before_it_is_done, "delay", ON),
    (flush_covers_its_own_queue_only, "memory", ON),
    (answer_does_not_wait_for_every_segment, "memory", OFF),
    (writeback_cannot_be_switched_off, "memory", TOGGLED),
    (driver_without_flush_gets_a_write_back_cache, "memory", UNKNOWN),
    (fua_is_ignored, "memory", OFF),
    (older_write_comes_back_over_one_with_fua, "memory", TOGGLED),
    (flush_does_not_wait_for_another_one, "memory", ON),
    (newest_is_brought_down_first, "memory", ON),
    (filter_leaves_with_what_it_keeps, "filters-come-and-go", ON),
    (sector_is_torn, "memory", ON),
    (unit_is_torn, "atomic-4k", ON),
    (discard_hits_another_place, "raw-window", ON),
]


@pytest.mark.long
@pytest.mark.parametrize(
    ("breakage", "stack", "write_cache"), BREAKAGES, ids=[each[0].__name__ for each in BREAKAGES]
)
def test_it_is_found(
    breakage: Break, stack: str, write_cache: WriteCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    breakage(monkeypatch)
    cuts = 0
    for seed in range(20):
        run = Run("mmio", stack, write_cache, seed)
        result = simulate(run, sample(run, 60), most=MOST - cuts)
        cuts += result.cuts
        if result.loss is not None:
            break
    assert result.loss is not None
    # The line that it gives makes the same loss again, unless the machine went wrong before any cut.
    if result.loss.choice:
        again = cut_again(run, result.loss.cut, result.loss.choice)
        assert again.loss is not None
        assert again.loss.findings == result.loss.findings
