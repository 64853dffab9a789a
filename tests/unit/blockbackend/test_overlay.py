"""`overlay`: new data above, old data below, as a guest sees it and as a map shows it."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend import BlockBackend, BlockOptionError, Flags, Graph, Op, open_node
from devmodels.blockbackend.drivers.volatile_cache import VolatileCacheNode
from devmodels.blockbackend.permissions import USES, PermissionConflictError, Role
from devmodels.blockbackend.status import BlockStatus, Status
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import Disk

CLUSTER = 4096
SIZE = 16 * CLUSTER
DATA, ZERO, OWN = Status.DATA, Status.ZERO, Status.ALLOCATED


class World:
    """An overlay of `size` bytes over a base of `base` bytes, all of it "o"."""

    def __init__(self, size: int = SIZE, base: int = SIZE, **options: object) -> None:
        self.context = IoContext.virtual()
        self.graph = Graph(self.context)
        self.graph.add({"driver": "memory", "size": base, "node-name": "base"})
        filling = Disk(self.graph["base"])
        filling.write(0, b"o" * base)
        filling.backend.close()
        top = {"driver": "memory", "size": size, "node-name": "top"}
        self.graph.add(
            {"driver": "overlay", "node-name": "both", "file": top, "backing": "base", "discard": "unmap"}
            | options
        )
        self.disk = Disk(self.graph["both"])

    def below(self, name: str) -> bytes:
        """What a node holds."""
        disk = Disk(self.graph[name], read_only=True)
        content = disk.read(0, disk.backend.size)
        disk.backend.close()
        return content

    def status(self, offset: int, length: int) -> BlockStatus:
        """One answer."""
        request = self.disk.submit(Op.BLOCK_STATUS, offset, length)
        assert self.disk.wait(request) == 0
        return request.status

    def close(self) -> None:
        """Close all."""
        self.disk.backend.close()
        self.graph.close()
        self.context.close()


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def test_what_is_written_is_above_and_the_rest_below(world: World) -> None:
    assert world.disk.write(CLUSTER, b"n" * CLUSTER) == 0
    assert world.disk.read(0, 3 * CLUSTER) == b"o" * CLUSTER + b"n" * CLUSTER + b"o" * CLUSTER
    assert world.below("base") == b"o" * SIZE
    assert world.below("top")[CLUSTER : 2 * CLUSTER] == b"n" * CLUSTER


def test_a_part_of_a_cluster_brings_the_rest_with_it(world: World) -> None:
    assert world.disk.write(100, b"n") == 0
    assert world.disk.read(0, CLUSTER) == b"o" * 100 + b"n" + b"o" * (CLUSTER - 101)
    assert world.below("top")[:CLUSTER] == world.disk.read(0, CLUSTER)


def test_zeroes_hide_what_is_below_and_a_discard_does_not_show_it_again(world: World) -> None:
    assert world.disk.do(Op.WRITE_ZEROES, 0, CLUSTER) == 0
    assert world.disk.write(CLUSTER, b"n" * CLUSTER) == 0
    assert world.disk.do(Op.DISCARD, 0, 3 * CLUSTER) == 0
    assert world.disk.read(0, 3 * CLUSTER) == bytes(2 * CLUSTER) + b"o" * CLUSTER
    assert world.disk.node.can_unmap


def test_old_data_cannot_be_erased(world: World) -> None:
    assert world.disk.do(Op.SECURE_ERASE, 0, CLUSTER) == errno.ENOTSUP
    with pytest.raises(OSError, match="does not support resize"):
        world.context.run(world.disk.backend.resize(2 * SIZE))


def test_a_write_that_fails_leaves_what_is_below(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    top = world.graph["top"]

    async def fails(_request: object) -> None:
        raise OSError(errno.ENOSPC, "as told")

    monkeypatch.setattr(top, "write", fails)
    top.changed()
    assert world.disk.write(0, b"n" * CLUSTER) == errno.ENOSPC
    assert world.disk.read(0, CLUSTER) == b"o" * CLUSTER
    assert world.status(0, CLUSTER).depth == 1
    world.close()


def test_the_status_says_whose_a_part_is() -> None:
    world = World(base=8 * CLUSTER)
    world.disk.write(CLUSTER, b"n" * CLUSTER)
    here = Status.OFFSET_VALID
    assert world.status(0, SIZE)[:3] == (DATA | OWN | here, CLUSTER, 0)
    assert world.status(0, SIZE).depth == 1
    assert world.status(CLUSTER, SIZE - CLUSTER)[:3] == (DATA | OWN | here, CLUSTER, CLUSTER)
    assert world.status(CLUSTER, CLUSTER).depth == 0
    assert world.status(2 * CLUSTER, SIZE - 2 * CLUSTER)[:2] == (DATA | OWN | here, 6 * CLUSTER)
    assert world.status(8 * CLUSTER, 8 * CLUSTER)[:2] == (ZERO | Status.EOF, 8 * CLUSTER)
    world.close()


SECTOR = 512
STEPS = st.lists(
    st.tuples(st.sampled_from([Op.WRITE, Op.READ, Op.WRITE_ZEROES]), st.integers(0, 40), st.integers(1, 20)),
    max_size=12,
)


@given(st.integers(1, 40), st.integers(0, 40), st.sampled_from([512, 1024, 4096]), STEPS)
def test_it_is_a_copy_of_the_base_and_the_base_stays(
    sectors: int, base_sectors: int, cluster: int, steps: list[tuple[Op, int, int]]
) -> None:
    size, base = sectors * SECTOR, base_sectors * SECTOR
    world = World(size, base, **{"cluster-size": cluster})
    model = bytearray((b"o" * base).ljust(size, b"\0")[:size])
    for number, (op, at, count) in enumerate(steps):
        start = min(at, sectors - 1) * SECTOR
        end = min(start + count * SECTOR, size)
        data = bytes([number + 1]) * (end - start) if op is Op.WRITE else bytes(end - start)
        if op is Op.READ:
            assert world.disk.read(start, end - start) == model[start:end]
            continue
        assert world.disk.do(op, start, end - start, data if op is Op.WRITE else None) == 0
        model[start:end] = data
    assert world.disk.read(0, size) == model
    assert world.below("base") == b"o" * base
    at = 0
    while at < size:
        flags, pnum, *_ = world.status(at, size - at)
        assert pnum
        if flags & ZERO:
            assert not any(model[at : at + pnum])
        at += pnum
    world.close()


def test_roles_and_permissions_are_those_of_an_overlay(world: World) -> None:
    children = world.disk.node.children
    assert children["file"].role == Role.DATA | Role.PRIMARY
    assert children["backing"].role == Role.COW
    world.disk.backend.close()
    mine = BlockBackend(world.graph["both"], shared=USES["device"].shared)
    with pytest.raises(PermissionConflictError, match="needs 'write' on node 'base'"):
        BlockBackend(world.graph["base"])
    mine.close()


def test_a_nested_backing_node_is_read_only() -> None:
    context = IoContext.virtual()
    memory = {"driver": "memory", "size": SIZE}
    node = open_node({"driver": "overlay", "file": memory, "backing": memory}, context)
    assert node.children["backing"].node.read_only
    assert not node.children["file"].node.read_only
    node.close()
    context.close()


@pytest.mark.parametrize("size", [0, 256, 1000, 1 << 17])
def test_a_cluster_is_a_power_of_two(size: int) -> None:
    context = IoContext.virtual()
    memory = {"driver": "memory", "size": SIZE}
    with pytest.raises(BlockOptionError, match=r"^\$.cluster-size: \d+ is given; expected a power of two"):
        open_node({"driver": "overlay", "file": memory, "backing": memory, "cluster-size": size}, context)
    context.close()


def test_a_large_disk_costs_nothing() -> None:
    world = World(size=1 << 44)
    assert world.disk.write(1 << 43, b"x") == 0
    assert world.status(0, 1 << 44).depth == 1
    world.close()


def test_what_is_written_to_it_is_stable_when_it_should_be() -> None:
    """A flush and FUA reach the file below, in the last cluster, which is longer than the disk, too."""
    context = IoContext.virtual()
    graph = Graph(context)
    graph.add({"driver": "memory", "node-name": "base", "size": SIZE})
    cache = {
        "driver": "volatile-cache",
        "node-name": "cache",
        "file": {"driver": "memory", "size": SIZE - 512},
    }
    graph.add({"driver": "overlay", "node-name": "both", "file": cache, "backing": "base"})
    cached, disk = graph["cache"], Disk(graph["both"])
    assert isinstance(cached, VolatileCacheNode)
    disk.write(0, b"a" * CLUSTER)
    assert len(cached.volatile) == 1
    assert disk.do(Op.FLUSH) == 0
    assert not cached.volatile
    disk.write(SIZE - CLUSTER, b"b" * (CLUSTER - 512), Flags.FUA)
    disk.do(Op.WRITE_ZEROES, SIZE - CLUSTER, CLUSTER - 512, flags=Flags.FUA)
    assert not cached.volatile
    disk.backend.close()
    graph.close()
    context.close()
