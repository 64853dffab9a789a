"""Trays and media: none of the devices that there are has any, and the commands say so.

`blockdev-open-tray`, `blockdev-close-tray`, `blockdev-insert-medium`, `blockdev-remove-medium`,
`blockdev-change-medium`, `eject`.
"""

from __future__ import annotations

from typing import Literal, NoReturn

from devmodels.monitor.command import Arguments, CommandError
from devmodels.monitor.world import World


class CloseTray(Arguments, frozen=True):
    """A device, by its id."""

    device: str | None = None
    id: str | None = None


class OpenTray(CloseTray, frozen=True):
    """`force`: even where the guest has locked it."""

    force: bool = False


class InsertMedium(Arguments, frozen=True):
    """A device, and the node that is to be its medium."""

    id: str
    node_name: str


class RemoveMedium(Arguments, frozen=True):
    """A device, by its id."""

    id: str


class ChangeMedium(Arguments, frozen=True):
    """A device, and the file that is to be its medium."""

    filename: str
    device: str | None = None
    id: str | None = None
    format: str | None = None
    force: bool = False
    read_only_mode: Literal["retain", "read-only", "read-write"] = "retain"


async def blockdev_open_tray(world: World, arguments: OpenTray) -> None:
    """Open a tray."""
    _refuse(world, arguments.device, arguments.id)


async def blockdev_close_tray(world: World, arguments: CloseTray) -> None:
    """Close a tray."""
    _refuse(world, arguments.device, arguments.id)


async def blockdev_insert_medium(world: World, arguments: InsertMedium) -> None:
    """Put a medium in."""
    world.find(arguments.id)
    node = world.graph.nodes.get(arguments.node_name)
    if node is None:
        raise CommandError(f"Node '{arguments.node_name}' not found")
    if any(each.backend.node is node for each in world.attached()):
        raise CommandError(f"Node '{arguments.node_name}' is already in use")
    raise CommandError("Device is not removable")


async def blockdev_remove_medium(world: World, arguments: RemoveMedium) -> None:
    """Take a medium out."""
    _refuse(world, None, arguments.id)


async def blockdev_change_medium(world: World, arguments: ChangeMedium) -> None:
    """Put another medium in."""
    _refuse(world, arguments.device, arguments.id)


async def eject(world: World, arguments: OpenTray) -> None:
    """Open the tray and take the medium out."""
    _refuse(world, arguments.device, arguments.id)


def _refuse(world: World, device: str | None, name: str | None) -> NoReturn:
    world.one_of(device, name)
    raise CommandError(f"Device '{name or device}' is not removable")
