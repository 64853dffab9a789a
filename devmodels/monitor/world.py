"""What a monitor's commands work on: a daemon, or a machine of an embedder's."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from devmodels.assembly import Assembly, HostedDevices
from devmodels.blockbackend import BlockBackend, BlockNode, Graph
from devmodels.conformance import Profile
from devmodels.events import Events
from devmodels.exports.table import Exports
from devmodels.monitor.command import CommandError, Run, device_not_found
from devmodels.monitor.qemuio import Running
from devmodels.runstate import RunState


class Attached(msgspec.Struct, frozen=True):
    """A device or an export that has a backend; `name` is its id."""

    name: str
    backend: BlockBackend

    @property
    def names(self) -> tuple[str, ...]:
        """What commands may call it: its id, its path in QEMU's tree of objects, with the backend's own or without."""
        path = self.backend.qom_path
        return (self.name, path, path.removesuffix("/virtio-backend")) if path else (self.name,)


class World:
    """Nodes, devices, exports and the run state.

    `assembly` is the machine, where there is one, `hosted` are devices that other programs' machines have.

    `on_quit` is called for the command `quit`; `quit_requested` says that it came.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        events: Events,
        run_state: RunState,
        exports: Exports,
        assembly: Assembly | None = None,
        hosted: HostedDevices | None = None,
        on_quit: Callable[[], None] | None = None,
    ) -> None:
        self.context = graph.context
        self.graph = graph
        self.events = events
        self.run_state = run_state
        self.exports = exports
        self.assembly = assembly
        self.hosted = hosted
        self.stands_for: tuple[int, int, int] | None = None
        """The version of QEMU's that it says it is, major, minor and micro, where it stands in for one."""
        self.machine_type = "machine"
        """What type /machine has: that of the board of QEMU's which it stands in for."""
        self.more_commands: dict[str, Run] = {}
        """Commands that there are besides, or in place of the usual ones."""
        self.aliases: dict[str, str] = {}
        """Names besides their ids that commands may call devices by: those of QEMU's `-drive`."""
        self.quit_requested = False
        self.running = Running(graph.context)
        """What qemu-io's `aio_…` commands have begun."""
        self._on_quit = on_quit

    @classmethod
    def of(cls, assembly: Assembly, on_quit: Callable[[], None] | None = None) -> World:
        """The world of a machine in this process."""
        exports = Exports(
            assembly.graph,
            profile=Profile.LENIENT,
            events=assembly.events,
            run_state=assembly.run_state,
        )
        return cls(
            assembly.graph,
            events=assembly.events,
            run_state=assembly.run_state,
            exports=exports,
            assembly=assembly,
            on_quit=on_quit,
        )

    def quit(self) -> None:
        """Tell whoever runs this to end."""
        self.quit_requested = True
        if self._on_quit is not None:
            self._on_quit()

    # --- what commands name

    def attached(self) -> list[Attached]:
        """Devices with a drive, then exports."""
        backends = [] if self.assembly is None else self.assembly.drives.values()
        hosted = () if self.hosted is None else self.hosted.backends()
        found = [Attached(backend.name, backend) for backend in (*backends, *hosted)]
        exported = [(each.id, each.backend) for each in self.exports]
        return found + [Attached(name, backend) for name, backend in exported if backend is not None]

    def machines(self) -> list[Assembly]:
        """The machine, or those of hosted devices."""
        if self.assembly is not None:
            return [self.assembly]
        return [] if self.hosted is None else list(self.hosted.machines.values())

    def machine_of(self, device: str) -> Assembly | None:
        """The machine with the device, or unit, of that id."""
        found = (each for each in self.machines() if each.has(device))
        return next(found, None)

    def find(self, name: str) -> Attached:
        """The device or export of that id or path, or of that `-drive`; DeviceNotFound where there is none."""
        return self.by_id(self.aliases.get(name, name))

    def by_id(self, name: str) -> Attached:
        """The device or export with that id or path; DeviceNotFound where there is none."""
        for each in self.attached():
            if name in each.names:
                return each
        raise device_not_found(name)

    def by_drive(self, name: str) -> Attached:
        """What commands call `device` in the old way: in place of QEMU by a drive of `-drive`, and by nothing else."""
        if self.stands_for is not None and name not in self.aliases:
            raise device_not_found(name)
        return self.find(name)

    def one_of(self, old: str | None, name: str | None) -> Attached:
        """What commands call `device` in the old way, and `id` in the new one."""
        if old is not None and name is None:
            return self.by_drive(old)
        if old is None and name is not None:
            return self.by_id(name)
        raise CommandError("Need exactly one of 'device' and 'id'")

    def node(self, name: str) -> BlockNode:
        """The node of that name; CommandError where there is none."""
        node = self.graph.nodes.get(name)
        if node is None:
            raise CommandError(f"Cannot find device='' nor node-name='{name}'")
        return node
