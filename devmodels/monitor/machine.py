"""The run state and the machine: `stop`, `cont`, `query-status`, `system_reset`, `device_add`, `device_del`."""

from __future__ import annotations

from typing import Literal, cast

import msgspec

from devmodels.monitor.world import World

Status = Literal["io-error", "paused", "prelaunch", "restore-vm", "running", "save-vm", "shutdown"]
"""Of QEMU's words those that a machine here can be stopped with."""


class StatusInfo(msgspec.Struct):
    """What `query-status` answers."""

    running: bool
    singlestep: bool
    status: Status


async def stop(world: World) -> None:
    """Hold block requests back."""
    world.run_state.stop()


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
