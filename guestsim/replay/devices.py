"""The devices of a trace, made again as they were: what their DEVICE events say, over disks and memory of a replay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import msgspec

from devmodels.assembly import Assembly
from devmodels.ata.disk import AtaDisk
from devmodels.conformance import Profile, Violation, ViolationLog
from devmodels.exports.vhost_user_blk import VhostUserBlkOptions, vhost_user_blk_device
from devmodels.exports.vhost_user_scsi import HostOptions, VhostUserScsiOptions, export_unit, host_device
from devmodels.functionregions import FunctionRegions, regions_name
from devmodels.machine import Machine
from devmodels.options import convert
from devmodels.runstate import RunState
from devmodels.scsi.backed import BackedUnit
from devmodels.scsi.disk import Disk
from devmodels.statefile import SavedFile
from devmodels.trace import EventKind
from devmodels.tracefile import DeviceFacts, DiskFacts, TraceHeader
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio_scsi import VirtioScsi
from guestsim.forms import ATA_HOSTS
from guestsim.replay.ata import AtaHost, add_host, add_unit
from guestsim.replay.context import ReplayContext
from guestsim.replay.disk import ReplayNode
from guestsim.replay.follow import Follower
from guestsim.replay.memory import ReplayMemory, TranslatedReplayMemory
from guestsim.replay.replayed import Hosted, ReplayedDevice, ReplayedDisk
from guestsim.replay.state import ReplayStateFile

MACHINE_MEMORY = "memory"
MACHINE_NAME = "machine"
Access = Callable[..., object]
_THREADS = ("iothread", "iothread-vq-mapping")
"""Options without meaning here: all queues of a recorded device were on one thread."""

U = TypeVar("U", bound=BackedUnit)


class World:
    """Everything that was recorded: devices and disks by name, and the machine that has them, if one has.

    `hosted` are the machines of functions that others' machines had, by the function's name: it is alone in its own.
    """

    def __init__(self, header: TraceHeader, follower: Follower) -> None:
        self.context = ReplayContext()
        self.follower = follower
        follower.gone = self._may_have_gone
        self.devices: dict[str, ReplayedDevice] = {}
        self.disks: dict[str, ReplayedDisk] = {}
        self.ata_hosts: dict[str, AtaHost] = {}
        self.assembly: Assembly | None = None
        self.hosted: dict[str, Hosted] = {}
        self.accessing = False
        """Whether an access of the guest's is not over yet."""
        self.removed: set[str] = set()
        """Devices and units that have been taken out."""
        self.serve: Callable[[], None] = _nothing
        """Feeds what comes up to SERVED."""
        self.run_state = RunState()
        """What stops and goes on: all machines at once."""
        self._profile = Profile.STRICT if header.strict else Profile.LENIENT
        self._bounced = header.memory == "bounced"

    def device(self, name: str) -> ReplayedDevice:
        """The device of that name."""
        found = self.devices.get(name)
        if found is None:
            known = ", ".join(self.devices) or "none"
            self.follower.unfit(f"at {name!r}; the devices of the trace are: {known}")
        return found

    def disk(self, name: str) -> ReplayedDisk:
        """The disk of the device, or the unit, of that name."""
        found = self.disks.get(name)
        if found is None:
            known = ", ".join(self.disks) or "none"
            self.follower.unfit(f"at {name!r}; the disks of the trace are: {known}")
        return found

    def unit(self, name: str, kind: type[U]) -> U:
        """The unit of that name, which is of that kind."""
        unit = self.disk(name).unit
        if not isinstance(unit, kind):
            self.follower.unfit(f"at {name!r}, which is no {kind.__name__}")
        return unit

    def kept(self, name: str) -> SavedFile[Any] | None:
        """The file in which the disk of that name keeps something, if it has one."""
        facts = self.disk(name).facts
        if facts.host in self.ata_hosts:
            device = self.ata_hosts[facts.host].assembly.ata_units[name].device
            return device.state if isinstance(device, AtaDisk) else None
        return self.unit(name, Disk).state

    def queue(self, name: str, index: int) -> VirtQueue:
        """A queue of the device of that name."""
        queues = self.device(name).device.queues
        if not 0 <= index < len(queues):
            self.follower.unfit(f"queue {index} of the {len(queues)} of {name!r}")
        return queues[index]

    def machine(self) -> Assembly:
        """The machine; one without devices where there are none."""
        if self.assembly is None:
            memory = ReplayMemory(self.follower, MACHINE_MEMORY, bounced=self._bounced)
            self.assembly = Assembly(
                memory=memory,
                context=self.context,
                violations=ViolationLog(self._profile),
                on_message=self._interrupted,
                on_intx=self._interrupted,
                on_irq=self._interrupted,
                run_state=self.run_state,
            )
            self.assembly.machine.trace = self.follower
        return self.assembly

    def machine_at(self, source: str) -> Assembly:
        """The machine that a trace calls `source`."""
        hosted = self.hosted.get(source)
        if hosted is None and source != MACHINE_NAME:
            known = ", ".join((MACHINE_NAME, *self.hosted))
            self.follower.unfit(f"at {source!r}; the machines of the trace are: {known}")
        return self.machine() if hosted is None else hosted.assembly

    def machines(self) -> dict[str, Assembly]:
        """All that there are, by what a trace calls them."""
        own = {} if self.assembly is None else {MACHINE_NAME: self.assembly}
        return own | {name: hosted.assembly for name, hosted in self.hosted.items()}

    def space(self, source: str) -> tuple[Machine, Access, Access]:
        """The machine of an address space, and how that is read and written."""
        if source in ("memory-space", "io-space"):
            machine = self.machine().machine
            if source == "io-space":
                return machine, machine.io_read, machine.io_write
            return machine, machine.read, machine.write
        hosted = next((each for name, each in self.hosted.items() if source == regions_name(name)), None)
        if hosted is None:
            self.follower.unfit(f"an access of {source!r}, which is no space of the trace")
        return hosted.assembly.machine, hosted.regions.read, hosted.regions.write

    def _interrupted(self, _what: int, _value: int) -> None:
        """Whoever was told of an interrupt may have accessed devices before it returned."""
        if self.follower.peek() is EventKind.SERVING:
            self.machine().machine.serve()
            self.serve()

    def memory(self, name: str) -> ReplayMemory:
        """The memory of that name: the machine's, or an export's."""
        for each in self.devices.values():
            if each.memory.name == name:
                return each.memory
        for hosted in self.hosted.values():
            if hosted.assembly.memory.name == name:
                assert isinstance(hosted.assembly.memory, ReplayMemory)
                return hosted.assembly.memory
        if name != MACHINE_MEMORY:
            self.follower.unfit(f"at {name!r}, which no device of the trace reaches")
        memory = self.machine().memory
        assert isinstance(memory, ReplayMemory)
        return memory

    def memories(self) -> list[ReplayMemory]:
        """The machine's, and each export's."""
        found = [each.memory for each in self.devices.values() if each.facts.kind != "device"]
        found += [self.memory(self.hosted[name].assembly.memory.name) for name in self._ata_functions()]
        if self.assembly is not None:
            found.append(self.memory(MACHINE_MEMORY))
        return found

    def _ata_functions(self) -> list[str]:
        """Hosts of ATA devices in others' machines."""
        return [name for name in self.hosted if name in self.ata_hosts]

    def place(self, name: str) -> str:
        """Slot and function of a PCI device, as its option `addr` has them; empty for any other one."""
        for assembly in self.machines().values():
            for slot, number, function in assembly.machine.bus.functions():
                if function is assembly.devices.get(name):
                    return f"{slot:x}.{number:x}"
        return ""

    # --- what comes

    def add(
        self,
        text: str,
        *,
        disk: DiskFacts | None = None,
        addr: str = "",
        told: Callable[[], None] | None = None,
    ) -> None:
        """Make the device, or the unit, of a DEVICE event; ValueError where that cannot be.

        `disk` is its disk now, where that is not what it was then; `addr` the place that it was given.  `told` is
        called when it is there, before anybody knows.
        """
        facts = msgspec.json.decode(text, type=DeviceFacts)
        there = self.devices.keys() | self.disks.keys() | self.ata_hosts.keys()
        if facts.name in there - self.removed:
            raise ValueError(f"{facts.name!r} is there already")
        self._let_go()
        self._run_as(facts.disk)
        told = told or _nothing
        if facts.host in self.ata_hosts:
            self._add_ata_unit(facts, told)
            return
        if facts.host:
            self._add_unit(facts, told)
            return
        if facts.disk is None and facts.options.get("driver") in ATA_HOSTS:
            self._add_ata_host(facts, addr)
            told()
            return
        made = self._device(facts, disk or facts.disk, addr)
        made.device.trace = self.follower
        if made.disk is not None:
            made.disk.backend.trace = self.follower
            self.disks[facts.name] = made.disk
        self._watch(made.device.violations)
        self.devices[facts.name] = made
        self.removed.discard(facts.name)
        told()

    def _let_go(self) -> None:
        """Those that were taken out have gone by now, unseen."""
        for assembly in self.machines().values():
            while any(map(assembly.has, self.removed)):
                if not self.context.run_oldest():
                    break

    def _run_as(self, disk: DiskFacts | None) -> None:
        """The machine may have been stopped, or have run on, when it had no disk that could tell of it."""
        if disk is None or disk.running in (None, self.run_state.running) or self.follower.paused:
            return
        if disk.running:
            self.run_state.cont()
        else:
            self.run_state.stop()

    def _watch(self, violations: ViolationLog) -> None:
        def record(violation: Violation) -> None:
            data = violation.data
            told = self.follower.event() if self.follower.peek() is EventKind.VIOLATION else None
            if told is not None and not told.detail[-1]:
                # Whoever recorded it had no bytes to show.
                data = b""
            detail = violation.clause, violation.place, violation.summary, data
            self.follower.emit("violations", EventKind.VIOLATION, *detail)

        violations.record = record

    def _device(self, facts: DeviceFacts, disk: DiskFacts | None, addr: str) -> ReplayedDevice:
        node = None if disk is None else self._node(facts, disk)
        if facts.kind == "function":
            return self._function(facts, node, addr)
        if facts.kind == "device":
            return self._machine_device(self.machine(), facts, node, addr)
        return self._host(facts) if node is None else self._export(facts, node)

    def _node(self, facts: DeviceFacts, disk: DiskFacts) -> ReplayNode:
        if not disk.node_name:
            disk = msgspec.structs.replace(disk, node_name=f"medium of {facts.name}")
        return ReplayNode(disk, facts.name, self.context, self.follower)

    def _export(self, facts: DeviceFacts, node: ReplayNode) -> ReplayedDevice:
        memory = ReplayMemory(self.follower, facts.memory, bounced=self._bounced)
        options = convert(_without_threads(facts.options), VhostUserBlkOptions, what=f"export {facts.name}")
        device = vhost_user_blk_device(
            options, node, profile=self._profile, run_state=self.run_state, memory=memory
        )
        device.front_end = True
        return ReplayedDevice(facts, device, memory, ReplayedDisk(facts, device.backend, node))

    def _host(self, facts: DeviceFacts) -> ReplayedDevice:
        memory = ReplayMemory(self.follower, facts.memory, bounced=self._bounced)
        options = convert(facts.options, HostOptions, what=f"export {facts.name}")
        device = host_device(
            options.addr.path,
            options.num_queues,
            context=self.context,
            memory=memory,
            profile=self._profile,
        )
        device.front_end = True
        return ReplayedDevice(facts, device, memory)

    def _function(self, facts: DeviceFacts, node: ReplayNode | None, addr: str) -> ReplayedDevice:
        """A function that another program's machine had."""
        assembly = self._machine_around(facts)
        made = self._machine_device(assembly, facts, node, addr)
        self._host_function(facts.name, assembly)
        return made

    def _machine_around(self, facts: DeviceFacts) -> Assembly:
        """The machine of such a function, without it."""
        assembly = Assembly(
            memory=ReplayMemory(self.follower, facts.memory, bounced=self._bounced),
            context=self.context,
            violations=ViolationLog(self._profile),
            on_message=None,
            on_intx=None,
            on_irq=None,
            run_state=self.run_state,
            name=facts.name,
        )
        assembly.machine.messages_in_memory = False
        assembly.machine.trace = self.follower
        return assembly

    def _host_function(self, name: str, assembly: Assembly) -> None:
        """It is in its machine, and accessed by its regions."""
        function = assembly.function(name)
        if function is None:
            raise ValueError(f"{name!r} is no PCI function")
        self.hosted[name] = Hosted(assembly, FunctionRegions(assembly.machine, function))

    def _machine_device(
        self, assembly: Assembly, facts: DeviceFacts, node: ReplayNode | None, addr: str
    ) -> ReplayedDevice:
        if node is not None:
            node.names = assembly.graph.nodes
            node.names[node.node_name] = node
        options = _without_threads(facts.options)
        assembly.add_device(options | {"addr": addr} if addr else options)
        device = assembly.virtio_device(facts.name)
        if facts.memory != assembly.memory.name:
            device.memory = TranslatedReplayMemory(self.follower, facts.memory, bounced=self._bounced)
        assert isinstance(device.memory, ReplayMemory)
        if node is None:
            return ReplayedDevice(facts, device, device.memory)
        disk = ReplayedDisk(facts, assembly.backends[node.node_name], node)
        return ReplayedDevice(facts, device, device.memory, disk)

    # --- units on the bus of a host

    def _add_unit(self, facts: DeviceFacts, told: Callable[[], None]) -> None:
        host = self.devices.get(facts.host)
        if host is None or not isinstance(host.device, VirtioScsi) or facts.disk is None:
            raise ValueError(f"{facts.name!r} is a unit of {facts.host!r}, which has none")
        node = self._node(facts, facts.disk)
        open_state = partial(ReplayStateFile, self.follower, facts.saved.encode())
        if facts.kind == "export":
            options = convert(facts.options, VhostUserScsiOptions, what=f"export {facts.name}")
            unit = export_unit(options, node, host.device, run_state=self.run_state, open_state=open_state)
            self._unit_made(facts, node, unit, told)
            host.device.plug(options.scsi_id, options.lun, unit)
            return
        assembly = self.hosted[facts.host].assembly if facts.host in self.hosted else self.machine()
        node.names = assembly.graph.nodes
        node.names[node.node_name] = node
        assembly.open_state = open_state
        assembly.watcher = _Made(lambda unit: self._unit_made(facts, node, unit, told), assembly)
        try:
            # A drive may begin without a medium.
            assembly.add_device({**facts.options, "drive": node.node_name})
        finally:
            assembly.watcher = None

    def _unit_made(
        self, facts: DeviceFacts, node: ReplayNode, unit: BackedUnit, told: Callable[[], None]
    ) -> None:
        """It is about to appear."""
        unit.observe(self.follower)
        self.disks[facts.name] = ReplayedDisk(facts, unit.backend, node, unit)
        self.removed.discard(facts.name)
        told()

    # --- ATA

    def _add_ata_host(self, facts: DeviceFacts, addr: str) -> None:
        hosted = facts.kind == "function"
        assembly = self._machine_around(facts) if hosted else self.machine()
        self.ata_hosts[facts.name] = add_host(assembly, facts, addr, self.follower)
        if hosted:
            self._host_function(facts.name, assembly)
        self._watch(assembly.violations)
        self.removed.discard(facts.name)

    def _add_ata_unit(self, facts: DeviceFacts, told: Callable[[], None]) -> None:
        if facts.disk is None:
            raise ValueError(f"{facts.name!r} has no disk")
        node = self._node(facts, facts.disk)
        host = self.ata_hosts[facts.host]

        def made() -> None:
            self.disks[facts.name] = ReplayedDisk(facts, host.assembly.drives[facts.name], node)
            self.removed.discard(facts.name)
            told()

        self.disks[facts.name].unit = add_unit(host, facts, node, self.follower, made)

    # --- what goes

    def remove(self, name: str) -> None:
        """The device, or the unit, is taken out; what it has in flight comes to its end."""
        self.removed.add(name)
        # A host takes its units with it.
        self.removed |= {unit for unit, disk in self.disks.items() if disk.facts.host == name}
        for assembly in self.machines().values():
            if assembly.has(name):
                self.context.start(assembly.remove_device(name))
                return
        disk = self.disks.get(name)
        if disk is not None and disk.unit is not None:
            self._remove_unit(disk, disk.unit)
        elif disk is not None:
            disk.backend.close()

    def _may_have_gone(self, name: str) -> bool:
        """Whether the disk is being taken out, and nothing shows whether that is over."""
        return name in self.removed and not self.disks[name].backend.in_flight

    def _remove_unit(self, disk: ReplayedDisk, unit: BackedUnit) -> None:
        host = self.devices[disk.facts.host].device
        assert isinstance(host, VirtioScsi)
        options = convert(disk.facts.options, VhostUserScsiOptions, what="export")

        def over() -> None:
            unit.close()
            disk.backend.close()

        host.unplug(options.scsi_id, options.lun, over)

    def close(self) -> None:
        """Give everything up."""
        self.context.close()


class _Made:
    """Hears of a unit that has been made."""

    def __init__(self, made: Callable[[BackedUnit], None], assembly: Assembly) -> None:
        self._made = made
        self._assembly = assembly

    def added(self, name: str) -> None:
        unit = self._assembly.units[name].unit
        assert isinstance(unit, BackedUnit)
        self._made(unit)

    def removing(self, name: str) -> None:
        pass


def _nothing() -> None:
    pass


def _without_threads(options: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if name not in _THREADS}
