"""The run state and the machine: `stop`, `cont`, `query-status`, `system_reset`, `device_add`, `device_del`."""

from __future__ import annotations

from contextlib import suppress
from typing import Literal, cast

import msgspec

from devmodels.blockbackend import BlockNode, Op, Request
from devmodels.blockbackend.drain import drained
from devmodels.monitor.world import World

Status = Literal["io-error", "paused", "prelaunch", "restore-vm", "running", "save-vm", "shutdown"]
"""Of QEMU's words those that a machine here can be stopped with."""


class StatusInfo(msgspec.Struct):
    """What `query-status` answers."""

    running: bool
    singlestep: bool
    status: Status


async def stop(world: World) -> None:
    """Hold block requests back; what runs comes back, and is made stable: images are as the guest knows them."""
    world.run_state.stop()
    nodes = [node for node in world.graph.nodes.values() if node.context is world.context]
    async with drained(*nodes):
        for node in nodes:
            on_top = not any(isinstance(edge.user_object, BlockNode) for edge in node.parents)
            if on_top and node.active and not node.read_only:
                # As in QEMU it is stopped in any case; a file whose write-back failed tells every later flush.
                with suppress(OSError):
                    await node.flush(Request(Op.FLUSH, 0, 0))


async def cont(world: World) -> None:
    """Let block requests go on."""
    world.run_state.cont()


async def query_status(world: World) -> StatusInfo:
    """Whether the machine runs, and if not, why."""
    return StatusInfo(world.run_state.running, False, cast("Status", world.run_state.status))


async def system_reset(world: World) -> None:
    """Reset the machine."""
    assert world.assembly is not None
    world.assembly.machine.reset()
    if not world.run_state.running:
        world.run_state.reason = "prelaunch"
    world.events.emit("RESET", {"guest": False, "reason": "host-qmp-system-reset"})
