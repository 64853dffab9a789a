"""The devices of a trace, made again as they were: what their DEVICE events say, over disks and memory of a replay."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from devmodels.assembly import Assembly, assemble
from devmodels.blockbackend import BlockBackend
from devmodels.conformance import Profile, Violation, ViolationLog
from devmodels.exports.vhost_user_blk import VhostUserBlkOptions, vhost_user_blk_device
from devmodels.options import convert
from devmodels.runstate import RunState
from devmodels.trace import EventKind
from devmodels.tracefile import DeviceFacts, DiskFacts, TraceHeader
from devmodels.virtio.device import VirtioDevice
from devmodels.virtio.queue import VirtQueue
from guestsim.replay.context import ReplayContext
from guestsim.replay.disk import ReplayNode
from guestsim.replay.follow import Follower
from guestsim.replay.memory import ReplayMemory, TranslatedReplayMemory

MACHINE_MEMORY = "memory"
_THREADS = ("iothread", "iothread-vq-mapping")
"""Options without meaning here: all queues of a recorded device were on one thread."""


class ReplayedDevice:
    """One device: its disk's backend and node, and the memory that it reaches."""

    __slots__ = ("again", "backend", "device", "facts", "memory", "node")

    def __init__(
        self,
        facts: DeviceFacts,
        device: VirtioDevice,
        backend: BlockBackend,
        node: ReplayNode,
        memory: ReplayMemory,
    ) -> None:
        self.facts = facts
        self.device = device
        self.backend = backend
        self.node = node
        self.memory = memory
        self.again: dict[int, list[int]] = {}
        """What queues that start now have to take again."""


class World:
    """Everything that was recorded: devices by name, and the machine that has them, if one has."""

    def __init__(self, header: TraceHeader, follower: Follower) -> None:
        self.context = ReplayContext()
        self.follower = follower
        self.devices: dict[str, ReplayedDevice] = {}
        self.assembly: Assembly | None = None
        self.accessing = False
        """Whether an access of the guest's is not over yet."""
        self.removed: set[str] = set()
        """Devices that have been taken out."""
        self.serve: Callable[[], None] = _nothing
        """Feeds what comes up to SERVED."""
        self._own_run_state = RunState()
        self._profile = Profile.STRICT if header.strict else Profile.LENIENT
        self._bounced = header.memory == "bounced"

    @property
    def run_state(self) -> RunState:
        """What stops and goes on."""
        return self._own_run_state if self.assembly is None else self.assembly.run_state

    def device(self, name: str) -> ReplayedDevice:
        """The device of that name."""
        found = self.devices.get(name)
        if found is None:
            known = ", ".join(self.devices) or "none"
            self.follower.unfit(f"at {name!r}; the devices of the trace are: {known}")
        return found

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
            self.assembly = assemble(
                memory=memory,
                context=self.context,
                profile=self._profile,
                on_message=self._interrupted,
                on_intx=self._interrupted,
                on_irq=self._interrupted,
            )
            self.assembly.machine.trace = self.follower
        return self.assembly

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
        if name != MACHINE_MEMORY:
            self.follower.unfit(f"at {name!r}, which no device of the trace reaches")
        memory = self.machine().memory
        assert isinstance(memory, ReplayMemory)
        return memory

    def memories(self) -> list[ReplayMemory]:
        """The machine's, and each export's."""
        found = [each.memory for each in self.devices.values() if each.facts.kind != "device"]
        if self.assembly is not None:
            found.append(self.memory(MACHINE_MEMORY))
        return found

    def place(self, name: str) -> str:
        """Slot and function of a PCI device, as its option `addr` has them; empty for any other one."""
        if self.assembly is not None:
            for slot, number, function in self.assembly.machine.bus.functions():
                if function is self.assembly.devices.get(name):
                    return f"{slot:x}.{number:x}"
        return ""

    def add(self, text: str, *, disk: DiskFacts | None = None, addr: str = "") -> None:
        """Make the device of a DEVICE event; ValueError where that cannot be.

        `disk` is its disk now, where that is not what it was then; `addr` the place that it was given.
        """
        facts = msgspec.json.decode(text, type=DeviceFacts)
        if facts.name in self.devices and facts.name not in self.removed:
            raise ValueError(f"{facts.name!r} is there already")
        while self.assembly is not None and self.removed & self.assembly.devices.keys():
            # Those that were taken out have gone by now, unseen.
            if not self.context.run_oldest():
                break
        node = ReplayNode(disk or facts.disk, facts.name, self.context, self.follower)
        if facts.kind == "device":
            made = self._machine_device(facts, node, addr)
        else:
            made = self._export(facts, node)
        made.device.trace = made.backend.trace = self.follower
        self._watch(made.device.violations)
        self.devices[facts.name] = made
        self.removed.discard(facts.name)

    def _watch(self, violations: ViolationLog) -> None:
        def record(violation: Violation) -> None:
            detail = violation.clause, violation.place, violation.summary, violation.data
            self.follower.emit("violations", EventKind.VIOLATION, *detail)

        violations.record = record

    def _export(self, facts: DeviceFacts, node: ReplayNode) -> ReplayedDevice:
        memory = ReplayMemory(self.follower, facts.memory, bounced=self._bounced)
        options = convert(_without_threads(facts.options), VhostUserBlkOptions, what=f"export {facts.name}")
        device = vhost_user_blk_device(
            options, node, profile=self._profile, run_state=self._own_run_state, memory=memory
        )
        device.front_end = True
        return ReplayedDevice(facts, device, device.backend, node, memory)

    def _machine_device(self, facts: DeviceFacts, node: ReplayNode, addr: str) -> ReplayedDevice:
        assembly = self.machine()
        node.names = assembly.graph.nodes
        node.names[node.node_name] = node
        options = _without_threads(facts.options)
        assembly.add_device(options | {"addr": addr} if addr else options)
        device = assembly.virtio_device(facts.name)
        backend = assembly.backends[node.node_name]
        if facts.memory != MACHINE_MEMORY:
            device.memory = TranslatedReplayMemory(self.follower, facts.memory, bounced=self._bounced)
        assert isinstance(device.memory, ReplayMemory)
        return ReplayedDevice(facts, device, backend, node, device.memory)

    def remove(self, name: str) -> None:
        """The device is taken out; what it has in flight comes to its end."""
        self.removed.add(name)
        if self.assembly is not None and name in self.assembly.devices:
            self.context.start(self.assembly.remove_device(name))
        else:
            self.devices[name].backend.close()

    def close(self) -> None:
        """Give everything up."""
        self.context.close()


def _nothing() -> None:
    pass


def _without_threads(options: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if name not in _THREADS}
