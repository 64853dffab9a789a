"""Neighbours of one batch become one request; each is still completed on its own."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from devmodels.blockbackend import BlockLimits, Flags, Op, Request
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import SIZE, Disk, WatchedNode, payload

KIB = 1024


@pytest.fixture
def node() -> Iterator[WatchedNode]:
    context = IoContext.virtual()
    node = WatchedNode(context)
    yield node
    node.close()
    context.close()


@pytest.fixture
def disk(node: WatchedNode) -> Disk:
    return Disk(node)


def test_nothing_starts_before_the_batch_ends(disk: Disk, node: WatchedNode) -> None:
    with disk.backend.batch():
        request = disk.submit(Op.READ, 0, 512)
        assert node.seen == []
        assert list(disk.backend.in_flight) == [request]
    assert node.log() == [(Op.READ, 0, 512)]


def test_neighbouring_reads_are_one_request_and_get_their_own_bytes(disk: Disk, node: WatchedNode) -> None:
    disk.write(0, bytes(range(256)) * 16)
    node.seen.clear()
    with disk.backend.batch():
        requests = [disk.submit(Op.READ, 512 * n, 512, cut=100) for n in range(8)]
    assert node.log() == [(Op.READ, 0, 4096)]
    assert b"".join(payload(request) for request in requests) == bytes(range(256)) * 16
    assert [disk.ends[request] for request in requests] == [1] * 8
    stats = disk.backend.stats
    assert (stats.rd_merged, stats.rd_operations, stats.rd_bytes) == (7, 8, 4096)


@pytest.mark.parametrize(("op", "counter"), [(Op.DISCARD, "unmap_merged"), (Op.WRITE_ZEROES, "wr_merged")])
def test_ranges_without_payload_are_merged_too(disk: Disk, node: WatchedNode, op: Op, counter: str) -> None:
    with disk.backend.batch():
        for n in range(3):
            disk.submit(op, 4 * KIB * n, 4 * KIB)
    assert node.log() == [(op, 0, 12 * KIB)]
    assert disk.backend.stats.as_dict()[counter] == 2


def test_neighbouring_writes_are_one_request(disk: Disk, node: WatchedNode) -> None:
    with disk.backend.batch():
        for n in range(4):
            disk.submit(Op.WRITE, 512 * n, data=bytes([n]) * 512)
    assert node.log() == [(Op.WRITE, 0, 2048)]
    assert disk.backend.stats.wr_merged == 3
    assert disk.read(0, 2048) == b"".join(bytes([n]) * 512 for n in range(4))


def test_what_is_not_a_neighbour_of_its_kind_stays_alone(disk: Disk, node: WatchedNode) -> None:
    with disk.backend.batch():
        disk.submit(Op.READ, 0, 512)
        disk.submit(Op.READ, 1024, 512)  # a gap
        disk.submit(Op.READ, 2048, 512)  # a gap on the other side
        disk.submit(Op.WRITE, 1024, data=bytes(512))  # another kind
        disk.submit(Op.WRITE, 1536, data=bytes(512), flags=Flags.FUA)  # other flags
        disk.submit(Op.FLUSH)
        disk.submit(Op.FLUSH)
        disk.submit(Op.SECURE_ERASE, 0, 512)
        disk.submit(Op.SECURE_ERASE, 512, 512)
    assert len(node.seen) == 9
    assert not any(value for name, value in disk.backend.stats.as_dict().items() if name.endswith("merged"))


@pytest.mark.parametrize("op", [Op.READ, Op.WRITE])
def test_neighbours_are_merged_in_whatever_order_they_come(disk: Disk, node: WatchedNode, op: Op) -> None:
    disk.write(0, bytes(range(4)) * 512)
    node.seen.clear()
    with disk.backend.batch():
        requests = [
            disk.submit(op, 512 * n, 512, bytes([n]) * 512 if op is Op.WRITE else None) for n in (3, 1, 0, 2)
        ]
    assert node.log() == [(op, 0, 2048)]
    assert [disk.ends[request] for request in requests] == [1] * 4
    if op is Op.WRITE:
        assert disk.read(0, 2048) == b"".join(bytes([n]) * 512 for n in range(4))


def test_interleaved_reads_and_writes_of_two_stretches_are_one_each(disk: Disk, node: WatchedNode) -> None:
    with disk.backend.batch():
        for n in range(4):
            disk.submit(Op.READ, 512 * n, 512)
            disk.submit(Op.WRITE, 8192 + 512 * n, data=bytes(512))
    assert node.log() == [(Op.READ, 0, 2048), (Op.WRITE, 8192, 2048)]


def test_nothing_passes_a_flush(disk: Disk, node: WatchedNode) -> None:
    with disk.backend.batch():
        disk.submit(Op.WRITE, 512, data=bytes(512))
        disk.submit(Op.WRITE, 2048, data=bytes(512))
        disk.submit(Op.FLUSH)
        disk.submit(Op.WRITE, 0, data=bytes(512))
    assert node.log() == [(Op.WRITE, 512, 512), (Op.WRITE, 2048, 512), (Op.FLUSH, 0, 0), (Op.WRITE, 0, 512)]


def test_what_overlaps_a_write_keeps_its_place(disk: Disk) -> None:
    disk.write(0, b"0" * 1536)
    with disk.backend.batch():
        before = disk.submit(Op.READ, 512, 512)
        disk.submit(Op.WRITE, 512, data=b"1" * 512)
        after = disk.submit(Op.READ, 0, 1024)
        disk.submit(Op.WRITE, 0, data=b"2" * 512)
    assert payload(before) == b"0" * 512
    assert payload(after) == b"0" * 512 + b"1" * 512
    assert disk.read(0, 1024) == b"2" * 512 + b"1" * 512


def test_requests_without_neighbours_are_started_in_order(disk: Disk, node: WatchedNode) -> None:
    with disk.backend.batch():
        for at in (8192, 0, 4096):
            disk.submit(Op.READ, at, 512)
    assert node.log() == [(Op.READ, at, 512) for at in (8192, 0, 4096)]


def test_order_within_a_batch_is_kept(disk: Disk) -> None:
    with disk.backend.batch():
        disk.submit(Op.WRITE, 0, data=b"old" * 100)
        disk.submit(Op.WRITE, 300, data=b"x" * 100)
        disk.submit(Op.WRITE, 0, data=b"new" * 100)
        read = disk.submit(Op.READ, 0, 300)
    assert payload(read) == b"new" * 100


def test_batches_nest(disk: Disk, node: WatchedNode) -> None:
    with disk.backend.batch():
        disk.submit(Op.READ, 0, 512)
        with disk.backend.batch():
            disk.submit(Op.READ, 512, 512)
        assert node.seen == []
    assert node.log() == [(Op.READ, 0, 1024)]


def test_an_error_in_the_batchs_block_still_submits_what_it_gathered(disk: Disk) -> None:
    def device() -> None:
        with disk.backend.batch():
            disk.submit(Op.READ, 0, 512)
            raise KeyError("a device's bug")

    with pytest.raises(KeyError):
        device()
    assert list(disk.ends.values()) == [1]


def test_a_done_that_raises_does_not_strand_the_rest_of_the_batch(disk: Disk) -> None:
    def broken(_: Request) -> None:
        raise KeyError("a device's bug")

    def device() -> None:
        with disk.backend.batch():
            disk.submit(Op.READ, 0, 512, done=broken)
            disk.submit(Op.READ, 1024, 512)

    with pytest.raises(KeyError):
        device()
    disk.context.run_until_idle()
    assert list(disk.ends.values()) == [1, 1]


def test_a_merged_request_keeps_to_the_nodes_limits(disk: Disk, node: WatchedNode) -> None:
    node.limits = BlockLimits(max_transfer=2048)
    disk = Disk(node)
    with disk.backend.batch():
        for n in range(6):
            disk.submit(Op.READ, 512 * n, 512)
    assert node.log() == [(Op.READ, 0, 2048), (Op.READ, 2048, 1024)]
    node.limits = BlockLimits(max_iov=5)
    node.seen.clear()
    disk = Disk(node)
    with disk.backend.batch():
        for n in range(4):
            disk.submit(Op.READ, 512 * n, 512, cut=256)
    assert node.log() == [(Op.READ, 0, 1024), (Op.READ, 1024, 1024)]


def test_only_the_bad_one_of_merged_requests_fails(disk: Disk, node: WatchedNode) -> None:
    node.errors = {(Op.WRITE, 1024): OSError(errno.EIO, "bad sector")}
    with disk.backend.batch():
        requests = [disk.submit(Op.WRITE, 512 * n, data=bytes([65 + n]) * 512) for n in range(4)]
    assert [request.error for request in requests] == [0, 0, errno.EIO, 0]
    assert [disk.ends[request] for request in requests] == [1] * 4
    assert disk.read(0, 2048) == b"A" * 512 + b"B" * 512 + bytes(512) + b"D" * 512
    stats = disk.backend.stats
    assert (stats.wr_operations, stats.failed_wr_operations, stats.wr_bytes) == (3, 1, 1536)


def test_what_reaches_beyond_the_disk_fails_alone(disk: Disk, node: WatchedNode) -> None:
    with disk.backend.batch():
        good = disk.submit(Op.READ, SIZE - 1024, 1024)
        bad = disk.submit(Op.READ, SIZE, 512)
        negative = Request(Op.READ, -512, 512)
        disk.backend.submit(negative)
        after = disk.submit(Op.READ, 0, 512)
    assert [request.error for request in (good, bad, negative, after)] == [0, errno.EIO, errno.EIO, 0]
    assert node.log() == [(Op.READ, SIZE - 1024, 1024), (Op.READ, 0, 512)]


def test_merged_requests_that_wait_end_together_later(disk: Disk, node: WatchedNode) -> None:
    node.held = True
    with disk.backend.batch():
        requests = [disk.submit(Op.READ, 512 * n, 512) for n in range(2)]
    assert len(disk.backend.in_flight) == 2
    node.release()
    disk.context.run_until_idle()
    assert [disk.ends[request] for request in requests] == [1, 1]


def test_a_batch_opened_in_done_is_merged_too(disk: Disk, node: WatchedNode) -> None:
    def more(_: Request) -> None:
        with disk.backend.batch():
            disk.submit(Op.READ, 1024, 512)
            disk.submit(Op.READ, 1536, 512)

    with disk.backend.batch():
        disk.submit(Op.READ, 0, 512, done=more)
    assert node.log() == [(Op.READ, 0, 512), (Op.READ, 1024, 1024)]
    assert set(disk.ends.values()) == {1}
