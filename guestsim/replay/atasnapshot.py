"""Hosts of ATA devices in the snapshot of a replay: between their commands, when nothing of theirs is put off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from devmodels.ata.packet import AtapiDevice
from devmodels.blockbackend.resume import Counts, counts, resume
from devmodels.tracefile import DeviceFacts

if TYPE_CHECKING:
    from guestsim.replay.devices import World
    from guestsim.replay.replayed import ReplayedDisk


class UnitState(msgspec.Struct, frozen=True):
    """A device: its DEVICE event, with its disk as that is now; the numbers of its requests."""

    facts: str
    counts: Counts


class HostState(msgspec.Struct, frozen=True):
    """A host, which has no requests of its own: its DEVICE event, slot and function, and all but its registers."""

    facts: str
    addr: str
    units: list[UnitState]
    state: bytes


def why_not(world: World) -> str:
    """Why the state of the hosts cannot be saved here; empty where it can."""
    for name in present(world):
        function = world.ata_hosts[name].function
        if function.busy:
            return f"{name}: commands are in flight"
        for unit, disk in _units(world, name):
            if disk.backend.in_flight:
                return f"{unit}: requests are in flight"
            device = world.ata_hosts[name].assembly.ata_units[unit].device
            if isinstance(device, AtapiDevice) and device.drive.turns.timed:
                return f"{unit}: a disc is being loaded"
    assemblies = world.machines().values()
    if world.ata_hosts and any(assembly.has(each) for each in world.removed for assembly in assemblies):
        return "a device is being taken out"
    return ""


def present(world: World) -> list[str]:
    """The hosts that are there."""
    return [name for name in world.ata_hosts if name not in world.removed]


def _units(world: World, host: str) -> list[tuple[str, ReplayedDisk]]:
    return [
        (name, disk)
        for name, disk in world.disks.items()
        if disk.facts.host == host and name not in world.removed
    ]


def save(world: World) -> list[HostState]:
    """All of them; nothing is in the way (`why_not`)."""
    return [
        HostState(
            _text(world.ata_hosts[name].facts),
            world.place(name),
            [_save_unit(disk) for _, disk in _units(world, name)],
            world.ata_hosts[name].function.save_state(),
        )
        for name in present(world)
    ]


def _save_unit(disk: ReplayedDisk) -> UnitState:
    facts, node = disk.facts, disk.node
    assert facts.disk is not None
    now = msgspec.structs.replace(
        facts.disk,
        size=node.size,
        can_unmap=node.can_unmap,
        max_transfer=node.limits.max_transfer,
        max_iov=node.limits.max_iov,
        discard_alignment=node.limits.pdiscard_alignment,
        disc=node.disc_text,
    )
    return UnitState(_text(msgspec.structs.replace(facts, disk=now)), counts(disk.backend))


def _text(facts: DeviceFacts) -> str:
    return msgspec.json.encode(facts).decode()


def add(world: World, states: list[HostState]) -> None:
    """Make them, in a world that compares nothing; ValueError where that cannot be."""
    for host in states:
        world.add(host.facts, addr=host.addr)
        for unit in host.units:
            world.add(unit.facts)
    if states:
        # What they say of themselves when they come has been said.
        _let_go_on(world)


def restore(world: World, states: list[HostState]) -> None:
    """Be as they were; their registers have been restored.  ValueError where `states` are others'."""
    for host in states:
        name = msgspec.json.decode(host.facts, type=DeviceFacts).name
        function = world.ata_hosts[name].function
        function.judge_state(host.state)
        function.restore_state(host.state)
        for (_, disk), unit in zip(_units(world, name), host.units, strict=True):
            resume(disk.backend, [], [], unit.counts)
    if states:
        _let_go_on(world)


def _let_go_on(world: World) -> None:
    while world.context.run_oldest():
        pass
