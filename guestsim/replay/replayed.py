"""What a replay has of each device, disk and machine of a trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from devmodels.scsi.disk import Disk

if TYPE_CHECKING:
    from devmodels.assembly import Assembly
    from devmodels.blockbackend import BlockBackend
    from devmodels.functionregions import FunctionRegions
    from devmodels.scsi.backed import BackedUnit
    from devmodels.tracefile import DeviceFacts
    from devmodels.virtio.device import VirtioDevice
    from guestsim.replay.disk import ReplayNode
    from guestsim.replay.memory import ReplayMemory


class ReplayedDisk:
    """A disk, of a device or a `unit` of it: its backend and node, and the `state` that it keeps, if it keeps any."""

    __slots__ = ("backend", "facts", "node", "state", "unit")

    def __init__(
        self,
        facts: DeviceFacts,
        backend: BlockBackend,
        node: ReplayNode,
        unit: BackedUnit | None = None,
    ) -> None:
        self.facts = facts
        self.backend = backend
        self.node = node
        self.unit = unit
        self.state = unit.state if isinstance(unit, Disk) else None


class ReplayedDevice:
    """One device, and the memory that it reaches; a virtio-blk device has its `disk`."""

    __slots__ = ("again", "device", "disk", "facts", "memory")

    def __init__(
        self,
        facts: DeviceFacts,
        device: VirtioDevice,
        memory: ReplayMemory,
        disk: ReplayedDisk | None = None,
    ) -> None:
        self.facts = facts
        self.device = device
        self.memory = memory
        self.disk = disk
        self.again: dict[int, list[int]] = {}
        """What queues that start now have to take again."""


class Hosted(NamedTuple):
    """The machine of a function that another program's machine had, and how that reached it."""

    assembly: Assembly
    regions: FunctionRegions
