"""The devices of a trace, made again as they were: what their DEVICE events say, over disks and memory of a replay."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from devmodels.assembly import Assembly, assemble
from devmodels.blockbackend import BlockBackend
from devmodels.conformance import Profile, Violation, ViolationLog
from devmodels.exports.vhost_user_blk import VhostUserBlkOptions, vhost_user_blk_device
from devmodels.options import convert
from devmodels.runstate import RunState
from devmodels.trace import EventKind
from devmodels.tracefile import DeviceFacts, TraceFileError, TraceHeader
from devmodels.virtio.device import VirtioDevice
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
        self._own_run_state = RunState()
        self._profile = Profile.STRICT if header.strict else Profile.LENIENT
        self._bounced = header.memory == "bounced"

    @property
    def run_state(self) -> RunState:
        """What stops and goes on."""
        return self._own_run_state if self.assembly is None else self.assembly.run_state

    def memory(self, name: str) -> ReplayMemory:
        """The memory of that name."""
        if self.assembly is not None and name == MACHINE_MEMORY:
            assert isinstance(self.assembly.memory, ReplayMemory)
            return self.assembly.memory
        return next(each.memory for each in self.devices.values() if each.memory.name == name)

    def add(self, text: str) -> None:
        """Make the device of a DEVICE event; ValueError where that cannot be."""
        try:
            facts = msgspec.json.decode(text, type=DeviceFacts)
        except msgspec.DecodeError as error:
            raise TraceFileError(f"device: {error}") from None
        made = self._machine_device(facts) if facts.kind == "device" else self._export(facts)
        made.device.trace = made.backend.trace = self.follower
        self._watch(made.device.violations)
        self.devices[facts.name] = made

    def _watch(self, violations: ViolationLog) -> None:
        def record(violation: Violation) -> None:
            detail = violation.clause, violation.place, violation.summary, violation.data
            self.follower.emit("violations", EventKind.VIOLATION, *detail)

        violations.record = record

    def _node(self, facts: DeviceFacts) -> ReplayNode:
        return ReplayNode(facts.disk, facts.name, self.context, self.follower)

    def _export(self, facts: DeviceFacts) -> ReplayedDevice:
        memory = ReplayMemory(self.follower, facts.memory, bounced=self._bounced)
        node = self._node(facts)
        options = convert(_without_threads(facts.options), VhostUserBlkOptions, what=f"export {facts.name}")
        device = vhost_user_blk_device(
            options, node, profile=self._profile, run_state=self._own_run_state, memory=memory
        )
        device.front_end = True
        return ReplayedDevice(facts, device, device.backend, node, memory)

    def _machine_device(self, facts: DeviceFacts) -> ReplayedDevice:
        if self.assembly is None:
            memory = ReplayMemory(self.follower, MACHINE_MEMORY, bounced=self._bounced)
            self.assembly = assemble(memory=memory, context=self.context, profile=self._profile)
            self.assembly.machine.trace = self.follower
        node = self._node(facts)
        node.names = self.assembly.graph.nodes
        node.names[node.node_name] = node
        self.assembly.add_device(_without_threads(facts.options))
        device = self.assembly.virtio_device(facts.name)
        backend = self.assembly.backends[node.node_name]
        if facts.memory != MACHINE_MEMORY:
            device.memory = TranslatedReplayMemory(self.follower, facts.memory, bounced=self._bounced)
        assert isinstance(device.memory, ReplayMemory)
        return ReplayedDevice(facts, device, backend, node, device.memory)

    def remove(self, name: str) -> None:
        """The device is taken out; what it has in flight comes to its end."""
        if self.assembly is not None and name in self.assembly.devices:
            self.context.start(self.assembly.remove_device(name))
        else:
            self.devices[name].backend.close()

    def close(self) -> None:
        """Give everything up."""
        self.context.close()


def _without_threads(options: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if name not in _THREADS}
