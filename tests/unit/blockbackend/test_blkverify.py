"""blkverify: two disks that get the same, and are told apart at the first byte that differs."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend import BlockBackend, BlockOptionError, Flags, Graph, Op
from devmodels.blockbackend.drivers.blkverify import BlkverifyNode, BlkverifyOptions
from devmodels.blockbackend.permissions import PermissionConflictError
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import SIZE, Disk, WatchedNode, payload


@pytest.fixture
def context() -> Iterator[IoContext]:
    context = IoContext.virtual()
    yield context
    context.close()


class Pair:
    """A disk over blkverify over two disks that can be watched, and looked into."""

    def __init__(self, context: IoContext) -> None:
        self.test, self.raw = WatchedNode(context), WatchedNode(context)
        options = BlkverifyOptions(driver="blkverify", test="t", raw="r", discard="unmap")
        self.node = BlkverifyNode(options, context, self.test, self.raw)
        self.disk = Disk(self.node)

    def content(self) -> tuple[bytes, bytes]:
        """What each holds."""
        self.test.held = self.raw.held = False
        one, other = Disk(self.test), Disk(self.raw)
        found = one.read(0, SIZE), other.read(0, SIZE)
        one.backend.close()
        other.backend.close()
        return found


@pytest.fixture
def pair(context: IoContext) -> Pair:
    return Pair(context)


def spoil(pair: Pair, at: int) -> None:
    """Change one byte of the disk that is tested."""
    behind = Disk(pair.test)
    assert behind.write(at, b"!") == 0
    behind.backend.close()


def test_both_get_what_is_written(pair: Pair) -> None:
    disk = pair.disk
    assert disk.write(100, b"x" * 3000, Flags.FUA) == 0
    assert disk.do(Op.WRITE_ZEROES, 200, 100) == 0
    assert disk.do(Op.SECURE_ERASE, 300, 100) == 0
    expected = bytes(100) + b"x" * 100 + bytes(200) + b"x" * 2700 + bytes(SIZE - 3100)
    assert pair.content() == (expected, expected)
    assert disk.read(0, SIZE) == expected
    assert pair.node.mismatches == 0


def test_a_difference_is_an_error_a_line_and_a_number(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    spoil(pair, 700)
    request = pair.disk.submit(Op.READ, 512, 1024)
    with caplog.at_level(logging.ERROR, "devmodels"):
        assert pair.disk.wait(request) == errno.EIO
    line = "blkverify: read offset=512 bytes=1024 contents mismatch at offset 700"
    assert caplog.messages == [line]
    assert (pair.node.mismatches, pair.node.last_mismatch) == (1, line)
    assert pair.disk.do(Op.READ, 701, 1024) == 0, "elsewhere they are the same"
    assert pair.node.mismatches == 1


@pytest.mark.parametrize("op", [Op.READ, Op.WRITE, Op.WRITE_ZEROES, Op.SECURE_ERASE])
def test_different_errors_are_a_difference(pair: Pair, op: Op) -> None:
    data = b"x" * 512 if op is Op.WRITE else None
    kind = op.name.lower().replace("_", "-")
    pair.raw.errors[op, 0] = OSError(errno.ENOSPC, "full")
    assert pair.disk.do(op, 0, 512, data) == errno.EIO
    assert pair.node.last_mismatch == f"blkverify: {kind} offset=0 bytes=512 return value mismatch 0 != -28"
    pair.test.errors[op, 0] = OSError(errno.ENOSPC, "full")
    assert pair.disk.do(op, 0, 512, data) == errno.ENOSPC, "one error is no difference"
    assert pair.node.mismatches == 1


def test_a_guest_that_changes_its_buffer_makes_no_difference(pair: Pair) -> None:
    pair.test.held = pair.raw.held = True
    write = pair.disk.submit(Op.WRITE, 0, data=b"1" * 512)
    for node in (pair.test, pair.raw):
        write.vectors[0][:] = b"2" * 512
        node.release()
        pair.disk.context.run_until_idle()
    read = pair.disk.submit(Op.READ, 0, 512)
    for node in (pair.test, pair.raw):
        read.vectors[0][:] = b"3" * 512
        node.release()
        pair.disk.context.run_until_idle()
    assert (write.error, read.error, payload(read)) == (0, 0, b"1" * 512)


def test_writes_to_one_place_come_to_both_in_one_order(pair: Pair) -> None:
    pair.test.held = pair.raw.held = True
    for letter in b"12":
        pair.disk.submit(Op.WRITE, 0, data=bytes([letter]) * 512)
    read = pair.disk.submit(Op.READ, 256, 512)
    elsewhere = pair.disk.submit(Op.WRITE, 4096, data=b"x" * 512)
    # Whatever goes on first: the newest requests, here.
    while pair.test.waiting or pair.raw.waiting:
        for node in (pair.raw, pair.test):
            if node.waiting:
                node.release(list(node.waiting)[-1])
        pair.disk.context.run_until_idle()
    assert (read.error, elsewhere.error, pair.node.mismatches) == (0, 0, 0)
    assert payload(read) == b"2" * 256 + bytes(256)
    one, other = pair.content()
    assert one == other


def test_only_the_tested_disk_is_flushed_and_nothing_is_discarded(pair: Pair) -> None:
    pair.disk.write(0, b"x" * 4096)
    pair.test.seen.clear()
    pair.raw.seen.clear()
    assert pair.disk.do(Op.FLUSH) == pair.disk.do(Op.DISCARD, 0, 4096) == 0
    assert pair.disk.do(Op.WRITE_ZEROES, 0, 512, flags=Flags.NO_FALLBACK) == errno.ENOTSUP
    assert (pair.test.log(), pair.raw.log()) == ([(Op.FLUSH, 0, 0)], [])
    assert not pair.node.can_unmap


actions = st.tuples(
    st.sampled_from([Op.WRITE, Op.WRITE_ZEROES, Op.READ, Op.DISCARD]), st.integers(0, 7), st.integers(1, 4)
)


@given(st.lists(actions, max_size=12), st.integers(0, 1 << 30))
def test_whatever_order_the_disks_work_in_they_stay_the_same(
    steps: list[tuple[Op, int, int]], seed: int
) -> None:
    context = IoContext.virtual()
    pair = Pair(context)
    pair.test.held = pair.raw.held = True
    for number, (op, block, count) in enumerate(steps):
        data = bytes([number + 1]) * (count * 512) if op is Op.WRITE else None
        pair.disk.submit(op, block * 512, count * 512, data)
    while waiting := [(node, each) for node in (pair.test, pair.raw) for each in node.waiting]:
        node, request = waiting[seed % len(waiting)]
        seed = seed // 3 + 1
        node.release(request)
        context.run_until_idle()
    assert all(ended == 1 for ended in pair.disk.ends.values())
    one, other = pair.content()
    assert (pair.node.mismatches, one) == (0, other)
    context.close()


# --- in a graph

MEMORY: dict[str, object] = {"driver": "memory", "size": SIZE}


@pytest.fixture
def graph(context: IoContext) -> Iterator[Graph]:
    graph = Graph(context)
    yield graph
    graph.close()


def test_disks_of_different_sizes_are_refused(graph: Graph) -> None:
    with pytest.raises(BlockOptionError, match=r"^\$\.raw: has 512 bytes; expected 65536, as test has$"):
        graph.add({"driver": "blkverify", "test": MEMORY, "raw": {"driver": "memory", "size": 512}})
    assert not graph.nodes


def test_a_disk_is_checked_from_some_moment_on_and_then_no_more(graph: Graph) -> None:
    graph.add({**MEMORY, "node-name": "m0"})
    disk = Disk(graph["m0"])
    run = graph.context.run
    run(
        graph.insert(
            {"driver": "blkverify", "node-name": "v0", "test": {**MEMORY, "node-name": "t0"}}, above="m0"
        )
    )
    assert disk.write(0, b"x" * 512) == 0
    assert disk.read(0, 512) == b"x" * 512
    with pytest.raises(PermissionConflictError):
        BlockBackend(graph["v0"], shared=~disk.backend.edge.use.used)
    run(graph.remove("v0"))
    assert list(graph.nodes) == ["m0"]
    assert disk.read(0, 512) == b"x" * 512
    disk.backend.close()


def test_both_are_resized(graph: Graph) -> None:
    node = graph.add({"driver": "blkverify", "test": MEMORY, "raw": MEMORY})
    disk = Disk(node)
    graph.context.run(disk.backend.resize(2 * SIZE))
    assert [disk.backend.size, *(edge.node.size for edge in node.children.values())] == [2 * SIZE] * 3
    disk.backend.close()


def test_it_is_read_only_where_one_of_them_is(graph: Graph) -> None:
    node = graph.add({"driver": "blkverify", "test": {**MEMORY, "read-only": True}, "raw": MEMORY})
    assert node.read_only
