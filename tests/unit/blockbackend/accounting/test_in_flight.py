"""What is in flight, and where it waits."""

from __future__ import annotations

import msgspec

from devmodels.blockbackend import BlockBackend, Graph, Op, Origin, Request
from devmodels.blockbackend.drain import drained
from devmodels.blockbackend.listing import RequestData
from devmodels.blockbackend.throttling import ThrottleGroup, ThrottleLimits
from devmodels.iocontext import Event, IoContext
from devmodels.runstate import RunState
from tests.unit.blockbackend.support import Disk, WatchedNode
from tests.unit.virtio.blkrig import DISCARD, OUT, blk, segment


def where(backend: BlockBackend) -> list[tuple[str, int, str]]:
    return [(each.op, each.offset, each.where) for each in backend.list_in_flight()]


def test_running_and_held_by_a_stop() -> None:
    state = RunState()
    disk = Disk(WatchedNode(IoContext.virtual()), run_state=state)
    assert isinstance(disk.node, WatchedNode)
    disk.node.held = True
    disk.submit(Op.WRITE, 512, data=bytes(512))
    state.stop()
    disk.submit(Op.FLUSH)
    assert where(disk.backend) == [("write", 512, "running"), ("flush", 0, "held")]
    state.cont()
    assert where(disk.backend) == [("write", 512, "running"), ("flush", 0, "running")]
    disk.node.held = False
    disk.node.release()
    disk.context.run_until_idle()
    assert disk.backend.list_in_flight() == []


def test_batched_and_drained() -> None:
    disk = Disk()
    with disk.backend.batch():
        disk.submit(Op.SECURE_ERASE, 0, 512)
        assert where(disk.backend) == [("secure-erase", 0, "batched")]

    async def look() -> list[tuple[str, int, str]]:
        async with drained(disk.node):
            disk.submit(Op.WRITE_ZEROES, 0, 512)
            return where(disk.backend)

    assert disk.context.run(look()) == [("write-zeroes", 0, "drained")]
    disk.close()


def test_throttled_below_a_window_and_merged_with_neighbours() -> None:
    graph = Graph(IoContext.virtual())
    graph.add_object({"qom-type": "throttle-group", "id": "g", "limits": {"iops-total": 1}})
    limited = {"driver": "throttle", "throttle-group": "g", "file": {"driver": "memory", "size": 1 << 20}}
    backend = BlockBackend(graph.add({"driver": "raw", "node-name": "r", "offset": 4096, "file": limited}))
    backend.submit(Request(Op.WRITE, 0, 512, [memoryview(bytes(512))]))
    with backend.batch():
        for at in (512, 1024, 8192):
            backend.submit(Request(Op.WRITE, at, 512, [memoryview(bytes(512))], label=f"at {at}"))
    found: list[RequestData] = []
    graph.context.call_at(750, lambda: found.extend(backend.list_in_flight()))
    graph.context.run_until_idle()
    # The neighbours are one request to the limits.
    assert [(each.label, each.where, each.age_ns) for each in found] == [
        ("at 512", "throttled", 750),
        ("at 1024", "throttled", 750),
        ("at 8192", "throttled", 750),
    ]
    graph.close()


def test_a_device_says_where_its_requests_come_from() -> None:
    rig = blk()
    rig.disk.gate = Event(rig.device.context)
    rig.start(OUT, 1, bytes(512))
    rig.start(DISCARD, 0, segment(0, 1) + segment(9, 1))
    rig.go()
    found = rig.backend.list_in_flight()
    assert [(each.op, each.offset) for each in found] == [
        ("write", 512),
        ("discard", 0),
        ("discard", 9 * 512),
    ]
    origins = [each.origin for each in found]
    assert all(each is not None and (each.device, each.queue) == ("vd0", 0) for each in origins)
    assert origins[0] != origins[1] == origins[2]
    assert msgspec.json.decode(msgspec.json.encode(found[0])) == {
        "op": "write",
        "offset": 512,
        "length": 512,
        "age-ns": 0,
        "where": "running",
        "origin": {"device": "vd0", "queue": 0, "tag": 0},
    }
    rig.disk.gate.set()


def test_what_a_request_becomes_on_its_way_is_of_the_same_origin() -> None:
    class Own(Request):
        __slots__ = ()

        @property
        def origin(self) -> Origin:
            return Origin("vd1", 3, 7)

    request = Own(Op.READ, 0, 1024)
    piece = request.derive(512, 512).derive(0, 512)
    assert piece.origin == Origin("vd1", 3, 7)
    assert list(piece.roots()) == [request]
    assert Request(Op.READ, 0, 512).origin is None


def test_a_device_that_is_reset_does_not_wait_for_limits() -> None:
    rig = blk()
    rig.backend.set_throttle_group(ThrottleGroup("g", ThrottleLimits(iops_total=1)))
    for at in (0, 100, 200):
        rig.start(OUT, at, bytes(512))
    rig.go()
    assert [each.where for each in rig.backend.list_in_flight()] == ["throttled", "throttled"]
    rig.device.write_status(0)
    rig.settle()
    assert rig.device.status == 0
    assert rig.device.context.now_ns() == 0
    assert [entry[1] for entry in rig.disk.log] == [0]
