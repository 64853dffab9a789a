"""PASSTHROUGH: a command reaches a device as it is, once, through filters that are safe, and nothing else."""

from __future__ import annotations

import errno

import pytest

from devmodels.blockbackend import BlockNode, Graph, Op, Request, open_node
from devmodels.blockbackend.errorpolicy import ErrorPolicy
from devmodels.blockbackend.options import NodeOptions
from devmodels.blockbackend.passthrough import Direction, PassthroughRequest, ScsiCommand
from devmodels.iocontext import IoContext
from devmodels.runstate import RunState
from tests.unit.blockbackend.support import SIZE, Disk

INQUIRY = bytes([0x12, 0, 0, 0, 36, 0])


class Device(BlockNode):
    """Answers each command with its first byte; fails with `error`, where there is one."""

    def __init__(self, context: IoContext, name: str | None = None) -> None:
        super().__init__(NodeOptions(driver="device", node_name=name), context, SIZE)
        self.seen: list[ScsiCommand] = []
        self.error = 0

    async def passthrough(self, request: Request) -> None:
        assert isinstance(request, PassthroughRequest)
        command = request.command
        self.seen.append(command)
        if self.error:
            raise OSError(self.error, "as told")
        for vector in command.vectors:
            vector[:] = command.cdb[:1] * len(vector)
        command.status = 2
        command.sense = b"\x70"


def command(length: int = 0) -> ScsiCommand:
    direction = Direction.FROM_DEVICE if length else Direction.NONE
    return ScsiCommand(INQUIRY, direction, [memoryview(bytearray(length))] if length else [])


def send(disk: Disk, asked: ScsiCommand) -> int:
    """Submit and wait; the errno."""
    ends: list[Request] = []
    disk.backend.submit(PassthroughRequest(asked, ends.append, "it"))
    disk.context.run_until_idle()
    (request,) = ends
    return request.error


def test_a_command_comes_to_the_device_and_its_answer_back() -> None:
    device = Device(IoContext.virtual())
    disk = Disk(device)
    asked = command(36)
    assert send(disk, asked) == 0
    assert device.seen == [asked]
    assert asked.vectors[0] == b"\x12" * 36
    assert (asked.status, asked.sense, asked.length) == (2, b"\x70", 36)
    assert not any(disk.backend.stats.as_dict().values())
    disk.close()


def test_what_is_no_device_refuses() -> None:
    for options in ({"driver": "memory", "size": SIZE}, {"driver": "null-co"}):
        disk = Disk(dict(options))
        assert send(disk, command()) == errno.ENOTSUP
        disk.close()


def test_a_read_only_backend_refuses() -> None:
    device = Device(IoContext.virtual())
    disk = Disk(device, read_only=True)
    assert send(disk, command()) == errno.EPERM
    assert not device.seen
    disk.close()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"driver": "raw"}, 0),
        ({"driver": "raw", "offset": 512}, errno.ENOTSUP),
        ({"driver": "raw", "size": 512}, errno.ENOTSUP),
        ({"driver": "delay", "latency-ns": 5}, 0),
        ({"driver": "throttle", "throttle-group": "g0"}, 0),
    ],
)
def test_filters_that_are_safe_pass_it_on(options: dict[str, object], error: int) -> None:
    context = IoContext.virtual()
    graph = Graph(context)
    graph.add_object({"qom-type": "throttle-group", "id": "g0", "limits": {"bps-total": 1000}})
    device = Device(context, "d0")
    graph.nodes["d0"] = device
    node = open_node({**options, "file": "d0"}, context, graph.nodes, graph.objects)
    disk = Disk(node)
    assert send(disk, command()) == error
    assert len(device.seen) == (not error)
    disk.backend.close()
    graph.close()


def test_a_throttled_command_counts_as_its_data() -> None:
    context = IoContext.virtual()
    graph = Graph(context)
    graph.add_object({"qom-type": "throttle-group", "id": "g0", "limits": {"bps-read": 1000}})
    graph.nodes["d0"] = Device(context, "d0")
    node = open_node(
        {"driver": "throttle", "throttle-group": "g0", "file": "d0"}, context, graph.nodes, graph.objects
    )
    disk = Disk(node)
    for _ in range(3):
        assert send(disk, command(1000)) == 0
    assert context.now_ns() > 10**9
    disk.backend.close()
    graph.close()


def test_a_batch_makes_no_two_one_and_a_stop_holds_it() -> None:
    run_state = RunState()
    device = Device(IoContext.virtual())
    disk = Disk(device, run_state=run_state)
    ends: list[Request] = []
    asked = [command(), command()]
    run_state.stop()
    with disk.backend.batch():
        for each in asked:
            disk.backend.submit(PassthroughRequest(each, ends.append))
    assert not device.seen
    run_state.cont()
    assert device.seen == asked
    assert len(ends) == 2
    disk.close()


def test_no_error_policy_tries_it_again() -> None:
    device = Device(IoContext.virtual())
    disk = Disk(device)
    disk.backend.error_policy = ErrorPolicy("stop", "stop")
    device.error = errno.ENOSPC
    assert send(disk, command()) == errno.ENOSPC
    assert len(device.seen) == 1
    disk.close()


def test_a_request_without_a_command_is_refused_by_what_is_none() -> None:
    disk = Disk()
    assert disk.do(Op.PASSTHROUGH) == errno.ENOTSUP
    disk.close()
