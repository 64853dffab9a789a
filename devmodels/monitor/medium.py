"""Trays and media: what a user does with a drive's button, and with what is in it.

`blockdev-open-tray`, `blockdev-close-tray`, `blockdev-insert-medium`, `blockdev-remove-medium`,
`blockdev-change-medium`, `eject`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from devmodels.blockbackend import BlockNode
from devmodels.blockbackend.removable import EmptyNode, Tray
from devmodels.monitor.command import Arguments, CommandError
from devmodels.monitor.world import Attached, World


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
    """A device, and the file that is to be its medium, with `format` as its driver (`cue`: the file is a cue sheet)."""

    filename: str
    device: str | None = None
    id: str | None = None
    format: str | None = None
    force: bool = False
    read_only_mode: Literal["retain", "read-only", "read-write"] = "retain"


async def blockdev_open_tray(world: World, arguments: OpenTray) -> None:
    """Open a tray, or, where the guest has locked it, ask the guest to."""
    each = world.one_of(arguments.device, arguments.id)
    _open(_tray(each, arguments), force=arguments.force)


async def blockdev_close_tray(world: World, arguments: CloseTray) -> None:
    """Close a tray, with what is in it."""
    _tray(world.one_of(arguments.device, arguments.id), arguments).user_closes()


async def blockdev_insert_medium(world: World, arguments: InsertMedium) -> None:
    """Put a medium in."""
    each = world.by_id(arguments.id)
    node = world.graph.nodes.get(arguments.node_name)
    if node is None:
        raise CommandError(f"Node '{arguments.node_name}' not found")
    if any(other.backend.node is node for other in world.attached()):
        raise CommandError(f"Node '{arguments.node_name}' is already in use")
    await _insert(world, each, node)


async def blockdev_remove_medium(world: World, arguments: RemoveMedium) -> None:
    """Take a medium out."""
    await _remove(world, world.by_id(arguments.id), arguments.id)


async def blockdev_change_medium(world: World, arguments: ChangeMedium) -> None:
    """Put another medium in: all steps in one."""
    await change(world, arguments, _options(arguments))


async def change(world: World, arguments: ChangeMedium, options: Mapping[str, object]) -> None:
    """The same, the medium being a node that is made of `options`."""
    each = world.one_of(arguments.device, arguments.id)
    name = _named(arguments)
    tray = _tray(each, arguments)
    node = world.graph.add(options)
    # It goes with the drive's use of it.
    node.kept = False
    try:
        _open_or_fail(tray, name, force=arguments.force)
        await _remove(world, each, name)
        await _insert(world, each, node)
    finally:
        node.close_if_unwanted()
    tray.user_closes()


async def eject(world: World, arguments: OpenTray) -> None:
    """Open the tray and take the medium out."""
    each = world.one_of(arguments.device, arguments.id)
    _open_or_fail(_tray(each, arguments), _named(arguments), force=arguments.force)
    await _remove(world, each, _named(arguments))


# --- the steps


def _named(arguments: CloseTray | ChangeMedium) -> str:
    """What the user calls the device."""
    return arguments.device or arguments.id or ""


def _tray(each: Attached, arguments: CloseTray | ChangeMedium) -> Tray:
    if each.backend.tray is None:
        raise CommandError(f"Device '{_named(arguments)}' is not removable")
    return each.backend.tray


def _open(tray: Tray, *, force: bool) -> bool:
    """Open it; whether it is open, and has not to wait for the guest."""
    if tray.open:
        return True
    locked = tray.locked
    if locked:
        tray.request_eject(force=force)
    if force or not locked:
        tray.user_opens()
    return tray.open


def _open_or_fail(tray: Tray, name: str, *, force: bool) -> None:
    if not _open(tray, force=force):
        raise CommandError(
            f"Device '{name}' is locked and force was not specified, wait for tray to open and try again"
        )


async def _remove(world: World, each: Attached, name: str) -> None:
    tray = each.backend.tray
    if tray is None:
        raise CommandError(f"Device '{name}' is not removable")
    if not tray.open:
        raise CommandError(f"Tray of device '{name}' is not open")
    if each.backend.inserted:
        await _set(world, each, None)


async def _insert(world: World, each: Attached, node: BlockNode) -> None:
    tray = each.backend.tray
    if tray is None:
        raise CommandError("Device is not removable")
    if not tray.open:
        raise CommandError("Tray of the device is not open")
    if each.backend.inserted:
        raise CommandError("There already is a medium in the device")
    await _set(world, each, node)


async def _set(world: World, each: Attached, node: BlockNode | None) -> None:
    """What is in the tray."""
    assembly = world.machine_of(each.name)
    if assembly is not None and each.backend is assembly.drives.get(each.name):
        await assembly.set_medium(each.name, node)
    else:
        new = EmptyNode(world.context) if node is None else node
        await world.graph.lead_to(each.backend.edge, new)


def _options(arguments: ChangeMedium) -> dict[str, object]:
    """Those of the medium's node."""
    name, form = arguments.filename, arguments.format
    if form is None:
        form = "cue" if name.lower().endswith(".cue") else "file"
    if form == "raw":
        form = "file"
    read_only = arguments.read_only_mode != "read-write"
    return {"driver": form, "filename": name, "read-only": read_only}
