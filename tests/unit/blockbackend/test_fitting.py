"""Nodes that take whole blocks only: what a guest asks is made to fit, and nobody's bytes get lost on the way."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend import BlockLimits, BlockNode, Flags, Graph, Op, Request
from devmodels.blockbackend.filters import FilterNode
from devmodels.blockbackend.options import NodeOptions
from devmodels.blockbackend.ranges import InFlight
from devmodels.blockbackend.writelog import WriteLog
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import Disk, WatchedNode, payload

BLOCK = 512
SIZE = 8 * BLOCK


class BlockNode512(WatchedNode):
    """Takes whole blocks of 512 bytes; anything else is a bug of the layer above."""

    def __init__(self, context: IoContext, limits: BlockLimits | None = None) -> None:
        super().__init__(context, SIZE, limits or BlockLimits(request_alignment=BLOCK))

    async def _watched(self, request: Request) -> None:
        assert request.offset % BLOCK == 0
        assert request.length % BLOCK == 0
        assert sum(map(len, request.vectors)) in (0, request.length)
        if self.limits.max_transfer:
            assert request.length <= self.limits.max_transfer
        await super()._watched(request)


@pytest.fixture
def node() -> Iterator[BlockNode512]:
    context = IoContext.virtual()
    node = BlockNode512(context)
    yield node
    node.close()
    context.close()


@pytest.fixture
def disk(node: BlockNode512) -> Disk:
    disk = Disk(node)
    disk.write(0, b"\xaa" * SIZE)
    node.seen.clear()
    return disk


def test_what_is_aligned_goes_straight_to_the_node(disk: Disk, node: BlockNode512) -> None:
    request = disk.submit(Op.READ, BLOCK, 2 * BLOCK)
    assert node.seen == [request]


def test_a_read_takes_in_whole_blocks(disk: Disk, node: BlockNode512) -> None:
    assert disk.read(500, 20) == b"\xaa" * 20
    assert node.log() == [(Op.READ, 0, 2 * BLOCK)]


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        (10, 20, [(Op.READ, 0, BLOCK), (Op.WRITE, 0, BLOCK)]),
        (10, BLOCK, [(Op.READ, 0, 2 * BLOCK), (Op.WRITE, 0, 2 * BLOCK)]),
        (10, 2 * BLOCK, [(Op.READ, 0, BLOCK), (Op.READ, 2 * BLOCK, BLOCK), (Op.WRITE, 0, 3 * BLOCK)]),
        (BLOCK, BLOCK + 1, [(Op.READ, 2 * BLOCK, BLOCK), (Op.WRITE, BLOCK, 2 * BLOCK)]),
        (BLOCK - 1, BLOCK + 1, [(Op.READ, 0, BLOCK), (Op.WRITE, 0, 2 * BLOCK)]),
        (BLOCK, BLOCK, [(Op.WRITE, BLOCK, BLOCK)]),
    ],
)
def test_a_write_reads_only_the_blocks_at_its_ends(
    disk: Disk, node: BlockNode512, start: int, length: int, expected: list[tuple[Op, int, int]]
) -> None:
    assert disk.write(start, b"x" * length) == 0
    assert node.log() == expected
    assert disk.read(0, SIZE) == b"\xaa" * start + b"x" * length + b"\xaa" * (SIZE - start - length)


def test_two_writes_to_one_block_do_not_lose_each_others_bytes(disk: Disk, node: BlockNode512) -> None:
    node.held = True
    disk.submit(Op.WRITE, 0, data=b"1" * 100)
    disk.submit(Op.WRITE, 100, data=b"2" * 100)
    disk.submit(Op.WRITE, 0, data=b"3" * BLOCK)  # aligned: it too has to wait
    disk.submit(Op.WRITE, 200, data=b"4" * 100)
    while disk.backend.in_flight:
        assert len(node.waiting) == 1, "one after the other"
        node.release()
        disk.context.run_until_idle()
    assert disk.node.read_only is False
    node.held = False
    assert disk.read(0, BLOCK) == b"3" * 200 + b"4" * 100 + b"3" * (BLOCK - 300)


def test_writes_to_other_blocks_do_not_wait(disk: Disk, node: BlockNode512) -> None:
    node.held = True
    for at in (10, BLOCK + 10, 4 * BLOCK):
        disk.submit(Op.WRITE, at, data=b"x" * 5 if at % BLOCK else b"x" * BLOCK)
    assert len(node.waiting) == 3
    while node.waiting:
        node.release()
        disk.context.run_until_idle()


@pytest.mark.parametrize("op", [Op.WRITE_ZEROES, Op.SECURE_ERASE])
@pytest.mark.parametrize(
    ("start", "end"), [(0, SIZE), (10, 20), (10, BLOCK), (10, 5 * BLOCK + 3), (BLOCK, BLOCK + 9)]
)
def test_zeroes_are_exact(disk: Disk, op: Op, start: int, end: int) -> None:
    assert disk.do(op, start, end - start) == 0
    assert disk.read(0, SIZE) == b"\xaa" * start + bytes(end - start) + b"\xaa" * (SIZE - end)


def test_secure_erase_is_stable_at_its_ends_too(disk: Disk, node: BlockNode512) -> None:
    disk.do(Op.SECURE_ERASE, 10, 2 * BLOCK)
    changes = [request for request in node.seen if request.op is not Op.READ]
    assert [request.op for request in changes] == [Op.WRITE, Op.SECURE_ERASE, Op.WRITE]
    assert {request.flags for request in changes} == {Flags.FUA}


def test_a_discard_shrinks_to_whole_blocks(disk: Disk, node: BlockNode512) -> None:
    assert disk.do(Op.DISCARD, 10, 3 * BLOCK) == 0
    assert disk.do(Op.DISCARD, 10, 20) == 0
    assert node.log() == [(Op.DISCARD, BLOCK, 2 * BLOCK)]


def test_a_longer_request_than_the_node_takes_goes_in_pieces(node: BlockNode512) -> None:
    node.limits = BlockLimits(request_alignment=BLOCK, max_transfer=3 * BLOCK)
    disk = Disk(node)
    data = bytes(range(256)) * 14
    assert disk.wait(disk.submit(Op.WRITE, 100, data=data, cut=700)) == 0
    assert disk.read(100, len(data)) == data
    lengths = [length for op, _, length in node.log() if op is Op.WRITE]
    assert lengths == [3 * BLOCK] * 2 + [2 * BLOCK]


def test_a_failed_read_of_an_end_fails_the_write_and_frees_its_range(disk: Disk, node: BlockNode512) -> None:
    node.errors = {(Op.READ, 0): OSError(errno.EIO, "bad")}
    assert disk.write(10, b"x") == errno.EIO
    node.errors = {}
    assert disk.write(10, b"y") == 0
    assert disk.read(9, 3) == b"\xaay\xaa"


RANGE = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(lambda pair: (min(pair), max(pair)))
CHANGES = st.tuples(st.sampled_from([Op.WRITE, Op.WRITE_ZEROES, Op.SECURE_ERASE]), RANGE)


@given(st.lists(CHANGES, max_size=12), st.sampled_from([0, BLOCK, 3 * BLOCK]), st.randoms())
def test_changes_that_run_together_end_as_if_one_after_the_other(
    changes: list[tuple[Op, tuple[int, int]]], longest: int, random: object
) -> None:
    """Overlapping requests may end in the order they came; every byte is one that somebody wrote there."""
    context = IoContext.virtual()
    node = BlockNode512(context, BlockLimits(request_alignment=BLOCK, max_transfer=longest))
    disk = Disk(node)
    node.held = True
    model = bytearray(SIZE)
    for number, (op, (start, end)) in enumerate(changes):
        data = bytes([number + 1]) * (end - start) if op is Op.WRITE else None
        disk.submit(op, start, end - start, data)
        model[start:end] = data if data is not None else bytes(end - start)
    for _ in range(10_000):
        if not node.waiting:
            break
        node.release(random.choice(list(node.waiting)))  # type: ignore[attr-defined]
        context.run_until_idle()
    assert set(disk.ends.values()) <= {1}
    node.held = False
    if all(op is Op.WRITE for op, _ in changes):
        # Writes hold their ranges as one: arrival order decides.
        assert disk.read(0, SIZE) == model
    else:
        got = disk.read(0, SIZE)
        for at in range(SIZE):
            written = [n for n, (_, (start, end)) in enumerate(changes) if start <= at < end]
            allowed = {0 if changes[n][0] is not Op.WRITE else n + 1 for n in written} or {0}
            assert got[at] in allowed
    node.close()
    context.close()


# --- ranges


def test_ranges_are_held_in_order_of_arrival() -> None:
    context = IoContext.virtual()
    ranges = InFlight(context)
    seen: list[str] = []

    async def hold(name: str, start: int, end: int) -> None:
        async with ranges.hold(start, end, serialising=True):
            seen.append(f"{name} in")
            await context.sleep(10)
            seen.append(f"{name} out")

    for name, start, end in (("a", 0, 10), ("b", 5, 15), ("c", 12, 20), ("d", 20, 30)):
        context.start(hold(name, start, end))
    assert seen == ["a in", "d in"]
    context.run_until_idle()
    assert [entry for entry in seen if entry[0] != "d"] == ["a in", "a out", "b in", "b out", "c in", "c out"]
    context.close()


def test_who_is_cancelled_while_waiting_blocks_nobody() -> None:
    context = IoContext.virtual()
    ranges = InFlight(context)
    seen: list[str] = []

    async def hold(name: str) -> None:
        async with ranges.hold(0, 1, serialising=True):
            await context.sleep(10)
            seen.append(name)

    context.start(hold("a"))
    task = context.start(hold("b"), lambda *_: None)
    context.start(hold("c"))
    assert task is not None
    task.cancel()
    context.run_until_idle()
    assert seen == ["a", "c"]
    assert context.now_ns() == 20
    context.close()


def test_others_share_a_range_that_nobody_has_alone() -> None:
    context = IoContext.virtual()
    ranges = InFlight(context)
    seen: list[str] = []

    async def hold(name: str, serialising: bool) -> None:
        async with ranges.hold(0, 10, serialising=serialising):
            await context.sleep(10)
            seen.append(f"{name}@{context.now_ns()}")

    for name, serialising in (("a", False), ("b", False), ("C", True), ("d", False), ("e", False)):
        context.start(hold(name, serialising))
    context.run_until_idle()
    assert seen == ["a@10", "b@10", "C@20", "d@30", "e@30"]
    context.close()


# --- users that want ranges of their own


class Alone(FilterNode):
    """Writes while nobody else touches the range."""

    def __init__(self, options: NodeOptions, context: IoContext, file: BlockNode) -> None:
        super().__init__(options, context, file)
        self.file.serialise()

    async def write(self, request: Request) -> None:
        flags = Flags.SERIALISING | request.flags
        await self.file.write(request.derive(request.offset, request.length, request.vectors, flags=flags))


def test_a_serialising_request_waits_for_what_overlaps_and_that_for_it() -> None:
    context = IoContext.virtual()
    node = WatchedNode(context)
    direct = Disk(node)
    node.held = True
    before = direct.submit(Op.WRITE, 0, data=b"0" * 512)
    alone = Disk(Alone(NodeOptions(driver="alone"), context, node))
    assert direct.backend.read_now([(0, (memoryview(bytearray(512)),), 512)]) == 0
    direct.submit(Op.READ, 4096, 512)
    assert node.log() == [(Op.WRITE, 0, 512)], (
        "what began before the table is over before anything else begins"
    )
    node.release(before)
    context.run_until_idle()
    node.release()
    node.seen.clear()
    first = direct.submit(Op.READ, 0, 512)
    other = alone.submit(Op.WRITE, 512, data=b"1" * 512)
    overlapping = alone.submit(Op.WRITE, 256, data=b"2" * 512)
    behind = direct.submit(Op.READ, 0, 512)
    assert node.log() == [(Op.READ, 0, 512), (Op.WRITE, 512, 512)]
    for _ in range(4):
        node.release()
        context.run_until_idle()
    assert node.log()[2:] == [(Op.WRITE, 256, 512), (Op.READ, 0, 512)]
    assert [request.error for request in (first, other, overlapping, behind)] == [0, 0, 0, 0]
    assert payload(behind) == b"0" * 256 + b"2" * 256
    alone.backend.close()
    alone.node.close()
    assert direct.backend.read_now([(0, (memoryview(bytearray(512)),), 512)]) == 1


# --- zeroes without writing them out


@pytest.mark.parametrize(
    "options",
    [
        {"driver": "blkdebug", "align": 4096, "image": "m0"},
        {"driver": "blkdebug", "align": 4096, "inject-error": [{"event": "none", "errno": 0}], "image": "m0"},
        {"driver": "blklogwrites", "log-sector-size": 4096, "file": "m0", "log": "log"},
    ],
)
@given(
    changes=st.lists(
        st.tuples(st.booleans(), st.integers(0, 9 * 1024 - 1), st.integers(1, 5000)), min_size=1, max_size=6
    )
)
def test_a_filter_of_larger_blocks_than_its_disk_ends_with(
    options: dict[str, object], changes: list[tuple[bool, int, int]]
) -> None:
    graph = Graph(IoContext.virtual())
    size = 9 * 1024
    below = graph.add({"driver": "memory", "size": size, "node-name": "m0"})
    log = graph.add({"driver": "memory", "size": 0, "node-name": "log"})
    disk = Disk(graph.add({**options, "node-name": "d0"}))
    expected = bytearray(size)
    for number, (zero, offset, length) in enumerate(changes, 1):
        length = min(length, size - offset)
        data = bytes([0 if zero else number]) * length
        assert (
            disk.do(*((Op.WRITE_ZEROES, offset, length) if zero else (Op.WRITE, offset, length, data))) == 0
        )
        expected[offset : offset + length] = data
    assert disk.read(0, size) == expected
    assert below.size == size
    assert disk.do(Op.FLUSH) == 0
    disk.backend.close()
    graph.delete("d0")
    if log.size:
        copy = Disk(graph.add({"driver": "memory", "size": size}))
        graph.context.run(WriteLog(Disk(log).backend).replay(copy.backend))
        assert copy.read(0, size) == expected
    graph.close()


class OnlyWrites(BlockNode):
    """A driver that has no way of its own to write zeroes."""

    def __init__(self, context: IoContext, options: NodeOptions, limits: BlockLimits) -> None:
        super().__init__(options, context, 1 << 30)
        self.limits = limits
        self.written: list[tuple[int, int]] = []

    async def write(self, request: Request) -> None:
        assert not any(bytes(vector).strip(b"\0") for vector in request.vectors)
        self.written.append((request.offset, request.length))


@pytest.mark.parametrize("align", [1, 512])
def test_zeroes_that_a_node_cannot_are_written_piece_by_piece(align: int) -> None:
    limits = BlockLimits(request_alignment=align)
    node = OnlyWrites(IoContext.virtual(), NodeOptions(driver="only-writes", detect_zeroes="on"), limits)
    disk = Disk(node)
    assert disk.write(0, bytes(1024)) == 0
    assert disk.do(Op.WRITE_ZEROES, 1024, 1024, flags=Flags.NO_FALLBACK) == errno.ENOTSUP
    assert node.written == [(0, 1024)]
    assert disk.do(Op.WRITE_ZEROES, 512, 9 << 20) == 0
    assert [length for _, length in node.written[1:]] == [1 << 20] * 9
    disk.close()


@pytest.mark.parametrize(("offset", "length", "error"), [(0, 1024, 0), (100, 1024, errno.ENOTSUP)])
def test_zeroes_that_are_not_to_be_written_out(
    node: BlockNode512, offset: int, length: int, error: int
) -> None:
    disk = Disk(node)
    assert disk.do(Op.WRITE_ZEROES, offset, length, flags=Flags.NO_FALLBACK) == error
    assert all(op is not Op.WRITE for op, _, _ in node.log())
