"""`human-monitor-command`: the human monitor's `qemu-io`, as tests and tools use it."""

from __future__ import annotations

import shlex

from devmodels.monitor.command import Arguments, CommandError, text_of
from devmodels.monitor.qemuio import Place, qemu_io
from devmodels.monitor.world import World
from devmodels.options import OptionError


class HumanMonitorCommand(Arguments, frozen=True):
    """`command-line`: `qemu-io [-d] NODE "COMMAND"`; with `-d` the name is a device's."""

    command_line: str
    cpu_index: int | None = None


async def human_monitor_command(world: World, arguments: HumanMonitorCommand) -> str:
    """Do it; the answer is what it prints.  An error is a text too."""
    try:
        name, *words = shlex.split(arguments.command_line) or [""]
    except ValueError as error:
        return f"Error: {error}\r\n"
    if name != "qemu-io":
        return f"unknown command: '{name}'\r\n" if name else ""
    try:
        text = await _qemu_io(world, words)
    except (CommandError, OptionError, OSError) as error:
        text = f"Error: {text_of(error)}\n"
    return text.replace("\n", "\r\n")


async def _qemu_io(world: World, words: list[str]) -> str:
    device = words[:1] == ["-d"]
    if len(words) - device != 2:
        raise CommandError('expected qemu-io [-d] NODE "COMMAND"')
    name, command = words[device:]
    backend = None
    if device:
        backend = world.find(name).backend
        if not world.run_state.running:
            raise CommandError(
                f"the machine is stopped: requests of '{name}' would wait until it is continued"
            )
    node = world.node(name) if backend is None else backend.node
    return await qemu_io(Place(node, backend, world.running), shlex.split(command))
