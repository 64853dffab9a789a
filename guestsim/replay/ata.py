"""Hosts of ATA devices and these, made again as they were."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from devmodels.ahci import AhciPci
from devmodels.ata.packet import AtapiDevice
from devmodels.ide_cdrom import PiixIde
from guestsim.replay.disk import ReplayNode
from guestsim.replay.state import ReplayKeptFile

if TYPE_CHECKING:
    from devmodels.assembly import Assembly
    from devmodels.scsi.mmc import CdDrive
    from devmodels.tracefile import DeviceFacts
    from guestsim.replay.follow import Follower


class AtaHost(NamedTuple):
    """A host, in the machine that has it."""

    assembly: Assembly
    function: AhciPci | PiixIde
    facts: DeviceFacts


def add_host(assembly: Assembly, facts: DeviceFacts, addr: str, follower: Follower) -> AtaHost:
    """Make the host of a DEVICE event; ValueError where that cannot be."""
    assembly.add_device(facts.options | {"addr": addr} if addr else facts.options)
    host = AtaHost(assembly, assembly.ata_hosts[facts.name], facts)
    host.function.observe(follower)
    return host


def add_unit(
    host: AtaHost, facts: DeviceFacts, node: ReplayNode, follower: Follower, made: Callable[[], None]
) -> CdDrive | None:
    """Make the device of a DEVICE event, and call `made` before it is plugged; a drive's logical unit.

    ValueError where that cannot be.
    """
    assembly = host.assembly
    node.names = assembly.graph.nodes
    node.names[node.node_name] = node
    saved = bytes.fromhex(facts.saved)
    assembly.open_kept = partial(ReplayKeptFile, follower, facts.kept.encode())
    assembly.watcher = _Made(facts.name, assembly, None if saved else follower, made)
    try:
        assembly.add_device({**facts.options, "drive": node.node_name})
    finally:
        assembly.watcher = None
    device = assembly.ata_units[facts.name].device
    if saved:
        # It was there when the recording began: nothing of how it came is in the trace.
        device.judge(saved)
        device.restore(saved)
        device.observe(follower)
        device.count_from(saved)
    return device.drive if isinstance(device, AtapiDevice) else None


class _Made:
    """Hears of a device that has been made, and not been plugged yet."""

    def __init__(
        self, name: str, assembly: Assembly, follower: Follower | None, made: Callable[[], None]
    ) -> None:
        self._name = name
        self._assembly = assembly
        self._follower = follower
        self._made = made

    def added(self, name: str) -> None:
        if name != self._name:
            raise ValueError(f"{name!r} is made where {self._name!r} is to be")
        device = self._assembly.ata_units[name].device
        if self._follower is not None:
            device.observe(self._follower)
        self._made()
        if self._follower is not None:
            device.count_from(b"")

    def removing(self, name: str) -> None:
        pass
