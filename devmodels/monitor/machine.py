"""The run state and the machine: `stop`, `cont`, `query-status`, `system_reset`, `device_add`, `device_del`."""

from __future__ import annotations

import msgspec

from devmodels.monitor.world import World


class StatusInfo(msgspec.Struct):
    """What `query-status` answers."""

    running: bool
    singlestep: bool
    status: str


async def stop(world: World) -> None:
    """Hold block requests back."""
    world.run_state.stop()


async def cont(world: World) -> None:
    """Let block requests go on."""
    world.run_state.cont()


async def query_status(world: World) -> StatusInfo:
    """Whether the machine runs, and if not, why."""
    state = world.run_state
    return StatusInfo(state.running, False, "running" if state.running else state.reason)


async def system_reset(world: World) -> None:
    """Reset the machine."""
    assert world.assembly is not None
    world.assembly.machine.reset()
    world.events.emit("RESET", {"guest": False, "reason": "host-qmp-system-reset"})
