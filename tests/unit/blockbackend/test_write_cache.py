"""Write-through: nothing is reported written before it is stable."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devmodels.blockbackend import Flags, Op
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import Disk, WatchedNode


@pytest.fixture
def node() -> Iterator[WatchedNode]:
    context = IoContext.virtual()
    node = WatchedNode(context)
    yield node
    node.close()
    context.close()


@pytest.mark.parametrize("op", [Op.WRITE, Op.WRITE_ZEROES])
@pytest.mark.parametrize("flags", [Flags.NONE, Flags.MAY_UNMAP, Flags.FUA])
def test_without_the_cache_writes_go_to_stable_storage(node: WatchedNode, op: Op, flags: Flags) -> None:
    disk = Disk(node, write_cache=False)
    assert disk.do(op, 0, 512, b"x" * 512 if op is Op.WRITE else None, flags) == 0
    assert [request.flags for request in node.seen] == [flags | Flags.FUA]


def test_with_the_cache_they_need_not(node: WatchedNode) -> None:
    disk = Disk(node)
    disk.write(0, b"x")
    assert [request.flags for request in node.seen] == [Flags.NONE]


def test_other_requests_are_not_touched_by_it(node: WatchedNode) -> None:
    disk = Disk(node, write_cache=False)
    disk.do(Op.READ, 0, 512)
    disk.do(Op.DISCARD, 0, 512)
    disk.do(Op.FLUSH)
    assert [request.flags for request in node.seen] == [Flags.NONE] * 3


def test_the_mode_can_be_switched_while_requests_run(node: WatchedNode) -> None:
    disk = Disk(node)
    node.held = True
    begun_with: list[Flags] = []
    for on in (True, False, True):
        disk.backend.write_cache = on
        disk.submit(Op.WRITE, 0, data=b"x")
        begun_with.append(node.seen[-1].flags)
    node.release()
    disk.context.run_until_idle()
    assert begun_with == [Flags.NONE, Flags.FUA, Flags.NONE]
    assert set(disk.ends.values()) == {1}


def test_the_devices_request_keeps_its_own_flags(node: WatchedNode) -> None:
    disk = Disk(node, write_cache=False)
    request = disk.submit(Op.WRITE, 0, data=b"x")
    assert request.flags == Flags.NONE


def test_merged_writes_are_stable_too(node: WatchedNode) -> None:
    disk = Disk(node, write_cache=False)
    with disk.backend.batch():
        disk.submit(Op.WRITE, 0, data=b"x" * 512)
        disk.submit(Op.WRITE, 512, data=b"y" * 512)
    assert node.log() == [(Op.WRITE, 0, 1024)]
    assert node.seen[0].flags == Flags.FUA
