"""Devices of a daemon over vfio-user, and a guest that has them, all in this thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from devmodels.assembly import HostedDevices
from devmodels.blockbackend import Graph
from devmodels.conformance import Profile
from devmodels.events import Events
from devmodels.exports.vfio_user import VfioUserServer
from devmodels.exports.vfio_user_session import Offered
from devmodels.iocontext import IoContext
from devmodels.recording import Recorder
from devmodels.runstate import RunState
from guestsim.disk import Disk
from guestsim.drivers import virtio_blk
from guestsim.drivers.pci import ConfigSpace, PciFunction
from guestsim.drivers.transport import Interrupts
from guestsim.drivers.virtio_bus import open_function
from guestsim.guest import Guest
from guestsim.targets.vfio_user import VfioUserTarget

MIB = 1 << 20
FIRST_SLOT = 4
TWO_DISKS = [{"driver": "virtio-blk-pci", "id": f"v{n}", "drive": f"d{n}"} for n in range(2)]


class Served:
    """Nodes d0 and d1; each PCI function of `devices` is at a socket of its own, and in a slot from 4 on.

    `record` is the file that a trace of all of it is written to.
    """

    def __init__(
        self,
        folder: Path,
        devices: Sequence[Mapping[str, object]] = TWO_DISKS,
        *,
        record: Path | None = None,
        latency_ns: int = 0,
    ) -> None:
        self.context = IoContext.virtual()
        self.graph = Graph(self.context)
        self.run_state = RunState(Events())
        self.hosted = HostedDevices(self.graph, run_state=self.run_state, profile=Profile.STRICT)
        self.recorder = None if record is None else Recorder(record, self.context)
        if self.recorder is not None:
            self.graph.tracer = self.recorder.tracer
            self.hosted.one_context = True
            self.hosted.on_added = self.recorder.watch_function
        for number in range(2):
            disk: dict[str, object] = {"driver": "memory", "size": MIB}
            if latency_ns:
                disk = {"driver": "delay", "latency-ns": latency_ns, "file": disk}
            self.graph.add({**disk, "node-name": f"d{number}"})
        self.servers: dict[str, VfioUserServer] = {}
        self._folder = folder
        for device in devices:
            self.hosted.add(device)
        for name, assembly in self.hosted.machines.items():
            found = self.hosted.function(name)
            assert found is not None
            offered = Offered(assembly.machine, found[1], assembly.violations)
            self.servers[name] = VfioUserServer(str(folder / name), offered)
        self._closed = False
        self._arrive()

    def _arrive(self) -> None:
        self.target = VfioUserTarget(
            {name: str(self._folder / name) for name in self.servers},
            {name: (FIRST_SLOT + number, 0) for number, name in enumerate(self.servers)},
            pump=self.context.run_until_idle,
        )
        self.guest = Guest(self.target)

    def another(self) -> None:
        """The machine goes, and another one comes."""
        self._leave()
        self.context.run_until_idle()
        self._arrive()

    def _leave(self) -> None:
        self.guest.close()
        self.target.close()

    def function(self, slot: int) -> PciFunction:
        """As the guest sees it."""
        return PciFunction(self.guest, ConfigSpace(self.target), slot, 0)

    def disk(
        self, slot: int = FIRST_SLOT, interrupts: Interrupts = Interrupts.MSIX, *, legacy: bool = False
    ) -> Disk:
        """The disk in a slot, probed."""
        transport = open_function(self.guest, self.function(slot), legacy=legacy)
        driver = virtio_blk.VirtioBlk(self.guest, transport)
        self.guest.run(driver.probe(interrupts=interrupts))
        return Disk(self.guest, driver)

    def __enter__(self) -> Served:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Everything goes. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._leave()
        for server in self.servers.values():
            server.close()
        self.context.run_until_idle()
        if self.recorder is not None:
            self.recorder.close()
        self.hosted.close()
        self.graph.close()
        self.context.close()
