"""A world with a monitor in this process, and QEMU's own client talking to it over its socket, on one asyncio loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from qemu.qmp import QMPClient

from devmodels.assembly import Assembly, assemble
from devmodels.asynciocontext import AsyncioContext
from devmodels.blockbackend import Graph
from devmodels.conformance import Profile
from devmodels.events import Events
from devmodels.exports.table import Exports
from devmodels.iocontext import IoContext
from devmodels.monitor.server import MonitorServer
from devmodels.monitor.world import World
from devmodels.runstate import RunState

MIB = 1 << 20
NODE = {"driver": "memory", "size": MIB, "node-name": "d0"}
DISK = {"driver": "virtio-blk-pci", "drive": "d0", "id": "v0"}


class Talk:
    """One client's session: `await talk("query-block")`, and the events that came."""

    def __init__(self, client: QMPClient, world: World) -> None:
        self.client = client
        self.world = world

    async def __call__(self, command: str, **arguments: object) -> Any:
        """The command's answer, or its error as `{"class": …, "desc": …}`; `_` in names stands for `-`."""
        given = {name.replace("_", "-"): value for name, value in arguments.items()}
        return await self.ask(command, given)

    async def ask(self, command: str, arguments: Mapping[str, object]) -> Any:
        """The same, names as they are."""
        answer = await self.client._raw({"execute": command, "arguments": dict(arguments)})
        return answer["return"] if "return" in answer else answer["error"]

    async def text(self, command: str, **arguments: object) -> str:
        """What an error says."""
        answer = await self(command, **arguments)
        assert "class" in answer, answer
        return str(answer["desc"])

    async def events(self) -> list[tuple[str, dict[str, object]]]:
        """Names and data of the events that came since the last call."""
        found: list[tuple[str, dict[str, object]]] = []
        while not self.client.events.empty():
            event: dict[str, Any] = dict(await self.client.events.get())
            assert set(event["timestamp"]) == {"seconds", "microseconds"}
            found.append((event["event"], event.get("data", {})))
        return found


Story = Callable[[Talk], Awaitable[None]]


async def tell_at(path: Path, world: World, story: Story) -> None:
    """Run `story` at a monitor of `world`, at the socket `path`."""
    async with AsyncioContext(world.context):
        monitor = MonitorServer(str(path), world)
        client = QMPClient("test")
        try:
            await client.connect(str(path))
            await story(Talk(client, world))
        finally:
            with suppress(EOFError):
                await client.disconnect()
            monitor.close()


def in_machine(
    path: Path,
    story: Story,
    *,
    nodes: Sequence[Mapping[str, object]] = (NODE,),
    devices: Sequence[Mapping[str, object]] = (DISK,),
    clock: str = "virtual",
) -> None:
    """Run `story` against a machine of `nodes` and `devices`; `path` is a folder."""
    with assemble(blockdevs=nodes, devices=devices, ram=MIB, clock=clock) as assembly:
        asyncio.run(tell_at(path / "qmp.sock", World.of(assembly), story))


def in_daemon(
    path: Path,
    story: Story,
    *,
    nodes: Sequence[Mapping[str, object]] = (NODE,),
) -> None:
    """Run `story` against nodes without a machine."""
    context = IoContext.virtual()
    graph, events = Graph(context), Events()
    state = RunState(events)
    exports = Exports(graph, profile=Profile.STRICT, events=events, run_state=state)
    for node in nodes:
        graph.add(node)
    try:
        world = World(graph, events=events, run_state=state, exports=exports)
        asyncio.run(tell_at(path / "qmp.sock", world, story))
    finally:
        exports.close()
        context.run_until_idle()
        graph.close()
        context.close()


def machine_of(talk: Talk) -> Assembly:
    """The machine behind the monitor."""
    assert talk.world.assembly is not None
    return talk.world.assembly
